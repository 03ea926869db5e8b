"""Wheels: what was promised, and the same bytes for the same content."""

from __future__ import annotations

import csv
import io
import os
import stat
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from crosswheel.building.job import Job, Settings
from crosswheel.building.sources.archives import Limits
from crosswheel.building.wheels import read_wheel_names, rewrite, run_wheel
from crosswheel.digest import sha256_file
from crosswheel.errors import InputError, StepError
from crosswheel.planning.plan import plan
from crosswheel.planning.resolve import Request, resolve
from crosswheel.planning.steps import WheelStep
from crosswheel.spec.catalog import Catalog

pytestmark = pytest.mark.unit

INFO = "dm_tree-0.1.5.dist-info"
TAG = "cp311-cp311-linux_aarch64"
METADATA = b"Metadata-Version: 2.1\nName: dm-tree\nVersion: 0.1.5\n\nText\n"
WHEEL = b"Wheel-Version: 1.0\nGenerator: bdist_wheel (0.38.4)\nRoot-Is-Purelib: false\nTag: cp311-cp311-linux_x86_64\n"


def members() -> dict[str, bytes]:
    return {
        "tree/__init__.py": b"import _tree\n",
        "tree/_tree.cpython-311-aarch64-linux-gnu.so": b"\x7fELF" + bytes(5000),
        f"{INFO}/METADATA": METADATA,
        f"{INFO}/WHEEL": WHEEL,
        f"{INFO}/top_level.txt": b"tree\n",
        f"{INFO}/RECORD": b"tree/__init__.py,sha256=wrong,1\n",
        f"{INFO}/RECORD.jws": b"{}",
        "zeta/data, with a comma.txt": b"z",
    }


def make(
    folder: Path,
    name: str = "dm_tree-0.1.5-cp311-cp311-linux_x86_64.whl",
    files: dict[str, bytes] | None = None,
    *,
    backwards: bool = False,
    when: tuple[int, int, int, int, int, int] = (2024, 5, 6, 7, 8, 10),
    level: int = 9,
    extra: list[tuple[zipfile.ZipInfo, bytes]] | None = None,
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    items = list((members() if files is None else files).items())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as bundle:
        for member, data in reversed(items) if backwards else items:
            info = zipfile.ZipInfo(member, when)
            info.create_system = 3
            mode = 0o100775 if member.endswith(".so") else 0o100600
            info.external_attr = (mode if not backwards else mode | 0o11) << 16
            bundle.writestr(info, data, zipfile.ZIP_STORED if backwards else None)
        for info, data in extra or []:
            bundle.writestr(info, data)
    return path


def job(tmp_path: Path) -> Job:
    out = tmp_path / "out"
    out.mkdir()
    settings = Settings(store=tmp_path / "store")
    cancelled = threading.Event()
    return Job(key="0" * 64, out=out, work=tmp_path, settings=settings, log=lambda line: None, cancelled=cancelled)


def step(**changes: str) -> WheelStep:
    fields = {"name": "wheel dm-tree", "distribution": "dm-tree", "version": "0.1.5", "tag": TAG} | changes
    return WheelStep(**fields)  # type: ignore[arg-type]


def test_the_wheel_is_written_anew(tmp_path: Path) -> None:
    make(tmp_path / "run/dist")
    work = job(tmp_path)
    run_wheel(step(), {"run": tmp_path / "run"}, work)
    result = work.out / f"dm_tree-0.1.5-{TAG}.whl"
    assert [p.name for p in work.out.iterdir()] == [result.name]
    with zipfile.ZipFile(result) as bundle:
        infos = bundle.infolist()
        assert [info.filename for info in infos] == [
            "tree/__init__.py",
            "tree/_tree.cpython-311-aarch64-linux-gnu.so",
            "zeta/data, with a comma.txt",
            f"{INFO}/METADATA",
            f"{INFO}/WHEEL",
            f"{INFO}/top_level.txt",
            f"{INFO}/RECORD",
        ]
        assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}
        assert {oct(info.external_attr >> 16) for info in infos if not info.filename.endswith(".so")} == {"0o100644"}
        assert infos[1].external_attr >> 16 == 0o100755
        assert b"Tag: cp311-cp311-linux_aarch64\n" in bundle.read(f"{INFO}/WHEEL")
        assert b"x86_64" not in bundle.read(f"{INFO}/WHEEL")
        assert b"Generator: bdist_wheel (0.38.4)\n" in bundle.read(f"{INFO}/WHEEL")
        rows = list(csv.reader(io.StringIO(bundle.read(f"{INFO}/RECORD").decode())))
        assert [row[0] for row in rows] == [info.filename for info in infos]
        assert rows[-1] == [f"{INFO}/RECORD", "", ""]
        assert rows[2][2] == "1"


