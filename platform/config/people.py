"""Settings of django-allauth: the ways in, second factors, sessions, logins through other services, and limits."""

from __future__ import annotations

from typing import Any

import environ

env = environ.FileAwareEnv()

# -- Accounts -------------------------------------------------------------------------------------------------
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_ADAPTER = "accounts.adapter.AccountAdapter"
ACCOUNT_SIGNUP_FORM_CLASS = "accounts.forms.SignupDetailsForm"
ACCOUNT_FORMS = {"add_email": "accounts.allauth_forms.ChangeEmailForm"}
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_LOGOUT_ON_GET = False
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_SESSION_REMEMBER = True
# One address each: a new one takes the place of the old once its link was opened, and the old one is told.
ACCOUNT_CHANGE_EMAIL = True
ACCOUNT_EMAIL_NOTIFICATIONS = True
ACCOUNT_REAUTHENTICATION_REQUIRED = True
# How many proxies stand in front: logins are throttled by the address that the last of them saw.
ALLAUTH_TRUSTED_PROXY_COUNT = env.int("LF_PROXIES", default=0)

# "key" is the account that somebody wants in: its e-mail address, whether there is such an account or not. A right
# password gives its try back, so an office behind one address is slowed down only by wrong ones. The same limits
# ("login_failed") hold for the codes of the second factor and for passwords asked for again.
ACCOUNT_RATE_LIMITS = {
    "login": "30/m/ip",
    "login_failed": "10/m/ip,100/h/ip,5/5m/key",
    "signup": "20/m/ip,200/d/ip",
    "reset_password": "10/m/ip,3/10m/key",
    "reset_password_from_key": "20/m/ip",
    "confirm_email": "4/10m/key",
    "reauthenticate": "10/m/user",
    "change_password": "5/m/user",
    "manage_email": "10/m/user",
}

# -- Second factors and sessions ------------------------------------------------------------------------------
MFA_ADAPTER = "accounts.second_factor.SecondFactorAdapter"
MFA_FORMS = {
    "activate_totp": "accounts.allauth_forms.ActivateAppForm",
    "add_webauthn": "accounts.allauth_forms.AddKeyForm",
    "authenticate_webauthn": "accounts.allauth_forms.KeyForm",
    "login_webauthn": "accounts.allauth_forms.KeyLoginForm",
    "reauthenticate_webauthn": "accounts.allauth_forms.KeyAgainForm",
}
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_RATE_LIMITS = {"webauthn_login": "10/m/ip"}
# Clocks of telephones differ: the code before and the code after count too.
MFA_TOTP_TOLERANCE = 1
# Where addresses must be confirmed nobody comes this far without; else a change of address would be refused to
# whoever has a second factor, although the old one stays valid until the new one is confirmed.
MFA_ALLOW_UNVERIFIED_EMAIL = True
USERSESSIONS_ADAPTER = "accounts.sessions.SessionsAdapter"

# -- Logins through other services ----------------------------------------------------------------------------
SOCIALACCOUNT_ADAPTER = "accounts.social.SocialAccountAdapter"
# An address that the service has checked leads to the account that has it; any other never does.
SOCIALACCOUNT_EMAIL_AUTHENTICATION = True
SOCIALACCOUNT_EMAIL_AUTHENTICATION_AUTO_CONNECT = True
SOCIALACCOUNT_STORE_TOKENS = False
# The part of OpenID Connect's return address that names the provider: /account/oidc/sso/login/callback/.
OIDC_ID = "sso"


def social_providers(env: environ.Env) -> dict[str, dict[str, Any]]:
    """Return allauth's table of the services that the environment names; none means that no button is shown."""
    found: dict[str, dict[str, Any]] = {}
    if client_id := env("LF_GOOGLE_CLIENT_ID", default=""):
        app = {"client_id": client_id, "secret": env("LF_GOOGLE_SECRET")}
        found["google"] = {"APPS": [app], "SCOPE": ["profile", "email"], "OAUTH_PKCE_ENABLED": True}
    if client_id := env("LF_GITHUB_CLIENT_ID", default=""):
        app = {"client_id": client_id, "secret": env("LF_GITHUB_SECRET")}
        found["github"] = {"APPS": [app], "SCOPE": ["read:user", "user:email"], "OAUTH_PKCE_ENABLED": True}
    if client_id := env("LF_OIDC_CLIENT_ID", default=""):
        oidc = {
            "provider_id": OIDC_ID,
            "name": env("LF_OIDC_NAME", default="OpenID Connect"),
            "client_id": client_id,
            "secret": env("LF_OIDC_SECRET"),
            "settings": {"server_url": env("LF_OIDC_SERVER_URL").rstrip("/")},
        }
        found["openid_connect"] = {"APPS": [oidc], "OAUTH_PKCE_ENABLED": True}
    return found


SOCIALACCOUNT_PROVIDERS = social_providers(env)
