"""AdamW with moments of eight bits (Dettmers et al. 2022) from bitsandbytes: a quarter of the memory for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from training.engine.extras import require
from training.engine.methods.base import ParameterGroup
from training.engine.optimizers.base import UpdateRule
from training.engine.spec import TrainingSpec

# Tensors of less than 4096 numbers keep fp32 moments and have no absmax.
MOMENTS = ("state1", "state2", "absmax1", "absmax2")
MAPS = {"qmap1": "dynamic", "qmap2": "udynamic"}


class AdamW8bit(UpdateRule):
    """Step with bitsandbytes' kernels, which wait for the GPU after each tensor."""

    def __init__(self, groups: Sequence[ParameterGroup], training: TrainingSpec) -> None:
        super().__init__(groups, training)
        library = require("bitsandbytes", "/training/optimizer", "adamw")
        self._adamw: Any = library.optim.AdamW8bit(
            [{"params": [p for _, p in g.parameters], "lr": g.learning_rate} for g in groups],
            weight_decay=training.weight_decay,
        )  # fmt: skip

    def step(self, rates: Sequence[float], finite: Tensor) -> None:
        """Make one step, if ``finite``: it is read, since the kernels know no other way to leave a step out."""
        if not bool(finite):
            return
        for group, rate in zip(self._adamw.param_groups, rates, strict=True):
            group["lr"] = rate
        self._adamw.step()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the moments as ``<parameter>/<moment>``, copied to the CPU."""
        content: dict[str, Tensor] = {}
        for name, p in self.named:
            state = self._adamw.state.get(p, {})
            for moment in MOMENTS:
                if moment in state:
                    content[f"{name}/{moment}"] = state[moment].detach().to("cpu", copy=True).contiguous()
            if state:
                content[f"{name}/step"] = torch.tensor(state["step"])
        return content

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put saved moments back; an empty state is the state before the first step."""
        self._adamw.state.clear()
        for name, p in self.named:
            if f"{name}/step" not in state:
                continue
            own: dict[str, Any] = {
                moment: state[f"{name}/{moment}"].to(device=p.device, copy=True)
                for moment in MOMENTS if f"{name}/{moment}" in state
            }  # fmt: skip
            if "absmax1" in own:
                own.update({key: self._map(kind, p.device) for key, kind in MAPS.items()})
            own["step"] = int(state[f"{name}/step"])
            self._adamw.state[p] = own

    def _map(self, kind: str, device: torch.device) -> Tensor:
        """Return what the 256 codes of a moment stand for: the library's own table."""
        tables: dict[str, Tensor] = self._adamw.name2qmap
        if kind not in tables:
            self._adamw.fill_qmap()
        tables[kind] = tables[kind].to(device)
        return tables[kind]
