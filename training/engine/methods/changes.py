"""What a method adds to the weight of one layer, in each of the forms that methods train and files hold.

A weight is (out, in) or (out, in, kh, kw). Its change is reckoned flattened, (out, in * kh * kw), and in fp32.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Self

import torch
from peft.utils.integrations import dequantize_module_weight
from torch import Tensor, nn
from torch.nn import functional

from training.engine.errors import ConfigurationError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change(ABC):
    """Be one layer's change: factors, and ``scale``, which multiplies their product."""

    title: ClassVar[str]
    """What people call it."""
    scale: float

    @property
    @abstractmethod
    def rank(self) -> int | None:
        """Return the inner size of the factors, by which files divide alpha; None if there is none."""

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """Return the rows and columns of what it is added to, (out, in * kh * kw)."""

    @property
    @abstractmethod
    def fits_together(self) -> bool:
        """Tell whether the shapes of the factors fit each other, which those of a file may not."""

    @abstractmethod
    def product(self) -> Tensor:
        """Return what is added to the weight, before a magnitude is set."""

    def change_of(self, weight: Tensor) -> Tensor:
        """Return the whole change of an untouched weight, which only a form that sets magnitudes depends on."""
        return self.product()

    def times(self, strength: float) -> Self:
        """Return a change that is so many times as strong."""
        return dataclasses.replace(self, scale=self.scale * strength)

    def rows(self, rows: slice | None) -> Self:
        """Return the change of one of the layers that were fused into this one.

        Raise ConfigurationError where the factors cannot be parted by rows.
        """
        if rows is None:
            return self
        raise _inseparable(self)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Self:
        """Return a copy whose factors are there, and in that number format."""
        moved: dict[str, Any] = {
            field.name: _moved(getattr(self, field.name), device, dtype) for field in dataclasses.fields(self)
        }
        return dataclasses.replace(self, **moved)

    def tensors(self) -> Iterator[Tensor]:
        """Yield all factors."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            yield from (value if isinstance(value, tuple) else [value] if isinstance(value, Tensor) else [])

    @property
    def device(self) -> torch.device:
        """Return where the factors lie."""
        return next(self.tensors()).device

    @property
    def dtype(self) -> torch.dtype:
        """Return the number format of the factors."""
        return next(self.tensors()).dtype

    @property
    def is_empty(self) -> bool:
        """Tell whether it changes nothing because the scale or one of the factors is zero."""
        return self.scale == 0 or not all(bool(tensor.any()) for tensor in self.tensors())

    def added(self, x: Tensor, layer: nn.Module) -> Tensor:
        """Return what a layer's output for the input ``x`` has more by this change, in fp32."""
        weight = weight_of(layer).to(x.device)
        with torch.autocast(x.device.type, enabled=False):
            change = self.change_of(weight).view(weight.shape)
        return _apply(x.float(), change, layer)


def _are_multiplied(one: Tensor, other: Tensor) -> bool:
    """Tell whether two factors with at least one direction between them can be multiplied."""
    return min(one.ndim, other.ndim) > 1 and one.shape[1] == other.shape[0] > 0


def weight_of(layer: nn.Module) -> Tensor:
    """Return a layer's weight, where it lies, as numbers: a quantised one is reckoned back."""
    weight: Tensor = dequantize_module_weight(layer)
    return weight.detach()


def shape_of(layer: nn.Module) -> torch.Size:
    """Return the shape of a layer's weight, also where it is quantised and lies packed."""
    if isinstance(layer, nn.Linear):
        return torch.Size((layer.out_features, layer.in_features))
    return layer.weight.shape  # type: ignore[return-value]


def _inseparable(change: Change) -> ConfigurationError:
    return ConfigurationError(
        "layout_unsupported", f"layers fused in a file cannot be parted where they are a {change.title}",
        hint="Use a file that holds each layer apart.",
    )  # fmt: skip


