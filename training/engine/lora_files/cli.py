"""The subcommands of ``lora-train`` that work on LoRA files."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from training.engine.errors import ConfigurationError, DataError, ExitCode

if TYPE_CHECKING:
    from training.engine.lora_files.inspection import Report, WordReport

Command = Callable[[argparse.Namespace], int]


def inspect(options: argparse.Namespace) -> int:
    """Print what a LoRA file or a checkpoint holds."""
    if options.file.is_dir():
        return _inspect_checkpoint(options.file, as_json=options.json)
    from training.engine.lora_files import inspection

    report: Report | WordReport
    if (word := inspection.inspect_word(options.file)) is not None:
        report, told = word, _told_of_word(word)
    else:
        report = inspection.inspect(options.file, norms=options.norms)
        told = _told(report)
    print(report.as_json() if options.json else told)
    return ExitCode.DATA if report.problems else ExitCode.DONE


def _inspect_checkpoint(folder: Path, *, as_json: bool) -> int:
    from training.engine import checkpoint

    try:
        loaded = checkpoint.load(folder)
    except ValueError as error:
        raise DataError(
            "not_a_checkpoint", f"{folder}: {error}",
            hint="Give a .safetensors file, or a folder like checkpoints/step-00000120.",
        ) from error  # fmt: skip
    step, tensors, recipe = loaded.state.step, len(loaded.adapter), loaded.identity["recipe"]
    if as_json:
        print(json.dumps({"step": step, "tensors": tensors, "recipe": recipe}, indent=1, ensure_ascii=False))
        return ExitCode.DONE
    print(f"checkpoint of step {step}, {tensors} tensors, whole")
    print(json.dumps(recipe, indent=1, ensure_ascii=False))
    return ExitCode.DONE


def _told(report: Report) -> str:
    guess = "" if report.family_from == "metadata" else " (by its names)"
    rows = {
        "file": f"{report.file}, {report.bytes / 1e6:.2f} MB, {report.parameters} numbers, {_counts(report.dtypes)}",
        "sha256": report.sha256,
        "layout": report.layout or "unknown",
        "family": f"{report.family}{guess}" if report.family else "unknown",
        "trigger words": ", ".join(report.trigger_words) or "none said",
    }
    for name, part in sorted(report.parts.items()):
        rows[name] = (
            f"{part.modules} modules, {_counts(part.methods)}, rank {_counts(part.ranks)}, "
            f"alpha {_counts(part.alphas) or 'in the factors'}"
        )
    lines = [f"{name:36} {value}" for name, value in {**rows, **report.hashes}.items()]
    lines += [f"problem: {problem}" for problem in report.problems]
    lines += [f"norm {norm:12.6g}  {stem}" for stem, norm in (report.norms or {}).items()]
    return _lines("\n".join(lines), report.metadata)


def _told_of_word(report: WordReport) -> str:
    rows = {
        "file": f"{report.file}, {report.bytes / 1e6:.2f} MB",
        "sha256": report.sha256,
        "a word": ", ".join(f"{name} {rows} x {width}" for name, (rows, width) in report.word.items()),
        "family": report.family,
        "trigger words": ", ".join(report.trigger_words) or "none said",
    }
    lines = [f"{name:36} {value}" for name, value in {**rows, **report.hashes}.items()]
    lines += [f"problem: {problem}" for problem in report.problems]
    return _lines("\n".join(lines), report.metadata)


def _lines(told: str, metadata: Mapping[str, str]) -> str:
    return "\n".join([told, *(f"{key:36} {value[:120]}" for key, value in sorted(metadata.items()))])


def _counts(numbers: Mapping[str, int] | Mapping[int, int] | Mapping[float, int]) -> str:
    """Return the values, each with how often it is there if there are several."""
    if len(numbers) == 1:
        return str(next(iter(numbers)))
    return ", ".join(
        f"{value} ({count}x)" for value, count in sorted(numbers.items(), key=lambda each: -each[1])
    )


def convert(options: argparse.Namespace) -> int:
    """Write a LoRA file in another layout: kohya, peft or comfy."""
    from training.engine.lora_files.convert import convert as run

    done = run(
        options.file, options.to, options.out, family=options.family, base=options.base, dtype=options.dtype,
        force=options.force,
    )  # fmt: skip
    print(f"{done.before} entries became {done.after}")
    if done.silent:
        print(f"{done.silent} layers of fused entries have no change and are left out")
    return _written(options.out, done.sha256)


def merge(options: argparse.Namespace) -> int:
    """Add LoRA files up, to one file or into a base model."""
    sources = [_with_strength(each) for each in options.files]
    if options.into is not None:
        return _bake(options, sources)
    from training.engine.lora_files.merge import merge as run
    from training.engine.lora_files.svd import share

    done = run(
        sources, options.out, rank=options.rank, base=options.base, dtype=options.dtype, force=options.force
    )
    print(
        f"{len(done.ranks)} modules of rank {_range(list(done.ranks.values()))}, {done.alone} of them not in all files"
    )
    if done.cuts:
        kept = {stem: cut.kept for stem, cut in done.cuts.items()}
        _tell_kept(kept, share(done.cuts.values()), options.verbose)
    else:
        print("exact: the factors stand side by side")
    return _written(options.out, done.sha256)


def _bake(options: argparse.Namespace, sources: Sequence[tuple[Path, float]]) -> int:
    given = [name for name in ("rank", "base", "dtype") if getattr(options, name) is not None]
    if given:
        raise ConfigurationError(
            "option_unused",
            f"--{given[0]} has no meaning with --into",
            hint="The files are added to the weights whole, in the base model's number format: leave it out.",
        )
    from training.engine.lora_files.bake import bake

    done = bake(sources, options.into, options.out, force=options.force)
    print(f"{done.layers} layers changed")
    for name in done.left_out:
        print(f"not copied: {name}")
    print(options.out)
    return ExitCode.DONE


def resize(options: argparse.Namespace) -> int:
    """Bring a LoRA file to a smaller rank."""
    from training.engine.lora_files.resize import resize as run

    done = run(
        options.file, options.out, rank=options.rank, keep=options.keep, base=options.base, dtype=options.dtype,
        force=options.force,
    )  # fmt: skip
    before = [rank for rank in done.before.values() if rank is not None]
    print(f"rank {_range(before) if before else 'full'} became {_counts(done.ranks)}")
    _tell_kept({stem: cut.kept for stem, cut in done.cuts.items()}, done.kept, options.verbose)
    return _written(options.out, done.sha256)


def extract(options: argparse.Namespace) -> int:
    """Write the difference of two base models as a LoRA file."""
    from training.engine.lora_files.extract import extract as run

    done = run(
        options.base, options.tuned, options.out, rank=options.rank, family=options.family, layout=options.layout,
        dtype=options.dtype or "fp16", force=options.force,
    )  # fmt: skip
    print(f"{len(done.cuts)} modules differ")
    _tell_kept(
        {f"{part}.{name}": cut.kept for (part, name), cut in done.cuts.items()}, done.kept, options.verbose
    )
    for name, norm in sorted(done.left_out.items(), key=lambda each: -each[1])[
        : None if options.verbose else 5
    ]:
        print(f"differs too, but is not in the file: {name} (norm {norm:.4g})")
    if len(done.left_out) > 5 and not options.verbose:
        print(f"... {len(done.left_out)} in all; --verbose lists them")
    return _written(options.out, done.sha256)


def _tell_kept(kept: Mapping[str, float], overall: float, verbose: bool) -> None:
    worst = min(kept, key=lambda name: kept[name])
    print(f"kept {overall:.2%} of the norm, of a module at least {kept[worst]:.2%} ({worst})")
    if verbose:
        for name, value in kept.items():
            print(f"{value:8.2%}  {name}")


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def _written(path: Path, sha256: str) -> int:
    print(f"sha256 {sha256}")
    print(path)
    return ExitCode.DONE


def _with_strength(text: str) -> tuple[Path, float]:
    """Read ``FILE`` or ``FILE:STRENGTH``; what follows the colon of another name is part of it.

    Raise ConfigurationError for a strength that is no finite number.
    """
    name, colon, number = text.rpartition(":")
    try:
        strength = float(number) if colon else 1.0
    except ValueError:
        colon, strength = "", 1.0
    if not math.isfinite(strength):
        raise ConfigurationError(
            "strength_invalid", f"{number!r} is no strength", hint="Give a number, e.g. FILE:0.8."
        )
    return Path(name if colon else text), strength


def add_commands(add: Callable[[str, Command], argparse.ArgumentParser]) -> None:
    """Register the subcommands."""
    command = add("inspect", inspect)
    command.add_argument("file", type=Path, help="a .safetensors file or a checkpoint folder")
    command.add_argument("--json", action="store_true", help="print all of it as JSON")
    command.add_argument(
        "--norms", action="store_true", help="list how much each module changes (Frobenius norm)"
    )

    command = add("convert", convert)
    command.add_argument("file", type=Path)
    command.add_argument(
        "--to", choices=("kohya", "peft", "comfy"), required=True, help="layout of the new file"
    )
    command.add_argument("--family", help="what it was trained on (default: what the file says)")
    command.add_argument(
        "--base", type=Path, help="folder of its base model, where the names alone do not tell"
    )
    _add_output(command)

    command = add("merge", merge)
    command.add_argument("files", nargs="+", metavar="FILE[:STRENGTH]", help="e.g. ink.safetensors:0.8")
    command.add_argument("--rank", type=int, help="cut the sum to this rank (default: exact, ranks add up)")
    command.add_argument("--base", type=Path, help="folder of the base model, where a file is a DoRA")
    command.add_argument(
        "--into", type=Path, help="folder of a base model: write a copy with the files baked in"
    )
    command.add_argument("--verbose", action="store_true", help="list the share kept of each module")
    _add_output(command)

    command = add("resize", resize)
    command.add_argument("file", type=Path)
    command.add_argument("--rank", type=int, help="highest rank of a module")
    command.add_argument(
        "--keep", type=float, help="smallest rank that keeps this share of the norm, e.g. 0.95"
    )
    command.add_argument("--base", type=Path, help="folder of the base model, where LoHa or LoKr need it")
    command.add_argument("--verbose", action="store_true", help="list the share kept of each module")
    _add_output(command)

    command = add("extract", extract)
    command.add_argument("--base", type=Path, required=True, help="folder of the model that was trained on")
    command.add_argument("--tuned", type=Path, required=True, help="folder of the model that came of it")
    command.add_argument("--rank", type=int, required=True)
    command.add_argument("--family", help="refuse models of another family")
    command.add_argument("--layout", choices=("auto", "kohya", "peft", "comfy"), default="auto")
    command.add_argument("--verbose", action="store_true", help="list the share kept of each module")
    _add_output(command)


def _add_output(command: argparse.ArgumentParser) -> None:
    command.add_argument("-o", "--out", type=Path, required=True, help="where to write")
    command.add_argument(
        "--dtype", choices=("fp16", "bf16", "fp32"), help="number format (default: the file's)"
    )
    command.add_argument("--force", action="store_true", help="write over what is there")
