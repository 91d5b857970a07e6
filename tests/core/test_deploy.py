"""The container files: valid by the published schema, complete, honest about names and secrets. Nothing is built."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from django.test import Client

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
OURS = ("migrate", "web", "worker", "tick", "gpu-worker")


@pytest.mark.parametrize("name", ["docker-compose.yml", "deploy/gpu.yml"])
def test_compose_files_are_valid_by_the_published_schema(name: str) -> None:
    folder = resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(folder.read_text())
    jsonschema.validate(yaml.safe_load((ROOT / name).read_text()), schema)


def test_compose_runs_every_part_of_the_platform() -> None:
    assert set(SERVICES) == {"postgres", "redis", "storage", "bucket", "mail", *OURS}


def test_every_service_waits_only_for_services_that_exist_and_can_tell() -> None:
    for name, service in SERVICES.items():
        for other, condition in service.get("depends_on", {}).items():
            assert other in SERVICES, name
            if condition["condition"] == "service_healthy":
                assert "test" in SERVICES[other]["healthcheck"], (name, other)
            else:
                assert SERVICES[other]["restart"] == "no", (name, other)


def test_every_named_volume_is_declared_and_used() -> None:
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert used == set(COMPOSE["volumes"])


def test_nothing_is_open_to_other_machines_and_no_secret_is_written_down() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET", name):
                assert re.fullmatch(r"\$\{\w+:\?.+\}", value), name


def test_our_containers_run_without_root_and_without_capabilities() -> None:
    for name in OURS:
        assert SERVICES[name]["cap_drop"] == ["ALL"]
        assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"]
        target = SERVICES[name]["build"]["target"]
        stage = DOCKERFILE.split(f"AS {target}\n")[1].split("\nFROM ")[0]
        assert "USER foundry" in stage, target


def test_every_stage_the_dockerfile_refers_to_exists() -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.M))
    bases = re.findall(r"^FROM (\S+) AS", DOCKERFILE, re.M)
    copied = re.findall(r"COPY --from=(\S+)", DOCKERFILE)
    assert {"web", "trainer"} <= stages
    assert {name for name in [*bases, *copied] if ":" not in name} <= stages


def test_every_file_the_dockerfile_copies_exists() -> None:
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.M):
        for source in [word for word in line.split() if not word.startswith("--")][:-1]:
            found = ROOT / "frontend" / source if source.startswith("package") else ROOT / source
            assert found.exists() or (ROOT / "frontend" / source).exists(), source


def test_our_packages_win_over_dependencies_in_the_image() -> None:
    assert "PYTHONPATH=/app:/app/platform" in DOCKERFILE


def test_every_setting_of_the_environment_is_in_the_example() -> None:
    settings = "".join(
        (ROOT / "platform" / "config" / name).read_text() for name in ("settings.py", "people.py")
    )
    read = set(re.findall(r"""env(?:\.\w+)?\(\s*"([A-Z][A-Z0-9_]+)\"""", settings))
    example = set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.M))
    assert read - example <= {"LF_DEBUG"}
    compose = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    assert compose - example == set()


def test_every_setting_of_the_example_reaches_our_containers() -> None:
    """By the file as a whole; a container may be given other defaults, never other values."""
    for name in OURS:
        assert SERVICES[name]["env_file"] == [{"path": ".env", "required": False}], name
        for variable, value in SERVICES[name]["environment"].items():
            is_ours = variable in {"DATABASE_URL", "REDIS_URL", "LF_S3_SECRET_KEY"}
            assert is_ours or value.startswith(f"${{{variable}:"), variable


def test_djangos_own_deployment_check_is_silent_in_production(tmp_path: Path) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("LF_", "DJANGO_"))},
        "SECRET_KEY": "".join(chr(33 + number % 90) for number in range(70)),
        "LF_PRODUCTION": "true",
        "LF_HOSTS": "foundry.example.org",
        "LF_SITE_URL": "https://foundry.example.org",
        "LF_VAR_DIR": str(tmp_path),
        "EMAIL_URL": "smtp://127.0.0.1",
    }
    checked = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "check", "--deploy", "--fail-level", "WARNING"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "no issues (0 silenced)" in checked.stdout, checked.stderr


def test_pages_say_what_they_never_need(client: Client, db: None) -> None:
    answer = client.get("/account/login/")
    assert "camera=()" in answer["Permissions-Policy"]
    assert answer["Cross-Origin-Resource-Policy"] == "same-origin"
    policy = answer["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]
    assert "unsafe-eval" not in policy
