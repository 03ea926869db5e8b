"""Making an extracted package fit to stand in a root: merged /usr, relative links, plain modes, no device nodes."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from crosswheel.errors import FetchError

MERGED = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
"""The folders of / that a merged /usr has as links into usr (Debian's usrmerge)."""

ALWAYS_MERGED = ("bin", "lib", "lib64", "sbin")
"""Those of them that every root has; the others come with packages that need them."""

_BUILD_LINK = re.compile(r"\.so$")


def merge_usr(tree: Path) -> None:
    """Moves ``bin``, ``lib``, … of a package's files to ``usr/``; its own links of these names go.

    Every root is made with a merged /usr, also one of a release that knew both: a package of trixie has its libraries
    in ``usr/lib`` alone, one of bullseye in ``lib``, and the dynamic loader's path begins with ``/lib`` in both.
    """
    for name in MERGED:
        top = tree / name
        if top.is_symlink():
            top.unlink()
        elif top.is_dir():
            (tree / "usr").mkdir(exist_ok=True)
            merge(top, tree / "usr" / name, tree, lambda path: None)


def tidy(tree: Path, log: Callable[[str], None]) -> list[str]:
    """Makes absolute links relative, as seen from the top of ``tree``, drops setuid, setgid and sticky bits and
    everything that is neither a file nor a folder nor a link. Gives the paths of the links below ``tree``."""
    links: list[str] = []
    for entry in _entries(tree):
        relative = os.path.relpath(entry.path, tree)
        if entry.is_symlink():
            path = Path(entry.path)
            target = str(path.readlink())
            wanted = relative_target(relative, target)
            if wanted != target:
                path.unlink()
                path.symlink_to(wanted)
            links.append(relative)
            continue
        mode = entry.stat(follow_symlinks=False).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            log(f"{relative}: neither a file nor a folder nor a link; left out")
            Path(entry.path).unlink()
            continue
        plain = stat.S_IMODE(mode) & 0o777 | (0o700 if stat.S_ISDIR(mode) else 0o600)
        if plain != stat.S_IMODE(mode):
            Path(entry.path).chmod(plain)
    return links


def _entries(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda item: item.name):
            if entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mode & 0o700 != 0o700:
                Path(entry.path).chmod(0o755)
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path)


def relative_target(link: str, target: str) -> str:
    """The target of the link at ``link`` (below a root with a merged /usr), relative and inside the root.

    A relative target stays as it is, unless it climbs above the root, where ``..`` of / is / itself.
    """
    here = str(Path("/", link).parent)
    if not target.startswith("/"):
        climbs = 0
        lowest = 0
        for part in target.split("/"):
            climbs += {"..": -1, ".": 0, "": 0}.get(part, 1)
            lowest = min(lowest, climbs)
        if -lowest <= len(Path(here).parts) - 1:
            return target
    absolute = os.path.normpath("/" + str(Path(here, target)).lstrip("/"))
    top, _, _ = absolute.lstrip("/").partition("/")
    if top in MERGED:
        absolute = "/usr" + absolute
    return os.path.relpath(absolute, here)


def merge(source: Path, place: Path, root: Path, log: Callable[[str], None]) -> None:
    """Moves what is at ``source`` to ``place`` in ``root``; folders that exist already are merged.

    A link in the root that stands for a folder is followed, inside the root only. Where two packages have the same
    file, the later one's stays (the caller goes by name), as ``log`` is told.
    """
    if not os.path.lexists(place):
        source.rename(place)
        return
    is_folder = source.is_dir() and not source.is_symlink()
    if is_folder and place.is_symlink():
        place = _inside(place, root)
        place.mkdir(parents=True, exist_ok=True)
    if is_folder and place.is_dir():
        for item in sorted(source.iterdir()):
            merge(item, place / item.name, root, log)
        source.rmdir()
        return
    if is_folder or (place.is_dir() and not place.is_symlink()):
        log(f"{place.relative_to(root)}: a folder in one package and a file or link in another; the folder stays")
        if is_folder:
            place.unlink()
            source.rename(place)
        else:
            source.unlink()
        return
    if not _same(source, place):
        log(f"{place.relative_to(root)}: in two packages; the later one's stays")
    source.replace(place)


def _same(one: Path, other: Path) -> bool:
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    return one.read_bytes() == other.read_bytes()


def _inside(link: Path, root: Path) -> Path:
    real = Path(os.path.realpath(link))
    top = Path(os.path.realpath(root))
    if not real.is_relative_to(top):
        raise FetchError(f"The link {link.relative_to(root)} leads out of the root.", why=f"to {real}")
    return root / real.relative_to(top)


@dataclass(frozen=True)
class Dangling:
    """A link to nothing, and the package that it came with."""

    package: str
    link: str
    target: str


def check_links(root: Path, links: Iterable[tuple[str, str]]) -> list[Dangling]:
    """The links (package, path below ``root``) that lead nowhere. ``FetchError`` if one leads out of the root."""
    top = os.path.realpath(root)
    dangling = []
    for package, link in links:
        path = Path(top, link)
        if not path.is_symlink():
            continue
        real = os.path.realpath(path)
        if real != top and not real.startswith(top + os.sep):
            raise FetchError(f"The link {link} of {package} leads out of the root.", why=f"to {real}")
        if not Path(real).exists():
            dangling.append(Dangling(package, link, str(path.readlink())))
    return dangling


def refuse_dangling(dangling: Iterable[Dangling], where: str, log: Callable[[str], None]) -> None:
    """``FetchError`` for dangling ``.so`` links: with one, ld silently takes the static library. Others are logged."""
    bad = []
    for item in dangling:
        if _BUILD_LINK.search(item.link):
            bad.append(item)
        else:
            log(f"{item.package}: {item.link} -> {item.target} leads nowhere")
    if bad:
        raise FetchError(
            "The root has .so links that lead nowhere; the linker would take static libraries instead, silently.",
            where=where,
            why="\n".join(f"{item.package}: {item.link} -> {item.target}" for item in bad),
            hint="Add the packages that hold those libraries to the sysroot's list.",
        )
