"""Upstream's own bytes, to try a series on: an archive, a commit of a git repository, or an unpacked folder."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from crosswheel.building.sources.applying import run_git
from crosswheel.building.sources.archives import LIMITS, copy_content, kind_of_archive, read_members
from crosswheel.digest import sha256_file, sha256_json
from crosswheel.errors import InputError

Kind = Literal["archive", "commit", "folder"]


@dataclass(frozen=True)
class Upstream:
    """Where a tree comes from. ``id`` is the archive's sha256, the commit, or the sha256 of what was taken."""

    kind: Kind
    id: str


def take(given: str, paths: Collection[str], into: Path) -> Upstream:
    """Copies those of ``paths`` that the tree has into the folder ``into``.

    ``given`` is an archive with one folder at its top, ``REPOSITORY@COMMIT``, or a folder. ``InputError`` if it is none
    of these.
    """
    path = Path(given)
    if path.is_dir():
        return _from_folder(path, paths, into)
    if path.is_file() and kind_of_archive(path) is not None:
        return _from_archive(path, paths, into)
    repository, at, commit = given.rpartition("@")
    git = _git_dir(Path(repository)) if at else None
    if git is not None:
        return _from_commit(git, commit, paths, into)
    raise InputError(
        "this is no source tree",
        where=given,
        why="it is neither a folder, nor an archive (tar, zip), nor a git repository with @COMMIT",
    )


def _from_folder(tree: Path, paths: Collection[str], into: Path) -> Upstream:
    taken: dict[str, str] = {}
    for path in sorted(paths):
        source = tree / path
        if ".." in Path(path).parts or not source.is_file() or source.is_symlink():
            continue
        (into / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, into / path)
        taken[path] = sha256_file(source)
    return Upstream("folder", sha256_json(taken))


def _from_archive(archive: Path, paths: Collection[str], into: Path) -> Upstream:
    wanted = set(paths)
    for member in read_members(archive):
        inner = member.name.removeprefix("./").partition("/")[2]
        if member.kind != "file" or inner not in wanted or ".." in Path(inner).parts:
            continue
        target = into / inner
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as stream:
            copy_content(archive, member, stream, LIMITS.size)
        target.chmod(0o755 if member.executable else 0o644)
    return Upstream("archive", sha256_file(archive))


def _git_dir(repository: Path) -> Path | None:
    for folder in (repository / ".git", repository):
        if (folder / "HEAD").is_file() and (folder / "objects").is_dir():
            return folder
    return None


def _from_commit(git: Path, commit: str, paths: Collection[str], into: Path) -> Upstream:
    """git checks what it reads by the commit's own hash, so no checkout has to be trusted."""
    full = _git(git, "rev-parse", "--verify", "--end-of-options", f"{commit}^{{commit}}").decode().strip()
    listing = _git(git, "ls-tree", "--full-tree", "-r", "-z", full, "--", *sorted(paths))
    for entry in listing.decode("utf-8", "surrogateescape").split("\0"):
        head, _, path = entry.partition("\t")
        if not path or head.split()[1] != "blob" or head.startswith("120000") or ".." in Path(path).parts:
            continue
        target = into / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(_git(git, "cat-file", "blob", head.split()[2]))
        target.chmod(0o755 if head.startswith("100755") else 0o644)
    return Upstream("commit", full)


def _git(git: Path, *words: str) -> bytes:
    done = run_git(("git", f"--git-dir={git.resolve()}", *words), cwd=git)
    if done.returncode != 0:
        why = done.stderr.decode("utf-8", "replace").strip()
        raise InputError("git cannot read this commit", where=str(git), why=why or f"git {words[0]} failed")
    return done.stdout
