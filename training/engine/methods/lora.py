"""Low-rank adaptation (Hu et al. 2021) through peft; the adapter stays in fp32 whatever the base model's type."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from training.engine import rng
from training.engine.errors import ConfigurationError
from training.engine.families.base import DENOISER, ModelFamily, Parts
from training.engine.methods.base import ParameterGroup, WeightDelta
from training.engine.methods.changes import LowRank
from training.engine.spec import RunSpec

ADAPTER = "default"


class Lora:
    """Attach LoRA factors of one rank to the modules of a preset."""

    name = "lora"

    def attach(self, family: ModelFamily, parts: Parts, spec: RunSpec) -> LoraAdapter:
        """Inject adapters; A starts Kaiming-uniform from the run's seed, B at zero."""
        preset = family.presets[spec.method.targets]
        wanted = parts_to_adapt(family, spec)
        layers: dict[tuple[str, str], Any] = {}
        for part in wanted:
            model = parts.adaptable[part]
            names = matching_modules(model, preset.get(part, ()))
            if not names:
                raise ConfigurationError(
                    "no_target_modules", f"no layer of the {part} matches the preset {spec.method.targets!r}",
                    hint="Choose another set of layers, or check that the model family fits the base model.",
                )  # fmt: skip
            config = LoraConfig(
                r=spec.method.rank, lora_alpha=spec.method.true_alpha,  # type: ignore[arg-type]
                target_modules="|".join(f"(?:{re.escape(name)})" for name in names),
                lora_dropout=0.0, bias="none",
            )  # fmt: skip
            inject_adapter_in_model(config, model, adapter_name=ADAPTER)
            for name, module in model.named_modules():
                if isinstance(module, LoraLayer):
                    layers[part, name] = module
        adapter = LoraAdapter(layers, spec)
        adapter.initialise(spec.training.seed)
        return adapter


def parts_to_adapt(family: ModelFamily, spec: RunSpec) -> list[str]:
    """List the parts that get adapters; raise ConfigurationError where the text encoder cannot be one."""
    if not spec.method.text_encoder:
        return [DENOISER]
    if not family.trainable_encoders:
        raise ConfigurationError(
            "text_encoder_fixed", f"the text encoder of {family.title} is not trained",
            hint="Turn it off: what programs read for this base model holds no text encoder.",
            patch={"/method/text_encoder": False},
        )  # fmt: skip
    return [DENOISER, *family.trainable_encoders]


def matching_modules(model: nn.Module, endings: Sequence[str]) -> list[str]:
    """List the linear and convolution layers whose path ends in one of ``endings``, on a dot border."""
    return [
        name for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d)) and any(f".{name}".endswith(f".{end}") for end in endings)
    ]  # fmt: skip


class LoraAdapter:
    """Hold the injected layers by (part, module path)."""

    def __init__(self, layers: dict[tuple[str, str], Any], spec: RunSpec) -> None:
        self._layers = layers
        half = spec.training.learning_rate / 2
        encoders = dict.fromkeys(part for part, _ in layers if part != DENOISER)
        self._rates = {
            DENOISER: spec.training.learning_rate,
            **dict.fromkeys(encoders, spec.training.text_encoder_learning_rate or half),
        }
        self.modules = len(layers)

    def initialise(self, seed: int) -> None:
        """Draw A for each module from (seed, module name), zero B, in fp32."""
        for (part, name), layer in self._layers.items():
            down, up = self._factors(layer)
            device = layer.get_base_layer().weight.device
            for module in (down, up):
                module.to(device=device, dtype=torch.float32)
                module.requires_grad_(True)
            fan_in = down.weight[0].numel()
            values = torch.rand(down.weight.shape, generator=rng.generator(seed, f"init/{part}/{name}"))
            with torch.no_grad():
                down.weight.copy_((values * 2.0 - 1.0) / math.sqrt(fan_in))
                up.weight.zero_()

    @staticmethod
    def _factors(layer: Any) -> tuple[Any, Any]:
        """Return peft's down and up module: linear layers or convolutions."""
        return layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]

    def _named(self, part: str | None = None) -> Iterator[tuple[str, nn.Parameter]]:
        for (owner, name), layer in self._layers.items():
            if part in (None, owner):
                down, up = self._factors(layer)
                yield f"{owner}.{name}.lora_A.weight", down.weight
                yield f"{owner}.{name}.lora_B.weight", up.weight

    def groups(self) -> list[ParameterGroup]:
        """Return one group a part, in a fixed order."""
        groups = [ParameterGroup(part, list(self._named(part)), rate) for part, rate in self._rates.items()]
        return [group for group in groups if group.parameters]

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Switch all layers to their base weights, and back."""
        # `enable_adapters` would toggle requires_grad as well, which must not change in the midst of a run.
        for layer in self._layers.values():
            layer._disable_adapters = True
        try:
            yield
        finally:
            for layer in self._layers.values():
                layer._disable_adapters = False

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of all factors on the CPU."""
        return {name: p.detach().to("cpu", copy=True).contiguous() for name, p in self._named()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Copy saved factors into the live ones."""
        own = dict(self._named())
        if own.keys() != state.keys():
            odd = sorted(own.keys() ^ state.keys())
            raise ValueError(f"the saved adapter has other layers: {len(odd)} differ, first {odd[0]!r}")
        with torch.no_grad():
            for name, parameter in own.items():
                if parameter.shape != state[name].shape:
                    raise ValueError(f"{name} is {tuple(state[name].shape)}, not {tuple(parameter.shape)}")
                parameter.copy_(state[name])

    def deltas(self) -> Iterator[WeightDelta]:
        """Yield down (r, in[, kh, kw]) and up (out, r[, 1, 1]) of each module with the true scale."""
        for (part, name), layer in self._layers.items():
            down, up = self._factors(layer)
            change = LowRank(down.weight.detach(), up.weight.detach(), scale=layer.scaling[ADAPTER])
            yield WeightDelta(part, name, layer.get_base_layer(), change)
