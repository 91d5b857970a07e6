"""Import every module that answers requests, so that its routes are known."""

from tests.stripe_server import (  # noqa: F401
    catalog,
    checkout,
    customers,
    events,
    invoices,
    meters,
    pages,
    payments,
    portal,
    schedules,
    subscriptions,
)