def test_its_record_is_what_the_wheel_package_and_installer_accept(tmp_path: Path) -> None:
    from installer.sources import WheelFile as InstallerWheel
    from wheel.wheelfile import WheelFile

    target = tmp_path / f"dm_tree-0.1.5-{TAG}.whl"
    rewrite(make(tmp_path / "in"), target, TAG)
    with WheelFile(str(target)) as bundle:  # checks each file that it reads against RECORD
        for name in bundle.namelist():
            bundle.read(name)
    with InstallerWheel.open(target) as source:
        source.validate_record()
    unpacked = tmp_path / "site"
    argv = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(unpacked)]
    options = ["--platform", "linux_aarch64", "--python-version", "3.11", "--only-binary", ":all:", "--quiet"]
    subprocess.run([*argv, *options, str(target)], check=True)
    assert (unpacked / "tree/__init__.py").read_bytes() == b"import _tree\n"


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    first = make(tmp_path / "1")
    second = make(tmp_path / "2", backwards=True, when=(2001, 1, 2, 3, 4, 6), level=1)
    assert sha256_file(first) != sha256_file(second)
    targets = [tmp_path / side / f"dm_tree-0.1.5-{TAG}.whl" for side in "ab"]
    old = os.umask(0)
    for source, target in zip((first, second), targets, strict=True):
        target.parent.mkdir()
        rewrite(source, target, TAG)
        os.umask(0o077)
    os.umask(old)
    assert sha256_file(targets[0]) == sha256_file(targets[1])
    again = tmp_path / f"dm_tree-0.1.5-{TAG}.whl"
    rewrite(targets[0], again, TAG)
    assert sha256_file(again) == sha256_file(targets[0])


def test_other_content_gives_other_bytes(tmp_path: Path) -> None:
    files = members()
    first = make(tmp_path / "1", files=files)
    second = make(tmp_path / "2", files=files | {"tree/__init__.py": b"import _tree \n"})
    for source, name in ((first, "a"), (second, "b")):
        (tmp_path / name).mkdir()
        rewrite(source, tmp_path / name / source.name, TAG)
    assert sha256_file(tmp_path / "a" / first.name) != sha256_file(tmp_path / "b" / second.name)


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("other-0.1.5-cp311-cp311-linux_x86_64.whl", {}, "no wheel"),
        ("dm_tree-0.1.6-cp311-cp311-linux_x86_64.whl", {}, "no wheel"),
        ("dm_tree-0.1.5-cp311-cp311-linux_x86_64.whl", {"distribution": "labmaze"}, "of dm-tree, not of labmaze"),
        ("dm_tree-0.1.5-cp311-cp311-linux_x86_64.whl", {"version": "0.1.9"}, "left version 0.1.5, not 0.1.9"),
        ("dm_tree-0.1.5-cp312-cp312-linux_x86_64.whl", {}, "for cp312-cp312, not for cp311-cp311-linux"),
        ("dm_tree-0.1.5-py3-none-any.whl", {}, "pure wheel, dm_tree-0.1.5-py3-none-any.whl: nothing was compiled"),
        ("dm_tree-0.1.5-py2.py3-none-any.whl", {}, "nothing was compiled"),
        ("dm_tree.whl", {}, "no wheel"),
    ],
)
def test_a_wheel_that_is_not_what_was_promised(
    name: str, changes: dict[str, str], expected: str, tmp_path: Path
) -> None:
    make(tmp_path / "run", name)
    work = job(tmp_path)
    with pytest.raises(StepError, match="the build left") as caught:
        run_wheel(step(**changes), {"run": tmp_path / "run"}, work)
    assert expected in str(caught.value)
    assert list(work.out.iterdir()) == []


