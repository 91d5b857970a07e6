"""Merging and resizing LoRA files: exact numbers on tiny models."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

from training.engine.cli import main
from training.engine.errors import ConfigurationError, DataError
from training.engine.export.factors import read_factors
from training.engine.export.weights_file import read_metadata
from training.engine.lora_files import svd
from training.engine.lora_files.merge import merge
from training.engine.lora_files.resize import resize
from training.engine.methods.changes import LowRank
from training.engine.registry import load_family

from .lora_samples import assert_same_effect, output_of, table_of, write_sample

SD = load_family("sd")
KOHYA = table_of(SD, "kohya")
CONV = "lora_unet_mid_block_resnets_0_conv1"


def test_merged_file_does_what_both_do_together(pair: tuple[Path, Path], tmp_path: Path) -> None:
    one, two = pair
    done = merge([(one, 0.8), (two, -0.4)], tmp_path / "ab.safetensors")
    parts = SD.tiny()
    base = output_of(SD, parts)
    both = output_of(SD, parts, (one, KOHYA, 0.8), (two, KOHYA, -0.4))
    assert_same_effect(output_of(SD, parts, (tmp_path / "ab.safetensors", KOHYA, 1.0)), both, base)
    assert set(done.ranks.values()) == {3, 5}
    assert done.alone == sum(rank == 3 for rank in done.ranks.values()) > 0


def test_diffusers_reads_a_merged_file(
    pair: tuple[Path, Path], bases: dict[str, Path], tmp_path: Path
) -> None:
    one, two = pair
    merge([(one, 1.0), (two, 0.5)], tmp_path / "ab.safetensors")
    pipe = StableDiffusionPipeline.from_pretrained(bases["sd"], safety_checker=None, local_files_only=True)
    pipe.load_lora_weights(tmp_path / "ab.safetensors")
    parts = SD.tiny()
    both = output_of(SD, parts, (one, KOHYA, 1.0), (two, KOHYA, 0.5))
    assert_same_effect(output_of(SD, parts.with_denoiser(pipe.unet)), both, output_of(SD, parts))


def test_merge_to_a_rank_keeps_the_best_part(pair: tuple[Path, Path], tmp_path: Path) -> None:
    one, two = pair
    done = merge([(one, 1.0), (two, 1.0)], tmp_path / "ab.safetensors", rank=4)
    assert max(done.ranks.values()) == 4
    written, a, b = (read_factors(path) for path in (tmp_path / "ab.safetensors", one, two))
    for stem, cut in done.cuts.items():
        whole = a[stem].product() + (b[stem].product() if stem in b else 0)
        values = torch.linalg.svdvals(whole)
        best = float(values[4:].norm())
        assert float((written[stem].product() - whole).norm()) == pytest.approx(
            best, abs=2e-5 * float(whole.norm())
        )
        assert cut.kept == pytest.approx(float(values[:4].norm() / values.norm()), rel=1e-5)


@pytest.mark.parametrize("method", ["dora", "loha", "lokr"])
def test_other_methods_are_merged_through_their_product(
    method: str, pair: tuple[Path, Path], bases: dict[str, Path], tmp_path: Path
) -> None:
    other = write_sample(
        tmp_path / "c.safetensors", SD, KOHYA, rank=2, alpha=1.0, seed=3, method=method, only="attn"
    )
    with pytest.raises(ConfigurationError) as caught:
        merge([(pair[0], 1.0), (other, 0.5)], tmp_path / "x.safetensors")
    assert (caught.value.code, caught.value.hint) == (
        "merge_inexact",
        "Add --rank R: the sum is then cut to that rank.",
    )
    merge([(pair[0], 1.0), (other, 0.5)], tmp_path / "x.safetensors", rank=64, base=bases["sd"])
    parts = SD.tiny()
    both = output_of(SD, parts, (pair[0], KOHYA, 1.0), (other, KOHYA, 0.5))
    merged = output_of(SD, parts, (tmp_path / "x.safetensors", KOHYA, 1.0))
    assert_same_effect(merged, both, output_of(SD, parts))


def test_dora_needs_its_base_model(tmp_path: Path) -> None:
    # Attention alone, in the shapes of the tiny model: the published one does not fit.
    path = write_sample(tmp_path / "c.safetensors", SD, KOHYA, method="dora", only="attn")
    with pytest.raises(DataError) as caught:
        merge([(path, 1.0)], tmp_path / "x.safetensors", rank=4)
    assert caught.value.code == "lora_shape"
    assert "--base FOLDER" in str(caught.value.hint)


def test_files_of_other_architectures_or_names_are_not_merged(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    sdxl = load_family("sdxl")
    other = write_sample(tmp_path / "x.safetensors", sdxl, table_of(sdxl, "kohya"))
    with pytest.raises(ConfigurationError) as caught:
        merge([(pair[0], 1.0), (other, 1.0)], tmp_path / "y.safetensors")
    assert caught.value.code == "merge_families"
    same = write_sample(tmp_path / "z.safetensors", SD, table_of(SD, "peft"))
    with pytest.raises(ConfigurationError) as caught:
        merge([(pair[0], 1.0), (same, 1.0)], tmp_path / "y.safetensors")
    assert caught.value.code == "merge_layouts"
    assert caught.value.hint == "Convert one first: lora-train convert FILE --to kohya -o OUT."


def test_merged_file_says_what_it_was_made_of(pair: tuple[Path, Path], tmp_path: Path) -> None:
    one, two = pair
    assert main(["merge", f"{one}:0.8", str(two), "-o", str(tmp_path / "ab.safetensors")]) == 0
    about = read_metadata(tmp_path / "ab.safetensors")
    made = json.loads(about["lora_foundry.made"])
    assert [(each["name"], each["strength"]) for each in made["sources"]] == [("a", 0.8), ("b", 1.0)]
    assert made["sources"][0]["sshs_model_hash"] == read_metadata(one)["sshs_model_hash"]
    assert (about["ss_base_model_version"], about["ss_network_dim"]) == ("sd_v1", "Dynamic")


@pytest.mark.parametrize(
    ("strength", "arguments", "code", "told"),
    [
        ("nan", [], 64, "error (strength_invalid): 'nan' is no strength"),
        ("inf", [], 64, "error (strength_invalid): 'inf' is no strength"),
        ("0", [], 65, "error (lora_empty): x.safetensors would change nothing"),
        ("1e7", ["--dtype", "fp16"], 65, "would hold values that are not finite\n  Use a smaller strength"),
    ],
)
def test_strength_that_makes_no_lora_is_the_users_mistake(
    strength: str, arguments: list[str], code: int, told: str, pair: tuple[Path, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "x.safetensors"
    assert main(["merge", f"{pair[0]}:{strength}", *arguments, "-o", str(out)]) == code
    assert told in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_place_that_cannot_be_written_to_is_told_before_any_work(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.safetensors").mkdir()
    for out, told in (
        (pair[0] / "x.safetensors", f"error (output_folder): nothing can be written to {pair[0]}"),
        (tmp_path / "c.safetensors", "error (output_exists): "),
        (tmp_path / "x.pt", "error (output_name): 'x.pt' is not a name for a LoRA file"),
    ):
        assert main(["merge", str(tmp_path / "missing.safetensors"), "--force", "-o", str(out)]) == 64
        assert told in capsys.readouterr().err
    assert main(["merge", str(pair[0]), "-o", str(tmp_path / "deep" / "er" / "x.safetensors")]) == 0


# -- resizing ----------------------------------------------------------------------------------------------------------


def test_resize_keeps_the_largest_directions_of_each_module(tmp_path: Path) -> None:
    one = write_sample(tmp_path / "a.safetensors", SD, KOHYA, rank=6, alpha=1.5)
    done = resize(one, tmp_path / "b.safetensors", rank=4)
    before, after = read_factors(one), read_factors(tmp_path / "b.safetensors")
    assert before.keys() == after.keys()
    assert {change.rank for change in after.values()} == {4}
    missing = whole = 0.0
    for stem, change in before.items():
        values = torch.linalg.svdvals(change.product())
        error = float((after[stem].product() - change.product()).norm())
        assert error == pytest.approx(float(values[4:].norm()), abs=2e-5 * float(values.norm()))
        missing, whole = missing + error**2, whole + float(values.norm()) ** 2
    assert done.kept == pytest.approx(math.sqrt(1 - missing / whole), rel=1e-4)
    conv = after[CONV]
    assert isinstance(conv, LowRank)
    assert (conv.down.shape, conv.up.shape) == ((4, 32, 3, 3), (32, 4, 1, 1))


def test_share_gives_each_module_the_rank_it_needs(tmp_path: Path) -> None:
    stem, other = "lora_unet_mid_block_attentions_0_proj_in", "lora_unet_mid_block_attentions_0_proj_out"
    values = torch.diag(torch.tensor([3.0, 4.0, 0.5, 0.1]))
    content = {}
    for name, diagonal in ((stem, values), (other, torch.diag(torch.tensor([1.0, 1.0, 1.0, 1.0])))):
        content |= {f"{name}.lora_down.weight": torch.eye(4, 7), f"{name}.lora_up.weight": torch.eye(5, 4) @ diagonal,
                    f"{name}.alpha": torch.tensor(2.0)}  # fmt: skip
    save_file(content, tmp_path / "a.safetensors")
    done = resize(tmp_path / "a.safetensors", tmp_path / "b.safetensors", keep=0.99)
    # 4 and 3 are sqrt(25 / 25.26) = 99.5 % of the first; of four alike all are needed.
    assert {name: cut.rank for name, cut in done.cuts.items()} == {stem: 2, other: 4}
    assert done.cuts[stem].kept == pytest.approx(math.sqrt(25 / 25.26), rel=1e-6)
    assert done.cuts[stem].norm == pytest.approx(math.sqrt(25.26) / 2, rel=1e-6)
    written = read_factors(tmp_path / "b.safetensors")[stem].product()
    assert torch.allclose(written[:2, :2], torch.diag(torch.tensor([1.5, 2.0])), atol=1e-5)
    capped = resize(tmp_path / "a.safetensors", tmp_path / "c.safetensors", keep=0.99, rank=1)
    assert {cut.rank for cut in capped.cuts.values()} == {1}
    whole = resize(tmp_path / "a.safetensors", tmp_path / "d.safetensors", rank=64)
    assert {cut.rank for cut in whole.cuts.values()} == {4}
    assert whole.kept == 1.0


def test_resized_file_has_the_same_strength_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = write_sample(tmp_path / "a.safetensors", SD, KOHYA, rank=4, alpha=1.0)
    assert main(["resize", str(one), "--keep", "1.0", "-o", str(tmp_path / "b.safetensors")]) == 0
    assert "kept 100.00% of the norm" in capsys.readouterr().out
    parts = SD.tiny()
    base, before = output_of(SD, parts), output_of(SD, parts, (one, KOHYA, 1.0))
    assert_same_effect(output_of(SD, parts, (tmp_path / "b.safetensors", KOHYA, 1.0)), before, base)
    assert main(["inspect", str(tmp_path / "b.safetensors")]) == 0
    assert "problem" not in capsys.readouterr().out


def test_resized_loha_does_not_claim_to_be_one_still(bases: dict[str, Path], tmp_path: Path) -> None:
    about = {"ss_network_module": "lycoris.kohya", "ss_network_args": json.dumps({"algo": "loha"}),
             "lora_foundry.method": "loha", "modelspec.title": "ink"}  # fmt: skip
    one = write_sample(tmp_path / "a.safetensors", SD, KOHYA, method="loha", only="attn1", metadata=about)
    resize(one, tmp_path / "b.safetensors", rank=2, base=bases["sd"])
    told = read_metadata(tmp_path / "b.safetensors")
    assert (told["ss_network_module"], told["ss_network_dim"], told["modelspec.title"]) == (
        "networks.lora",
        "2",
        "ink",
    )
    assert {"ss_network_args", "lora_foundry.method"}.isdisjoint(told)


@pytest.mark.parametrize("arguments", [[], ["--rank", "0"], ["--keep", "1.5"], ["--keep", "0"]])
def test_limits_that_make_no_sense_are_refused(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = write_sample(tmp_path / "a.safetensors", SD, KOHYA, only="attn1")
    assert main(["resize", str(one), *arguments, "-o", str(tmp_path / "b.safetensors")]) == 64
    assert "error (limit_" in capsys.readouterr().err


def test_large_matrices_are_decomposed_by_a_sketch(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    left = torch.linalg.qr(torch.randn(90, 60, generator=generator)).Q
    right = torch.linalg.qr(torch.randn(70, 60, generator=generator)).Q
    values = 0.8 ** torch.arange(60)
    matrix = left @ torch.diag(values) @ right.mT
    monkeypatch.setattr(svd, "WHOLE", 8)
    cut = svd.of_matrix(matrix, 10).cut(10, None)
    assert cut.rank == 10
    assert float((matrix - cut.up @ cut.down).norm()) == pytest.approx(float(values[10:].norm()), rel=1e-3)
    assert cut.kept == pytest.approx(float(values[:10].norm() / values.norm()), rel=1e-4)
