"""Patch series: applied to a source tree, rewritten from an edited tree. See ``checking`` for many versions."""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from crosswheel.building.job import Cancelled, Job
from crosswheel.building.sources.applying import apply_patch, run_git
from crosswheel.building.sources.archives import kind_of_archive
from crosswheel.building.sources.unpack import normalise, unpack
from crosswheel.errors import DataError, InputError, StepError
from crosswheel.planning.steps import PatchText, TreeStep

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


# --- texts -----------------------------------------------------------------------------------------------------------


def read_patch(path: Path) -> str:
    """A patch's text; bytes that are not UTF-8 (a Latin-1 comment in the source) survive the way to git."""
    if not path.is_file():
        raise DataError("the series names a patch that is not there", where=str(path))
    return path.read_bytes().decode("utf-8", "surrogateescape")


def copy_file(tree: Path, scratch: Path, path: str) -> None:
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
                copy_file(tree, scratch / side, path)
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
