"""The blocks that a denoiser is made of, one after another: the unit of compiling, quantising and offloading."""

from __future__ import annotations

from torch import nn


def block_classes(denoiser: nn.Module) -> set[str]:
    """Return the names of the blocks' classes: those diffusers names, else the members of the model's own lists."""
    named = getattr(denoiser, "_repeated_blocks", None)
    if named:
        return set(named)
    lists = (child for child in denoiser.children() if isinstance(child, nn.ModuleList))
    return {type(member).__name__ for each in lists for member in each}


def blocks(denoiser: nn.Module) -> list[nn.Module]:
    """Return the blocks in the model's order, none of them within another."""
    classes = block_classes(denoiser)
    found: list[nn.Module] = []
    inside: set[nn.Module] = set()
    for module in denoiser.modules():
        if module not in inside and type(module).__name__ in classes:
            found.append(module)
            inside.update(module.modules())
    return found


def in_shorter_lists(denoiser: nn.Module) -> set[nn.Module]:
    """Return the blocks of a class that also fills a longer list of the model, such as Lumina 2's refiners.

    diffusers may compute only the longest list's anew in the backward pass.
    """
    longest: dict[type, nn.ModuleList] = {}
    lists = [child for child in denoiser.children() if isinstance(child, nn.ModuleList) and len(child)]
    for each in lists:
        kind = type(each[0])
        if len(each) > len(longest.get(kind, ())):
            longest[kind] = each
    return {block for each in lists if each is not longest[type(each[0])] for block in each}


def block_linears(denoiser: nn.Module) -> dict[str, nn.Linear]:
    """Return the linear layers within the blocks, by their path in the model."""
    within = {module for block in blocks(denoiser) for module in block.modules()}
    return {
        name: module for name, module in denoiser.named_modules()
        if isinstance(module, nn.Linear) and module in within
    }  # fmt: skip
