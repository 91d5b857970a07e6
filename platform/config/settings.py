"""All settings. Everything that differs between installations comes from the environment (`.env.example`).

Secrets may be given as files: `SECRET_KEY_FILE=/run/secrets/key` (django-environ's FileAwareEnv).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import environ
from csp.constants import NONCE, NONE, SELF
from django.utils.translation import gettext_lazy as _

BASE_DIR = Path(__file__).resolve().parents[2]
env = environ.FileAwareEnv()
if (BASE_DIR / ".env").exists():
    environ.Env.read_env(BASE_DIR / ".env")

# Only now: it reads the environment too.
from config.people import *  # noqa: E402, F403

# -- This installation ----------------------------------------------------------------------------------------
VAR_DIR = Path(env("LF_VAR_DIR", default=str(BASE_DIR / "var"))).resolve()
# Production is asked for by name; the default is a private machine reached over loopback only.
PRODUCTION = env.bool("LF_PRODUCTION", default=False)
DEBUG = env.bool("LF_DEBUG", default=False)
SECRET_KEY = env("SECRET_KEY", default="" if PRODUCTION else "local-only-key-of-an-embedded-installation")
ALLOWED_HOSTS = env.list("LF_HOSTS", default=["127.0.0.1", "localhost", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("LF_ORIGINS", default=[])
SITE_URL = env("LF_SITE_URL", default="http://127.0.0.1:8000").rstrip("/")
SITE_NAME = "LoRA Foundry"


def _embedded_services() -> dict[str, str]:
    """Read where `manage.py up` runs its own Postgres and Valkey, so that other commands find them."""
    path = VAR_DIR / "run" / "services.json"
    try:
        found: dict[str, str] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found


_services = _embedded_services()

# -- Applications ---------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.postgres",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "channels",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "rest_framework_simplejwt.token_blacklist",
    "django_dramatiq",
    "django_htmx",
    "django_vite",
    "django_cotton.apps.SimpleAppConfig",
    "template_partials.apps.SimpleAppConfig",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "allauth.socialaccount.providers.google",
    "allauth.socialaccount.providers.github",
    "core",
    "accounts",
    "notifications",
    "billing",
    "projects",
    "training",
]

MIDDLEWARE = [
    "core.health.HealthMiddleware",
    "core.http.middleware.RequestIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "core.http.middleware.SecurityHeadersMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "core.http.middleware.PlainAddressMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "accounts.impersonation.OperatorMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "accounts.middleware.SocialLoginMiddleware",
    "accounts.middleware.LastSeenMiddleware",
    "accounts.middleware.TimeZoneMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "core.http.errors.DomainErrorMiddleware",
]

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
WSGI_APPLICATION = "config.wsgi.application"

_LOADERS: list[Any] = [
    (
        "template_partials.loader.Loader",
        [
            (
                "django.template.loaders.cached.Loader",
                [
                    "django_cotton.cotton_loader.Loader",
                    "django.template.loaders.filesystem.Loader",
                    "django.template.loaders.app_directories.Loader",
                ],
            )
        ],
    )
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "OPTIONS": {
            "loaders": _LOADERS,
            "builtins": [
                "django.templatetags.i18n",
                "django_cotton.templatetags.cotton",
                "template_partials.templatetags.partials",
                "core.templatetags.ui",
            ],
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
                "core.http.context.site",
                "accounts.context.team",
                "billing.context.payments",
            ],
        },
    }
]
COTTON_DIR = "components"

# -- Data -----------------------------------------------------------------------------------------------------
DATABASES = {
    "default": env.db_url_config(
        env("DATABASE_URL", default=_services.get("DATABASE_URL", "postgres://127.0.0.1:5432/lorafoundry"))
    )
}
DATABASES["default"].update(
    {
        "ATOMIC_REQUESTS": False,
        # Under ASGI each request has a thread of its own, so a connection kept by its thread is never used again:
        # they are pooled instead, so many for each process.
        "CONN_HEALTH_CHECKS": True,
        "CONN_MAX_AGE": 0,
    }
)
if pool_size := env.int("LF_DB_POOL", default=20):
    DATABASES["default"].setdefault("OPTIONS", {})["pool"] = {
        "min_size": 0,
        "max_size": pool_size,
        "timeout": 10,
        # How long it tries, ever more rarely, to replace a lost connection before it begins anew: without it a
        # database that was gone for 15 s is not found again for as long.
        "reconnect_timeout": 10,
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# Web processes that `manage.py up` starts; they share one socket.
WEB_PROCESSES = env.int("LF_WEB_PROCESSES", default=min(4, os.cpu_count() or 1))
REDIS_URL = env("REDIS_URL", default=_services.get("REDIS_URL", "redis://127.0.0.1:6379/0"))

CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "lf",
    }
}
DRAMATIQ_BROKER = {
    "BROKER": "dramatiq.brokers.redis.RedisBroker",
    "OPTIONS": {
        "url": REDIS_URL,
        "namespace": "lf-dramatiq",
        # A killed worker's messages come back after 15 s instead of minutes; see docs/adr.
        "heartbeat_timeout": 15_000,
        "maintenance_chance": 100_000,
    },
    "MIDDLEWARE": [
        "dramatiq.middleware.AgeLimit",
        "dramatiq.middleware.TimeLimit",
        "dramatiq.middleware.Callbacks",
        "dramatiq.middleware.Retries",
        "dramatiq.middleware.ShutdownNotifications",
        "django_dramatiq.middleware.DbConnectionsMiddleware",
    ],
}

# -- Files ----------------------------------------------------------------------------------------------------
# Blobs go through django-storages: a local folder by default, S3 (or compatible) when a bucket is named.
S3_BUCKET = env("LF_S3_BUCKET", default="")
if S3_BUCKET:
    _blobs: dict[str, Any] = {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {
            "bucket_name": S3_BUCKET,
            "endpoint_url": env("LF_S3_ENDPOINT", default=None),
            "region_name": env("LF_S3_REGION", default=None),
            "access_key": env("LF_S3_ACCESS_KEY", default=None),
            "secret_key": env("LF_S3_SECRET_KEY", default=None),
            "file_overwrite": True,
            "default_acl": None,
            "querystring_auth": True,
        },
    }
else:
    _blobs = {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": VAR_DIR / "blobs", "allow_overwrite": True},
    }
STORAGES = {
    "default": _blobs,
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
STATIC_URL = "/static/"
STATIC_ROOT = VAR_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "platform" / "core" / "static"]
# Files are found in the source tree as well, so that a first start needs no collectstatic.
WHITENOISE_USE_FINDERS = True
WHITENOISE_IMMUTABLE_FILE_TEST = r"^.+[.-][0-9A-Za-z_-]{8,12}\..+$"
if not PRODUCTION:
    STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
DJANGO_VITE = {
    "default": {
        "dev_mode": False,
        "manifest_path": BASE_DIR / "platform" / "core" / "static" / "dist" / ".vite" / "manifest.json",
        "static_url_prefix": "dist",
    }
}
# What a single upload, a zip and a picture may be.
UPLOAD_MAX_BYTES = env.int("LF_UPLOAD_MAX_BYTES", default=2 * 1024**3)
# What a team may have stored, uploads on their way included; 0 for no limit.
TEAM_MAX_BYTES = env.int("LF_TEAM_MAX_BYTES", default=0)
UPLOAD_CHUNK_BYTES = 8 * 1024**2
DATA_UPLOAD_MAX_MEMORY_SIZE = UPLOAD_CHUNK_BYTES + 1024**2
FILE_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024**2

# -- People ---------------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 8}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "account_login"
ACCOUNT_EMAIL_VERIFICATION = env("LF_EMAIL_VERIFICATION", default="mandatory" if PRODUCTION else "optional")
MFA_TOTP_ISSUER = SITE_NAME

# -- Language and time ----------------------------------------------------------------------------------------
LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("zh-hans", _("Simplified Chinese"))]
LOCALE_PATHS = [BASE_DIR / "platform" / "core" / "locale"]
USE_I18N = USE_TZ = True
TIME_ZONE = "UTC"

# -- Mail -----------------------------------------------------------------------------------------------------
# EMAIL_URL=smtp://user:password@host:587 sends for real; else every mail is a file that /dev/mail shows.
MAIL_DIR = VAR_DIR / "mail"
if env("EMAIL_URL", default=""):
    _mail = env.email_url("EMAIL_URL")
    EMAIL_BACKEND = _mail["EMAIL_BACKEND"]
    EMAIL_HOST = _mail["EMAIL_HOST"]
    EMAIL_PORT = _mail["EMAIL_PORT"]
    EMAIL_HOST_USER = _mail["EMAIL_HOST_USER"]
    EMAIL_HOST_PASSWORD = _mail["EMAIL_HOST_PASSWORD"]
    EMAIL_USE_TLS = _mail.get("EMAIL_USE_TLS", False)
    EMAIL_USE_SSL = _mail.get("EMAIL_USE_SSL", False)
else:
    EMAIL_BACKEND = "core.mail.FolderBackend"
EMAIL_TIMEOUT = 20
DEFAULT_FROM_EMAIL = env("LF_MAIL_FROM", default="LoRA Foundry <no-reply@localhost>")

# -- Webhooks -------------------------------------------------------------------------------------------------
# Customers name the addresses: only https and only the public internet, unless the operator's own network is meant.
WEBHOOKS_ALLOW_HTTP = env.bool("LF_WEBHOOKS_ALLOW_HTTP", default=not PRODUCTION)
WEBHOOKS_ALLOW_PRIVATE = env.bool("LF_WEBHOOKS_ALLOW_PRIVATE", default=False)

# -- The API --------------------------------------------------------------------------------------------------
from config.rest import *  # noqa: E402, F403

if CORS_ALLOWED_ORIGINS:  # noqa: F405
    INSTALLED_APPS.append("corsheaders")
    MIDDLEWARE.insert(
        MIDDLEWARE.index("django.middleware.common.CommonMiddleware"), "corsheaders.middleware.CorsMiddleware"
    )

# Needs VAR_DIR in the environment's own words: a worker's folders lie under it.
from config.training_work import *  # noqa: E402, F403

# Operators reach the admin with a second factor only; a private machine may do without.
OPERATORS_NEED_TWO_FACTOR = env.bool("LF_OPERATORS_NEED_TWO_FACTOR", default=PRODUCTION)

# -- Retention ------------------------------------------------------------------------------------------------
# Days after the end of a training that its log is kept, and the points of its curve in it; curve and files stay.
KEEP_EVENTS_DAYS = env.int("LF_KEEP_EVENTS_DAYS", default=180)
KEEP_METRICS_EVENTS_DAYS = env.int("LF_KEEP_METRICS_EVENTS_DAYS", default=1)
# Payments are on where there is a key; then teams that chose no plan should be on one that has limits (`free`).
STRIPE_SECRET_KEY = env("STRIPE_SECRET_KEY", default="")
STRIPE_WEBHOOK_SECRET = env("STRIPE_WEBHOOK_SECRET", default="")
# Another server that speaks like Stripe, for trying things out: `python -m tests.stripe_server`.
STRIPE_API_BASE = env("STRIPE_API_BASE", default="")
# What an hour of a worker costs the operator, in cents: for the margin in the admin.
GPU_COST_CENTS_AN_HOUR = env.int("LF_GPU_COST_CENTS_AN_HOUR", default=0)
METRICS_TOKEN = env("LF_METRICS_TOKEN", default="")
DEFAULT_PLAN = env("LF_DEFAULT_PLAN", default="unlimited")  # of a team that chose none (billing/plans.py)
# Days in which a failed payment can be made good before the plan ends.
PAST_DUE_DAYS = env.int("LF_PAST_DUE_DAYS", default=14)

# -- Security -------------------------------------------------------------------------------------------------
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
if PRODUCTION:
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    SECURE_SSL_REDIRECT = env.bool("LF_SSL_REDIRECT", default=True)
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = True
CONTENT_SECURITY_POLICY = {
    "EXCLUDE_URL_PREFIXES": ["/admin/"],
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF, NONCE],
        # uPlot and the progress bars set sizes through element.style, which needs no inline style attribute.
        "style-src": [SELF],
        "style-src-attr": ["'unsafe-inline'"],
        "img-src": [SELF, "data:", "blob:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    },
}

# -- Logs -----------------------------------------------------------------------------------------------------
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"},
        "json": {"()": "core.logs.JsonFormatter"},
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": env("LF_LOG_FORMAT", default="json" if PRODUCTION else "plain"),
        }
    },
    "root": {"handlers": ["console"], "level": env("LF_LOG_LEVEL", default="INFO")},
    "loggers": {"django.request": {"level": "ERROR"}, "stripe": {"level": "WARNING"}},
}
