"""Fused AdamW over the adapter's groups, with its state as flat named tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.engine.methods.base import ParameterGroup
from training.engine.schedule import learning_rate_factor
from training.engine.spec import TrainingSpec

MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Optimizer:
    """Step the adapter. The learning rate comes in closed form from the step number."""

    def __init__(self, groups: Sequence[ParameterGroup], training: TrainingSpec, total_steps: int) -> None:
        self._training = training
        self._total = total_steps
        self._base_rates = [group.learning_rate for group in groups]
        self._named = [(name, p) for group in groups for name, p in group.parameters]
        self.parameters: list[nn.Parameter] = [p for _, p in self._named]
        self._adamw = torch.optim.AdamW(
            [{"params": [p for _, p in g.parameters], "lr": g.learning_rate} for g in groups],
            weight_decay=training.weight_decay, fused=True,
        )  # fmt: skip

    def learning_rate(self, step: int) -> float:
        """Return the first group's learning rate at ``step`` (0-based), before any halving."""
        return self._base_rates[0] * self._factor(step)

    def _factor(self, step: int) -> float:
        return learning_rate_factor(
            step,
            total_steps=self._total,
            warmup_steps=self._training.warmup_steps,
            schedule=self._training.schedule,
        )

    def zero_grad(self) -> None:
        """Drop all gradients."""
        self._adamw.zero_grad(set_to_none=True)

    def clip(self) -> Tensor:
        """Shorten the gradient to the longest allowed; return its length before, still on the device."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients, foreach=True)
        if self._training.max_grad_norm > 0:
            nn.utils.clip_grads_with_norm_(self.parameters, self._training.max_grad_norm, norm, foreach=True)
        return norm

    def step(self, step: int, norm: Tensor, scale: float = 1.0) -> None:
        """Update, unless ``norm`` is not finite; that is decided on the device, without waiting for it."""
        factor = self._factor(step) * scale
        for group, rate in zip(self._adamw.param_groups, self._base_rates, strict=True):
            group["lr"] = rate * factor
        # The fused kernel leaves weights and moments alone where found_inf is 1 (made for gradient scalers).
        self._adamw.found_inf = (~torch.isfinite(norm)).to(torch.float32)  # type: ignore[attr-defined]
        self._adamw.step()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the moments as ``<parameter>/<moment>``, copied to the CPU."""
        return {
            f"{name}/{moment}": self._adamw.state[p][moment].detach().to("cpu", copy=True).contiguous()
            for name, p in self._named if p in self._adamw.state for moment in MOMENTS
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put saved moments back; an empty state is the state before the first step."""
        self._adamw.state.clear()
        if not state:
            return
        for name, p in self._named:
            self._adamw.state[p] = {
                moment: state[f"{name}/{moment}"].to(device=p.device, dtype=torch.float32, copy=True)
                for moment in MOMENTS
            }
