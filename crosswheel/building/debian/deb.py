"""Taking one .deb apart: its files into a folder of their own, and the alternatives that its scripts would make."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import re
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, cast

from crosswheel.errors import FetchError, MachineError

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Alternative:
    """A link that ``update-alternatives --install`` makes: from ``link`` to ``path``, both absolute."""

    link: str
    path: str
    priority: int


def extract(deb: Path, folder: Path, name: str) -> None:
    """Extracts the files of ``deb`` into the empty ``folder``: owned by the caller, without setuid bits.

    ``name`` is the package's, for errors. tar puts links that lead out of the folder in place last, so that nothing is
    written through them.
    """
    said = _with_dpkg_deb(deb, folder) if _has_dpkg_deb() else _without_dpkg_deb(deb, folder)
    if "No space left on device" in said:
        raise MachineError("There is no space left on the disk.", where=name, why=said, hint="./x clean")
    if said:
        raise FetchError("The package cannot be extracted.", where=name, why=said)


def _with_dpkg_deb(deb: Path, folder: Path) -> str:
    """What went wrong; empty if nothing did."""
    argv = ("dpkg-deb", "--fsys-tarfile", str(deb))
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        with _tar(folder, process.stdout) as tar:
            process.stdout.close()
            assert tar.stderr
            said = [tar.stderr.read()]
        said.append(process.stderr.read())
    return _said(said) if tar.returncode or process.returncode else ""


def _without_dpkg_deb(deb: Path, folder: Path) -> str:
    with _member(deb, "data.tar") as stream, _tar(folder, subprocess.PIPE) as tar:
        assert tar.stdin and tar.stderr
        try:
            shutil.copyfileobj(stream, tar.stdin, _CHUNK)
            tar.stdin.close()
        except BrokenPipeError:
            tar.stdin = None  # tar has ended, and says below why
        except BaseException:
            tar.kill()
            raise
        said = tar.stderr.read()
    return _said([said]) if tar.returncode else ""


def _tar(folder: Path, stdin: IO[bytes] | int) -> subprocess.Popen[bytes]:
    argv = ("tar", "--extract", "--no-same-owner", "--no-same-permissions", "--directory", str(folder))
    return subprocess.Popen(argv, stdin=stdin, stderr=subprocess.PIPE, umask=0o022)


def _said(parts: list[bytes]) -> str:
    return b"".join(parts).decode(errors="replace").strip() or "no reason given"


@cache
def _has_dpkg_deb() -> bool:
    return shutil.which("dpkg-deb") is not None


@contextmanager
def _member(deb: Path, prefix: str) -> Iterator[IO[bytes]]:
    """The uncompressed member ``<prefix>.*`` of a .deb, which is an ``ar`` archive."""
    from debian.arfile import ArError, ArFile

    try:
        archive = ArFile(str(deb))
    except ArError as error:
        raise FetchError("The package is no .deb.", where=str(deb), why=str(error)) from error
    names = [name for name in archive.getnames() if name.startswith(prefix)]
    if len(names) != 1:
        raise FetchError(f"The package has no {prefix}.", where=str(deb))
    member = archive.getmember(names[0])
    try:
        with _decompressed(member, names[0]) as file:
            yield file
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, tarfile.TarError) as error:
        raise FetchError("The package is damaged.", where=str(deb), why=f"{names[0]}: {error}") from error
    finally:
        member.close()


@contextmanager
def _decompressed(member: Any, name: str) -> Iterator[IO[bytes]]:
    suffix = name.rpartition(".")[2]
    if suffix == "xz":
        with lzma.open(member) as file:
            yield file
    elif suffix == "gz":
        with gzip.GzipFile(fileobj=member) as file:
            yield cast("IO[bytes]", file)
    elif suffix == "tar":
        yield member
    elif suffix == "zst":
        command = ("zstd", "--decompress", "--stdout", "--quiet")
        try:
            data = subprocess.run(command, input=member.read(), stdout=subprocess.PIPE, check=True).stdout
        except FileNotFoundError as error:
            raise MachineError(
                "A package is compressed with zstd, and this machine lacks it.", hint="apt-get install zstd"
            ) from error
        yield io.BytesIO(data)
    else:
        raise FetchError(f"The package has a {name}, and nothing here reads that compression.")


# --- packages that hold an archive -----------------------------------------------------------------------------------


def take(deb: Path, wanted: Callable[[str], bool], folder: Path) -> list[Path]:
    """Writes the plain files of ``deb`` whose paths (``var/cuda-repo/Packages``) are ``wanted`` below ``folder``.

    ``FetchError`` if it is no package, or a damaged one.
    """
    taken = []
    with _data(deb) as stream, tarfile.open(fileobj=stream, mode="r|") as data:
        for item in data:
            name = os.path.normpath(item.name)
            if not item.isfile() or not wanted(name) or name.startswith(("/", "..")):
                continue
            file = data.extractfile(item)
            assert file is not None
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as out:
                shutil.copyfileobj(file, out, _CHUNK)
            taken.append(place)
    return taken


@contextmanager
def _data(deb: Path) -> Iterator[IO[bytes]]:
    """The files of a package as a tar. dpkg-deb unpacks quicker than Python does."""
    if not _has_dpkg_deb():
        with _member(deb, "data.tar") as stream:
            yield stream
        return
    argv = ("dpkg-deb", "--fsys-tarfile", str(deb))
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        try:
            yield process.stdout
            process.stdout.read()  # what pads the archive
        except tarfile.TarError as error:
            why = process.stderr.read().decode(errors="replace").strip() or str(error)
            raise FetchError("The package is damaged.", where=str(deb), why=why) from error
        finally:
            process.stdout.close()
            said = process.stderr.read()
    if process.returncode:
        raise FetchError("The package is damaged.", where=str(deb), why=_said([said]))


# --- control ---------------------------------------------------------------------------------------------------------


def control(deb: Path) -> str:
    """The text of the package's ``control`` file: one paragraph, ending with a line break."""
    with _member(deb, "control.tar") as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        for item in archive:
            if item.name.removeprefix("./") == "control":
                file = archive.extractfile(item)
                assert file is not None
                return file.read().decode(errors="replace").strip() + "\n"
    raise FetchError("The package has no control file.", where=str(deb))


