"""What the conformance tests of the model families share."""

from __future__ import annotations

from typing import Any

import torch

from training.engine.api import LoRATrainer
from training.engine.families.base import ModelFamily, Parts, TextRow, View

EDGE = 32
WIDTH, HEIGHT = 64, 32
"""Of whole pictures: not square, or what swaps the sides would not show."""


def rows_of(family: ModelFamily, parts: Parts, *prompts: str) -> list[TextRow]:
    """Encode prompts, with what the model is told of a whole picture."""
    view = family.geometry(parts, View.whole(EDGE, EDGE))
    return [{**row, **view} for row in family.encode_text(parts, prompts)]


def inputs_of(family: ModelFamily, parts: Parts) -> tuple[torch.Tensor, torch.Tensor, TextRow]:
    shape = family.latent_shape(parts, EDGE, EDGE)
    noised = torch.randn((2, *shape), generator=torch.Generator().manual_seed(1))
    t = parts.process.timesteps(torch.tensor([0.01, 0.9], dtype=torch.float64))
    return noised, t, family.collate_text(rows_of(family, parts, "a red cat", ""))


def method_of(family: ModelFamily, **settings: Any) -> dict[str, Any]:
    """Return a method that trains all that the family lets be trained."""
    return {"targets": "all", "text_encoder": bool(family.trainable_encoders), **settings}


def perturb(trainer_or_adapter: object) -> None:
    """Give the up factors values, as if something was learned."""
    adapter = getattr(trainer_or_adapter, "adapter", trainer_or_adapter)
    state = adapter.state_dict()
    for number, (name, tensor) in enumerate(sorted(state.items())):
        if "lora_B" in name:
            state[name] = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(number)) * 0.1
    adapter.load_state_dict(state)


def assert_parts_add_up(trainer: LoRATrainer, whole: int, part: int) -> None:
    """Compute a step at once and in parts of another size, with the same loss and the same gradients."""
    found = []
    for size in (whole, part):
        trainer.optimizer.zero_grad()
        loss = trainer.computer.backward(1, size)
        found.append((loss, [p.grad.clone() for p in trainer.optimizer.parameters if p.grad is not None]))
    (whole_loss, at_once), (part_loss, in_parts) = found
    assert at_once
    assert torch.allclose(whole_loss, part_loss, rtol=1e-6)
    assert max(float((a - b).abs().max()) for a, b in zip(at_once, in_parts, strict=True)) < 1e-5
