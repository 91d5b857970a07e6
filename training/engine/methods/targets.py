"""Which layers of a base model a run adapts, each with its rank, alpha and learning rate."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from torch import nn

from training.engine.errors import ConfigurationError
from training.engine.families.base import DENOISER, ModelFamily, Parts
from training.engine.methods.rules import is_end_of, is_in, near_names, read_rule
from training.engine.spec import MethodSpec, RunSpec

LAYERS = (nn.Linear, nn.Conv2d)


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """Be one layer that gets an adapter."""

    part: str
    name: str
    rank: int
    alpha: float
    learning_rate: float

    @property
    def path(self) -> str:
        """Return the part and the layer's path in it, which rules are held against."""
        return f"{self.part}.{self.name}"


def find_targets(family: ModelFamily, parts: Parts, spec: RunSpec) -> list[Target]:
    """List the layers to adapt, part after part in the order of the model.

    Raise ConfigurationError, with near names, for a part without any and for a name or a rule that fits none.
    """
    method = spec.method
    layers = {
        part: {name: each for name, each in parts.adaptable[part].named_modules() if isinstance(each, LAYERS)}
        for part in parts_to_adapt(family, spec)
    }
    for ending in method.modules:
        _require_match(f"no layer is called {ending!r}", ending, layers.values())
    found: list[Target] = []
    for part, own in layers.items():
        names = matching_layers(own, method.modules or family.presets[method.targets].get(part, ()))
        if not names:
            raise ConfigurationError(
                "no_target_modules",
                f"no layer of the {part} matches {', '.join(method.modules) or method.targets}",
                hint="Choose another set of layers, or check that the model family fits the base model.",
            )
        rate = spec.training.learning_rate if part == DENOISER else spec.training.text_encoder_rate
        found += (Target(part, name, *_size(own[name], method), rate) for name in names)
    return _with_rules(found, method)


def _require_match(problem: str, ending: str, parts: Iterable[Iterable[str]]) -> None:
    names = [name for part in parts for name in part]
    if not any(is_end_of(ending, name) for name in names):
        near = near_names(ending, names, at_end=True)
        raise ConfigurationError(
            "no_target_modules", problem,
            hint=f"Near names: {', '.join(near)}." if near else "Take the end of a name that the base model has.",
        )  # fmt: skip


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


def matching_layers(names: Iterable[str], endings: Sequence[str]) -> list[str]:
    """List the names that end in one of ``endings``."""
    return [name for name in names if any(is_end_of(ending, name) for ending in endings)]


def _size(layer: nn.Module, method: MethodSpec) -> tuple[int, float]:
    """Return rank and alpha of a layer before exceptions."""
    rank, alpha = method.rank, method.true_alpha
    if isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1):
        own = method.conv_rank or rank
        return own, method.conv_alpha or alpha * own / rank
    return rank, alpha


def _with_rules(targets: list[Target], method: MethodSpec) -> list[Target]:
    for line in method.rules:
        rule = read_rule(line)
        fitting = {target.path for target in targets if is_in(rule.name, target.path)}
        if not fitting:
            near = near_names(rule.name, (target.path for target in targets), at_end=False)
            raise ConfigurationError(
                "unmatched_rule", f"the exception for {rule.name!r} fits no adapted layer",
                hint=f"Near names: {', '.join(near)}." if near else "Remove the line.",
            )  # fmt: skip
        targets = [
            dataclasses.replace(
                target,
                rank=rule.rank or target.rank,
                alpha=rule.alpha or target.alpha * (rule.rank or target.rank) / target.rank,
                learning_rate=rule.learning_rate or target.learning_rate,
            ) if target.path in fitting else target
            for target in targets
        ]  # fmt: skip
    return targets
