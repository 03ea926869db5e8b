"""cuDNN as users have it: found by its names, laid out as builds look for it, and refused where it is another one."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from elf_writer import write_elf

from crosswheel.building.cudnn import run_cudnn
from crosswheel.building.job import Job, Settings
from crosswheel.errors import InputError
from crosswheel.planning.cudnn import CudnnStep, cudnn_step, lacking
from crosswheel.planning.plan import Plan, plan
from crosswheel.planning.resolve import Request, resolve
from crosswheel.planning.sources import LocalSource
from crosswheel.planning.steps import FilesStep, LocalStep
from crosswheel.spec.catalog import Catalog

pytestmark = pytest.mark.unit

AARCH64, X86_64, ARM = 183, 62, 40
HEADER = "usr/include/aarch64-linux-gnu/cudnn_v6.h"
LIBRARY = "usr/lib/aarch64-linux-gnu/libcudnn.so.6.0.21"


def header(version: str = "6.0.21") -> bytes:
    major, minor, patch = version.split(".")
    lines = (f"#define CUDNN_MAJOR      {major}", f"#define CUDNN_MINOR {minor}", f"#define CUDNN_PATCHLEVEL {patch} ")
    return "".join(f"{line}\n" for line in lines).encode()


def library(soname: str = "libcudnn.so.6", machine: int = AARCH64, text: bytes = b"") -> bytes:
    return write_elf(machine=machine, soname=soname, text=text)


GPU = {"cuda": True}
BOARD = {HEADER: header(), LIBRARY: library()}


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def step(version: str = "6.0", **more: str) -> CudnnStep:
    given = LocalStep(name="take cudnn", path="/some/where", sha256="0" * 64, folder=True)
    return cudnn_step(version, "aarch64", more.get("source", "cudnn"), {"cudnn": given})


def lay(tmp_path: Path, given: Path | Mapping[str, bytes], version: str = "6.0") -> Path:
    given = given if isinstance(given, Path) else write(tmp_path / "given", given)
    out, work = tmp_path / "out", tmp_path / "work"
    for folder in (out, work):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    job = Job(
        key="0" * 64,
        out=out,
        work=work,
        settings=Settings(store=tmp_path / "store"),
        log=lambda line: None,
        cancelled=threading.Event(),
    )
    run_cudnn(step(version), {"cudnn": given}, job)
    return out


def refused(tmp_path: Path, given: Path | Mapping[str, bytes], version: str = "6.0") -> str:
    with pytest.raises(InputError) as caught:
        lay(tmp_path, given, version)
    assert caught.value.exit_code == 2
    return str(caught.value)


def laid(planned: Plan) -> dict[str, CudnnStep]:
    """The steps that lay cuDNN out, by the names under which it is given."""
    return {step.source: step for step in planned.steps if isinstance(step, CudnnStep)}


def links(out: Path) -> dict[str, str]:
    return {str(path.relative_to(out)): str(path.readlink()) for path in out.rglob("*") if path.is_symlink()}


def deb(path: Path, files: Mapping[str, bytes]) -> bytes:
    """A package with files; its control file is of no use here."""
    root = write(path / "root", files)
    control = root / "DEBIAN" / "control"
    control.parent.mkdir()
    control.write_text("Package: libcudnn6\nVersion: 6.0.21-1\nArchitecture: arm64\nMaintainer: x\nDescription: x\n")
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", str(root), str(path / "a.deb")], check=True)
    return (path / "a.deb").read_bytes()


def tgz(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


# --- as users have it ------------------------------------------------------------------------------------------------


def test_a_folder_from_a_board(tmp_path: Path) -> None:
    out = lay(tmp_path, BOARD)
    assert links(out) == {
        "include/cudnn.h": "cudnn_v6.h",
        "lib/libcudnn.so.6": "libcudnn.so.6.0.21",
        "lib/libcudnn.so": "libcudnn.so.6",
        "lib64": "lib",
    }
    assert (out / "include/cudnn.h").read_bytes() == header()
    assert (out / "lib64/libcudnn.so").read_bytes() == library()


def test_a_folder_in_which_a_copy_followed_the_links(tmp_path: Path) -> None:
    """``scp -r`` brings each library once for each of its names."""
    folder = "usr/lib/aarch64-linux-gnu"
    names = ("libcudnn.so", "libcudnn.so.6", "libcudnn.so.6.0.21")
    out = lay(tmp_path, {"usr/include/cudnn.h": header(), **{f"{folder}/{name}": library() for name in names}})
    assert sorted(path.name for path in (out / "lib").iterdir() if not path.is_symlink()) == ["libcudnn.so.6.0.21"]
    assert (out / "include/cudnn.h").read_bytes() == header()


def test_links_that_lead_to_the_board_are_made_anew(tmp_path: Path) -> None:
    given = write(tmp_path / "given", BOARD)
    (given / "usr/include/cudnn.h").symlink_to("/etc/alternatives/libcudnn")
    (given / "usr/lib/aarch64-linux-gnu/libcudnn.so").symlink_to("/etc/alternatives/libcudnn_so")
    assert links(lay(tmp_path, given))["include/cudnn.h"] == "cudnn_v6.h"


@pytest.mark.parametrize("folder", ["lib", "lib64", ""])
def test_nvidias_archive_and_a_flat_folder(tmp_path: Path, folder: str) -> None:
    files = {"cuda/include/cudnn.h": header(), f"cuda/{folder}/libcudnn.so.6.0.21".replace("//", "/"): library()}
    given = write(tmp_path / "given", {"cudnn-8.0-linux-aarch64-v6.0.tgz": tgz(files)})
    assert links(lay(tmp_path, given))["lib/libcudnn.so.6"] == "libcudnn.so.6.0.21"
    assert links(lay(tmp_path, files))["lib/libcudnn.so.6"] == "libcudnn.so.6.0.21"


def test_packages_beside_each_other_and_in_a_zip(tmp_path: Path) -> None:
    """JetPack's packages; JetPack 2 and 3.0 had them in a zip, later ones in a package that is an archive."""
    library_deb = deb(tmp_path / "1", {LIBRARY: library()})
    header_deb = deb(tmp_path / "2", {HEADER: header(), "usr/share/doc/libcudnn6/changelog.Debian.gz": b"\x1f\x8bno"})
    debs = {"libcudnn6_6.0.21-1+cuda8.0_arm64.deb": library_deb, "libcudnn6-dev_6.0.21-1+cuda8.0_arm64.deb": header_deb}
    assert (lay(tmp_path, debs) / "include/cudnn.h").read_bytes() == header()
    given = tmp_path / "zip"
    given.mkdir()
    with zipfile.ZipFile(given / "cuDNN-v6.zip", "w") as bundle:
        for name, content in debs.items():
            bundle.writestr(f"cuDNN/{name}", content)
    assert (lay(tmp_path, given) / "lib/libcudnn.so").read_bytes() == library()
    local = {f"var/cudnn-local-repo/{name}": content for name, content in debs.items()}
    repository = {"cudnn-local-tegra-repo_1.0_arm64.deb": deb(tmp_path / "3", local)}
    assert (lay(tmp_path, write(tmp_path / "repo", repository)) / "lib/libcudnn.so").read_bytes() == library()


