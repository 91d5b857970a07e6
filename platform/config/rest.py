"""Settings of the REST API: credentials, formats, rate limits, its document, tokens, and who else may call it."""

from __future__ import annotations

from datetime import timedelta

import environ

env = environ.FileAwareEnv()

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.api.auth.ApiKeyAuthentication",
        "accounts.api.auth.TokenAuthentication",
        "accounts.api.auth.TeamSessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["accounts.api.auth.HasActor"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["core.api.parsers.BoundedJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "core.api.schema.ApiSchema",
    "DEFAULT_METADATA_CLASS": None,
    "EXCEPTION_HANDLER": "core.api.errors.problem_response",
    "UNAUTHENTICATED_USER": None,
    "URL_FORMAT_OVERRIDE": None,
}
# Requests per seconds: for each credential, and for each address without a valid one. 0 requests: no limit.
RATE_LIMITS = {
    "api": env("LF_RATE_API", default="1200/60"),
    "upload": env("LF_RATE_UPLOAD", default="6000/60"),
    "generate": env("LF_RATE_GENERATE", default="60/60"),
    "anonymous": env("LF_RATE_ANONYMOUS", default="120/60"),
}
SPECTACULAR_SETTINGS = {
    "TITLE": "LoRA Foundry API",
    "DESCRIPTION": (
        "Train LoRAs from your own programs.\n\nAuthenticate with `Authorization: Bearer lf_live_...`, or with a "
        "token of `POST /auth/token`. Errors are problem documents (RFC 9457); lists go on by `next_cursor`; every "
        "POST may carry an `Idempotency-Key`."
    ),
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "projects.api.schema.add_tus",
        "core.api.schema.add_shared_parts",
    ],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}
# A person's token for one team: short, and renewed by a refresh token that is good for one use.
SIMPLE_JWT = {
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=10),
    "REFRESH_TOKEN_LIFETIME": timedelta(days=14),
    "USER_ID_FIELD": "uid",
    "USER_ID_CLAIM": "sub",
    "ISSUER": "lora-foundry",
}
# Pages of other sites may call the API only if they are named here, and never with cookies.
CORS_ALLOWED_ORIGINS = env.list("LF_CORS_ORIGINS", default=[])
CORS_URLS_REGEX = r"^/api/"
CORS_ALLOW_CREDENTIALS = False
CORS_ALLOW_HEADERS = [
    "accept",
    "authorization",
    "content-type",
    "idempotency-key",
    "tus-resumable",
    "upload-length",
    "upload-offset",
    "upload-metadata",
    "upload-checksum",
    "x-request-id",
]
CORS_EXPOSE_HEADERS = [
    "idempotency-replayed",
    "location",
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "tus-resumable",
    "upload-expires",
    "upload-length",
    "upload-offset",
    "x-request-id",
]
# How long each of the five rounds of a simulated training lasts (test keys).
SIMULATED_ROUND_SECONDS = env.float("LF_SIMULATED_ROUND_SECONDS", default=0.5)