def _moved(value: object, device: torch.device | str, dtype: torch.dtype | None) -> object:
    if isinstance(value, Tensor):
        return value.detach().to(device, dtype)
    return tuple(_moved(each, device, dtype) for each in value) if isinstance(value, tuple) else value


def _apply(x: Tensor, weight: Tensor, layer: nn.Module) -> Tensor:
    if isinstance(layer, nn.Conv2d):
        return functional.conv2d(x, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
    return functional.linear(x, weight)


@dataclasses.dataclass(frozen=True)
class LowRank(Change):
    """Add ``scale * up @ down`` (Hu et al. 2021): ``down`` (r, in[, kh, kw]), ``up`` (out, r[, 1, 1])."""

    title: ClassVar[str] = "LoRA"
    down: Tensor
    up: Tensor

    @property
    def rank(self) -> int:
        """Return the inner size of the factors."""
        return self.down.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """Return the rows of ``up`` and the columns of ``down``."""
        return self.up.shape[0], self.down.flatten(1).shape[1]

    @property
    def fits_together(self) -> bool:
        """Tell whether ``up`` has as many columns as ``down`` rows."""
        return _are_multiplied(self.up, self.down) and self.up.flatten(1).shape[1] == self.rank

    def product(self) -> Tensor:
        """Return ``scale * up @ down``."""
        return self.scale * (self.up.float().flatten(1) @ self.down.float().flatten(1))

    def rows(self, rows: slice | None) -> Self:
        """Return the change with those rows of ``up``."""
        return self if rows is None else dataclasses.replace(self, up=self.up[rows])

    def added(self, x: Tensor, layer: nn.Module) -> Tensor:
        """Compute through the rank, which is cheaper than the weight."""
        hidden = _apply(x.float(), self.down.float(), layer)
        up = self.up.float()
        return self.scale * (
            functional.conv2d(hidden, up) if isinstance(layer, nn.Conv2d) else functional.linear(hidden, up)
        )


@dataclasses.dataclass(frozen=True)
class Decomposed(LowRank):
    """Add as ``LowRank`` does, then bring rows or columns to a length (DoRA, Liu et al. 2024).

    ``magnitude`` has the weight's number of dimensions and a size of 1 in those over which lengths are measured:
    (out, 1[, 1, 1]) sets the length of each row, (1, in[, 1, 1]) of each column.
    """

    title: ClassVar[str] = "DoRA"
    magnitude: Tensor
    strength: float = 1.0

    @property
    def fits_together(self) -> bool:
        """Tell whether there is also one length for each row, each column, or all."""
        if not super().fits_together or self.magnitude.ndim < 2:
            return False
        sizes = {(1, 1), (len(self.up), 1), (1, self.down.shape[1])}
        return (len(self.magnitude), self.magnitude[:1].numel()) in sizes

    def change_of(self, weight: Tensor) -> Tensor:
        """Return the new weight less the old one, times ``strength``."""
        old = weight.float()
        merged = self.merged(old)
        new = merged * (self.magnitude.float() / self.lengths(merged))
        return self.strength * (new - old).flatten(1)

    def merged(self, weight: Tensor) -> Tensor:
        """Return the weight with the product added and its lengths as they come, in fp32."""
        return weight.float() + self.product().view(weight.shape)

    def lengths(self, weight: Tensor) -> Tensor:
        """Return the lengths of a weight's rows or columns, in the shape of ``magnitude``."""
        over = [dim for dim, size in enumerate(self.magnitude.shape) if size == 1]
        lengths: Tensor = torch.linalg.vector_norm(weight.float(), dim=over, keepdim=True)
        return lengths

    def times(self, strength: float) -> Self:
        """Multiply the whole change, that of the lengths too, as other programs do."""
        return dataclasses.replace(self, strength=self.strength * strength)

    def rows(self, rows: slice | None) -> Self:
        """Return the change of some rows; the lengths of columns go through all rows."""
        if rows is None:
            return self
        if self.magnitude.shape[0] == 1:
            raise _inseparable(self)
        return dataclasses.replace(self, up=self.up[rows], magnitude=self.magnitude[rows])

    def added(self, x: Tensor, layer: nn.Module) -> Tensor:
        """Compute through the weight, whose lengths must be known."""
        return Change.added(self, x, layer)


@dataclasses.dataclass(frozen=True)
class Hadamard(Change):
    """Add ``scale * (w1_a @ w1_b) * (w2_a @ w2_b)``, place by place (LoHa, Hyeon-Woo et al. 2021)."""

    title: ClassVar[str] = "LoHa"
    w1_a: Tensor
    w1_b: Tensor
    w2_a: Tensor
    w2_b: Tensor

    @property
    def rank(self) -> int:
        """Return the inner size of the factors."""
        return self.w1_b.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """Return the size of both products."""
        return self.w1_a.shape[0], self.w1_b.shape[1]

    @property
    def fits_together(self) -> bool:
        """Tell whether both products can be made, and are of one size."""
        one, other = (self.w1_a, self.w1_b), (self.w2_a, self.w2_b)
        if not (_are_multiplied(*one) and _are_multiplied(*other)):
            return False
        return (len(one[0]), one[1].shape[1:]) == (len(other[0]), other[1].shape[1:])

    def product(self) -> Tensor:
        """Return the scaled product of the two low-rank products."""
        return self.scale * (self.w1_a.float() @ self.w1_b.float()) * (self.w2_a.float() @ self.w2_b.float())


@dataclasses.dataclass(frozen=True)
class Kronecker(Change):
    """Add ``scale * kron(w1, w2)`` (LoKr, Yeh et al. 2023).

    ``w1`` and ``w2`` are one matrix each, or the two factors of one; a whole ``w2`` may be (out, in, kh, kw).
    """

    title: ClassVar[str] = "LoKr"
    w1: tuple[Tensor, ...]
    w2: tuple[Tensor, ...]

    @property
    def rank(self) -> int | None:
        """Return the inner size of the factored matrix, of ``w2`` if both are; None if none is."""
        return next((pair[1].shape[0] for pair in (self.w2, self.w1) if len(pair) == 2), None)

    @property
    def size(self) -> tuple[int, int]:
        """Return the product of the sizes of both matrices."""
        sides = [(pair[0].shape[0], pair[-1].flatten(1).shape[1]) for pair in (self.w1, self.w2)]
        return sides[0][0] * sides[1][0], sides[0][1] * sides[1][1]

    @property
    def fits_together(self) -> bool:
        """Tell whether each matrix is one, or the product of its factors."""
        return all(
            _are_multiplied(*each) if len(each) == 2 else each[0].ndim > 1 for each in (self.w1, self.w2)
        )

    def product(self) -> Tensor:
        """Return the scaled Kronecker product."""
        return self.scale * torch.kron(_whole(self.w1), _whole(self.w2))


def _whole(factors: tuple[Tensor, ...]) -> Tensor:
    first = factors[0].float().flatten(1)
    return first if len(factors) == 1 else first @ factors[1].float().flatten(1)


def shaped(change: Change, layer: nn.Module) -> Change:
    """Return a low-rank change with the dimensions of a layer: convolutions of 1 x 1 are matrices in some files."""
    if not isinstance(change, LowRank):
        return change
    inner = shape_of(layer)[1:]
    ones = [1] * (len(inner) - 1)
    down, up = change.down.reshape(change.rank, *inner), change.up.flatten(1).reshape(-1, change.rank, *ones)
    if isinstance(change, Decomposed):
        magnitude = change.magnitude.flatten(1).reshape(*change.magnitude.shape[:2], *ones)
        return dataclasses.replace(change, down=down, up=up, magnitude=magnitude)
    return dataclasses.replace(change, down=down, up=up)
