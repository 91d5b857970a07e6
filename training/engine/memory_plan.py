"""Choose how a run fits the memory of its device: arithmetic over what was measured. Nothing here imports torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from training.engine.training_section import CHECKPOINTING

Base = tuple[str, str, str]
"""Precision, quantisation and offload: what must be known when the base model is loaded."""
BYTES_PER_WEIGHT = {"fp32": 4.0, "bf16": 2.0}
# Per-row int8 has a scale a row, nf4 a byte a block of 64 and a little for these bytes' own scales.
QUANTISED_BYTES = {"int8": 1.01, "nf4": 0.52}
USABLE = 0.92
"""Share of the free memory that is planned with: allocators lose some between their blocks."""
ADAPTER_BYTES = 16
"""A trained number in fp32, its gradient and two moments."""
MOST_GUESSED = 2**30


@dataclasses.dataclass(frozen=True, slots=True)
class Weights:
    """Count the numbers of a denoiser: those of linear layers, which can be quantised, and the others."""

    linear: int
    other: int

    def bytes(self, precision: str, quantise: str) -> int:
        """Return the memory they take."""
        whole = BYTES_PER_WEIGHT[precision]
        return int(self.linear * QUANTISED_BYTES.get(quantise, whole) + self.other * whole)


@dataclasses.dataclass(frozen=True, slots=True)
class Demand:
    """Say what a run takes: the denoiser's weights and, in bytes, all that no choice here changes.

    ``picture`` returns what one picture takes at a level of gradient checkpointing; asking may mean measuring.
    """

    weights: Weights
    fixed: int
    picture: Callable[[str], int]


@dataclasses.dataclass(frozen=True, slots=True)
class Wishes:
    """List for each choice the values that are allowed, the dearest last; one value is no choice.

    ``batch`` is the most pictures computed at once.
    """

    precision: Sequence[str]
    quantise: Sequence[str]
    offload: Sequence[str]
    gradient_checkpointing: Sequence[str]
    batch: int


@dataclasses.dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Be one way to compute the steps, with the memory it needs and the memory there is, in bytes."""

    precision: str
    quantise: str
    offload: str
    gradient_checkpointing: str
    micro_batch: int
    needed: int = 0
    free: int = 0

    @property
    def base(self) -> Base:
        """Return what must be known when the base model is loaded."""
        return self.precision, self.quantise, self.offload

    @property
    def fits(self) -> bool:
        """Tell whether it should do."""
        return self.needed <= USABLE * self.free


def choose(free: int, demand: Demand, wishes: Wishes, start: Base | None = None) -> MemoryPlan:
    """Return the fastest plan that fits ``free`` bytes, or the smallest if none does.

    In the order of what they cost: fewer pictures at once, a level of gradient checkpointing, a quantised base model,
    weights kept in the host's memory. All give the same result but precision and quantisation, which are close to it.
    """
    plan = None
    for plan in candidates(wishes, start):
        plan = dataclasses.replace(plan, needed=_needed(plan, demand), free=free)
        if plan.fits:
            break
    assert plan is not None
    return plan


def candidates(wishes: Wishes, start: Base | None = None) -> Iterator[MemoryPlan]:
    """Yield every plan that is allowed, the fastest first; those before ``start`` were found too large."""
    bases = [
        (precision, quantise, offload)
        for precision in wishes.precision for offload in wishes.offload for quantise in wishes.quantise
        # Weights that come and go take so little that they need not be quantised, and could not be.
        if quantise == "none" or offload == "off"
    ]  # fmt: skip
    for precision, quantise, offload in bases[bases.index(start) if start else 0 :]:
        # Else the gradients of a pass would hold all the weights that came.
        levels = CHECKPOINTING[-1:] if offload == "on" else wishes.gradient_checkpointing
        for level in levels:
            micro_batch = wishes.batch
            while micro_batch:
                yield MemoryPlan(precision, quantise, offload, level, micro_batch)
                micro_batch //= 2


def before_loading(weights: Weights) -> Demand:
    """Return the demand of a model that nothing was measured of: little enough to be right only of what must not be.

    With all blocks computed twice, a picture of SD 1.5 takes about a gigabyte, one of FLUX.1 about three.
    """
    whole = weights.bytes("bf16", "none")
    guess = min(whole, MOST_GUESSED) + whole // 10
    return Demand(weights, 0, lambda level: guess)


def _needed(plan: MemoryPlan, demand: Demand) -> int:
    weights = demand.weights.bytes(plan.precision, plan.quantise)
    if plan.offload == "on":
        # What lies outside of the blocks stays, and two blocks of some dozens are there at a time.
        weights = Weights(0, demand.weights.other).bytes(plan.precision, "none") + weights // 10
    return weights + demand.fixed + plan.micro_batch * demand.picture(plan.gradient_checkpointing)
