"""The engine is a library: no web framework, and no torch where a web process imports it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

WEB = (
    "django",
    "rest_framework",
    "channels",
    "dramatiq",
    "redis",
    "psycopg",
    "core",
    "accounts",
    "projects",
    "billing",
)
TORCH_FREE = ("spec", "sections", "training_section",
              "fields", "parsing", "events", "estimate", "footprint", "profiles", "hints",
              "registry", "schedule", "schema", "short_names", "cadence", "extras", "errors", "control",
              "cli", "child", "doctor", "forkserver",
              "rank", "launch")  # fmt: skip


def modules_after(code: str) -> set[str]:
    """Return the top-level modules a fresh interpreter holds after running some code."""
    script = (
        f"{code}\nimport json, sys; print(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(result.stdout.splitlines()[-1]))


def test_what_the_web_process_imports_needs_no_torch() -> None:
    imports = "; ".join(f"import training.engine.{name}" for name in TORCH_FREE)
    loaded = modules_after(imports)
    assert "training" in loaded
    assert not loaded & {"torch", "diffusers", "transformers", "peft", "safetensors", "numpy"}
    assert not loaded & set(WEB)


@pytest.mark.slow
def test_training_never_imports_the_web() -> None:
    code = "import training.engine.api, training.engine.families.sd, training.engine.methods.lora"
    assert not modules_after(code) & set(WEB)
