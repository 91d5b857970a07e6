"""What the methods share that put an adapter of peft beside some layers of the base model.

The adapter is fp32 whatever the base model's number format, and its fresh values follow from the run's seed and each
layer's name.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from peft import inject_adapter_in_model
from torch import Tensor, nn

from training.engine import rng
from training.engine.families.base import ModelFamily, Parts
from training.engine.methods.base import Adapter, ParameterGroup, WeightDelta
from training.engine.methods.changes import Change
from training.engine.methods.targets import Target, find_targets
from training.engine.spec import RunSpec

ADAPTER = "default"


class LayerMethod(ABC):
    """Adapt the layers that the recipe names; a method says which factors a layer has and what they do."""

    name: ClassVar[str]

    def changes_text(self, spec: RunSpec) -> bool:
        """Tell whether text encoders have adapters."""
        return spec.method.text_encoder

    def check(self, family: ModelFamily, parts: Parts, spec: RunSpec) -> None:
        """Find the layers; raise ConfigurationError if a name or an exception matches none."""
        find_targets(family, parts, spec)

    def attach(self, family: ModelFamily, parts: Parts, spec: RunSpec) -> Adapter:
        """Inject adapters with fresh values; raise ConfigurationError if no layer matches."""
        targets = find_targets(family, parts, spec)
        layers: dict[Target, Any] = {}
        for part in dict.fromkeys(target.part for target in targets):
            model, own = parts.adaptable[part], [target for target in targets if target.part == part]
            inject_adapter_in_model(self.config(spec, **_sizes(own)), model, adapter_name=ADAPTER)
            for target in own:
                layers[target] = self.prepared(model.get_submodule(target.name), family, spec)
        adapter = LayerAdapter(self, layers, parts.adaptable)
        adapter.initialise(spec.training.seed)
        return adapter

    @abstractmethod
    def config(self, spec: RunSpec, *, alpha: float, **sizes: Any) -> Any:
        """Return peft's config; ``sizes`` are what all of peft's configs call alike."""

    def prepared(self, layer: Any, family: ModelFamily, spec: RunSpec) -> Any:
        """Return an injected layer, changed if the method needs more than peft does."""
        return layer

    @abstractmethod
    def parameters(self, layer: Any) -> Mapping[str, nn.Parameter]:
        """Return what is trained of a layer, by the names it has in a checkpoint."""

    @abstractmethod
    def fresh(self, layer: Any, name: str, uniform: Tensor) -> Tensor:
        """Return the first values of a parameter, made of ``uniform`` in [-1, 1) of its shape."""

    @abstractmethod
    def change(self, layer: Any) -> Change:
        """Return what a layer has learned; the factors are the live ones."""


def _sizes(targets: Sequence[Target]) -> dict[str, Any]:
    """Return ranks and alphas for peft: the commonest, and the others by name; and which layers get an adapter."""
    (rank, alpha), _ = Counter((target.rank, target.alpha) for target in targets).most_common(1)[0]
    names = {target: re.escape(target.name) for target in targets}
    return {
        "r": rank,
        "alpha": alpha,
        "rank_pattern": {f"^{names[t]}": t.rank for t in targets if t.rank != rank},
        "alpha_pattern": {f"^{names[t]}": t.alpha for t in targets if t.alpha != alpha},
        "target_modules": "|".join(f"(?:{name})" for name in names.values()),
    }


def by_fan_in(uniform: Tensor) -> Tensor:
    """Return values between -1 and 1 over the root of the inputs, as peft draws them (Kaiming with a of root 5)."""
    return uniform / math.sqrt(uniform[0].numel())


class LayerAdapter:
    """Hold the injected layers by target."""

    def __init__(
        self, method: LayerMethod, layers: Mapping[Target, Any], models: Mapping[str, nn.Module]
    ) -> None:
        self._method = method
        self._layers = dict(layers)
        self._models = {target.part: models[target.part] for target in layers}
        self.modules = len(layers)
        for layer in self._layers.values():
            for parameter in method.parameters(layer).values():
                parameter.data = parameter.data.to(_device(layer), torch.float32)
                parameter.requires_grad_(True)

    def initialise(self, seed: int) -> None:
        """Set every factor to its fresh value."""
        with torch.no_grad():
            for target, layer in self._layers.items():
                generator = rng.generator(seed, f"init/{target.part}/{target.name}")
                for name, parameter in self._method.parameters(layer).items():
                    uniform = torch.rand(parameter.shape, generator=generator) * 2.0 - 1.0
                    parameter.copy_(self._method.fresh(layer, name, uniform))

    def _named(self) -> Iterator[tuple[Target, str, nn.Parameter]]:
        for target, layer in self._layers.items():
            for name, parameter in self._method.parameters(layer).items():
                yield target, f"{target.path}.{name}", parameter

    def groups(self) -> list[ParameterGroup]:
        """Return one group for each part and learning rate, in the order of the parts, commonest rate first."""
        members: dict[tuple[str, float], list[tuple[str, nn.Parameter]]] = {}
        for target, name, parameter in self._named():
            members.setdefault((target.part, target.learning_rate), []).append((name, parameter))
        parts = list(dict.fromkeys(part for part, _ in members))
        found: dict[str, ParameterGroup] = {}
        for part, rate in sorted(members, key=lambda key: (parts.index(key[0]), -len(members[key]))):
            name = f"{part} at {rate:g}" if part in found else part
            found[name] = ParameterGroup(name, members[part, rate], rate)
        return list(found.values())

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

    def detach(self) -> None:
        """Put the base model's own layers back in their places."""
        for target, layer in self._layers.items():
            parent, _, name = target.name.rpartition(".")
            setattr(self._models[target.part].get_submodule(parent), name, layer.get_base_layer())
        for model in self._models.values():
            if hasattr(model, "peft_config"):
                del model.peft_config

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of all factors on the CPU."""
        return {name: p.detach().to("cpu", copy=True).contiguous() for _, name, p in self._named()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Copy saved factors into the live ones."""
        own = {name: parameter for _, name, parameter in self._named()}
        if own.keys() != state.keys():
            odd = sorted(own.keys() ^ state.keys())
            raise ValueError(f"the saved adapter has other layers: {len(odd)} differ, first {odd[0]!r}")
        with torch.no_grad():
            for name, parameter in own.items():
                if parameter.shape != state[name].shape:
                    raise ValueError(f"{name} is {tuple(state[name].shape)}, not {tuple(parameter.shape)}")
                parameter.copy_(state[name])

    def deltas(self) -> Iterator[WeightDelta]:
        """Yield the change of each layer with its true scale."""
        for target, layer in self._layers.items():
            change = self._method.change(layer).to(_device(layer))
            yield WeightDelta(target.part, target.name, layer.get_base_layer(), change)


def _device(layer: Any) -> torch.device:
    device: torch.device = layer.get_base_layer().weight.device
    return device
