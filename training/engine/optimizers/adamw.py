"""AdamW (Loshchilov and Hutter 2019) with torch's fused kernel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from training.engine.methods.base import ParameterGroup
from training.engine.optimizers.base import UpdateRule
from training.engine.spec import TrainingSpec

MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class AdamW(UpdateRule):
    """Step with one kernel for all parameters of a group."""

    def __init__(self, groups: Sequence[ParameterGroup], training: TrainingSpec) -> None:
        super().__init__(groups, training)
        self._adamw = torch.optim.AdamW(
            [{"params": [p for _, p in g.parameters], "lr": g.learning_rate} for g in groups],
            weight_decay=training.weight_decay, fused=True,
        )  # fmt: skip

    def step(self, rates: Sequence[float], finite: Tensor) -> None:
        """Make one step, where ``finite`` is true."""
        for group, rate in zip(self._adamw.param_groups, rates, strict=True):
            group["lr"] = rate
        # The fused kernel leaves weights and moments alone where found_inf is 1 (made for gradient scalers).
        self._adamw.found_inf = (~finite).to(torch.float32)  # type: ignore[attr-defined]
        self._adamw.step()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the moments as ``<parameter>/<moment>``, copied to the CPU."""
        return {
            f"{name}/{moment}": self._adamw.state[p][moment].detach().to("cpu", copy=True).contiguous()
            for name, p in self.named if p in self._adamw.state for moment in MOMENTS
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put saved moments back; an empty state is the state before the first step.

        A parameter that no gradient ever reached has none: the last block of some models computes what nobody reads.
        """
        self._adamw.state.clear()
        for name, p in self.named:
            if f"{name}/{MOMENTS[0]}" not in state:
                continue
            self._adamw.state[p] = {
                moment: state[f"{name}/{moment}"].to(device=p.device, dtype=torch.float32, copy=True)
                for moment in MOMENTS
            }
