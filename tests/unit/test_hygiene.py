"""Links, merged /usr, modes, merging of packages, and what a root is given besides."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from crosswheel.building.debian import deb
from crosswheel.building.debian.deb import Alternative, alternatives, extract, parse_alternatives
from crosswheel.building.debian.finish import finish
from crosswheel.building.debian.hygiene import check_links, merge, merge_usr, refuse_dangling, relative_target, tidy
from crosswheel.errors import FetchError

pytestmark = pytest.mark.unit


def _write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _link(path: Path, target: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return path


# --- links -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "target", "wanted"),
    [
        ("usr/lib/aarch64-linux-gnu/libz.so", "/lib/aarch64-linux-gnu/libz.so.1", "libz.so.1"),
        ("usr/lib/aarch64-linux-gnu/libz.so", "libz.so.1", "libz.so.1"),
        ("usr/bin/awk", "/etc/alternatives/awk", "../../etc/alternatives/awk"),
        ("usr/lib/x", "../../etc/x", "../../etc/x"),
        ("usr/lib/x", "../../../../etc/x", "../../etc/x"),
        ("etc/mtab", "../proc/self/mounts", "../proc/self/mounts"),
        ("x", "../../outside", "outside"),
        ("x", "a/../../../outside", "outside"),
        ("x", "//usr//bin/y", "usr/bin/y"),
        ("top", "/", "."),
    ],
)
def test_targets_become_relative_and_stay_inside(link: str, target: str, wanted: str) -> None:
    assert relative_target(link, target) == wanted


def test_tidy_rewrites_links_and_names_them(tmp_path: Path) -> None:
    _link(tmp_path / "usr/lib/libm.so", "/lib/libm.so.6")
    _link(tmp_path / "usr/lib/fine.so", "fine.so.1")
    assert sorted(tidy(tmp_path, print)) == ["usr/lib/fine.so", "usr/lib/libm.so"]
    assert (tmp_path / "usr/lib/libm.so").readlink() == Path("libm.so.6")
    assert (tmp_path / "usr/lib/fine.so").readlink() == Path("fine.so.1")


def test_tidy_drops_special_bits_and_special_files(tmp_path: Path) -> None:
    program = _write(tmp_path / "usr/bin/su")
    program.chmod(0o6755)
    secret = _write(tmp_path / "etc/shadow")
    secret.chmod(0o040)
    os.mkfifo(tmp_path / "fifo")
    closed = tmp_path / "closed"
    _write(closed / "file")
    closed.chmod(0o000)
    said: list[str] = []
    tidy(tmp_path, said.append)
    assert program.stat().st_mode & 0o7777 == 0o755
    assert secret.stat().st_mode & 0o7777 == 0o640
    assert closed.stat().st_mode & 0o700 == 0o700
    assert not (tmp_path / "fifo").exists()
    assert any("fifo" in line for line in said)


def test_dangling_so_is_an_error_that_names_package_and_link(tmp_path: Path) -> None:
    _write(tmp_path / "usr/lib/libgood.so.1")
    _link(tmp_path / "usr/lib/libgood.so", "libgood.so.1")
    _link(tmp_path / "usr/lib/libbad.so", "libbad.so.3")
    _link(tmp_path / "usr/share/doc", "nowhere")
    links = [("good-dev", "usr/lib/libgood.so"), ("bad-dev", "usr/lib/libbad.so"), ("docs", "usr/share/doc")]
    dangling = check_links(tmp_path, links)
    assert [item.package for item in dangling] == ["bad-dev", "docs"]
    said: list[str] = []
    with pytest.raises(FetchError) as caught:
        refuse_dangling(dangling, "a root", said.append)
    assert "bad-dev: usr/lib/libbad.so -> libbad.so.3" in caught.value.why
    assert "docs" not in caught.value.why
    assert said == ["docs: usr/share/doc -> nowhere leads nowhere"]


def test_link_chain_out_of_the_root_is_an_error(tmp_path: Path) -> None:
    root = tmp_path / "root"
    _link(root / "a/b/up", "..")  # a/b/up is a
    _link(root / "a/b/out", "up/../../outside")  # looks as if it stayed below a/, and leaves the root
    with pytest.raises(FetchError, match=r"a/b/out of evil leads out of the root"):
        check_links(root, [("evil", "a/b/out")])


# --- merged /usr -----------------------------------------------------------------------------------------------------


def test_top_folders_move_into_usr(tmp_path: Path) -> None:
    _write(tmp_path / "lib/aarch64-linux-gnu/libc.so.6")
    _write(tmp_path / "usr/lib/aarch64-linux-gnu/libm.so")
    _write(tmp_path / "bin/sh")
    _link(tmp_path / "lib64", "usr/lib64")
    merge_usr(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["usr"]
    assert (tmp_path / "usr/lib/aarch64-linux-gnu/libc.so.6").is_file()
    assert (tmp_path / "usr/lib/aarch64-linux-gnu/libm.so").is_file()
    assert (tmp_path / "usr/bin/sh").is_file()


def test_merging_keeps_both_packages_files(tmp_path: Path) -> None:
    root, one, two = (tmp_path / name for name in ("root", "one", "two"))
    root.mkdir()
    _write(one / "usr/lib/a")
    _write(two / "usr/lib/b")
    _write(two / "usr/share/c")
    for tree in (one, two):
        merge(tree / "usr", root / "usr", root, print)
    files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert files == {"usr/lib/a", "usr/lib/b", "usr/share/c"}


def test_merging_follows_a_folders_link_inside_the_root_only(tmp_path: Path) -> None:
    root, one, two = (tmp_path / name for name in ("root", "one", "two"))
    outside = tmp_path / "outside"
    for folder in (root, outside):
        folder.mkdir()
    _link(one / "var/run", "../run")
    _write(two / "var/run/daemon/pid")
    for tree in (one, two):
        merge(tree / "var", root / "var", root, print)
    assert (root / "run/daemon/pid").is_file()
    _link(root / "evil", "../outside")
    _write(two / "evil/file")
    with pytest.raises(FetchError, match="leads out of the root"):
        merge(two / "evil", root / "evil", root, print)
    assert list(outside.iterdir()) == []


def test_a_file_in_two_packages_is_logged(tmp_path: Path) -> None:
    root = tmp_path / "root"
    _write(root / "etc/same", "1")
    _write(root / "etc/other", "1")
    _write(tmp_path / "two/etc/same", "1")
    _write(tmp_path / "two/etc/other", "2")
    said: list[str] = []
    merge(tmp_path / "two/etc", root / "etc", root, said.append)
    assert (root / "etc/other").read_text() == "2"
    assert said == ["etc/other: in two packages; the later one's stays"]


# --- what is made ----------------------------------------------------------------------------------------------------

POSTINST = """\
#!/bin/sh
set -e
if [ "$1" = "configure" ]; then
  update-alternatives --quiet --install /usr/bin/awk awk /usr/bin/mawk 5 \\
    --slave /usr/share/man/man1/awk.1.gz awk.1.gz /usr/share/man/man1/mawk.1.gz \\
    --slave /usr/bin/nawk nawk /usr/bin/mawk
  update-alternatives --install "$dir/x" x /usr/bin/x 10
  update-alternatives --install /bin/pager pager /bin/more -5
