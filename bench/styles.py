"""Train the demo base on each style set, with the recipe that the platform recommends, and print what was learned.

Three figures, LoRA off against LoRA on, on the same seeds: held-out loss on fixed noise, distance to the style set,
content. The first two alone also pass on noise. Needs no server.

    python -m bench.styles [ink ...] [--steps 100]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

from django.conf import settings  # noqa: E402

if not settings.configured:
    settings.configure(USE_I18N=False)  # the advisor gives its reasons in the reader's language

from training.advisor.recommend import Base, Device, Pictures, recommend  # noqa: E402
from training.advisor.templates import template_for  # noqa: E402
from training.engine.api import LoRATrainer  # noqa: E402
from training.engine.child import prepare_environment  # noqa: E402
from training.engine.spec import RunSpec  # noqa: E402

STYLES = ROOT / "demo" / "styles"
PROMPTS = 8


def recipe(style: str, steps: int, folder: Path) -> RunSpec:
    """Return what the platform recommends for this set on the demo base, drawn with eight prompts before and after."""
    words = json.loads((STYLES / style / "style.json").read_text())
    count = len(list((STYLES / style).glob("*.png")))
    base = Base(key="demo", family="sd", resolution=64, is_demo=True)
    pictures = Pictures(count=count, captioned=count)
    chosen: dict[str, Any] = {"/training/steps": steps}
    advice = recommend(base, template_for("style"), pictures, Device(), chosen)
    chosen |= {"/sampling/every_steps": steps, "/sampling/prompts": words["prompts"][:PROMPTS]}
    data: dict[str, Any] = {
        "name": style,
        "base_model": {"path": str(ROOT / "demo" / "base")},
        "dataset": {"folder": str(STYLES / style)},
        "trigger": words["trigger"],
        "cache_dir": str(folder / "cache"),
    }
    for pointer, value in {**{p: each.value for p, each in advice.items()}, **chosen}.items():
        section, name = pointer.strip("/").split("/")
        data.setdefault(section, {})[name] = value
    return RunSpec.from_dict(data)


def train(style: str, steps: int, folder: Path) -> dict[str, object]:
    """Train one style and return seconds and figures."""
    start = time.perf_counter()
    trainer = LoRATrainer(recipe(style, steps, folder), run_dir=folder / style)
    trainer.prepare_data()
    trainer.build_model()
    ready = time.perf_counter()
    trainer.train()
    trainer.export_lora_weights()
    trainer.evaluate()
    figures = [
        json.loads(line)
        for path in (folder / style).rglob("events.jsonl")
        for line in path.read_text().splitlines()
        if '"evaluation"' in line
    ]
    return {
        "style": style,
        "steps": steps,
        "prepare_seconds": round(ready - start, 1),
        "all_seconds": round(time.perf_counter() - start, 1),
        **{name: figures[-1][name] for name in ("held_out_loss", "style_distance", "content_score")},
    }


def main() -> int:
    """Train the named styles, or all, and print one line each."""
    prepare_environment()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("styles", nargs="*", default=sorted(p.name for p in STYLES.iterdir() if p.is_dir()))
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for style in options.styles:
            print(json.dumps(train(style, options.steps, Path(folder))), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