def test_the_libraries_of_cudnn_8(tmp_path: Path) -> None:
    files = {"include/cudnn_v8.h": b"", "include/cudnn_version_v8.h": header("8.2.1")}
    for name in ("libcudnn", "libcudnn_ops_infer"):
        files[f"lib/{name}.so.8.2.1"] = library(f"{name}.so.8")
    out = lay(tmp_path, files, "8.2")
    assert links(out)["include/cudnn_version.h"] == "cudnn_version_v8.h"
    assert links(out)["lib/libcudnn_ops_infer.so"] == "libcudnn_ops_infer.so.8"


def test_of_two_versions_the_one_that_is_wanted(tmp_path: Path) -> None:
    other = {"usr/include/aarch64-linux-gnu/cudnn_v5.h": header("5.1.10")}
    other["usr/lib/aarch64-linux-gnu/libcudnn.so.5.1.10"] = library("libcudnn.so.5")
    out = lay(tmp_path, {**BOARD, **other})
    assert sorted(path.name for path in (out / "include").iterdir()) == ["cudnn.h", "cudnn_v6.h"]
    assert not (out / "lib/libcudnn.so.5.1.10").exists()


# --- what is refused -------------------------------------------------------------------------------------------------


def test_an_empty_folder(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    text = refused(tmp_path, given)
    assert "--source cudnn: this is not the cuDNN that the build wants: 6.0, the target's, aarch64" in text
    assert "there is no cudnn.h in it" in text
    assert "there is no libcudnn.so in it" in text


@pytest.mark.parametrize(("machine", "name"), [(X86_64, "x86_64"), (ARM, "ARM (32-bit)")])
def test_a_library_of_another_architecture(tmp_path: Path, machine: int, name: str) -> None:
    text = refused(tmp_path, {**BOARD, LIBRARY: library(machine=machine)})
    assert f"libcudnn.so.6.0.21 is for {name}, and aarch64 is wanted" in text


def test_a_header_of_another_version(tmp_path: Path) -> None:
    text = refused(tmp_path, {**BOARD, HEADER: header("6.1.2")})
    assert "the headers are of 6.1.2, and 6.0 is wanted" in text


def test_six_point_ten_is_not_six_point_one(tmp_path: Path) -> None:
    files = {**BOARD, HEADER: header("6.10.1")}
    assert "the headers are of 6.10.1, and 6.1 is wanted" in refused(tmp_path, files, "6.1")


@pytest.mark.parametrize("name", ["libcudnn.so.6.0.20", "libcudnn.so.5.1.10"])
def test_header_and_library_of_different_versions(tmp_path: Path, name: str) -> None:
    files = {HEADER: header(), f"lib/{name}": library(f"libcudnn.so.{name[12]}")}
    text = refused(tmp_path, files)
    assert f"{name} (SONAME libcudnn.so.{name[12]}) is no library of the headers' version, 6.0.21" in text


def test_a_library_that_was_given_another_name(tmp_path: Path) -> None:
    text = refused(tmp_path, {**BOARD, LIBRARY: library("libcudnn.so.5")})
    assert "libcudnn.so.6.0.21 (SONAME libcudnn.so.5) is no library of the headers' version" in text


def test_two_different_libraries(tmp_path: Path) -> None:
    text = refused(tmp_path, {**BOARD, "lib/libcudnn.so": library(text=b"another")})
    assert "are two libraries, and one is wanted" in text


def test_a_header_without_its_version(tmp_path: Path) -> None:
    """cuDNN 8 has it in cudnn_version.h."""
    files = {"include/cudnn.h": b'#include "cudnn_version.h"\n', "lib/libcudnn.so.8.2.1": library("libcudnn.so.8")}
    assert "no header tells the version (CUDNN_MAJOR, in cudnn.h or cudnn_version.h)" in refused(tmp_path, files, "8.2")


def test_what_is_no_library(tmp_path: Path) -> None:
    assert "there is no libcudnn.so in it" in refused(tmp_path, {**BOARD, LIBRARY: b"INPUT(libcudnn.so.6)"})


# --- in a plan -------------------------------------------------------------------------------------------------------


def test_given_by_hand_it_takes_the_place_of_what_would_be_fetched(catalog: Catalog) -> None:
    resolution = resolve(Request(recipe="tensorflow", version="1.5.1", target="jetson-tx1", features=GPU), catalog)
    given = {"cudnn": LocalSource(path="/board", sha256="1" * 64, folder=True)}
    fetched = laid(plan(resolution, catalog, rules={}))
    own = laid(plan(resolution, catalog, rules={}, sources=given))
    assert [step.kind for step in fetched["cudnn"].inputs.values()] == ["fetch", "fetch"]
    assert [step.kind for step in own["cudnn"].inputs.values()] == ["local"]
    assert own["host-cudnn"].key == fetched["host-cudnn"].key


def test_one_that_is_nowhere_is_planned_and_told_before_the_build(data: Path) -> None:
    path = data / "toolchains/cudnn/6.0.toml"
    path.write_text(path.read_text().partition("\n[[parts")[0])
    catalog = Catalog(data)
    resolution = resolve(Request(recipe="tensorflow", version="1.5.1", target="jetson-tx1", features=GPU), catalog)
    planned = plan(resolution, catalog, rules={})
    assert laid(planned)["cudnn"].name == "lay out cuDNN 6.0 of the target (not given: --source cudnn=PATH)"
    error = lacking(planned.steps)
    assert error is not None
    assert "cuDNN 6.0 for aarch64 (the board's)" in error.why
    assert "cuDNN 6.0 for x86_64 (for what runs while the build runs)" in error.why
    assert "--source cudnn=PATH --source host-cudnn=PATH" in error.hint
    assert "./x cudnn fetch --from USER@BOARD" in error.hint
    given = {name: LocalSource(path="/x", sha256="1" * 64, folder=True) for name in ("cudnn", "host-cudnn")}
    assert lacking(plan(resolution, catalog, rules={}, sources=given).steps) is None


def test_the_key_is_of_what_comes_in_and_what_is_wanted() -> None:
    empty = FilesStep(name="x", files={})
    first = cudnn_step("6.0", "aarch64", "cudnn", {"a": empty})
    assert first.key != cudnn_step("6.1", "aarch64", "cudnn", {"a": empty}).key
    assert first.key != cudnn_step("6.0", "x86_64", "cudnn", {"a": empty}).key
    assert first.key == cudnn_step("6.0", "aarch64", "host-cudnn", {"a": empty}).key