# --- alternatives ----------------------------------------------------------------------------------------------------

_INSTALL = re.compile(
    r"--(?:install\s+(?P<link>/\S+)\s+\S+\s+(?P<path>/\S+)\s+(?P<priority>-?\d+)"
    r"|slave\s+(?P<slave>/\S+)\s+\S+\s+(?P<slave_path>/\S+))"
)


def alternatives(deb: Path) -> list[Alternative]:
    """The links that the package's ``postinst`` makes by ``update-alternatives --install``.

    Only what stands there in plain words: an argument with a shell variable is not followed, manual pages are left
    out.
    """
    with _member(deb, "control.tar") as stream, tarfile.open(fileobj=stream, mode="r|") as control:
        script = next(
            (control.extractfile(item) for item in control if item.name.removeprefix("./") == "postinst"), None
        )
        text = script.read().decode(errors="replace") if script else ""
    return parse_alternatives(text)


def parse_alternatives(script: str) -> list[Alternative]:
    """See :func:`alternatives`; ``script`` is the text of a ``postinst``."""
    if "update-alternatives" not in script:
        return []
    found: list[Alternative] = []
    priority = 0
    for match in _INSTALL.finditer(script.replace("\\\n", " ")):
        if match["link"]:
            priority = int(match["priority"])
        link, path = match["link"] or match["slave"], match["path"] or match["slave_path"]
        if "$" not in link + path and not link.startswith("/usr/share/man/"):
            found.append(Alternative(link, path, priority))
    return found
