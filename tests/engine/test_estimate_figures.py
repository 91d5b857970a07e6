"""Estimates of memory and time beside published figures, and the counts that they rest on."""

from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from training.engine.estimate import DEVICES, USABLE, largest_batch
from training.engine.footprint import (
    OPTIMIZER_NUMBERS,
    Setup,
    caching_peak,
    fitted,
    host_mb,
    peak,
    sampling_peak,
    training_peak,
    ways,
)
from training.engine.profiles import MODELS, profile_of
from training.engine.registry import family_names
from training.engine.spec import RunSpec

from .figure_tables import PACES, tables
from .figures import FIGURES, within

DOCUMENT = (Path(__file__).parents[2] / "docs" / "estimate.md").read_text()


def spec_of(family: str = "sd", **sections: Any) -> RunSpec:
    base = {"path": "b", "family": family}
    return RunSpec.from_dict({"name": "x", "base_model": base, "dataset": {"folder": "d"}, **sections})


def test_thirty_six_of_forty_four_measured_figures_are_within_fifteen_percent() -> None:
    assert within("measured") == (36, 44)


def test_guides_and_card_sizes_agree_far_less_often() -> None:
    assert within("stated") == (8, 34)
    assert within("card") == (4, 29)
    assert within() == (48, 107)


def test_what_is_said_to_fit_a_card_fits_it_by_our_count_but_for_one_hundredth_of_wan() -> None:
    larger = [figure for figure in FIGURES if figure.kind == "card" and figure.ours > figure.high]
    assert [(figure.run, round(figure.ratio, 2)) for figure in larger] == [
        ("Wan 2.x 14B int8, one frame", 1.02)
    ]


def test_eleven_of_twelve_paces_are_within_a_factor_of_two_and_a_quarter() -> None:
    close = [pace for pace in PACES if 1 / 2.25 <= pace.ours / pace.seconds <= 2.25]
    assert (len(close), len(PACES)) == (11, 12)


def test_the_document_says_what_is_computed() -> None:
    for line in tables().splitlines():
        assert line in DOCUMENT
    good, count = within("measured")
    assert f"**{good} of {count}**" in DOCUMENT
    good, count = within()
    assert f"**{good} of {count}**" in DOCUMENT


def test_every_registered_family_has_a_profile() -> None:
    assert set(family_names()) <= set(MODELS)


def test_memory_is_the_sum_of_what_can_be_checked_by_hand() -> None:
    # FLUX.1: 11.9014 thousand million weights of two bytes; an adapter of rank 16 on 19 double blocks of 16 widths and
    # 38 single ones of 6, fp32 with gradient and two moments; one token leaves a width for each block with
    # checkpointing, and one block, computed again, leaves all that it keeps.
    memory = training_peak(MODELS["flux"], Setup(targets="attn", checkpointing="all"))
    assert memory.weights == pytest.approx(11901.4e6 * 2 / 2**20)
    assert memory.adapter == pytest.approx(16 * 3072 * (19 * 16 + 38 * 6) * 16 / 2**20)
    assert memory.kept == pytest.approx((57 + 20.1 + 3) * 3072 * (4096 + 512) * 2 / 2**20)
    assert memory.working == pytest.approx(12 * 3072 * (4096 + 512) * 2 / 2**20)
    assert memory.other == pytest.approx(600 + 83.8e6 * 4 / 2**20)
    assert memory.total == 26506


def test_each_choice_that_saves_memory_saves_it() -> None:
    def total(**settings: Any) -> int:
        return training_peak(MODELS["flux"], Setup(**settings)).total

    assert total(checkpointing="off") > total(checkpointing="blocks") > total(checkpointing="all")
    assert total() > total(weights="int8") > total(weights="nf4") > total(weights="int2")
    assert (
        total()
        > total(state_numbers=OPTIMIZER_NUMBERS["adamw-8bit"])
        > total(state_numbers=OPTIMIZER_NUMBERS["adafactor"])
    )
    assert total(rank=128) > total(rank=16)
    assert total(batch=2) > total()
    assert total(encoders="kept") - total() == pytest.approx(4885.0e6 * 2 / 2**20, abs=1)
    assert total(offload=0.5) == pytest.approx(total() - 11901.4e6 / 2**20, abs=1)


