"""How large the base models are: weights, tokens of a picture, and what each block keeps for the backward pass.

Nothing here was fitted to a measured run. Weights are the parameters of diffusers' own classes with the published
configurations; ``kept`` and ``saved`` were counted by ``bench/activations.py``, which runs one block of the real class
under autograd's hooks for saved tensors; ``docs/estimate.md`` explains both. Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from pathlib import Path

TARGETS = ("attn", "attn-mlp", "all")
"""The sets of trained layers, in the order of ``Blocks.kept`` and ``Blocks.factors``."""


@dataclasses.dataclass(frozen=True, slots=True)
class Blocks:
    """Describe equal blocks of a denoiser. ``kept``, ``saved`` and ``widest`` count two-byte numbers in widths.

    ``weights_m`` are the millions of weights that a token of the picture meets in one block, without the modulation,
    which is computed once a picture. ``kept`` is what a token leaves for the backward pass, by set of trained layers;
    ``saved`` what it leaves with gradient checkpointing, and ``widest`` what it needs while one block is computed
    again (0: all of ``kept``). ``factors`` are the weights of an adapter of rank one in widths, ``layers`` the
    layers it is on; ``attention`` counts layers of self-attention over all tokens.
    """

    count: int
    width: int
    weights_m: float
    kept: tuple[float, float, float]
    factors: tuple[float, float, float]
    layers: tuple[int, int, int] = (8, 12, 12)
    saved: float = 1.0
    widest: float = 0.0
    attention: float = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class ModelProfile:
    """Give the size of a base model; weights in millions.

    A token covers ``token_px`` pixels each way and ``token_frames`` frames. ``text_tokens`` go through the blocks
    beside the picture's when ``joint``: all that are filled up to, or 128, a long caption with its template, where a
    model drops the padding. ``encoder_bytes`` is the width of an encoder's weight as it is loaded, ``vae``
    the most channels at full size, which decides what encoding and decoding take.
    """

    title: str
    denoiser_m: float
    encoders_m: float
    vae_m: float
    blocks: tuple[Blocks, ...]
    token_px: int = 16
    token_frames: int = 1
    text_tokens: int = 512
    joint: bool = True
    resolution: int = 1024
    encoder_bytes: int = 2
    vae_channels: int = 128
    linear_share: float = 0.98

    def tokens(self, resolution: int, frames: int = 1) -> int:
        """Return how many tokens a picture (or video) of that area has, those of the text included."""
        steps = 1 + math.ceil((frames - 1) / self.token_frames)
        return self.picture_tokens(resolution) * steps + (self.text_tokens if self.joint else 0)

    def picture_tokens(self, resolution: int) -> int:
        """Return the tokens of one picture without text."""
        return max(1, round((resolution / self.token_px) ** 2))

    def forward_tflop(self, resolution: int, frames: int = 1) -> float:
        """Return the cost of one forward pass: two operations for each weight that each token meets, and attention."""
        tokens = self.tokens(resolution, frames)
        products = sum(2e6 * group.weights_m * group.count for group in self.blocks) * tokens
        attention = (
            sum(4.0 * group.width * group.attention * group.count for group in self.blocks) * tokens**2
        )
        return (products + attention) / 1e12


# UNets: one "block" is the whole net, a token one latent pixel, the width that of the outermost level. Convolutions see
# each latent pixel of their own level only, so sums over the levels are given for one pixel of the outermost.
SD = Blocks(
    1, 320, 82.7, (432, 497, 548), (623, 1325, 3284), (128, 192, 278), saved=85, widest=39, attention=5.8
)
SDXL = Blocks(
    1, 320, 182.4, (727, 837, 900), (4536, 8312, 9607), (560, 722, 788), saved=61, widest=20, attention=2.3
)

MMDIT_FACTORS = (16, 36, 36)
# FLUX.1 and Chroma: blocks with a text stream of their own, then blocks that share one.
FLUX_DOUBLE = Blocks(19, 3072, 113.2, (20.1, 25.1, 25.1), MMDIT_FACTORS)
FLUX_SINGLE = Blocks(38, 3072, 113.2, (17.0, 17.0, 23.1), (6, 6, 17), (3, 3, 5))


def _flux2(double: int, single: int, width: int) -> tuple[Blocks, Blocks]:
    """Return the two kinds of blocks of FLUX.2; its weights grow with the square of the width."""
    scale = (width / 6144) ** 2
    return (
        Blocks(double, width, 490.7 * scale, (25.0, 29.0, 29.0), (16, 38, 38)),
        Blocks(single, width, 490.7 * scale, (26.0, 26.0, 26.0), (15, 15, 15), (2, 2, 2)),
    )


MODELS: dict[str, ModelProfile] = {
    "sd": ModelProfile(
        "Stable Diffusion 1.x / 2.x", 859.5, 123.1, 83.7, (SD,), token_px=8, text_tokens=77, joint=False,
        resolution=512, encoder_bytes=4, linear_share=0.28,
    ),
    "sdxl": ModelProfile(
        "Stable Diffusion XL", 2567.5, 817.7, 83.7, (SDXL,), token_px=8, text_tokens=77, joint=False, encoder_bytes=4,
        linear_share=0.85,
    ),
    "sd3": ModelProfile(
        "Stable Diffusion 3.5 medium", 2243.0, 5581.0, 83.8,
        (
            Blocks(13, 1536, 37.7, (36.2, 41.2, 41.2), (24, 44, 44), (12, 16, 16), attention=2.0),
            Blocks(11, 1536, 28.3, (22.1, 27.1, 27.1), MMDIT_FACTORS),
        ),
        text_tokens=333,
    ),
    "sd3-large": ModelProfile(
        "Stable Diffusion 3.5 large", 8056.6, 5581.0, 83.8,
        (Blocks(38, 2432, 71.0, (22.1, 27.1, 27.1), MMDIT_FACTORS),), text_tokens=333,
    ),
    "flux": ModelProfile("FLUX.1", 11901.4, 4885.0, 83.8, (FLUX_DOUBLE, FLUX_SINGLE)),
    "flux2": ModelProfile("FLUX.2 dev", 32223.3, 24011.0, 84.0, _flux2(8, 48, 6144)),
    "flux2-klein": ModelProfile("FLUX.2 klein 4B", 3875.5, 4022.0, 84.0, _flux2(5, 20, 3072)),
    "flux2-klein-9b": ModelProfile("FLUX.2 klein 9B", 9078.6, 8191.0, 84.0, _flux2(8, 24, 4096)),
    "chroma": ModelProfile("Chroma", 8900.0, 4762.0, 83.8, (FLUX_DOUBLE, FLUX_SINGLE)),
    "lumina2": ModelProfile(
        "Lumina Image 2.0", 2606.8, 2614.0, 83.8,
        (Blocks(30, 2304, 78.0, (41.9, 48.4, 52.4), (6.7, 21.7, 26.1), (4, 7, 8)),),
        text_tokens=128,
    ),
    "sana": ModelProfile(
        "Sana 1.6B", 1604.5, 2614.0, 362.9,
        (Blocks(20, 2240, 67.7, (39.1, 42.7, 48.7), (16, 25.5, 25.5), (8, 10, 10), attention=0.0),),
        token_px=32, text_tokens=300, joint=False, linear_share=0.5,
    ),
    "pixart": ModelProfile(
        "PixArt", 611.3, 4762.0, 83.7,
        (Blocks(28, 1152, 18.6, (20.1, 25.1, 31.1), (16, 26, 26), (8, 10, 10)),),
        text_tokens=300, joint=False,
    ),
    "qwen-image": ModelProfile(
        "Qwen-Image", 20430.4, 8292.0, 126.9, (Blocks(60, 3072, 113.2, (22.1, 27.1, 27.1), MMDIT_FACTORS),),
        text_tokens=128, vae_channels=96,
    ),
    "z-image": ModelProfile(
        "Z-Image", 6154.9, 4022.0, 83.8,
        (Blocks(34, 3840, 177.0, (34.0, 38.7, 38.7), (8, 19, 19), (4, 7, 7)),), text_tokens=128,
    ),
    "wan": ModelProfile(
        "Wan 2.x 14B", 14288.5, 5681.0, 126.9,
        (Blocks(40, 5120, 298.9, (26.7, 30.4, 37.4), (16, 23.4, 23.4), (8, 10, 10)),),
        token_frames=4, joint=False, resolution=640, vae_channels=96,
    ),
    "wan-1.3b": ModelProfile(
        "Wan 2.1 1.3B", 1419.0, 5681.0, 126.9,
        (Blocks(30, 1536, 41.7, (29.9, 36.8, 43.8), (16, 29.7, 29.7), (8, 10, 10)),),
        token_frames=4, joint=False, resolution=640, vae_channels=96,
    ),
    "ltx": ModelProfile(
        "LTX-Video 2B", 1923.4, 4762.0, 419.2,
        (Blocks(28, 2048, 58.7, (28.1, 33.1, 33.1), (16, 26, 26), (8, 10, 10)),),
        token_px=32, token_frames=8, text_tokens=256, joint=False, resolution=640,
    ),
}  # fmt: skip
"""By family; a name with a suffix is another size of that family (``profile_of`` finds it by its weights)."""


def profile_of(family: str, folder: Path | None = None) -> ModelProfile:
    """Return the profile of a family; with a base model's folder, that of the size found there.

    An unknown family is taken for the one with the nearest number of weights, without a folder for ``sd``.
    """
    weights = denoiser_weights_m(folder) if folder is not None else None
    sizes = [model for name, model in MODELS.items() if name == family or name.startswith(f"{family}-")]
    if weights is None:
        return sizes[0] if sizes else MODELS["sd"]
    return min(sizes or MODELS.values(), key=lambda model: abs(math.log(model.denoiser_m / weights)))


def denoiser_weights_m(folder: Path) -> float | None:
    """Count a denoiser's weights (millions) from the headers of its safetensors files; None if there are none."""
    count = 0
    for part in ("unet", "transformer"):
        paths = list((folder / part).glob("*.safetensors"))
        # A folder may hold the same weights twice, once as fp16.
        count += sum(map(_weights_in, [path for path in paths if ".fp16." not in path.name] or paths))
    return count / 1e6 if count else None


def _weights_in(path: Path) -> int:
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, 100_000_000)))
    except (OSError, ValueError, struct.error):
        return 0
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
