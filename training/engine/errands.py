"""Short work beside training, by its kind: what a run folder's ``run.json`` says with ``kind``.

An order is a mapping with ``kind``, ``spec`` and what an earlier attempt left: the pictures ``drawn``, how many are
``done``, the files it told of (``found``). Every errand tells the events of a training that fit it, and ends with
``done``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from training.engine.control import Control
from training.engine.errors import ConfigurationError
from training.engine.events import EventSink


def run_errand(
    kind: str, order: Mapping[str, Any], *, run_dir: Path, sink: EventSink, control: Control
) -> None:
    """Carry out an order to its end; raise ConfigurationError for an unknown kind, and what the work raises."""
    if kind not in ERRANDS:
        raise ConfigurationError("unknown_kind", f"there is no work of the kind {kind!r}")
    ERRANDS[kind](order, run_dir, sink, control)


def _generate(order: Mapping[str, Any], run_dir: Path, sink: EventSink, control: Control) -> None:
    from training.engine.generate import Generator
    from training.engine.generation import GenerationSpec

    spec = GenerationSpec.from_dict(order["spec"])
    Generator(spec, run_dir=run_dir, sink=sink, control=control, drawn=order.get("drawn", ())).run()


def _caption(order: Mapping[str, Any], run_dir: Path, sink: EventSink, control: Control) -> None:
    from training.engine.caption import CaptionWriter
    from training.engine.captioning import CaptioningSpec

    spec = CaptioningSpec.from_dict(order["spec"])
    CaptionWriter(spec, order["pictures"], sink=sink, control=control, done=order.get("done", 0)).run()


def _measure(order: Mapping[str, Any], run_dir: Path, sink: EventSink, control: Control) -> None:
    from training.engine.generation import GenerationSpec
    from training.engine.measure import Judged, Measurer

    Measurer(
        GenerationSpec.from_dict(order["spec"]), files=[Judged(**each) for each in order["files"]],
        pictures=[Path(each) for each in order["pictures"]], run_dir=run_dir, sink=sink, control=control,
        drawn=order.get("drawn", ()), found=order.get("found", ()),
    ).run()  # fmt: skip


ERRANDS: dict[str, Callable[[Mapping[str, Any], Path, EventSink, Control], None]] = {
    "captioning": _caption,
    "evaluation": _measure,
    "generation": _generate,
}