def test_none_and_two_wheels(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    work = job(tmp_path)
    with pytest.raises(StepError, match="left 0 wheels where one is expected"):
        run_wheel(step(), {"run": tmp_path / "run"}, work)
    make(tmp_path / "run")
    make(tmp_path / "run", "dm_tree-0.1.5-cp311-cp311-linux_aarch64.whl")
    with pytest.raises(StepError, match=r"left 2 wheels[\s\S]*linux_aarch64\.whl, dm_tree-0\.1\.5"):
        run_wheel(step(), {"run": tmp_path / "run"}, work)


def test_an_abi3_promise_and_a_build_number(tmp_path: Path) -> None:
    make(tmp_path / "run", "dm_tree-0.1.5-2-cp36-abi3-linux_x86_64.whl")
    work = job(tmp_path)
    run_wheel(step(tag="cp36-abi3-manylinux2014_aarch64.manylinux_2_17_aarch64"), {"run": tmp_path / "run"}, work)
    (result,) = work.out.iterdir()
    assert result.name == "dm_tree-0.1.5-2-cp36-abi3-manylinux2014_aarch64.manylinux_2_17_aarch64.whl"
    with zipfile.ZipFile(result) as bundle:
        text = bundle.read(f"{INFO}/WHEEL")
    assert text.count(b"Tag: ") == 2
    assert b"Tag: cp36-abi3-manylinux2014_aarch64\nTag: cp36-abi3-manylinux_2_17_aarch64\n" in text


def odd(name: str, mode: int = 0o100644, data: bytes = b"x") -> tuple[zipfile.ZipInfo, bytes]:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info, data


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (odd("../evil"), "leads out of the archive by '..'"),
        (odd("/evil"), "absolute path"),
        (odd("tree/l", stat.S_IFLNK | 0o777, b"/etc"), "is a link"),
        (odd("tree/__init__.py"), "is there twice"),
        (odd("tree//x.py"), "is not written as the plain path 'tree/x.py'"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_that_must_not_be_in_a_wheel(
    extra: tuple[zipfile.ZipInfo, bytes], expected: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        rewrite(make(tmp_path / "in", extra=[extra]), tmp_path / "out.whl", TAG)
    assert expected in str(caught.value)


def test_too_much_in_a_wheel(tmp_path: Path) -> None:
    wheel = make(tmp_path / "in")
    for limits in (Limits(members=5), Limits(size=3000)):
        with pytest.raises(InputError, match="that are allowed"):
            rewrite(wheel, tmp_path / "out.whl", TAG, limits=limits)


def test_names_are_read(tmp_path: Path) -> None:
    names = read_wheel_names(make(tmp_path))
    assert (names.distribution, str(names.version), names.stem) == ("dm-tree", "0.1.5", "dm_tree-0.1.5")
    assert {str(tag) for tag in names.tags} == {"cp311-cp311-linux_x86_64"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({f"{INFO}/METADATA": METADATA.replace(b"dm-tree", b"other")}, "says in its METADATA that it is other 0.1.5"),
        ({f"{INFO}/METADATA": b"Name: dm-tree\n\n"}, "no usable metadata"),
        ({"x-1.dist-info/METADATA": b""}, "has 2 .dist-info folders"),
    ],
)
def test_a_wheel_that_contradicts_itself(changes: dict[str, bytes], expected: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.whl") as caught:
        read_wheel_names(make(tmp_path, files=members() | changes))
    assert expected in str(caught.value)


def test_a_wheel_without_metadata_or_no_zip_at_all(tmp_path: Path) -> None:
    files = members()
    del files[f"{INFO}/WHEEL"]
    with pytest.raises(InputError, match="no usable metadata"):
        read_wheel_names(make(tmp_path, files=files))
    broken = tmp_path / "dm_tree-0.1.5-cp311-cp311-linux_x86_64.whl"
    broken.write_bytes(b"not a zip")
    with pytest.raises(InputError, match="cannot be read"):
        read_wheel_names(broken)


def test_a_wheel_for_another_cpu_gets_its_build_tag(tmp_path: Path) -> None:
    make(tmp_path / "run")
    work = job(tmp_path)
    run_wheel(step(build="40_x86_64_v3"), {"run": tmp_path / "run"}, work)
    (made,) = work.out.iterdir()
    assert made.name == f"dm_tree-0.1.5-40_x86_64_v3-{TAG}.whl"
    with zipfile.ZipFile(made) as bundle:
        assert "Build: 40_x86_64_v3" in bundle.read("dm_tree-0.1.5.dist-info/WHEEL").decode().splitlines()
    assert read_wheel_names(made).stem == "dm_tree-0.1.5-40_x86_64_v3"


def test_the_build_tag_is_in_the_key_where_there_is_one() -> None:
    assert "build" not in step().fields()
    assert step(build="20_x86_64_v2").key != step().key


@pytest.mark.parametrize(
    ("target", "cpu", "build"),
    [
        ("x86_64", None, ""),
        ("x86_64", "x86-64", ""),
        ("x86_64", "x86-64-v2", "20_x86_64_v2"),
        ("x86_64", "x86-64-v3", "40_x86_64_v3"),
        ("rpi4", None, ""),
        ("rpi4", "cortex-a72.cortex-a53", "116_cortex_a72_cortex_a53"),
    ],
)
def test_only_wheels_for_another_cpu_than_the_targets_own_have_one(target: str, cpu: str | None, build: str) -> None:
    catalog = Catalog(Path(__file__).resolve().parents[2])
    resolution = resolve(Request(recipe="wrapt", target=target, cpu=cpu), catalog)
    assert plan(resolution, catalog, rules={}).wheel.build == build
