"""Unpacks archives of foreign origin: nothing of them lands outside the folder, whatever their members say.

Links are made last, when every file is written, so no file can be written through one. Where a link leads is
followed in the tree that the archive describes, over all its other links, not by comparing text.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import closing
from pathlib import Path

from crosswheel.building.sources.archives import (
    LIMITS,
    LINK_LIMIT,
    Limits,
    Member,
    copy_content,
    damaged,
    read_members,
    refuse,
    safe_parts,
)
from crosswheel.errors import InputError

TIME = 315_532_800
"""The time of every unpacked file: 1980-01-01 00:00 UTC, the earliest that a zip can hold."""

_Parts = tuple[str, ...]

_HOPS = 40
"""Links in a row that Linux follows before it gives up with ELOOP."""


def unpack(archive: Path, dest: Path, *, strip: bool = True, limits: Limits = LIMITS) -> None:
    """Unpacks a tar (plain, gz, bz2, xz), zip or whl into ``dest``, which must be absent or empty.

    With ``strip``, a single folder at the archive's top is left out. Modes become 0644 or 0755, times :data:`TIME`.
    ``InputError`` names the archive, the member and why: an absolute path or ``..``, a link that leads out, a device,
    a name that is used for two things, more than ``limits``, or damage. On an error nothing is left behind.
    """
    if dest.exists() and any(dest.iterdir()):
        raise ValueError(f"{dest} is not empty")
    dest.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{dest.name}.", dir=dest.parent))
    try:
        unpacking = _Unpacking(archive, scratch, limits)
        with closing(read_members(archive, limits)) as members:
            for member in members:
                unpacking.take(member)
        root = unpacking.finish(strip=strip)
        normalise(root)
        root.rename(dest)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def take_member(archive: Path, member: str, dest: Path, limits: Limits = LIMITS) -> None:
    """Writes one file of an archive to ``dest``. ``InputError`` if it is not there or is no file."""
    seen: list[str] = []
    with closing(read_members(archive, limits)) as members:
        for found in members:
            if "/".join(safe_parts(archive, found.name)) != member:
                seen.append(found.name)
                continue
            if found.kind != "file":
                refuse(archive, found.name, "is wanted as a file, and is none")
            with dest.open("wb") as target:
                copy_content(archive, found, target, limits.size)
            return
    raise _no_such_member(archive, member, seen)


def _no_such_member(archive: Path, member: str, seen: list[str]) -> InputError:
    import difflib

    same_name = [name for name in seen if name.rsplit("/", 1)[-1] == member.rsplit("/", 1)[-1]]
    near = (same_name or difflib.get_close_matches(member, seen[:20_000], n=3, cutoff=0.3) or seen)[:3]
    return InputError(
        f"the archive {archive.name} has no member {member!r}",
        where=str(archive),
        why=f"among its {len(seen):,} members are: {', '.join(map(repr, near))}" if seen else "it is empty",
    )


def normalise(root: Path) -> None:
    """Gives a tree the modes 0644 and 0755 and the time :data:`TIME`; links are not followed."""
    for folder, names, files in os.walk(root, topdown=False):
        for name in [*files, *names]:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            os.utime(path, (TIME, TIME), follow_symlinks=False)
    root.chmod(0o755)
    os.utime(root, (TIME, TIME))


def leads_out(parts: _Parts, target: str, links: dict[_Parts, str]) -> bool:
    """Whether the link at ``parts`` with the text ``target`` leaves the tree whose links are ``links``.

    The way is walked as the kernel would: each link on it is replaced by its target, so that ``..`` after a link goes
    up from where the link leads.
    """
    if target.startswith("/"):
        return True
    here = list(parts[:-1])
    ahead = target.split("/")[::-1]
    hops = 0
    while ahead:
        part = ahead.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if not here:
                return True
            here.pop()
            continue
        here.append(part)
        link = links.get(tuple(here))
        if link is not None:
            hops += 1
            if hops > _HOPS:
                return False  # the kernel gives up here, too: such a link leads nowhere
            if link.startswith("/"):
                return True
            here.pop()
            ahead.extend(link.split("/")[::-1])
    return False


class _Unpacking:
    """What was unpacked so far: each path and what it is, and the links that are still to be made."""

    def __init__(self, archive: Path, root: Path, limits: Limits) -> None:
        self.archive = archive
        self.root = root
        self.limits = limits
        self.kinds: dict[_Parts, str] = {}
        self.links: dict[_Parts, tuple[str, Member]] = {}
        self.size = 0

    def take(self, member: Member) -> None:
        """Writes one member, or remembers the link that it is."""
        parts = safe_parts(self.archive, member.name)
        if member.kind == "other":
            refuse(self.archive, member.name, f"is {member.what}")
        if not parts:
            if member.kind != "folder":
                refuse(self.archive, member.name, "would replace the top of the archive")
            return
        if len(member.link) > LINK_LIMIT:
            refuse(self.archive, member.name, f"is a link whose target is {len(member.link)} characters long")
        self._claim(parts, member)
        if member.kind == "symlink":
            self.links[parts] = (member.link, member)
            return
        if member.kind == "hardlink":
            self._copy(parts, member)
            return
        self._python_agrees(member)
        if member.kind == "folder":
            self.root.joinpath(*parts).mkdir(parents=True, exist_ok=True)
        else:
            self._write(parts, member)

    def _claim(self, parts: _Parts, member: Member) -> None:
        for length in range(1, len(parts)):
            above = parts[:length]
            kind = self.kinds.setdefault(above, "folder")
            if kind != "folder":
                refuse(self.archive, member.name, f"would be written through the {kind} {'/'.join(above)!r}")
        new = "file" if member.kind == "hardlink" else "link" if member.kind == "symlink" else member.kind
        old = self.kinds.setdefault(parts, new)
        # A file may come twice (tar --append): the last one counts, as tar does it.
        if old != new or (new == "link" and parts in self.links):
            refuse(self.archive, member.name, f"would replace the {old} of the same name by a {member.kind}")

    def _python_agrees(self, member: Member) -> None:
        """The second belt: Python's own filter for tar, which old releases of 3.11 lack. It comes after our own checks,
        which say why, and sees the tree with its top folder, so it cannot replace them."""
        import tarfile

        data_filter = getattr(tarfile, "data_filter", None)
        if data_filter is None or member.tar is None:
            return
        try:
            data_filter(member.tar, str(self.root))
        except tarfile.TarError as error:
            refuse(self.archive, member.name, f"is refused by Python: {error}")

    def _write(self, parts: _Parts, member: Member) -> None:
        path = self.root.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as target:
            self.size += copy_content(self.archive, member, target, self.limits.size - self.size)
        path.chmod(0o755 if member.executable else 0o644)

    def _copy(self, parts: _Parts, member: Member) -> None:
        """A hard link becomes a copy: two names of one file would change together when one is patched."""
        if member.link.startswith("/") or ".." in member.link.split("/"):
            refuse(self.archive, member.name, f"is a hard link to {member.link!r}, which leads out of the archive")
        target = safe_parts(self.archive, member.link)
        if self.kinds.get(target) != "file" or target == parts:
            refuse(self.archive, member.name, f"is a hard link to {member.link!r}, which is no file before it")
        self._python_agrees(member)
        source = self.root.joinpath(*target)
        self.size += source.stat().st_size
        if self.size > self.limits.size:
            refuse(self.archive, member.name, "makes the unpacked archive larger than is allowed (a bomb?)")
        path = self.root.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)
        path.chmod(source.stat().st_mode & 0o777)

    def finish(self, *, strip: bool) -> Path:
        """Makes the links and returns the folder that is the tree: the scratch folder or the one at its top."""
        if not self.kinds:
            raise damaged(self.archive, "it holds nothing")
        tops = {parts[0] for parts in self.kinds}
        top = next(iter(tops))
        cut = 1 if strip and len(tops) == 1 and self.kinds[(top,)] == "folder" else 0
        links = {parts[cut:]: link for parts, (link, _) in self.links.items()}
        for parts, (link, member) in self.links.items():
            if not link or leads_out(parts[cut:], link, links):
                refuse(self.archive, member.name, f"is a link to {link!r}, which leads out of the archive")
            self._python_agrees(member)
        root = self.root / top if cut else self.root
        root.mkdir(exist_ok=True)
        for parts, link in links.items():
            path = root.joinpath(*parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(link)
        return root