def test_the_largest_of_three_peaks_counts() -> None:
    small = Setup(resolution=512, targets="attn", checkpointing="all")
    sd = MODELS["sd"]
    assert peak(sd, small) == caching_peak(sd, small)
    assert peak(sd, dataclasses.replace(small, batch=64)) == training_peak(
        sd, dataclasses.replace(small, batch=64)
    )
    drawn = dataclasses.replace(small, sample_px=2048)
    assert peak(sd, drawn) == sampling_peak(sd, drawn)


def test_the_largest_batch_is_the_last_that_fits() -> None:
    spec = spec_of("sdxl", training={"resolution": 1024, "gradient_checkpointing": "off"})
    device = DEVICES["48 GB"]
    assert largest_batch(spec, device) == 4

    def fits(batch: int) -> bool:
        (setup,) = ways(spec)
        return (
            peak(MODELS["sdxl"], dataclasses.replace(setup, batch=batch)).total <= USABLE * device.memory_mb
        )

    assert fits(4)
    assert not fits(5)
    assert largest_batch(spec, DEVICES["8 GB"]) == 0


def test_what_is_left_to_the_engine_is_as_little_as_fits() -> None:
    auto = {"quantise": "auto", "path": "b", "family": "flux"}
    spec = RunSpec.from_dict({
        "name": "x", "base_model": auto, "dataset": {"folder": "d"},
        "training": {"resolution": 1024, "offload": "auto", "precision": "bf16"},
    })  # fmt: skip
    flux = MODELS["flux"]

    def chosen(gb: float) -> tuple[str, str, float]:
        setup = fitted(flux, spec, gb * 1024)
        return setup.weights, setup.checkpointing, setup.offload

    assert chosen(80) == ("bf16", "off", 0.0)
    assert chosen(48) == ("bf16", "blocks", 0.0)
    assert chosen(37) == ("bf16", "all", 0.0)
    assert chosen(30) == ("int8", "blocks", 0.0)
    assert chosen(16) == ("int8", "all", 0.0)
    assert chosen(15) == ("nf4", "all", 0.0)
    assert chosen(1) == ("nf4", "all", 0.0)  # encoding alone needs more, which no choice here changes


def test_host_memory_holds_a_model_that_is_quantised_twice() -> None:
    flux = MODELS["flux"]
    plain, quantised = host_mb(flux, Setup()), host_mb(flux, Setup(weights="int8"))
    assert quantised - plain == pytest.approx(11901.4e6 * (0.98 * 1.01 + 0.02 * 2) / 2**20, abs=1)
    assert host_mb(flux, Setup(on_gpu=False)) == peak(flux, Setup(on_gpu=False)).total


def weights_file(path: Path, count: int) -> None:
    header = json.dumps(
        {"__metadata__": {}, "w": {"dtype": "F16", "shape": [count, 1000], "data_offsets": [0, 0]}}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode())


def test_the_size_of_a_family_is_read_from_its_folder(tmp_path: Path) -> None:
    assert profile_of("wan").title == "Wan 2.x 14B"
    weights_file(tmp_path / "transformer" / "a.safetensors", 1_000_000)
    weights_file(tmp_path / "transformer" / "b.safetensors", 400_000)
    assert profile_of("wan", tmp_path).title == "Wan 2.1 1.3B"
    assert profile_of("flux2-klein", tmp_path).title == "FLUX.2 klein 4B"
    # The same weights as fp16 beside them are not counted again.
    weights_file(tmp_path / "transformer" / "c.fp16.safetensors", 14_000_000)
    assert profile_of("wan", tmp_path).title == "Wan 2.1 1.3B"
    assert profile_of("unheard-of").title == "Stable Diffusion 1.x / 2.x"
    assert profile_of("unheard-of", tmp_path).title == "Wan 2.1 1.3B"


@pytest.mark.slow
def test_what_a_block_keeps_is_what_the_real_block_keeps() -> None:
    from bench.activations import MODELS_HERE, endings_of, per_block

    (group,) = MODELS["pixart"].blocks
    found = per_block(MODELS_HERE["pixart"], endings_of("pixart", "attn"))
    assert found.bytes / 2 / group.width == pytest.approx(group.kept[0], abs=0.1)
    assert (found.factors / group.width, found.layers) == (group.factors[0], group.layers[0])
