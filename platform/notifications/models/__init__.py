from notifications.models.inbox import Inbox, Notification, NotificationChoice
from notifications.models.webhook import (
    Delivery,
    DeliveryAttempt,
    DeliveryState,
    DisabledWhy,
    EndpointKind,
    WebhookEndpoint,
    WebhookEvent,
)

__all__ = [
    "Delivery",
    "DeliveryAttempt",
    "DeliveryState",
    "DisabledWhy",
    "EndpointKind",
    "Inbox",
    "Notification",
    "NotificationChoice",
    "WebhookEndpoint",
    "WebhookEvent",
]
