"""Captions by a BLIP model: a sentence such as "a dog on the beach" (https://arxiv.org/abs/2201.12086)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoTokenizer, BlipForConditionalGeneration, BlipProcessor
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from training.engine.errors import ConfigurationError

_BEAMS = 3
_TOKENIZERS = ("tokenizer.json", "vocab.txt")
# BERT's vocabulary splits rare words: 1.3 pieces for each word of usual English.
_PIECES_A_WORD = 1.5


class Blip:
    """Describe pictures with ``BlipForConditionalGeneration``, by beam search: nothing is drawn by chance."""

    at_once = 8

    def load(self, folder: Path | None, *, device: torch.device, longest: int) -> None:
        """Read model, tokenizer and picture settings from ``folder``; weights in .safetensors only."""
        if folder is None or not folder.is_dir():
            raise ConfigurationError(
                "captioner_missing", "the folder of the captioning model was not found",
                hint="Choose another captioner, or install this one on the worker.",
            )  # fmt: skip
        try:
            if not any((folder / name).is_file() for name in _TOKENIZERS):
                raise OSError("it has no tokenizer")  # transformers would go on with an empty one
            # BlipProcessor.from_pretrained would ask for torchvision's resizing; PIL's is the one the model knows.
            self._processor = BlipProcessor(
                BlipImageProcessorPil.from_pretrained(folder, local_files_only=True),
                AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False),
            )
            model = BlipForConditionalGeneration.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
            )
        except (OSError, ValueError, KeyError) as error:
            raise ConfigurationError(
                "captioner_damaged", f"the captioning model {folder.name!r} cannot be read: {error}"[:500],
                hint="It needs a BLIP model as save_pretrained writes it, with .safetensors weights.",
            ) from error  # fmt: skip
        self._model = model.eval().to(device)
        self._device, self._longest = device, longest
        room = (
            int(model.text_decoder.config.max_position_embeddings) - 2
        )  # it begins with a mark, and ends with one
        self._pieces = min(max(2, int(longest * _PIECES_A_WORD)), room)

    @torch.no_grad()
    def describe(self, pictures: Sequence[Image.Image]) -> list[str]:
        """Return the likeliest sentence for each picture."""
        pixels = self._processor(images=list(pictures), return_tensors="pt")["pixel_values"].to(self._device)
        tokens = self._model.generate(
            pixel_values=pixels, num_beams=_BEAMS, do_sample=False,
            max_new_tokens=self._pieces,
        )  # fmt: skip
        texts = self._processor.batch_decode(tokens, skip_special_tokens=True)
        return [" ".join(text.split()[: self._longest]) for text in texts]
