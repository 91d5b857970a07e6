"""Captions written in the engine: by a model from a folder, and from the pixels alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.engine.conftest import CPU, Recorder
from training.engine import child, registry
from training.engine.caption import CaptionWriter
from training.engine.captioners.colours import tags
from training.engine.captioning import CaptioningSpec
from training.engine.control import Control
from training.engine.errors import ConfigurationError, ExitCode, Interrupted
from training.engine.events import Caption, Event, from_line, to_line
from training.engine.parsing import SpecError

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "[DEC]",
    "[ENC]",
    "a",
    "cat",
    "dog",
    "red",
    "on",
    "the",
    "beach",
]


def make_tiny_blip(folder: Path) -> None:
    """Write a BLIP model of a few thousand random weights, in the layout of a real one."""
    from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipProcessor
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {
        **sizes, "vocab_size": len(WORDS), "encoder_hidden_size": 16, "max_position_embeddings": 40,
        "bos_token_id": 5, "eos_token_id": 3, "pad_token_id": 0, "sep_token_id": 3, "projection_dim": 16,
    }  # fmt: skip
    config = BlipConfig(
        text_config=text, vision_config={**sizes, "image_size": 32, "patch_size": 8}, projection_dim=16
    )
    model = BlipForConditionalGeneration(config)
    # Random weights of the usual size hardly see the picture.
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=1.0)
    model.save_pretrained(folder)
    tokenizer = BertTokenizer(vocab={word: place for place, word in enumerate(WORDS)}, bos_token="[DEC]")
    pictures = BlipImageProcessorPil(size={"height": 32, "width": 32})
    BlipProcessor(pictures, tokenizer).save_pretrained(folder)


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captioners") / "tiny-blip"
    make_tiny_blip(folder)
    return folder


def save(folder: Path, *colours: Any, size: tuple[int, int] = (48, 32)) -> list[dict[str, str]]:
    """Write one picture of each colour, and return them as an order names them."""
    rows = []
    for number, colour in enumerate(colours):
        path = folder / f"{number}.png"
        Image.new("RGB", size, colour).save(path)
        rows.append({"id": f"img_{number}", "path": str(path)})
    return rows


def written(
    pictures: Sequence[dict[str, str]], captioner: str = "colours", *, done: int = 0, **spec: Any
) -> tuple[dict[str, str], Recorder]:
    recorder = Recorder()
    order = CaptioningSpec.from_dict({"captioner": captioner, **spec})
    CaptionWriter(order, pictures, sink=recorder, device=CPU, done=done).run()
    return {each.id: each.text for each in recorder.of("caption")}, recorder


def stripes(*colours: tuple[int, int, int], size: tuple[int, int] = (64, 64)) -> Image.Image:
    image = Image.new("RGB", size)
    for place, colour in enumerate(colours):
        left = place * size[0] // len(colours)
        image.paste(colour, (left, 0, (place + 1) * size[0] // len(colours), size[1]))
    return image


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (stripes((220, 20, 20)), "red, low contrast, square format"),
        (stripes((20, 40, 200), (255, 255, 255)), "white, blue, square format"),
        (stripes((0, 0, 0), (255, 255, 255)), "black and white, high contrast, square format"),
        (stripes((12, 12, 12)), "black and white, dark, low contrast, square format"),
        (stripes((250, 250, 245), size=(90, 60)), "black and white, light, low contrast, landscape format"),
        (stripes((60, 160, 60), size=(60, 90)), "green, low contrast, portrait format"),
        (stripes((110, 60, 25), (240, 220, 40)), "brown, yellow, square format"),
        (stripes((40, 200, 210), (150, 60, 200), (250, 90, 180)), "turquoise, pink, purple, square format"),
    ],
)
def test_colours_says_what_the_pixels_say(picture: Image.Image, expected: str) -> None:
    assert sorted(", ".join(tags(picture)).split(", ")) == sorted(expected.split(", "))


def test_colours_names_the_largest_first_and_never_more_than_three() -> None:
    red, blue, green, yellow = (220, 20, 20), (20, 40, 200), (30, 170, 40), (240, 220, 40)
    assert tags(stripes(blue, blue, blue, red, red))[:2] == ["blue", "red"]
    assert tags(stripes(red, blue, green, yellow))[3] not in ("red", "blue", "green", "yellow")
    many = [red, blue, green, yellow, (40, 200, 210), (250, 90, 180)]
    assert tags(stripes(*many))[0] == "colourful"


def test_a_longest_caption_drops_the_last_tags_whole(tmp_path: Path) -> None:
    pictures = save(tmp_path, "blue")
    assert written(pictures)[0] == {"img_0": "blue, low contrast, landscape format"}
    assert written(pictures, longest=3)[0] == {"img_0": "blue, low contrast"}


def test_each_picture_is_told_once_and_progress_counts_those_done_before(tmp_path: Path) -> None:
    pictures = save(tmp_path, *["red", "blue"] * 20)
    captions, recorder = written(pictures, done=3)
    assert list(captions) == [row["id"] for row in pictures]
    assert (captions["img_0"], captions["img_39"]) == (
        "red, low contrast, landscape format",
        "blue, low contrast, landscape format",
    )
    told = [(each.phase, each.done, each.total) for each in recorder.of("phase")]
    assert told[:3] == [("load_base", 0, 1), ("load_base", 1, 1), ("caption", 3, 43)]
    assert told[-1] == ("caption", 43, 43)
    assert (recorder.of("done")[0].step, recorder.of("done")[0].total_steps) == (43, 43)


def test_a_damaged_picture_is_passed_over_with_a_warning(tmp_path: Path) -> None:
    pictures = save(tmp_path, "red", "blue", "green")
    Path(pictures[1]["path"]).write_bytes(b"no picture")
    captions, recorder = written(pictures)
    assert list(captions) == ["img_0", "img_2"]
    assert [each.code for each in recorder.of("warning")] == ["image_unreadable"]
    assert recorder.of("done")[0].step == 2


def test_a_blip_model_describes_pictures_the_same_way_every_time(blip: Path, tmp_path: Path) -> None:
    pictures = save(tmp_path, "red", "blue", "white", "black", "green")
    captions, _ = written(pictures, "blip", model=str(blip), longest=6)
    again, _ = written(pictures, "blip", model=str(blip), longest=6)
    alone = {row["id"]: written([row], "blip", model=str(blip), longest=6)[0][row["id"]] for row in pictures}
    assert captions == again == alone
    assert all(set(text.split()) <= set(WORDS[7:]) for text in captions.values())
    assert all(len(text.split()) <= 6 for text in captions.values())
    assert any(captions.values())
    assert len(set(captions.values())) > 1  # it looks at the picture


def test_memory_that_runs_out_makes_the_portions_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.engine.captioners.colours import Colours

    sizes: list[int] = []

    class Large(Colours):
        def describe(self, pictures: Sequence[Image.Image]) -> list[str]:
            sizes.append(len(pictures))
            if len(pictures) > 4:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().describe(pictures)

    monkeypatch.setattr("training.engine.captioners.colours.Colours", Large)
    captions, _ = written(save(tmp_path, *["red"] * 10))
    assert len(captions) == 10
    assert sizes == [10, 8, 4, 4, 2]


@pytest.mark.parametrize("case", ["no folder", "nothing there", "pickled weights", "no tokenizer"])
def test_a_folder_that_is_no_blip_model_is_refused(case: str, blip: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "model"
    if case != "nothing there":
        shutil.copytree(blip, folder)
    if case == "pickled weights":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    if case == "no tokenizer":
        for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
            (folder / name).unlink(missing_ok=True)
    with pytest.raises(ConfigurationError) as caught:
        written(save(tmp_path, "red"), "blip", model="" if case == "no folder" else str(folder))
    expected = "captioner_missing" if case in ("no folder", "nothing there") else "captioner_damaged"
    assert (caught.value.code, caught.value.exit_code) == (expected, ExitCode.CONFIGURATION)


def test_a_wish_ends_the_captions_between_two_portions(tmp_path: Path) -> None:
    control = Control()

    class Wishing(Recorder):
        def emit(self, event: Event) -> None:
            super().emit(event)
            if event.type == "caption":
                control.request("preempt")

    recorder = Wishing()
    spec = CaptioningSpec.from_dict({"captioner": "colours"})
    with pytest.raises(Interrupted):
        CaptionWriter(spec, save(tmp_path, *["red"] * 40), sink=recorder, control=control, device=CPU).run()
    assert len(recorder.of("caption")) == 16
    assert recorder.of("interrupted")[0].reason == "preempt"
    assert recorder.of("done") == []


def test_a_plugin_s_captioner_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("shouting", "tests.engine.test_captioning:Shouting", registry.CAPTIONERS)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry] if group == entry.group else [])
    registry._entries.cache_clear()
    try:
        assert registry.captioner_names() == ["blip", "colours", "shouting"]
        assert written(save(tmp_path, "red"), "shouting")[0] == {"img_0": "LOUD"}
    finally:
        registry._entries.cache_clear()


class Shouting:
    """The smallest captioner there can be."""

    at_once = 1

    def load(self, folder: Path | None, *, device: torch.device, longest: int) -> None:
        assert folder is None

    def describe(self, pictures: Sequence[Image.Image]) -> list[str]:
        return ["LOUD" for _ in pictures]


def test_an_unknown_captioner_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        written(save(tmp_path, "red"), "colour")
    assert (caught.value.code, caught.value.hint) == ("unknown_captioner", "Use 'colours'.")


@pytest.mark.parametrize(
    ("values", "pointer", "code"),
    [
        ({}, "/captioner", "missing"),
        ({"captioner": "colours", "longest": 0}, "/longest", "out_of_range"),
        ({"captioner": "colours", "beams": 2}, "/beams", "unknown_key"),
    ],
)
def test_a_wrong_order_names_its_place(values: dict[str, Any], pointer: str, code: str) -> None:
    with pytest.raises(SpecError) as caught:
        CaptioningSpec.from_dict(values)
    assert (caught.value.pointer, caught.value.code) == (pointer, code)


def test_the_child_process_writes_an_order_s_captions(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    pictures = save(tmp_path, "red", "white")
    order = {"kind": "captioning", "spec": {"captioner": "colours"}, "pictures": pictures, "done": 1}
    (run / "run.json").write_text(json.dumps(order))
    assert child.run(run / "run.json", run) == ExitCode.DONE
    told = [from_line(line)[0] for line in (run / "events.jsonl").read_text().splitlines()]
    assert [event for event in told if event.type == "caption"] == [
        Caption("img_0", "red, low contrast, landscape format"),
        Caption("img_1", "black and white, light, low contrast, landscape format"),
    ]
    assert told[-1].type == "done"
    assert from_line(to_line(Caption("img_0", "词 \n x")))[0] == Caption("img_0", "词 \n x")
