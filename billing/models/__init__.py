from billing.models.alert import LimitAlert
from billing.models.inbox import EventState, StripeEvent
from billing.models.ledger import Account, Balance, Kind, LedgerEntry, LedgerTransaction
from billing.models.plan import BillingAccount, Plan, TopUp
from billing.models.usage import UsageEntry, UsageKind

__all__ = [
    "Account",
    "Balance",
    "BillingAccount",
    "EventState",
    "Kind",
    "LedgerEntry",
    "LedgerTransaction",
    "LimitAlert",
    "Plan",
    "StripeEvent",
    "TopUp",
    "UsageEntry",
    "UsageKind",
]
