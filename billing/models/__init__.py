from billing.models.ledger import Account, Balance, Kind, LedgerEntry, LedgerTransaction
from billing.models.plan import BillingAccount, Plan
from billing.models.usage import UsageEntry

__all__ = [
    "Account",
    "Balance",
    "BillingAccount",
    "Kind",
    "LedgerEntry",
    "LedgerTransaction",
    "Plan",
    "UsageEntry",
]
