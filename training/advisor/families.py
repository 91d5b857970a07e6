"""Starting values for each family of base models and each template.

Every number lies inside the range that the makers of the well-known trainers publish for that family; `batch` is
the batch size those step counts were given for. Kept as a table so that it can be read and argued with.
"""

from __future__ import annotations

from dataclasses import dataclass

from training.advisor.templates import TemplateKey


@dataclass(frozen=True, slots=True)
class Start:
    """Hold what depends on family and template: rank, alpha, learning rate, steps at batch size `batch`."""

    rank: int
    alpha: int
    learning_rate: float
    steps: int
    batch: int = 1


@dataclass(frozen=True, slots=True)
class Family:
    """Hold what depends on the family alone. Memory in MB per picture at the native resolution."""

    title: str
    starts: dict[TemplateKey, Start]
    # Smallest device memory (MB) for a batch of 1, 2, 4 and 8 at the native resolution, nothing traded for time.
    memory_for_batch: tuple[tuple[int, int], ...]
    # Objectives of the eps/v kind take min-SNR and noise offset; flow matching takes neither.
    is_flow: bool = False
    guidance: float = 7.0
    sample_steps: int = 20


_C, _S, _P, _N = TemplateKey.CHARACTER, TemplateKey.STYLE, TemplateKey.PRODUCT, TemplateKey.CONCEPT
_GB = 1024

SD = Family(
    "Stable Diffusion 1.x / 2.x",
    {
        _C: Start(16, 8, 1e-4, 2000, 2),
        _S: Start(32, 16, 1e-4, 2000, 2),
        _P: Start(16, 8, 1e-4, 1500, 2),
        _N: Start(32, 16, 1e-4, 2000, 2),
    },
    ((1, 7 * _GB), (2, 10 * _GB), (4, 16 * _GB), (8, 26 * _GB)),
)
SDXL = Family(
    "SDXL",
    {
        _C: Start(32, 16, 1e-4, 1800),
        _S: Start(32, 16, 1e-4, 2500),
        _P: Start(16, 8, 1e-4, 1400),
        _N: Start(32, 16, 1e-4, 2200),
    },
    ((1, 12 * _GB), (2, 18 * _GB), (4, 24 * _GB), (8, 44 * _GB)),
)
FLOW = Family(
    "Diffusion transformer",
    {
        _C: Start(16, 16, 1e-4, 1800),
        _S: Start(32, 32, 1e-4, 2000),
        _P: Start(16, 16, 1e-4, 1400),
        _N: Start(32, 32, 1e-4, 2000),
    },
    ((1, 30 * _GB), (2, 44 * _GB), (4, 78 * _GB)),
    is_flow=True,
    guidance=4.0,
)
# The demo model is tiny: 64 pixels, trained in about a minute on a processor.
DEMO_START = Start(8, 8, 1e-3, 100, 8)

FAMILIES: dict[str, Family] = {"sd": SD, "sdxl": SDXL}


def family_of(key: str) -> Family:
    """Return the starting values for a family; what is not listed is treated as a diffusion transformer."""
    return FAMILIES.get(key, FLOW)
