"""`/auth/token`, `/auth/refresh`, `/auth/revoke`: a person's tokens for one team.

A wrong password and an unknown address get the same answer after the same work, and both are counted by address and
by account, together with the logins of the pages (allauth's limits). Only after a right password more is told.
"""

from __future__ import annotations

from typing import Any, ClassVar

import redis
from allauth.account.adapter import get_adapter
from allauth.account.models import EmailAddress
from allauth.mfa.base.forms import AuthenticateForm
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.core.exceptions import ValidationError
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.access import actor_for
from accounts.actor import Actor
from accounts.api.serializers import RefreshInput, TokenInput, TokenResult
from accounts.models import Team, User
from accounts.services.tokens import Tokens, issue_tokens, renew_tokens, revoke_tokens
from core.api.errors import refused
from core.api.views import ApiViewSet
from core.errors import NotFound

# What allauth's limits leave open: its windows are minutes.
_WAIT_SECONDS = 60


class AuthViewSet(ApiViewSet):
    """The three doors that need no credential yet."""

    door = "public"
    authentication_classes = ()
    permission_classes = ()
    serializer_class = TokenResult
    bucket = "anonymous"
    problems: ClassVar[dict[str, tuple[int, ...]]] = {
        "token": (401, 403, 404, 503),
        "refresh": (401, 403),
        "revoke": (),
    }

    @extend_schema(operation_id="auth_token", request=TokenInput, responses=TokenResult)
    def token(self, request: Request) -> Response:
        """Log in: get a short access token and a refresh token for one of your teams."""
        values = self._input(TokenInput)
        user = _person(request, values["email"].strip().lower(), values["password"])
        _check_code(user, values["code"])
        actor = actor_for(user, _slug(values["team"]))
        return Response(_shown(actor, issue_tokens(actor=actor)))

    @extend_schema(operation_id="auth_refresh", request=RefreshInput, responses=TokenResult)
    def refresh(self, request: Request) -> Response:
        """Use up a refresh token for a new pair. Used a second time, it ends all tokens of its login."""
        renewed = renew_tokens(self._input(RefreshInput)["refresh_token"])
        if renewed is None:
            raise refused("token_invalid", "This refresh token is not valid any more. Log in again.", 401)
        actor, tokens = renewed
        return Response(_shown(actor, tokens))

    @extend_schema(operation_id="auth_revoke", request=RefreshInput, responses={204: None})
    def revoke(self, request: Request) -> Response:
        """End all tokens of a login at once; a text that is no token changes nothing."""
        revoke_tokens(self._input(RefreshInput)["refresh_token"])
        return Response(status=204)

    def _input(self, kind: Any) -> dict[str, Any]:
        checked = kind(data=self.request.data)
        checked.is_valid(raise_exception=True)
        return dict(checked.validated_data)


def _person(request: Request, email: str, password: str) -> User:
    """Return who has this address and password, or raise the one answer for everything else."""
    try:
        user = get_adapter().authenticate(request._request, email=email, password=password)
    except ValidationError as error:
        raise _too_many() from error
    except redis.RedisError as error:
        # Uncounted, passwords could be guessed without end.
        raise refused(
            "unavailable", "Logins cannot be counted right now. Try again.", 503, retry_after=5
        ) from error
    if not isinstance(user, User) or not user.is_active:
        raise refused("credentials_wrong", "This address and password do not fit together.", 401)
    mandatory = settings.ACCOUNT_EMAIL_VERIFICATION == "mandatory"
    if mandatory and not EmailAddress.objects.filter(user=user, email=user.email, verified=True).exists():
        raise refused("email_unverified", "Confirm your e-mail address first.", 403)
    return user


def _check_code(user: User, code: str) -> None:
    """Check the code of the second factor, where the person has one."""
    kinds = set(Authenticator.objects.filter(user=user).values_list("type", flat=True))
    if not kinds - {Authenticator.Type.RECOVERY_CODES}:
        return
    if Authenticator.Type.TOTP not in kinds:
        raise refused(
            "second_factor_needs_browser",
            "Your security key works in a browser only. Make an API key there, or add an authenticator app.",
            403,
        )
    if not code:
        raise refused("code_missing", "Send the code of your second factor as `code`.", 401, pointer="/code")
    form = AuthenticateForm(data={"code": code}, user=user)
    if not form.is_valid():
        if any(each.code == "too_many_login_attempts" for each in form.errors.as_data().get("code", [])):
            raise _too_many()
        raise refused("code_wrong", "This code is wrong or was used already.", 401, pointer="/code")
    form.authenticator.record_usage()


def _slug(team: str) -> str:
    """Return the address of a team named by address or id; strangers learn nothing from it."""
    if not team.startswith("team_"):
        return team
    found = Team.objects.filter(uid=team).values_list("slug", flat=True).first()
    if found is None:
        raise NotFound
    return found


def _too_many() -> Exception:
    return refused(
        "rate_limited", "Too many tries. Wait a minute and try again.", 429, retry_after=_WAIT_SECONDS
    )


def _shown(actor: Actor, tokens: Tokens) -> dict[str, Any]:
    return {
        "object": "token",
        "token_type": "Bearer",
        "access_token": tokens.access,
        "expires_in": tokens.access_seconds,
        "refresh_token": tokens.refresh,
        "refresh_expires_in": tokens.refresh_seconds,
        "team": {"id": actor.team.uid, "slug": actor.team.slug, "name": actor.team.name},
        "user": {"id": actor.user.uid, "name": actor.user.name, "email": actor.user.email},
    }
