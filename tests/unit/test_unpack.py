"""Archives that must not be unpacked, and what a good one becomes."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from crosswheel.building.sources.archives import Limits
from crosswheel.building.sources.unpack import TIME, leads_out, take_member, unpack
from crosswheel.digest import sha256_tree
from crosswheel.errors import InputError

pytestmark = pytest.mark.unit


def file(name: str, data: bytes = b"x", mode: int = 0o644) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    return info, data


def entry(name: str, kind: bytes, link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, b""


def make_tar(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return path


def make_zip(path: Path, members: list[tuple[str, bytes, int]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data, mode in members:
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, mode << 16
            bundle.writestr(info, data)
    return path


def refused(archive: Path, tmp_path: Path, limits: Limits | None = None) -> str:
    """The message of the refusal; nothing may be left behind, and nothing outside be touched."""
    room = tmp_path / "room"
    room.mkdir()
    outside = tmp_path / "outside"
    outside.mkdir(exist_ok=True)
    before = sha256_tree(outside)
    with pytest.raises(InputError) as caught:
        unpack(archive, room / "tree", **({} if limits is None else {"limits": limits}))
    assert list(room.iterdir()) == []
    assert sha256_tree(outside) == before
    assert archive.name in str(caught.value)
    return str(caught.value)


BAD_TARS: dict[str, tuple[list[tuple[tarfile.TarInfo, bytes]], str]] = {
    "dots": ([file("a/../../outside/x")], "'a/../../outside/x' leads out of the archive by '..'"),
    "absolute": ([file("/etc/x")], "'/etc/x' has an absolute path"),
    "newline": ([file("a/b\nc")], "control character '\\n'"),
    "symlink out": ([file("t/f"), entry("t/l", tarfile.SYMTYPE, "../../x")], "'t/l' is a link to '../../x'"),
    "symlink absolute": ([file("t/f"), entry("t/l", tarfile.SYMTYPE, "/etc")], "is a link to '/etc'"),
    "symlink out of the stripped top": (
        [file("t/f"), entry("t/l", tarfile.SYMTYPE, "../t/f")],
        "'t/l' is a link to '../t/f', which leads out",
    ),
    "symlink out over another": (
        [file("t/a/b/f"), entry("t/a/b/up", tarfile.SYMTYPE, "../.."), entry("t/l", tarfile.SYMTYPE, "a/b/up/../x")],
        "'t/l' is a link to 'a/b/up/../x'",
    ),
    "hard link out": ([file("t/f"), entry("t/l", tarfile.LNKTYPE, "../outside/x")], "hard link to '../outside/x'"),
    "hard link absolute": ([file("t/f"), entry("t/l", tarfile.LNKTYPE, "/etc/passwd")], "hard link to '/etc/passwd'"),
    "hard link to nothing": ([file("t/f"), entry("t/l", tarfile.LNKTYPE, "t/none")], "which is no file before it"),
    "hard link to a link": (
        [entry("t/s", tarfile.SYMTYPE, "f"), file("t/f"), entry("t/l", tarfile.LNKTYPE, "t/s")],
        "which is no file before it",
    ),
    "link, then write through": (
        [entry("t/d", tarfile.SYMTYPE, "../../outside"), file("t/d/x")],
        "'t/d/x' would be written through the link 't/d'",
    ),
    "write, then link": (
        [file("t/d/x"), entry("t/d", tarfile.SYMTYPE, "../../outside")],
        "'t/d' would replace the folder of the same name by a symlink",
    ),
    "file, then link": ([file("t/x"), entry("t/x", tarfile.SYMTYPE, "y")], "would replace the file"),
    "link, then file": ([entry("t/x", tarfile.SYMTYPE, "y"), file("t/x")], "would replace the link"),
    "link twice": ([entry("t/x", tarfile.SYMTYPE, "y"), entry("t/x", tarfile.SYMTYPE, "z")], "would replace the link"),
    "file as a folder": ([file("t/x"), file("t/x/y")], "would be written through the file 't/x'"),
    "device": ([file("t/f"), entry("t/null", tarfile.CHRTYPE)], "'t/null' is a device"),
    "pipe": ([file("t/f"), entry("t/p", tarfile.FIFOTYPE)], "'t/p' is a named pipe"),
}


@pytest.mark.parametrize("case", BAD_TARS)
@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w"])
def test_bad_tar_is_refused(case: str, mode: str, tmp_path: Path) -> None:
    members, expected = BAD_TARS[case]
    archive = make_tar(tmp_path / "bad.tar", members, mode)
    assert expected in refused(archive, tmp_path)


def test_empty_tar_is_refused(tmp_path: Path) -> None:
    assert "it holds nothing" in refused(make_tar(tmp_path / "empty.tar.gz", []), tmp_path)


BAD_ZIPS: dict[str, tuple[list[tuple[str, bytes, int]], str]] = {
    "dots": ([("a/../../outside/x", b"", 0o100644)], "leads out of the archive by '..'"),
    "absolute": ([("/etc/x", b"", 0o100644)], "has an absolute path"),
    "newline": ([("a\nb", b"", 0o100644)], "control character"),
    "symlink out": ([("t/f", b"", 0o100644), ("t/l", b"../../outside", 0o120777)], "which leads out of the archive"),
    "symlink long": ([("t/l", b"a/" * 3000, 0o120777)], "is a link whose target is 6000 bytes long"),
    "link, then write through": (
        [("t/d", b"../../outside", 0o120777), ("t/d/x", b"", 0o100644)],
        "would be written through the link 't/d'",
    ),
    "device": ([("t/f", b"", 0o100644), ("t/null", b"", stat.S_IFCHR | 0o666)], "is a device"),
}


@pytest.mark.parametrize("case", BAD_ZIPS)
def test_bad_zip_is_refused(case: str, tmp_path: Path) -> None:
    members, expected = BAD_ZIPS[case]
    assert expected in refused(make_zip(tmp_path / "bad.zip", members), tmp_path)


def test_nul_in_a_zip_name_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "bad.zip", [("safeX../x", b"", 0o100644)])
    archive.write_bytes(archive.read_bytes().replace(b"safeX", b"safe\0"))
    assert "control character '\\x00'" in refused(archive, tmp_path)


def test_bombs_are_refused(tmp_path: Path) -> None:
    zeros = bytes(3_000_000)
    limits = Limits(members=20, size=2_000_000)
    expected = "larger than is allowed"
    half = zeros[:1_500_000]
    copies = [file("t/a", zeros[:900_000]), *(entry(f"t/l{n}", tarfile.LNKTYPE, "t/a") for n in range(3))]
    archives = [
        make_tar(tmp_path / "bomb.tar.gz", [file("t/a", zeros)]),
        make_tar(tmp_path / "many.tar.xz", [file("t/a", half), file("t/b", half)], "w:xz"),
        make_tar(tmp_path / "copies.tar.gz", copies),
        make_zip(tmp_path / "bomb.zip", [("t/a", zeros, 0o100644)]),
    ]
    for number, archive in enumerate(archives):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert expected in refused(archive, folder, limits)


def test_too_many_members_are_refused(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "many.tar.gz", [file(f"t/{n}") for n in range(6)])
    assert "'t/5' is one more than the 5 members" in refused(archive, tmp_path, Limits(members=5))


def test_a_header_that_claims_gigabytes_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 3 << 30
    (tmp_path / "pax.tar").write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + bytes(4096))
    assert "a header says that it is 3221225472 bytes long" in refused(tmp_path / "pax.tar", tmp_path)


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w:bz2", "w"])
def test_truncated_tar_is_refused(mode: str, tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "cut.tar", [file("t/a", os.urandom(50_000)), file("t/b", os.urandom(50_000))], mode)
    archive.write_bytes(archive.read_bytes()[:60_000])
    assert "cannot be read" in refused(archive, tmp_path)


def test_tar_with_a_damaged_header_is_refused(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "bad.tar", [file("t/a"), file("t/b"), file("t/c")], "w")
    data = bytearray(archive.read_bytes())
    data[1024 + 150] ^= 0xFF  # in the checksum of the second header; tarfile alone would end there without a word
    archive.write_bytes(data)
    assert "cannot be read" in refused(archive, tmp_path)


def test_gzip_with_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "bad.tar.gz", [file("t/a")])
    data = bytearray(archive.read_bytes())
    data[-6] ^= 0xFF
    archive.write_bytes(data)
    assert "CRC" in refused(archive, tmp_path)


def test_truncated_and_corrupt_zip_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "cut.zip", [("t/a", os.urandom(5000), 0o100644)])
    whole = archive.read_bytes()
    archive.write_bytes(whole[:3000])
    assert "cannot be read" in refused(archive, tmp_path)
    (tmp_path / "room").rmdir()
    damaged = bytearray(whole)
    damaged[2000] ^= 0xFF
    archive.write_bytes(damaged)
    assert "CRC" in refused(archive, tmp_path)


def test_what_is_no_archive_says_so(tmp_path: Path) -> None:
    (tmp_path / "page.tar.gz").write_text("<html>gone</html>")
    message = refused(tmp_path / "page.tar.gz", tmp_path)
    assert "page.tar.gz is no archive that can be unpacked" in message
    assert "tar (plain, .gz, .bz2, .xz), zip and whl" in message


GOOD = [
    entry("./top", tarfile.DIRTYPE),
    file("./top/run.sh", b"#!/bin/sh\n", 0o775),
    file("./top/sub/data", b"data", 0o600),
    entry("./top/sub/link", tarfile.SYMTYPE, "../run.sh"),
    entry("./top/round", tarfile.SYMTYPE, "round"),
    entry("./top/dangling", tarfile.SYMTYPE, "sub/none"),
    entry("./top/hard", tarfile.LNKTYPE, "./top/run.sh"),
    file("./top/twice", b"old"),
    file("./top/twice", b"new"),
]


def check_good(tree: Path) -> None:
    assert sorted(p.relative_to(tree).as_posix() for p in tree.rglob("*")) == [
        "dangling", "hard", "round", "run.sh", "sub", "sub/data", "sub/link", "twice",
    ]  # fmt: skip
    assert (tree / "sub/link").readlink() == Path("../run.sh")
    assert (tree / "sub/link").read_bytes() == (tree / "hard").read_bytes() == b"#!/bin/sh\n"
    assert (tree / "twice").read_bytes() == b"new"
    assert (tree / "hard").stat().st_nlink == 1
    modes = {name: stat.S_IMODE((tree / name).stat().st_mode) for name in ("run.sh", "hard", "sub", "sub/data", ".")}
    assert modes == {"run.sh": 0o755, "hard": 0o755, "sub": 0o755, "sub/data": 0o644, ".": 0o755}
    assert {p.lstat().st_mtime for p in [tree, *tree.rglob("*")]} == {TIME}


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w:bz2", "w"])
def test_good_tar(mode: str, tmp_path: Path) -> None:
    tree = tmp_path / "new" / "tree"
    unpack(make_tar(tmp_path / "good", GOOD, mode), tree)
    check_good(tree)
    assert [p.name for p in tree.parent.iterdir()] == ["tree"]


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "good", GOOD)
    (tmp_path / "empty").mkdir()
    old = os.umask(0o077)
    try:
        unpack(archive, tmp_path / "empty")
    finally:
        os.umask(old)
    check_good(tmp_path / "empty")


def test_good_zip_without_and_with_its_top(tmp_path: Path) -> None:
    members = [("top/", b"", 0o40755), ("top/run", b"#!", 0o100755), ("top/l", b"run", 0o120777)]
    archive = make_zip(tmp_path / "good.zip", members)
    unpack(archive, tmp_path / "stripped")
    unpack(archive, tmp_path / "whole", strip=False)
    assert os.access(tmp_path / "stripped/run", os.X_OK)
    assert (tmp_path / "stripped/l").readlink() == Path("run")
    assert sha256_tree(tmp_path / "stripped") == sha256_tree(tmp_path / "whole/top")


def test_two_tops_or_a_single_file_are_not_stripped(tmp_path: Path) -> None:
    unpack(make_tar(tmp_path / "two.tar", [file("a/x"), file("b/y")]), tmp_path / "two")
    unpack(make_tar(tmp_path / "one.tar", [file("alone")]), tmp_path / "one")
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == ["a", "b"]
    assert (tmp_path / "one/alone").is_file()


def test_a_folder_with_something_in_it_is_not_unpacked_into(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(ValueError, match="not empty"):
        unpack(make_tar(tmp_path / "a.tar", [file("a")]), tmp_path)


def links_by_kernel(tmp_path: Path, links: dict[str, str], start: str) -> bool:
    """Whether the real file system ends outside ``tmp_path/root``."""
    root = tmp_path / "root"
    for folder in ("a/b/c", "d"):
        (root / folder).mkdir(parents=True)
    for name, target in links.items():
        (root / name).symlink_to(target)
    return not Path(os.path.realpath(root / start)).is_relative_to(root)


@pytest.mark.parametrize(
    ("links", "start"),
    [
        ({"l": "a/b"}, "l"),
        ({"l": ".."}, "l"),
        ({"a/b/c/l": "../../.."}, "a/b/c/l"),
        ({"a/b/c/l": "../../../.."}, "a/b/c/l"),
        ({"a/b/c/up": "../../..", "l": "a/b/c/up/.."}, "l"),
        ({"deep": "a/b/c", "l": "deep/.."}, "l"),
        ({"deep": "a/b/c", "l": "deep/../../../.."}, "l"),
        ({"deep": "a/b/c", "l": "deep/../../.."}, "l"),
        ({"one": "two", "two": "d/..", "l": "one/../.."}, "l"),
    ],
)
def test_where_a_link_leads_agrees_with_the_kernel(links: dict[str, str], start: str, tmp_path: Path) -> None:
    table = {tuple(name.split("/")): target for name, target in links.items()}
    answer = leads_out(tuple(start.split("/")), links[start], table)
    assert answer == links_by_kernel(tmp_path, links, start)


@pytest.mark.parametrize("make", [lambda p: make_tar(p, [file("package/bin/tool", b"tool", 0o755), file("package/x")]),
                                  lambda p: make_zip(p, [("package/bin/tool", b"tool", 0o100755)])])  # fmt: skip
def test_take_member(make: Callable[[Path], Path], tmp_path: Path) -> None:
    archive = make(tmp_path / "npm.tgz")
    take_member(archive, "package/bin/tool", tmp_path / "tool")
    assert (tmp_path / "tool").read_bytes() == b"tool"
    with pytest.raises(InputError) as caught:
        take_member(archive, "package/tool", tmp_path / "none")
    assert "has no member 'package/tool'" in str(caught.value)
    assert "'package/bin/tool'" in str(caught.value)
    assert not (tmp_path / "none").exists()


def test_take_member_takes_no_link(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "l.tgz", [entry("package/tool", tarfile.SYMTYPE, "/etc/passwd")])
    with pytest.raises(InputError, match="wanted as a file, and is none"):
        take_member(archive, "package/tool", tmp_path / "tool")


def test_a_name_that_is_not_utf8_is_kept_and_can_be_hashed(tmp_path: Path) -> None:
    archive = tmp_path / "latin.tar"
    with tarfile.open(archive, "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as tar:
        info, data = file("t/caf\xe9")
        tar.addfile(info, io.BytesIO(data))
    unpack(archive, tmp_path / "tree")
    assert [os.fsencode(path.name) for path in (tmp_path / "tree").iterdir()] == [b"caf\xe9"]
    assert len(sha256_tree(tmp_path / "tree")) == 64
