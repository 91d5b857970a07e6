"""Captions: their forms, which of them a sample gets, and that each is encoded before it is asked for."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from training.engine.data.captions import caption_text, is_tags, variants
from training.engine.data.manifest import read_items
from training.engine.data_sections import CaptionSpec, DatasetSpec
from training.engine.errors import DataError

from .conftest import Build

WORDS = st.lists(st.text("abcdefg", min_size=1, max_size=3), min_size=1, max_size=8)


def forms_of(captions: CaptionSpec, caption: str) -> list[str]:
    return [caption_text(captions, "", caption, variant) for variant in variants(captions)]


@given(WORDS, WORDS, st.integers(0, 4), st.floats(0.0, 1.0), st.booleans())
def test_kept_tags_stay_in_front_and_no_tag_is_made_up(
    kept: list[str], free: list[str], keep: int, dropout: float, shuffle: bool
) -> None:
    captions = CaptionSpec(
        template="{caption}", shuffle_tags=shuffle, tag_dropout=dropout, keep_tags=keep, shuffle_variants=5
    )
    tags = [*kept, *free]
    for text in forms_of(captions, ", ".join(tags)):
        found = text.split(", ") if text else []
        assert found[: min(keep, len(tags))] == tags[:keep]
        assert Counter(found) <= Counter(tags)
        if not dropout:
            assert Counter(found) == Counter(tags)
        if not shuffle:
            rest = iter(tags)
            assert all(tag in rest for tag in found), "the order is the caption's"


@given(WORDS, WORDS, WORDS)
def test_mark_says_which_tags_are_kept_whatever_their_number(
    front: list[str], free: list[str], end: list[str]
) -> None:
    captions = CaptionSpec(
        template="{caption}", shuffle_tags=True, tag_dropout=1.0, keep_tags=1, shuffle_variants=3
    )
    caption = f"{', '.join(front)}, ||| {', '.join(free)} ||| {', '.join(end)}"
    assert forms_of(captions, caption) == [", ".join([*front, *end])] * 3
    whole = CaptionSpec(template="{caption}")
    assert forms_of(whole, caption) == [", ".join([*front, *free, *end])]


def test_tags_are_dropped_as_often_as_asked() -> None:
    captions = CaptionSpec(template="{caption}", tag_dropout=0.3, keep_tags=1, shuffle_variants=64)
    tags = [f"t{n}" for n in range(20)]
    counts = Counter(tag for text in forms_of(captions, ", ".join(tags)) for tag in text.split(", "))
    assert counts.pop("t0") == 64
    assert sum(counts.values()) / (64 * 19) == pytest.approx(0.7, abs=0.03)
    assert all(30 <= counts[tag] <= 60 for tag in tags[1:])


def test_form_of_a_caption_follows_from_seed_and_variant_alone() -> None:
    captions = CaptionSpec(template="{caption}", tag_dropout=0.5, shuffle_tags=True)
    caption = "a, b, c, d, e, f, g, h"
    assert caption_text(captions, "", caption, 3, 7) == caption_text(captions, "", caption, 3, 7)
    assert (
        len({caption_text(captions, "", caption, variant, seed) for variant in (1, 2) for seed in (7, 8)})
        == 4
    )
    assert caption_text(captions, "", caption, 0, 7) == caption


@pytest.mark.parametrize(
    ("caption", "tags"),
    [
        ("1girl, solo, long hair, looking at viewer", True), ("red, plain, old", True),
        ("1girl, ||| solo, hat", True), ("a red plate", False), ("a cat, sleeping", False), ("", False),
        ("A red plate stands on a table, its rim is chipped, and light falls on it.", False),
        ("a plate, a bowl, and a jug.", False), ("one two three four five six, a, b", False),
    ],
)  # fmt: skip
def test_tags_are_told_from_sentences(caption: str, tags: bool) -> None:
    assert is_tags(CaptionSpec(style="auto"), caption) is tags
    assert is_tags(CaptionSpec(), caption)
    assert not is_tags(CaptionSpec(style="sentences"), caption)


def test_sentences_stay_whole_where_tags_move() -> None:
    captions = CaptionSpec(template="{caption}", style="auto", shuffle_tags=True, tag_dropout=0.9)
    sentence = "A plate, red and chipped, stands on a table, in the light."
    assert set(forms_of(captions, sentence)) == {sentence}
    assert set(forms_of(captions, "A plate. ||| It stands on a table.")) == {"A plate. It stands on a table."}
    assert len(set(forms_of(captions, "red, plain, old, chipped, round, flat, blue"))) > 1


def test_mark_may_be_another_or_none() -> None:
    assert forms_of(CaptionSpec(template="{caption}", keep_separator="##"), "a ## b ||| c") == ["a, b ||| c"]
    assert forms_of(CaptionSpec(template="{caption}", keep_separator=""), "a ||| b,c") == ["a ||| b,c"]


# -- several captions of a picture ------------------------------------------------------------------------------------


def test_lines_of_a_caption_file_are_captions_where_asked(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    (tmp_path / "a.txt").write_text("\n a plate \n\n a dish\r\nround, red\n")
    (tmp_path / "b.txt").write_text(" \n")
    found = read_items(DatasetSpec(folder=str(tmp_path), caption_per_line=True))
    assert [item.captions for item in found] == [("a plate", "a dish", "round, red"), ("",)]
    whole = read_items(DatasetSpec(folder=str(tmp_path)))
    assert [item.captions for item in whole] == [("a plate \n\n a dish\nround, red",), ("",)]


@pytest.mark.parametrize(
    ("entry", "captions"),
    [
        ({"captions": ["a", "b"]}, ("a", "b")), ({"caption": "a"}, ("a",)), ({}, ("",)), ({"captions": ["a"]}, ("a",)),
        ({"captions": ["a", "b"], "caption": "c"}, None), ({"captions": []}, None), ({"captions": "a"}, None),
        ({"captions": ["a", 3]}, None),
    ],
)  # fmt: skip
def test_manifest_may_give_several_captions(
    tmp_path: Path, entry: dict[str, Any], captions: tuple[str, ...] | None
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "set.json").write_text(json.dumps({"items": [{"path": "a.png", **entry}]}))
    dataset = DatasetSpec(manifest=str(tmp_path / "set.json"))
    if captions is None:
        with pytest.raises(DataError, match="entry 0 of the manifest: captions") as caught:
            read_items(dataset)
        assert caught.value.code == "manifest_broken"
    else:
        assert read_items(dataset)[0].captions == captions


# -- in training -----------------------------------------------------------------------------------------------------


@pytest.fixture
def worded(tmp_path: Path) -> Path:
    """Six pictures: three with two lists of tags each, three with a sentence."""
    folder = tmp_path / "worded"
    folder.mkdir()
    for index in range(6):
        Image.new("RGB", (40, 40), (40 * index, 9, 9)).save(folder / f"{index}.png")
        tags = f"n{index}, red, plain, old, round\nm{index}, ||| dull, chipped, flat"
        sentence = f"A picture number {index}, it shows a plate, standing on a table in a room."
        (folder / f"{index}.txt").write_text(tags if index < 3 else sentence)
    return folder


ALL: dict[str, Any] = {
    "captions": {
        "style": "auto", "shuffle_tags": True, "tag_dropout": 0.4, "keep_tags": 1, "shuffle_variants": 5,
        "template": "{trigger}, {caption}",
    },
    "training": {"caption_dropout": 0.2, "batch_size": 3, "held_out": 0.17, "steps": 40},
}  # fmt: skip


def test_every_text_that_is_drawn_was_encoded_before(
    build: Build, worded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = build(dataset={"folder": str(worded), "caption_per_line": True}, **ALL)
    monkeypatch.setattr(
        type(trainer.family), "encode_text", lambda *a: pytest.fail("encoded a text in training")
    )
    texts = Counter(d.text for step in range(40) for batch in trainer.computer.draws(step) for d in batch)
    trainer.train()
    assert len(texts) > 15
    assert set(texts) <= set(trainer.dataset.all_texts())
    assert len(set(trainer.dataset.all_texts())) <= 1 + 3 * 2 * 6 + 3
    assert trainer.text_rows([trainer.dataset.text(trainer.dataset.pictures[0])])


def test_captions_of_a_picture_are_drawn_evenly_and_statelessly(build: Build, worded: Path) -> None:
    sections = {**ALL, "training": {"steps": 200, "batch_size": 6}}
    trainer = build(dataset={"folder": str(worded), "caption_per_line": True}, **sections)
    again = build(run="again", dataset={"folder": str(worded), "caption_per_line": True}, **sections)
    starts: Counter[str] = Counter()
    for step in reversed(range(200)):
        (draws,) = trainer.computer.draws(step)
        assert [d.text for d in draws] == [d.text for d in again.computer.draws(step)[0]]
        for draw in draws:
            stem = draw.picture.item.path.stem
            trigger, first, *_ = draw.text.split(", ")
            assert trigger == "inky"
            assert first in {f"n{stem}", f"m{stem}", f"A picture number {stem}"}
            starts[first[0]] += 1
    assert starts["A"] == 600
    assert starts["n"] + starts["m"] == 600
    assert starts["n"] == pytest.approx(300, abs=50)


def test_dropped_caption_is_the_empty_prompt_whatever_the_form(build: Build, worded: Path) -> None:
    trainer = build(
        dataset={"folder": str(worded), "caption_per_line": True},
        captions={"tag_dropout": 1.0, "template": "{caption}", "keep_tags": 0},
        training={"caption_dropout": 1.0},
    )
    with torch.no_grad():
        empty = trainer.family.encode_text(trainer.parts, [""])[0]
    (draws,) = trainer.computer.draws(0)
    for draw in draws:
        assert draw.text == ""
        row = trainer.dataset.text_row(draw.text)
        assert all(torch.equal(row[name], empty[name]) for name in empty)


def test_tag_counts_know_every_caption(build: Build, worded: Path) -> None:
    trainer = build(dataset={"folder": str(worded), "caption_per_line": True})
    counts = trainer.dataset.tag_frequencies()
    assert {tag: counts[tag] for tag in ("red", "dull", "n0", "m2")} == {
        "red": 3,
        "dull": 3,
        "n0": 1,
        "m2": 1,
    }
    assert not any("|" in tag for tag in counts)
