"""Stand in for Stripe: a server of our own that the real stripe library speaks to over HTTP.

Tests use it as `with StripeServer() as server: server.client()`; a developer starts it by
`python -m tests.stripe_server`. Shapes follow Stripe's published example objects and the API version that
the library pins. What it does not know it refuses, rather than ignore it.
"""

from tests.stripe_server.server import StripeServer

__all__ = ["StripeServer"]
