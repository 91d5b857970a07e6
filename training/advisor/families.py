"""Starting values for each family of base models and each template.

Every number lies inside what is published for training a LoRA on that family: the examples and presets of the
well-known trainers (kohya's sd-scripts and musubi-tuner, OneTrainer, SimpleTuner, ai-toolkit), the guides of Civitai,
and the defaults of the diffusers pipelines. The comment above a family says which of them. Where nobody tells
templates apart, a character and a product get the smaller rank and fewer steps, a style and a concept the larger rank
and more, all within the 1000 to 3000 steps that are usual for any family. Kept as a table so that it can be read and
argued with; what fits a device is `memory`'s to say.
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
    """Hold what depends on the family alone; `guidance` is what the engine draws the family with.

    `most_batch` is the largest batch that is recommended, however large the device: with the learning rate that goes
    with it, which grows by the square root, it is still inside what is published.
    """

    starts: dict[TemplateKey, Start]
    most_batch: int
    guidance: float
    sample_steps: int
    # Objectives of the eps/v kind take min-SNR and noise offset; flow matching takes neither.
    is_flow: bool = True


def _starts(character: Start, style: Start, product: Start, concept: Start) -> dict[TemplateKey, Start]:
    return {
        TemplateKey.CHARACTER: character,
        TemplateKey.STYLE: style,
        TemplateKey.PRODUCT: product,
        TemplateKey.CONCEPT: concept,
    }


FAMILIES: dict[str, Family] = {
    # kohya's colab: rank 16, alpha 8, 5e-4, 2000 steps at batch 2; lora-scripts: 32 with 16, 1e-4. LyCORIS: batch 8.
    "sd": Family(
        _starts(
            Start(16, 8, 1e-4, 2000, 2),
            Start(32, 16, 1e-4, 2000, 2),
            Start(16, 8, 1e-4, 1500, 2),
            Start(32, 16, 1e-4, 2000, 2),
        ),
        most_batch=8,
        guidance=7.0,
        sample_steps=20,
        is_flow=False,
    ),
    # sd-scripts: rank 32 with alpha 16 at 1e-4; Civitai goes to 5e-4. Presets of kohya's GUI have batch 8.
    "sdxl": Family(
        _starts(
            Start(32, 16, 1e-4, 1800),
            Start(32, 16, 1e-4, 2500),
            Start(16, 8, 1e-4, 1400),
            Start(32, 16, 1e-4, 2200),
        ),
        most_batch=8,
        guidance=7.0,
        sample_steps=20,
        is_flow=False,
    ),
    # ai-toolkit's 3.5 large: rank 16, 1e-4, 2000 of 500 to 4000 steps, samples in 25; its form offers rank 32.
    # SimpleTuner: 1e-4 is the most that the model bears, even with larger batches.
    "sd3": Family(
        _starts(
            Start(16, 16, 1e-4, 1800),
            Start(32, 32, 1e-4, 2500),
            Start(16, 16, 1e-4, 1400),
            Start(32, 32, 1e-4, 2200),
        ),
        most_batch=1,
        guidance=7.0,
        sample_steps=25,
    ),
    # ai-toolkit: rank 16, 1e-4, 2000 of 500 to 4000 steps, samples in 20; Civitai: up to 5e-4. sd-scripts: batch 2.
    "flux": Family(
        _starts(
            Start(16, 16, 1e-4, 1800),
            Start(32, 32, 1e-4, 2000),
            Start(16, 16, 1e-4, 1400),
            Start(32, 32, 1e-4, 2000),
        ),
        most_batch=2,
        guidance=3.5,
        sample_steps=20,
    ),
    # SimpleTuner: rank 16, batch 1, 1e-4 (5e-5 where it is unsteady), samples in 20; musubi-tuner: rank 16 to 32.
    "flux2": Family(
        _starts(
            Start(16, 16, 1e-4, 1800),
            Start(32, 32, 1e-4, 2000),
            Start(16, 16, 1e-4, 1400),
            Start(32, 32, 1e-4, 2000),
        ),
        most_batch=1,
        guidance=4.0,
        sample_steps=20,
    ),
    # Civitai: rank 32 (16 to 32), 1e-4 up to 5e-4, 2000 steps, batch 2 at most for 4B. Samples as for FLUX.2 dev.
    "flux2-klein": Family(
        _starts(
            Start(32, 32, 1e-4, 1800),
            Start(32, 32, 1e-4, 2000),
            Start(16, 16, 1e-4, 1400),
            Start(32, 32, 1e-4, 2000),
        ),
        most_batch=2,
        guidance=4.0,
        sample_steps=20,
    ),
    # ai-toolkit: rank 16, 1e-4, 2000 steps, samples in 25; SimpleTuner: 2e-4. OneTrainer: batch 2.
    "chroma": Family(
        _starts(
            Start(16, 16, 1e-4, 1800),
            Start(32, 32, 1e-4, 2000),
            Start(16, 16, 1e-4, 1400),
            Start(32, 32, 1e-4, 2000),
        ),
        most_batch=2,
        guidance=5.0,
        sample_steps=25,
    ),
    # sd-scripts: rank 8; ai-toolkit: rank 16, 1e-4, batch 1, 2000 of 500 to 4000 steps, samples in 25.
    "lumina2": Family(
        _starts(
            Start(16, 16, 1e-4, 1800),
            Start(16, 16, 1e-4, 2000),
            Start(8, 8, 1e-4, 1400),
            Start(16, 16, 1e-4, 2000),
        ),
        most_batch=1,
        guidance=4.0,
        sample_steps=25,
    ),
    # Little is published: 1e-4 (the authors' DreamBooth example, SimpleTuner, who warns that 1e-5 may be needed), rank
    # 16 (OneTrainer's for all families), batches up to 6 on 24 GB. 20 steps are the pipeline's own.
    "sana": Family(
        _starts(
            Start(16, 16, 5e-5, 1800),
            Start(16, 16, 5e-5, 2000),
            Start(16, 16, 5e-5, 1400),
            Start(16, 16, 5e-5, 2000),
        ),
        most_batch=4,
        guidance=4.5,
        sample_steps=20,
    ),
    # OneTrainer: rank 16, batch 4, 1e-5; users of the authors' own script: rank 8 to 32, 5e-5 to 1e-4, 2000 to 3000
    # steps at batch 2. 20 steps are the pipeline's own. PixArt predicts the noise.
    "pixart": Family(
        _starts(
            Start(16, 16, 5e-5, 2000, 2),
            Start(32, 32, 5e-5, 3000, 2),
            Start(16, 16, 5e-5, 2000, 2),
            Start(32, 32, 5e-5, 2500, 2),
        ),
        most_batch=4,
        guidance=4.5,
        sample_steps=20,
        is_flow=False,
    ),
    # ai-toolkit: rank 16, 1e-4, 2000 steps, samples in 25; musubi-tuner and unsloth: 5e-5 for ranks of 16 to 32.
    # Batch 4 was measured with int8 weights.
    "qwen-image": Family(
        _starts(
            Start(16, 16, 5e-5, 2000),
            Start(32, 32, 5e-5, 2000),
            Start(16, 16, 5e-5, 1500),
            Start(32, 32, 5e-5, 2500),
        ),
        most_batch=4,
        guidance=4.0,
        sample_steps=25,
    ),
    # musubi-tuner and ai-toolkit: rank 32, 1e-4 to 2e-4, 2000 to 3000 steps, samples in 30; Civitai: batch 2.
    "z-image": Family(
        _starts(
            Start(32, 32, 1e-4, 2000),
            Start(32, 32, 1e-4, 3000),
            Start(32, 32, 1e-4, 2000),
            Start(32, 32, 1e-4, 2500),
        ),
        most_batch=2,
        guidance=5.0,
        sample_steps=30,
    ),
    # ai-toolkit trains on stills: rank 32, batch 1, 1e-4, 2000 of 500 to 4000 steps, samples in 30. musubi-tuner: 2e-4.
    "wan": Family(
        _starts(
            Start(32, 32, 1e-4, 2000),
            Start(32, 32, 1e-4, 2500),
            Start(32, 32, 1e-4, 1500),
            Start(32, 32, 1e-4, 2500),
        ),
        most_batch=1,
        guidance=5.0,
        sample_steps=30,
    ),
    # SimpleTuner: rank 16 (4 to 128), 5e-5, batch 4, samples in 25; for LTX-2 Civitai has rank 32, 1e-4, 3000 steps.
    "ltx": Family(
        _starts(
            Start(16, 16, 5e-5, 2000),
            Start(32, 32, 5e-5, 3000),
            Start(16, 16, 5e-5, 2000),
            Start(32, 32, 5e-5, 3000),
        ),
        most_batch=4,
        guidance=3.0,
        sample_steps=25,
    ),
}
# A plugin's family: what ai-toolkit's form has for every one, by the usual guidance of a diffusion transformer.
OTHER = Family(
    _starts(
        Start(32, 32, 1e-4, 2000),
        Start(32, 32, 1e-4, 3000),
        Start(32, 32, 1e-4, 2000),
        Start(32, 32, 1e-4, 3000),
    ),
    most_batch=1,
    guidance=4.0,
    sample_steps=25,
)
# The demo model is tiny: 64 pixels, trained in about a minute on a processor.
DEMO_START = Start(8, 8, 1e-3, 100, 8)


def family_of(key: str) -> Family:
    """Return the starting values for a family; one that is not listed is a plugin's."""
    return FAMILIES.get(key, OTHER)
