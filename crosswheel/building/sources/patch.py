"""Patch series: applied to a source tree, checked against many versions, rewritten from an edited tree."""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from packaging.specifiers import SpecifierSet

from crosswheel.building.job import Cancelled, Job
from crosswheel.building.sources.applying import Applied, apply_patch, run_git, touched
from crosswheel.building.sources.archives import kind_of_archive
from crosswheel.building.sources.unpack import normalise, unpack
from crosswheel.errors import DataError, InputError, StepError
from crosswheel.planning.steps import PatchText, TreeStep
from crosswheel.spec.models import Patch, Series, When

TreeProvider = Callable[[str, str | None], Path]
"""Gives the pristine tree of a version: its own source, or that of an external by name."""

State = Literal["applies", "already applied", "fails"]


# --- a tree ----------------------------------------------------------------------------------------------------------


def run_tree(step: TreeStep, inputs: Mapping[str, Path], job: Job) -> None:
    """Unpacks or copies the input ``archive`` into ``job.out``, applies the patches in order, writes the files.

    ``InputError`` for an archive that must not be unpacked, ``StepError`` for a patch that does not apply,
    ``DataError`` for a file that would land outside the tree.
    """
    _bring(inputs["archive"], job)
    for patch in step.patches:
        if job.cancelled.is_set():
            raise Cancelled
        _apply(step.name, patch, job)
    for path, text in step.files.items():
        write_inside(job.out, path, text)
    normalise(job.out)


def _bring(given: Path, job: Job) -> None:
    """A fetched source is one archive in its folder, a user's folder is the tree itself."""
    entries = list(given.iterdir())
    if not entries:
        raise StepError("there is nothing to make a tree of", where=str(given), why="the folder is empty")
    single = entries[0]
    if len(entries) == 1 and single.is_file() and not single.is_symlink() and kind_of_archive(single) is not None:
        job.log(f"unpacking {single.name}")
        unpack(single, job.out)
        return
    job.log(f"copying the folder {given}")
    shutil.copytree(given, job.out, symlinks=True, dirs_exist_ok=True)


def _apply(name: str, patch: PatchText, job: Job) -> None:
    done = apply_patch(job.out, patch.text)
    if done.ok:
        # git says where it found a hunk away from its line: the patch wants a refresh, and the log keeps that.
        moved = [line for line in done.words.splitlines() if "offset" in line]
        job.log(f"applied {patch.file}" + (f" ({len(moved)} hunks at another line)" if moved else ""))
        for line in moved:
            job.log(f"  {line}")
        return
    why = done.described()
    if apply_patch(job.out, patch.text, check=True, reverse=True).ok:
        why = "the tree has its changes already\n" + why
    raise StepError(
        f"the patch {patch.file} does not apply",
        where=name,
        why=why,
        hint="./x patches check   shows every patch against its source; ./x patches refresh rewrites one",
    )


def write_inside(root: Path, path: str, text: str) -> None:
    """Writes a text file at a relative path under ``root``, in place of what stands there; never through a link."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts:
        raise DataError(f"the file {path!r} would land outside the tree")
    target = root
    for part in parts[:-1]:
        target /= part
        if target.is_symlink() or (target.exists() and not target.is_dir()):
            raise DataError(f"the file {path!r} cannot be written", why=f"{part} on its way is no folder")
    target /= parts[-1]
    if target.is_dir() and not target.is_symlink():
        raise DataError(f"the file {path!r} cannot be written", why="a folder of that name stands there")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.write_text(text, "utf-8")


# --- check -----------------------------------------------------------------------------------------------------------


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
    tree_provider: TreeProvider, series: Series, patches_dir: Path, versions: Iterable[str]
) -> list[PatchVerdict]:
    """Tries every patch on every version that it claims, after the patches that come before it in the series.

    Patches whose conditions exclude each other need not apply together: a patch that fails after all the earlier ones
    is tried again after those alone that have no condition or its own. ``DataError`` for a missing patch file.
    """
    texts = {patch.file: read_patch(patches_dir / patch.file) for patch in series.patches}
    verdicts = []
    for version in versions:
        claimed = [p for p in series.patches if SpecifierSet(p.versions).contains(version, prereleases=True)]
        for external in dict.fromkeys(patch.external for patch in claimed):
            patches = [patch for patch in claimed if patch.external == external]
            verdicts += _check_tree(tree_provider(version, external), patches, texts, version)
    return verdicts


def read_patch(path: Path) -> str:
    """A patch's text; bytes that are not UTF-8 (a Latin-1 comment in the source) survive the way to git."""
    if not path.is_file():
        raise DataError("the series names a patch that is not there", where=str(path))
    return path.read_bytes().decode("utf-8", "surrogateescape")


