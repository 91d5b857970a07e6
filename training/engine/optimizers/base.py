"""What an optimizer must do, and a base for those whose state is kept by stacks of equally shaped parameters.

An adapter has hundreds of small tensors in a few shapes. One update of a stack costs as many kernel launches as that of
a single tensor, and whether it counts is decided on the device: nothing here makes a GPU wait.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.engine.methods.base import ParameterGroup
from training.engine.spec import TrainingSpec


class UpdateRule(abc.ABC):
    """Update the parameters of all groups in place; found by name in the registry."""

    def __init__(self, groups: Sequence[ParameterGroup], training: TrainingSpec) -> None:
        """Take the groups; raise ConfigurationError if a library is missing."""
        self.groups = list(groups)
        self.training = training
        self.named = [(name, p) for group in groups for name, p in group.parameters]

    @abc.abstractmethod
    def step(self, rates: Sequence[float], finite: Tensor) -> None:
        """Make one step at one learning rate a group.

        ``finite`` is a bool of no dimensions on the device; where it is false, weights and moments stay as they are.
        """

    @abc.abstractmethod
    def state_dict(self) -> dict[str, Tensor]:
        """Return all that a resumed run needs, as tensors by name, copied to the CPU; empty before the first step."""

    @abc.abstractmethod
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put a saved state back; an empty one is the state before the first step."""

    def effective_rate(self, rate: float) -> float | Tensor:
        """Return the learning rate that the first group really has, given the one it was told."""
        return rate

    def averages(self) -> dict[str, Tensor] | None:
        """Return by name the weights that are meant to be used, None if they are the trained ones."""
        return None


class Stack:
    """Hold parameters of one shape, and their state as tensors whose first dimension counts them."""

    def __init__(self, named: Sequence[tuple[str, nn.Parameter]]) -> None:
        self.names = [name for name, _ in named]
        self.parameters = [p for _, p in named]
        self.state: dict[str, Tensor] = {}
        self._change: Tensor | None = None
        self._next: dict[str, Tensor] = {}

    def weights(self) -> Tensor:
        """Return the weights, (n, *shape)."""
        return torch.stack([p.detach() for p in self.parameters])

    def gradients(self) -> Tensor:
        """Return the gradients, (n, *shape); a parameter without one has zeros."""
        return torch.stack([torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters])

    def propose(self, change: Tensor, **state: Tensor) -> None:
        """Note what is to be added to the weights, and the state after it."""
        self._change, self._next = change, state

    def commit(self, finite: Tensor) -> None:
        """Do what was proposed, where ``finite`` is true."""
        assert self._change is not None
        change = torch.where(finite, self._change, 0.0)
        torch._foreach_add_([*self.parameters], [*change.unbind()])
        _replace(self.state, self._next, finite)
        self._change, self._next = None, {}


class Group:
    """Hold the stacks that share a learning rate, and the numbers they have in common."""

    def __init__(self, group: ParameterGroup) -> None:
        self.name = group.name
        by_shape: dict[torch.Size, list[tuple[str, nn.Parameter]]] = {}
        for name, parameter in group.parameters:
            by_shape.setdefault(parameter.shape, []).append((name, parameter))
        self.stacks = [Stack(named) for named in by_shape.values()]
        self.state: dict[str, Tensor] = {}
        self.next: dict[str, Tensor] = {}
        """The state after this step, where it counts."""

    @property
    def device(self) -> torch.device:
        """Return where the parameters are."""
        return self.stacks[0].parameters[0].device

    def number(self, value: float) -> Tensor:
        """Return a number of no dimensions on the device; in double precision, which leaves fp32 tensors fp32."""
        return torch.tensor(value, dtype=torch.float64, device=self.device)


class StackedRule(UpdateRule):
    """Be the base of rules that are written for stacks: ``start`` and ``update`` say the mathematics."""

    def __init__(self, groups: Sequence[ParameterGroup], training: TrainingSpec) -> None:
        super().__init__(groups, training)
        self._groups = [Group(group) for group in groups]

    @abc.abstractmethod
    def start(self, group: Group) -> None:
        """Fill the state of a group and its stacks before the first step."""

    @abc.abstractmethod
    def update(self, group: Group, rate: float, steps: Tensor) -> None:
        """Propose a change for each stack, and set ``group.next``; ``steps`` counts this one, from 1."""

    @torch.no_grad()
    def step(self, rates: Sequence[float], finite: Tensor) -> None:
        """Make one step, where ``finite`` is true."""
        for group, rate in zip(self._groups, rates, strict=True):
            if not group.state:
                group.state = {"steps": group.number(0.0)}
                self.start(group)
            group.next = {"steps": group.state["steps"] + 1.0}
            self.update(group, rate, group.next["steps"])
            for stack in group.stacks:
                stack.commit(finite)
            _replace(group.state, group.next, finite)

    def state_dict(self) -> dict[str, Tensor]:
        """Return each parameter's state as ``<parameter>/<moment>``, each group's as ``<group>/<number>``."""
        content: dict[str, Tensor] = {}
        for group in self._groups:
            content.update({f"{group.name}/{key}": _copy(value) for key, value in group.state.items()})
            for stack in group.stacks:
                for moment, value in stack.state.items():
                    for name, part in zip(stack.names, value.unbind(), strict=True):
                        content[f"{name}/{moment}"] = _copy(part)
        return content

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put a saved state back; an empty one is the state before the first step."""
        by_owner: dict[str, dict[str, Tensor]] = {}
        for key, value in state.items():
            owner, _, moment = key.rpartition("/")
            by_owner.setdefault(owner, {})[moment] = value
        for group in self._groups:
            numbers = by_owner.get(group.name, {})
            group.state = {key: value.to(group.device, copy=True) for key, value in numbers.items()}
            for stack in group.stacks:
                stack.state = {
                    moment: torch.stack([by_owner[name][moment] for name in stack.names]).to(group.device)
                    for moment in by_owner.get(stack.names[0], {})
                }


def _replace(state: dict[str, Tensor], after: dict[str, Tensor], finite: Tensor) -> None:
    for name, value in after.items():
        state[name] = torch.where(finite, value, state[name])


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()