fi
"""


def test_alternatives_in_a_postinst() -> None:
    assert parse_alternatives(POSTINST) == [
        Alternative("/usr/bin/awk", "/usr/bin/mawk", 5),
        Alternative("/usr/bin/nawk", "/usr/bin/mawk", 5),
        Alternative("/bin/pager", "/bin/more", -5),
    ]
    assert parse_alternatives("echo --install /a b /c 5") == []


def test_the_best_alternative_that_is_there_gets_the_link(tmp_path: Path) -> None:
    _write(tmp_path / "usr/bin/mawk")
    _write(tmp_path / "usr/bin/more")
    (tmp_path / "bin").symlink_to("usr/bin")
    wishes = [Alternative("/usr/bin/awk", "/usr/bin/gawk", 10), *parse_alternatives(POSTINST)]
    made = {item.path for item in finish(tmp_path, wishes)}
    assert (tmp_path / "usr/bin/awk").readlink() == Path("mawk")
    assert (tmp_path / "usr/bin/pager").readlink() == Path("more")
    assert {"usr/bin/awk", "usr/bin/nawk", "usr/bin/pager"} <= made


def test_nothing_that_is_there_is_replaced(tmp_path: Path) -> None:
    _write(tmp_path / "usr/bin/mawk")
    _write(tmp_path / "usr/bin/awk", "a package's own")
    _write(tmp_path / "etc/passwd", "a package's own")
    finish(tmp_path, parse_alternatives(POSTINST))
    assert (tmp_path / "usr/bin/awk").read_text() == "a package's own"
    assert (tmp_path / "etc/passwd").read_text() == "a package's own"


def test_what_a_bare_root_is_given(tmp_path: Path) -> None:
    _write(tmp_path / "usr/bin/dash")
    _write(tmp_path / "usr/share/base-passwd/group.master", "root:*:0:\n")
    finish(tmp_path, [])
    assert (tmp_path / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert (tmp_path / "usr/bin/sh").readlink() == Path("dash")
    assert "root:x:0:0" in (tmp_path / "etc/passwd").read_text()
    assert (tmp_path / "etc/group").read_text() == "root:*:0:\n"
    assert finish(tmp_path, []) == []


# --- .debs without dpkg-deb ------------------------------------------------------------------------------------------


def _deb(folder: Path, compression: str) -> Path:
    """A .deb as ``ar`` and ``tar`` make one."""
    _write(folder / "data/usr/bin/mawk", "#!/bin/sh\n").chmod(0o4755)
    _write(folder / "control/postinst", POSTINST)
    (folder / "debian-binary").write_text("2.0\n")
    names = ["debian-binary"]
    for part in ("control", "data"):
        names.append(f"{part}.tar.{compression}" if compression else f"{part}.tar")
        plain = io.BytesIO()
        with tarfile.open(fileobj=plain, mode="w") as archive:
            archive.add(folder / part, ".")
        compress = {"xz": lzma.compress, "gz": gzip.compress, "": bytes}[compression]
        (folder / names[-1]).write_bytes(compress(plain.getvalue()))
    place = folder / "mawk.deb"
    data = b"!<arch>\n"
    for name in names:
        content = (folder / name).read_bytes()
        data += f"{name:16}{0:<12}{0:<6}{0:<6}{0o100644:<8o}{len(content):<10}`\n".encode() + content
        data += b"\n" if len(content) % 2 else b""
    place.write_bytes(data)
    return place


@pytest.mark.parametrize("compression", ["xz", "gz", ""])
def test_extraction_without_dpkg_deb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str) -> None:
    monkeypatch.setattr(deb, "_has_dpkg_deb", lambda: False)
    package = _deb(tmp_path / "made", compression)
    (tmp_path / "out").mkdir()
    extract(package, tmp_path / "out", "mawk 1")
    program = tmp_path / "out/usr/bin/mawk"
    assert program.read_text() == "#!/bin/sh\n"
    assert program.stat().st_mode & 0o7777 == 0o755
    assert alternatives(package)[0].path == "/usr/bin/mawk"


@pytest.mark.parametrize("has_dpkg", [True, False])
def test_a_file_that_is_no_deb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_dpkg: bool) -> None:
    if has_dpkg:
        subprocess.run(("dpkg-deb", "--version"), check=True, stdout=subprocess.DEVNULL)
    monkeypatch.setattr(deb, "_has_dpkg_deb", lambda: has_dpkg)
    package = _write(tmp_path / "broken.deb", "no package at all\n")
    (tmp_path / "out").mkdir()
    with pytest.raises(FetchError):
        extract(package, tmp_path / "out", "broken 1")


def test_a_truncated_deb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deb, "_has_dpkg_deb", lambda: False)
    package = _deb(tmp_path / "made", "xz")
    package.write_bytes(package.read_bytes()[:-200])
    (tmp_path / "out").mkdir()
    with pytest.raises(FetchError):
        extract(package, tmp_path / "out", "mawk 1")