def _check_tree(tree: Path, patches: list[Patch], texts: dict[str, str], version: str) -> list[PatchVerdict]:
    verdicts = []
    for number, patch in enumerate(patches):
        before = patches[:number]
        done, reverse = _try(tree, [texts[p.file] for p in before], texts[patch.file])
        compatible = [p for p in before if p.when in (When(), patch.when)]
        if not done.ok and len(compatible) < len(before):
            done, reverse = _try(tree, [texts[p.file] for p in compatible], texts[patch.file])
        state: State = "applies" if done.ok else "already applied" if reverse else "fails"
        moved = "\n".join(line for line in done.words.splitlines() if "offset" in line)
        why = moved if done.ok else "" if reverse else done.described()
        verdicts.append(PatchVerdict(patch.file, version, patch.external, state, why))
    return verdicts


def _try(tree: Path, before: list[str], text: str) -> tuple[Applied, bool]:
    """Applies a patch after others, on a copy of the files that they touch, so that a large tree costs nothing.

    The second value says whether its changes are there already. An earlier patch that fails is left out: it has its
    own verdict.
    """
    with tempfile.TemporaryDirectory(prefix="crosswheel-patches-") as folder:
        scratch = Path(folder)
        for path in sorted({path for patch in [*before, text] for path in touched(patch)}):
            _copy(tree, scratch, path)
        for patch in before:
            apply_patch(scratch, patch)
        done = apply_patch(scratch, text, check=True)
        return done, not done.ok and apply_patch(scratch, text, check=True, reverse=True).ok


def _copy(tree: Path, scratch: Path, path: str) -> None:
    source = tree / path
    if ".." in Path(path).parts or not (source.is_file() or source.is_symlink()):
        return
    (scratch / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, scratch / path, follow_symlinks=False)


# --- refresh ---------------------------------------------------------------------------------------------------------


def refresh(patch_file: Path, pristine_tree: Path, edited_tree: Path) -> str:
    """The patch that turns ``pristine_tree`` into ``edited_tree``, under the header (the reason) of ``patch_file``.

    ``pristine_tree`` has the earlier patches of the series applied already. Prefixes are ``a/`` and ``b/``, files are
    in order of their paths, and there are no times, so the same trees give the same bytes. ``InputError`` where the
    trees are equal.
    """
    header = header_of(read_patch(patch_file)) if patch_file.exists() else ""
    changed = _differing(pristine_tree, edited_tree)
    if not changed:
        raise InputError(
            "the edited tree is the same as the one without the patch",
            where=str(edited_tree),
            hint="edit the files there, then refresh again; to drop the patch, take it out of series.toml",
        )
    with tempfile.TemporaryDirectory(prefix="crosswheel-refresh-") as folder:
        scratch = Path(folder)
        for side, tree in (("a", pristine_tree), ("b", edited_tree)):
            (scratch / side).mkdir()
            for path in changed:
                _copy(tree, scratch / side, path)
        argv = ("git", "diff", "--no-index", "--no-prefix", "--no-renames", "--no-color", "--no-ext-diff", "--binary")
        done = run_git((*argv, "--full-index", "--src-prefix=", "--dst-prefix=", "a", "b"), cwd=scratch)
    if done.returncode not in (0, 1):
        raise StepError("git could not compare the trees", why=done.stderr.decode("utf-8", "replace").strip())
    return header + _uniform(done.stdout.decode("utf-8", "surrogateescape"))


def header_of(text: str) -> str:
    """What stands before a patch's first file: the reason, in words."""
    start = re.search(r"^(diff --git |--- |Index: )", text, re.MULTILINE)
    return text[: start.start()] if start else text


def _uniform(diff: str) -> str:
    """git names an added file ``b/X b/X`` and a removed one ``a/X a/X`` here; every other tool expects ``a/X b/X``.

    Lines of content begin with a blank, a plus, a minus or a backslash, so a line with ``diff --git`` is a header.
    """
    diff = re.sub(r"^diff --git b/(.+) b/\1$", r"diff --git a/\1 b/\1", diff, flags=re.MULTILINE)
    return re.sub(r"^diff --git a/(.+) a/\1$", r"diff --git a/\1 b/\1", diff, flags=re.MULTILINE)


def _differing(left: Path, right: Path) -> list[str]:
    """Paths of the files that are not the same in both trees, sorted; ``.git`` and Python's caches do not count."""
    found = _files(left) | _files(right)
    return sorted(path for path in found if not _same(left / path, right / path))


def _files(root: Path) -> set[str]:
    paths = set()
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if name not in (".git", "__pycache__")]
        links = [name for name in names if Path(folder, name).is_symlink()]
        paths |= {Path(folder, name).relative_to(root).as_posix() for name in [*files, *links]}
    return paths


def _same(left: Path, right: Path) -> bool:
    if left.is_symlink() or right.is_symlink():
        return left.is_symlink() and right.is_symlink() and left.readlink() == right.readlink()
    if not left.is_file() or not right.is_file():
        return False
    executable = [bool(path.stat().st_mode & 0o100) for path in (left, right)]
    return executable[0] == executable[1] and filecmp.cmp(left, right, shallow=False)
