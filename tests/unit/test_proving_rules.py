"""Each rule speaks when one thing in a good wheel is broken, and only that rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from elf_writer import write_elf
from wheel_writer import EXTENSION, NAME, POLICY, SONAMES, good_files, metadata, wheel_file, write_wheel

from crosswheel.proving.emulate import NAME as EMULATED
from crosswheel.proving.findings import Severity
from crosswheel.proving.prove import RULES, Proof, prove
from crosswheel.spec.policy import Policy

pytestmark = pytest.mark.unit

FLOORS = POLICY.floors
OLD = POLICY.model_copy(update={"floors": FLOORS.model_copy(update={"GLIBC": "2.31"})})
NEW = POLICY.model_copy(update={"floors": FLOORS.model_copy(update={"GLIBC": "2.41"})})


def judge(
    path: Path, policy: Policy = POLICY, *, sonames: frozenset[str] | None = SONAMES, built: bool = True
) -> Proof:
    return prove(path, policy, sonames=sonames, check=None, run=None, built_here=built)


def speaking(proof: Proof) -> set[str]:
    """The rules that found something, the emulated run (which is never made here) aside."""
    return {item.rule for item in proof.findings if item.severity is not Severity.PASS} - {EMULATED}


def test_a_good_wheel_passes_and_every_rule_says_what_it_looked_at(tmp_path: Path) -> None:
    proof = judge(write_wheel(tmp_path))
    assert proof.passed
    assert speaking(proof) == set()
    assert {item.rule for item in proof.findings} == set(RULES)
    assert all(item.message for item in proof.findings)


@dataclass(frozen=True, kw_only=True)
class Broken:
    """One thing that is wrong. ``elf`` changes the extension, ``files`` the members, ``wheel`` how it is written."""

    rule: str
    says: str
    elf: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes | None] = field(default_factory=dict)
    wheel: Mapping[str, Any] = field(default_factory=dict)
    policy: Policy = POLICY


def glibc(version: str) -> dict[str, Any]:
    return {"versions": {"libc.so.6": {"GLIBC_2.17": ["printf"], version: ["newest", "other"]}}}


def cxx(version: str) -> dict[str, Any]:
    return {"needed": ["libstdc++.so.6"], "versions": {"libstdc++.so.6": {version: ["_ZNew"]}}}


BROKEN = {
    "machine flipped": Broken(rule="machine", says="is for x86_64; rpi4 is aarch64", elf={"machine": 62}),
    "another system": Broken(rule="machine", says="EI_OSABI 9", elf={"osabi": 9}),
    "unknown flags": Broken(rule="machine", says="flags 0x5", elf={"flags": 5}),
    "cut short": Broken(rule="machine", says="lies beyond its end", files={EXTENSION: write_elf()[:-40]}),
    "a host's program": Broken(rule="machine", says="is for x86_64", files={"quick/bin/protoc": write_elf(machine=62)}),
    "another machine's tag": Broken(
        rule="tag",
        says="no platform of it (linux_x86_64) is one that rpi4 is",
        files={"quick-1.0.dist-info/WHEEL": wheel_file("cp311-cp311-linux_x86_64")},
        wheel={"name": "quick-1.0-cp311-cp311-linux_x86_64.whl"},
    ),
    "another Python's tag": Broken(
        rule="tag",
        says="it is for cp310-cp310, and rpi4 has CPython 3.11",
        files={"quick-1.0.dist-info/WHEEL": wheel_file("cp310-cp310-linux_aarch64")},
        wheel={"name": "quick-1.0-cp310-cp310-linux_aarch64.whl"},
    ),
    "a newer glibc's tag": Broken(
        rule="tag",
        says="no platform of it (manylinux_2_39_aarch64)",
        files={"quick-1.0.dist-info/WHEEL": wheel_file("cp311-cp311-manylinux_2_39_aarch64")},
        wheel={"name": "quick-1.0-cp311-cp311-manylinux_2_39_aarch64.whl"},
    ),
    "renamed": Broken(
        rule="tag",
        says="WHEEL in it says cp311-cp311-linux_aarch64",
        wheel={"name": "quick-1.0-cp311-cp311-manylinux_2_36_aarch64.whl"},
    ),
    "a tag that lies": Broken(
        rule="tag",
        says="its tag promises that glibc 2.17 is enough, and " + EXTENSION + " wants GLIBC_2.34 (newest, other)",
        elf=glibc("GLIBC_2.34"),
        files={"quick-1.0.dist-info/WHEEL": wheel_file("cp311-cp311-manylinux2014_aarch64")},
        wheel={"name": "quick-1.0-cp311-cp311-manylinux2014_aarch64.whl"},
    ),
    "pure, with machine code": Broken(
        rule="tag",
        says="is tagged for any platform, and has machine code",
        files={"quick-1.0.dist-info/WHEEL": wheel_file("py3-none-any")},
        wheel={"name": "quick-1.0-py3-none-any.whl"},
    ),
    "no machine code": Broken(rule="tag", says="has no machine code at all", files={EXTENSION: None}),
    "the host's suffix": Broken(
        rule="tag",
        says="is an extension module that the target's Python does not find",
        files={EXTENSION: None, "quick/_fast.cpython-311-x86_64-linux-gnu.so": write_elf()},
    ),
    "a newer glibc": Broken(
        rule="abi",
        says="wants GLIBC_2.38 of libc.so.6 for newest, other; rpi4 (debian-12) has glibc up to GLIBC_2.36",
        elf=glibc("GLIBC_2.38"),
    ),
    "a newer libstdc++": Broken(rule="abi", says="up to GLIBCXX_3.4.30", elf=cxx("GLIBCXX_3.4.31")),
    "a newer C++ runtime": Broken(rule="abi", says="up to CXXABI_1.3.13", elf=cxx("CXXABI_1.3.15")),
    "a newer libgcc": Broken(
        rule="abi",
        says="up to GCC_11.0",
        elf={"needed": ["libgcc_s.so.1"], "versions": {"libgcc_s.so.1": {"GCC_14.0.0": ["__new"]}}},
    ),
    "a private version": Broken(rule="abi", says="GLIBC_PRIVATE", elf=glibc("GLIBC_PRIVATE")),
    "packed relocations, said": Broken(
        rule="abi", says="wants GLIBC_ABI_DT_RELR", elf={**glibc("GLIBC_ABI_DT_RELR"), "relr": True}, policy=OLD
    ),
    "packed relocations, not said": Broken(rule="abi", says="(DT_RELR)", elf={"relr": True}, policy=OLD),
    "an unknown library": Broken(
        rule="needed", says="wants libcudart.so.8.0; neither", elf={"needed": ["libc.so.6", "libcudart.so.8.0"]}
    ),
    "musl's loader": Broken(
        rule="needed", says="asks for the loader /lib/ld-musl", elf={"interpreter": "/lib/ld-musl-aarch64.so.1"}
    ),
    "a library that is not found": Broken(
        rule="needed",
        says="no RPATH leads there",
        elf={"needed": ["libown.so.1"]},
        files={"quick.libs/libown.so.1": write_elf(soname="libown.so.1")},
    ),
    "libdl in the wheel": Broken(
        rule="bundled", says="a part of glibc", files={"quick.libs/libdl.so.2": write_elf(soname="libdl.so.2")}
    ),
    "a grafted libstdc++": Broken(
        rule="bundled", says="a second one", files={"quick.libs/libstdc++-0a1b2c3d.so.6.0.30": write_elf()}
    ),
    "the GPU's driver": Broken(rule="bundled", says="driver", files={"quick/libcuda.so.1": write_elf()}),
    "a build path in RPATH": Broken(
        rule="runpath", says="an RPATH that names the folder /build/work/lib", elf={"rpath": "/build/work/lib"}
    ),
    "a build path in RUNPATH": Broken(
        rule="runpath",
        says="a RUNPATH that names the folder /home/me/lib",
        elf={"runpath": "$ORIGIN/.:/home/me/lib"},
    ),
    "an empty entry": Broken(rule="runpath", says="whatever folder", elf={"runpath": "$ORIGIN:"}),
    "out of site-packages": Broken(rule="runpath", says="leads out", elf={"runpath": "$ORIGIN/../../lib"}),
    "a build path": Broken(rule="paths", says="/build/work/a.cc", elf={"text": b"x\0/build/work/a.cc\0"}),
    "a user's name": Broken(rule="paths", says="/home/me/a.cc", elf={"text": b"at /home/me/a.cc:12"}),
    "a temporary object": Broken(rule="paths", says="/tmp/cc00TGXt.o", elf={"text": b"\0/tmp/cc00TGXt.o\0"}),
    "an executable stack": Broken(rule="segments", says="an executable stack", elf={"stack": 7}),
    "an executable stack on new glibc": Broken(
        rule="segments", says="the target's glibc refuses that", elf={"stack": 7}, policy=NEW
    ),
    "text relocations": Broken(rule="segments", says="text relocations", elf={"text_relocations": True}),
    "a line dropped": Broken(
        rule="record", says="is in the wheel and not in RECORD", wheel={"record": lambda rows: rows[1:]}
    ),
    "a file dropped": Broken(
        rule="record", says="is in RECORD and not in the wheel", wheel={"record": lambda rows: [*rows, "quick/a.py,,0"]}
    ),
    "a file added": Broken(
        rule="record", says="is in the wheel and not in RECORD", wheel={"unlisted": {"quick/b.py": b"pass\n"}}
    ),
    "a digest changed": Broken(
        rule="record",
        says="is not the file of which RECORD has the digest",
        wheel={"record": lambda rows: [rows[0].replace("sha256=", "sha256=A"), *rows[1:]]},
    ),
    "a weak digest": Broken(
        rule="record",
        says="a digest of the kind 'md5'",
        wheel={"record": lambda rows: [rows[0].replace("sha256=", "md5="), *rows[1:]]},
    ),
    "a size changed": Broken(
        rule="record", says="and RECORD says", wheel={"record": lambda rows: [rows[0] + "1", *rows[1:]]}
    ),
    "a line twice": Broken(rule="record", says="lists more than once", wheel={"record": lambda rows: [rows[0], *rows]}),
    "no table": Broken(rule="record", says="is no table", wheel={"record": lambda rows: ["hello"]}),
    "another package": Broken(
        rule="metadata", says="names the package slow", files={"quick-1.0.dist-info/METADATA": metadata("slow")}
    ),
    "another version": Broken(
        rule="metadata", says="says version 1.1", files={"quick-1.0.dist-info/METADATA": metadata(version="1.1")}
    ),
    "another Python": Broken(
        rule="metadata",
        says="requires Python >=3.12, and rpi4 has 3.11",
        files={"quick-1.0.dist-info/METADATA": metadata(more="Requires-Python: >=3.12\n")},
    ),
    "no METADATA": Broken(rule="metadata", says="is missing", files={"quick-1.0.dist-info/METADATA": None}),
    "a way out": Broken(rule="archive", says="leads out of the wheel", files={"../evil.py": b""}),
    "an absolute path": Broken(rule="archive", says="an absolute path", files={"/etc/evil": b""}),
    "a backslash": Broken(rule="archive", says="a backslash", files={"quick\\evil.py": b""}),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_one_thing_broken_and_exactly_that_rule_speaks(broken: Broken, tmp_path: Path) -> None:
    files: dict[str, bytes | None] = {**good_files(extension=write_elf(**broken.elf)), **broken.files}
    present = {name: data for name, data in files.items() if data is not None}
    proof = judge(write_wheel(tmp_path, present, **broken.wheel), broken.policy)
    assert speaking(proof) == {broken.rule}
    found = [item for item in proof.findings if item.rule == broken.rule]
    assert any(broken.says in f"{item.subject}: {item.message}" for item in found), found
    assert all(item.hint for item in found)
    if broken.rule != "needed" or "RPATH" not in broken.says:
        assert not proof.passed


def test_symbolic_link_is_refused(tmp_path: Path) -> None:
    import zipfile

    path = write_wheel(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("quick/link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    proof = judge(path)
    assert {"archive"} <= speaking(proof)
    assert any("symbolic link" in item.message for item in proof.findings)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_twice_is_refused(tmp_path: Path) -> None:
    import zipfile

    path = write_wheel(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("quick/__init__.py", "evil = True\n")
    assert any(item.rule == "archive" and "2 times" in item.message for item in judge(path).findings)


def test_habits_of_others_are_warnings_in_wheels_of_others(tmp_path: Path) -> None:
    """A build path in an assertion kills nobody: it fails our own wheels alone."""
    elf = write_elf(text=b"/build/work/a.cc", runpath="$ORIGIN/../../lib", stack=7)
    path = write_wheel(tmp_path, good_files(extension=elf))
    ours, theirs = judge(path, built=True), judge(path, built=False)
    assert speaking(ours) == speaking(theirs) == {"paths", "runpath", "segments"}
    assert not ours.passed
    assert theirs.passed


def test_lawful_temporary_files_are_no_build_paths(tmp_path: Path) -> None:
    text = b'\0/tmp/s3_filesystem_XXXXXX\0"/tmp/foo.sqlite".\0a/tmp/b/c.cc\0/tmp/\0/tmp\0'
    assert speaking(judge(write_wheel(tmp_path, good_files(extension=write_elf(text=text))))) == set()


def test_packed_relocations_pass_where_glibc_knows_them(tmp_path: Path) -> None:
    elf = write_elf(**glibc("GLIBC_ABI_DT_RELR"), relr=True)
    assert speaking(judge(write_wheel(tmp_path, good_files(extension=elf)))) == set()


@pytest.mark.parametrize("tag", ["rpath", "runpath"])
def test_a_bundled_library_that_is_reached_is_fine(tag: str, tmp_path: Path) -> None:
    files = {
        **good_files(extension=write_elf(needed=["libown.so.1"], **{tag: "$ORIGIN/../quick.libs"})),
        "quick.libs/libown.so.1": write_elf(soname="libown.so.1"),
    }
    assert speaking(judge(write_wheel(tmp_path, files))) == set()


def test_purelib_of_the_data_folder_counts_as_site_packages(tmp_path: Path) -> None:
    name = f"quick-1.0.data/platlib/{EXTENSION}"
    files = {key: data for key, data in good_files().items() if key != EXTENSION}
    files[name] = write_elf(runpath="$ORIGIN/../..")
    assert any("leads out" in item.message for item in judge(write_wheel(tmp_path, files)).findings)
    files[name] = write_elf(runpath="$ORIGIN/..")
    assert speaking(judge(write_wheel(tmp_path, files))) == set()


def test_without_a_root_glibc_is_known_and_the_rest_is_not_proven(tmp_path: Path) -> None:
    path = write_wheel(tmp_path, good_files(extension=write_elf(needed=["libc.so.6", "libz.so.1"])))
    proof = judge(path, sonames=None)
    (finding,) = (item for item in proof.findings if item.rule == "needed")
    assert finding.severity is Severity.NOT_PROVEN
    assert "libz.so.1" in finding.message
    assert "libc.so.6" not in finding.message


def test_a_library_that_a_requirement_may_bring_is_not_proven(tmp_path: Path) -> None:
    files = good_files(extension=write_elf(needed=["libcudart.so.12"], runpath="$ORIGIN/../nvidia/cuda_runtime/lib"))
    files["quick-1.0.dist-info/METADATA"] = metadata(more="Requires-Dist: nvidia-cuda-runtime-cu12\n")
    (finding,) = (item for item in judge(write_wheel(tmp_path, files)).findings if item.rule == "needed")
    assert finding.severity is Severity.NOT_PROVEN
    assert "nvidia/cuda_runtime/lib" in finding.message


def test_code_for_a_gpu_is_not_judged_by_the_machine(tmp_path: Path) -> None:
    proof = judge(write_wheel(tmp_path, {**good_files(), "quick/kernel.cubin": write_elf(machine=190, flags=0x350535)}))
    assert speaking(proof) == set()
    assert any("1 with code for a GPU" in item.message for item in proof.findings)


@pytest.mark.parametrize(
    ("python", "name"),
    [
        ("3.11", NAME),
        ("3.11", "quick-1.0-cp38-abi3-manylinux2014_aarch64.whl"),
        ("3.11", "quick-1.0-py3-none-manylinux_2_28_aarch64.whl"),
        ("3.6", "quick-1.0-cp36-cp36m-linux_aarch64.whl"),
        ("2.7", "quick-1.0-cp27-cp27mu-linux_aarch64.whl"),
    ],
)
def test_tags_that_pip_takes(python: str, name: str, tmp_path: Path) -> None:
    tag = name.removesuffix(".whl").split("-", 2)[2]
    files = {key: data for key, data in good_files(tag).items() if key != EXTENSION}
    files["quick/_fast.so"] = write_elf()
    path = write_wheel(tmp_path, files, name=name)
    assert speaking(judge(path, POLICY.model_copy(update={"python": python}))) == set()
