from billing.models.plan import BillingAccount, Plan
from billing.models.usage import UsageEntry

__all__ = ["BillingAccount", "Plan", "UsageEntry"]
