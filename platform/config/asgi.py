"""The web process: pages and the API over HTTP, live updates over one WebSocket or as event streams."""

from __future__ import annotations

import os
import warnings

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
# Static files and downloads are read in pieces by a thread, which is what this warning describes.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")
http = get_asgi_application()

# Only now: these import models.
from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.urls import path  # noqa: E402

from core.http.body_limit import BodyLimit  # noqa: E402
from core.realtime.consumers import LiveConsumer  # noqa: E402
from core.realtime.event_streams import EventStreams  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": BodyLimit(EventStreams(http)),
        "websocket": AllowedHostsOriginValidator(
            AuthMiddlewareStack(URLRouter([path("ws/", LiveConsumer.as_asgi())]))
        ),
    }
)
