"""Which file is best: the same pictures with each of them, and the figures of a training's end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.engine.conftest import CPU, Build, Recorder
from tests.engine.test_generate import order
from training.engine import child
from training.engine.control import Control
from training.engine.data.pictures import load_image
from training.engine.errors import ConfigurationError, ExitCode, Interrupted
from training.engine.evaluate import content_score, shape_maps, style_distance, style_vectors
from training.engine.events import Event
from training.engine.generation import GenerationSpec
from training.engine.measure import Judged, Measurer

PROMPTS = ["plate 1, plain", "plate 2, plain"]


@pytest.fixture
def files(build: Build) -> list[str]:
    """Two files of one training, the second from later on."""
    trainer = build(
        training={"learning_rate": 0.02, "steps": 4}, checkpoint={"every_steps": 2}, output={"dtype": "fp32"}
    )
    trainer.train()
    (early,) = (trainer.run_dir / "exports").glob("*00000002.safetensors")
    return [str(early), str(trainer.export_lora_weights())]


@pytest.fixture
def spec(bases: dict[str, Path], files: list[str]) -> GenerationSpec:
    return order(bases["sd"], count=2, mixes=[[], *([{"file": each}] for each in files)])


JUDGED = [Judged("", 0), Judged("early", 2), Judged("final", 4)]


def measure(
    spec: GenerationSpec, folder: Path, pictures: list[Path], recorder: Recorder | None = None, **more: Any
) -> Recorder:
    recorder = recorder or Recorder()
    Measurer(
        spec, files=JUDGED[: len(spec.mixes)], pictures=pictures, run_dir=folder, sink=recorder, device=CPU,
        **more,
    ).run()  # fmt: skip
    return recorder


def test_each_file_gets_the_figures_that_its_pictures_have(
    spec: GenerationSpec, pictures: Path, tmp_path: Path
) -> None:
    wanted = sorted(pictures.glob("*.png"))
    told = measure(spec, tmp_path, wanted)
    found = told.of("finding")
    drawn = [[tmp_path / each.path for each in told.of("sample")[start : start + 4]] for start in (0, 4, 8)]
    of_set = style_vectors(map(load_image, wanted))
    maps = [shape_maps(map(load_image, paths)) for paths in drawn]
    prompts = [prompt for prompt in PROMPTS for _seed in range(2)]
    assert [(each.file, each.step, each.images) for each in found] == [
        ("", 0, 4),
        ("early", 2, 4),
        ("final", 4, 4),
    ]
    assert [each.style_distance for each in found] == [
        round(style_distance(style_vectors(map(load_image, paths)), of_set), 4) for paths in drawn
    ]
    assert [each.content_score for each in found] == [
        round(content_score(rows, maps[0], prompts), 4) for rows in maps
    ]
    assert len({each.style_distance for each in found}) == 3
    assert [each.seed for each in told.of("sample")] == [42, 43] * 6
    phases = [each for each in told.of("phase") if each.phase == "evaluate"]
    assert (phases[0].done, phases[-1].done, phases[-1].total) == (0, 36, 36)
    assert told.events[-1].type == "done"


def test_without_the_set_or_with_one_prompt_a_figure_is_missing_and_nothing_warns(
    spec: GenerationSpec, pictures: Path, tmp_path: Path
) -> None:
    told = measure(spec, tmp_path / "a", [])
    assert {each.style_distance for each in told.of("finding")} == {None}
    assert None not in {each.content_score for each in told.of("finding")}
    one = GenerationSpec.from_dict({**spec.to_dict(), "prompts": PROMPTS[:1]})
    told = measure(one, tmp_path / "b", sorted(pictures.glob("*.png")))
    assert {each.content_score for each in told.of("finding")} == {None}
    assert None not in {each.style_distance for each in told.of("finding")}
    assert told.of("warning") == []


def test_a_picture_of_the_set_that_cannot_be_read_costs_that_figure_only(
    spec: GenerationSpec, tmp_path: Path
) -> None:
    (tmp_path / "odd.png").write_bytes(b"no picture")
    told = measure(spec, tmp_path / "run", [tmp_path / "odd.png"])
    assert [(each.style_distance, each.content_score is None) for each in told.of("finding")] == [
        (None, False)
    ] * 3
    assert {each.code for each in told.of("warning")} == {"evaluation_failed"}


class Ends(Recorder):
    """Ask for the end after so many pictures."""

    def __init__(self, control: Control, after: int) -> None:
        super().__init__()
        self._control, self._after = control, after

    def emit(self, event: Event) -> None:
        super().emit(event)
        if len(self.of("sample")) == self._after:
            self._control.request("pause")


def test_an_interrupted_run_goes_on_where_it_was_and_finds_the_same(
    spec: GenerationSpec, pictures: Path, tmp_path: Path
) -> None:
    wanted = sorted(pictures.glob("*.png"))
    whole = measure(spec, tmp_path / "whole", wanted)
    control = Control()
    first = Ends(control, after=8)
    with pytest.raises(Interrupted):
        measure(spec, tmp_path / "first", wanted, first, control=control)
    assert [each.file for each in first.of("finding")] == [""]
    assert len(first.of("sample")) == 8  # those of the second file are there, and not judged yet
    assert first.of("interrupted")[0].reason == "pause"
    shutil.copytree(tmp_path / "first" / "pictures", tmp_path / "second" / "pictures")
    second = measure(spec, tmp_path / "second", wanted, drawn=range(8), found=[""])
    assert [each.prompt_index for each in second.of("sample")] == [8, 9, 10, 11]
    assert first.of("finding") + second.of("finding") == whole.of("finding")


def test_a_picture_that_an_earlier_attempt_told_of_and_that_is_gone_is_drawn_again(
    spec: GenerationSpec, tmp_path: Path
) -> None:
    told = measure(spec, tmp_path, [], drawn=[0, 1, 2])
    assert len(told.of("sample")) == 12


def test_files_that_do_not_fit_the_mixes_are_refused(spec: GenerationSpec, tmp_path: Path) -> None:
    for files, mixes in ((JUDGED[:2], spec.mixes), (JUDGED[1:], spec.mixes[1:])):
        with pytest.raises(ConfigurationError) as caught:
            Measurer(
                GenerationSpec.from_dict(
                    {**spec.to_dict(), "mixes": [[{"file": use.file} for use in mix] for mix in mixes]}
                ),
                files=files,
                pictures=[],
                run_dir=tmp_path,
                sink=Recorder(),
            )
        assert caught.value.code == "files_do_not_fit"


def test_the_child_process_measures_an_order(spec: GenerationSpec, pictures: Path, tmp_path: Path) -> None:
    run = tmp_path / "measured"
    run.mkdir()
    body = {
        "kind": "evaluation",
        "spec": spec.to_dict(),
        "files": [{"id": each.id, "step": each.step} for each in JUDGED],
        "pictures": [str(pictures / "0.png")],
    }
    (run / "run.json").write_text(json.dumps(body))
    assert child.run(run / "run.json", run) == ExitCode.DONE
    told = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert [each["file"] for each in told if each["type"] == "finding"] == ["", "early", "final"]
