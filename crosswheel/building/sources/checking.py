"""Tries a series on source trees: every patch on every version it claims, in every combination of conditions."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.specifiers import SpecifierSet

from crosswheel.building.sources.applying import Applied, apply_patch, touched
from crosswheel.building.sources.patch import copy_file, read_patch
from crosswheel.spec.conditions import Circumstances, selections
from crosswheel.spec.layers import Layers
from crosswheel.spec.patches import Patch, Series

TreeProvider = Callable[[str, str | None], Path]
"""Gives the pristine tree of a version: its own source, or that of an external by name."""

State = Literal["applies", "already applied", "fails"]


@dataclass(frozen=True)
class PatchVerdict:
    """Whether a patch of a series applies to a version. ``why`` has several lines where it fails: the hunk, what it
    expects, what stands there; where it applies, it names hunks that git found at another line."""

    file: str
    version: str
    external: str | None
    state: State
    why: str = ""


def check_series(
    tree_provider: TreeProvider, series: Series, patches_dir: Path | Layers, versions: Iterable[str]
) -> list[PatchVerdict]:
    """Tries every patch on every version that it claims, after the patches that come before it in the series.

    Patches whose conditions exclude each other need not apply together: each choice of patches that some build makes is
    applied by itself, and a patch has to apply in all those that it is in. ``DataError`` for a missing patch file.
    """
    texts = {patch.file: read_patch(patches_dir / patch.file) for patch in series.patches}
    verdicts = []
    for version in versions:
        claimed = [p for p in series.patches if SpecifierSet(p.versions).contains(version, prereleases=True)]
        for external in dict.fromkeys(patch.external for patch in claimed):
            patches = [patch for patch in claimed if patch.external == external]
            verdicts += _check_tree(tree_provider(version, external), patches, texts, version)
    return verdicts


def touched_by(patches: Sequence[Patch], patches_dir: Path | Layers) -> frozenset[str]:
    """The paths that patches read or write."""
    return frozenset(path for patch in patches for path in touched(read_patch(patches_dir / patch.file)))


def _check_tree(tree: Path, patches: list[Patch], texts: Mapping[str, str], version: str) -> list[PatchVerdict]:
    verdicts: dict[str, PatchVerdict] = {}
    for chosen, given in selections(patches).items():
        for patch, outcome in zip(chosen, _try(tree, [texts[patch.file] for patch in chosen]), strict=True):
            earlier = verdicts.get(patch.file)
            if earlier is None or earlier.state != "fails":
                verdicts[patch.file] = _verdict(patch, version, outcome, given)
    unmet = "no build meets its conditions"
    return [
        verdicts.get(patch.file, PatchVerdict(patch.file, version, patch.external, "fails", unmet)) for patch in patches
    ]


def _verdict(patch: Patch, version: str, outcome: tuple[Applied, bool], given: Circumstances) -> PatchVerdict:
    done, there_already = outcome
    if done.ok:
        moved = "\n".join(line for line in done.words.splitlines() if "offset" in line)
        return PatchVerdict(patch.file, version, patch.external, "applies", moved)
    if there_already:
        return PatchVerdict(patch.file, version, patch.external, "already applied")
    return PatchVerdict(patch.file, version, patch.external, "fails", f"({given.told()})\n{done.described()}")


def _try(tree: Path, texts: Sequence[str]) -> list[tuple[Applied, bool]]:
    """Applies patches one after another, on a copy of the files that they touch, so that a large tree costs nothing.

    The second value says whether a patch's changes are there already. One that fails is left out: the next ones are
    tried without it, and have verdicts of their own.
    """
    with tempfile.TemporaryDirectory(prefix="crosswheel-patches-") as folder:
        scratch = Path(folder)
        for path in sorted({path for text in texts for path in touched(text)}):
            copy_file(tree, scratch, path)
        outcomes = []
        for text in texts:
            done = apply_patch(scratch, text)
            outcomes.append((done, not done.ok and apply_patch(scratch, text, check=True, reverse=True).ok))
        return outcomes
