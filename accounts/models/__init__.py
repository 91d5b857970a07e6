from accounts.models.api_key import ApiKey
from accounts.models.audit import AuditEvent
from accounts.models.export import ExportState, TeamExport
from accounts.models.forgotten import Forgotten
from accounts.models.invitation import Invitation
from accounts.models.team import Membership, Team
from accounts.models.user import User

__all__ = [
    "ApiKey",
    "AuditEvent",
    "ExportState",
    "Forgotten",
    "Invitation",
    "Membership",
    "Team",
    "TeamExport",
    "User",
]
