"""Train the demo base on each style set, with the recommended recipe, and print what was learned.

Three figures, LoRA off against LoRA on, on the same seeds: held-out loss on fixed noise, distance to the style set,
content. The first two alone also pass on noise. Needs no server.

    python -m bench.styles [ink ...] [--steps 100]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from training.engine.api import LoRATrainer
from training.engine.child import prepare_environment
from training.engine.spec import RunSpec

ROOT = Path(__file__).resolve().parent.parent
STYLES = ROOT / "demo" / "styles"


def recipe(style: str, steps: int, folder: Path) -> dict[str, object]:
    """Return the demo's recipe for a style: what the platform recommends for the demo base."""
    words = json.loads((STYLES / style / "style.json").read_text())
    return {
        "name": style,
        "base_model": {"path": str(ROOT / "demo" / "base")},
        "dataset": {"folder": str(STYLES / style)},
        "trigger": words["trigger"],
        "method": {"rank": 8, "alpha": 8, "targets": "all"},
        "training": {
            "steps": steps,
            "batch_size": 8,
            "learning_rate": 1e-3,
            "resolution": 64,
            "caption_dropout": 0.1,
            "held_out": 0.1,
            "seed": 42,
        },
        "sampling": {"prompts": words["prompts"][:8], "every_steps": steps, "steps": 20, "guidance": 2.5},
        "cache_dir": str(folder / "cache"),
    }


def train(style: str, steps: int, folder: Path) -> dict[str, object]:
    """Train one style and return seconds and figures."""
    start = time.perf_counter()
    trainer = LoRATrainer(RunSpec.from_dict(recipe(style, steps, folder)), run_dir=folder / style)
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
