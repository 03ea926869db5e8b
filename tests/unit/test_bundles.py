"""Bundles: packed so that equal contents give equal bytes, judged by rules and attempts."""

from __future__ import annotations

import io
import os
import tarfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from elf_writer import write_elf
from wheel_writer import POLICY, SONAMES

from crosswheel.building.bundles import run_bundle, run_bundle_proof
from crosswheel.building.job import Container, Job, Settings
from crosswheel.errors import InputError, StepError
from crosswheel.planning.steps import BundleProofStep, BundleStep, LocalStep, Step
from crosswheel.proving.bundles import RULES, STATIC_RULES, AttemptOutcome, prove_bundle, read_bundle
from crosswheel.proving.emulate import RunOutcome
from crosswheel.proving.findings import Context, Finding, Severity, judged
from crosswheel.proving.prove import Proof
from crosswheel.spec.outputs import Attempt

pytestmark = pytest.mark.unit

STEM = "tool-1.0-rpi4"
ROOT = Path(__file__).parents[2]


def given(name: str) -> Step:
    return LocalStep(name=name, path=name, sha256="0" * 64, folder=True)


def job_in(folder: Path) -> Job:
    for name in ("out", "work"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    settings = Settings(store=folder / "store", memory=1234)
    return Job(
        key="k", out=folder / "out", work=folder / "work", settings=settings, log=print, cancelled=threading.Event()
    )


def left(folder: Path, files: Mapping[str, bytes]) -> Path:
    """What a build left."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o755 if name.startswith("bin/") else 0o600)
    return folder


def packed(folder: Path, **inputs: Path) -> Path:
    step = BundleStep(name="bundle", inputs={role: given(role) for role in inputs}, stem=STEM)
    run_bundle(step, inputs, job_in(folder))
    return folder / "out" / step.file


GOOD = {"bin/tool": write_elf(interpreter="/lib/ld-linux-aarch64.so.1"), "include/tool.h": b"int tool(void);\n"}


# --- packing ---------------------------------------------------------------------------------------------------------


def test_equal_contents_give_equal_bytes(tmp_path: Path) -> None:
    one = left(tmp_path / "a", GOOD)
    other = left(tmp_path / "b", dict(reversed(GOOD.items())))
    os.utime(other / "bin/tool", (1, 1))
    (other / "include/tool.h").chmod(0o644)
    first, second = packed(tmp_path / "1", run=one), packed(tmp_path / "2", run=other)
    assert first.name == f"{STEM}.tar.gz"
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as archive:
        members = {member.name: member for member in archive}
    assert list(members) == [f"{STEM}/bin/tool", f"{STEM}/include/tool.h"]
    assert {member.mtime for member in members.values()} == {1577836800}
    assert {(member.uid, member.gid, member.uname) for member in members.values()} == {(0, 0, "")}
    assert [oct(member.mode) for member in members.values()] == ["0o755", "0o644"]


def test_rendered_files_join_and_links_stay_links(tmp_path: Path) -> None:
    run = left(tmp_path / "run", {"lib/libtool.so.1": write_elf(soname="libtool.so.1")})
    (run / "lib/libtool.so").symlink_to("libtool.so.1")
    files = left(tmp_path / "files", {"lib/pkgconfig/tool.pc": b"Name: tool\n"})
    facts = read_bundle(packed(tmp_path, run=run, files=files))
    assert [member.name for member in facts.members] == ["lib/libtool.so.1", "lib/pkgconfig/tool.pc"]
    assert facts.links == {"lib/libtool.so": "libtool.so.1"}
    assert facts.tops == (STEM,)


def test_one_file_from_two_sides_is_refused(tmp_path: Path) -> None:
    sides = {name: left(tmp_path / name, {"lib/tool.pc": b"x"}) for name in ("files", "run")}
    with pytest.raises(StepError, match=r"lib/tool\.pc, which is rendered as well"):
        packed(tmp_path, **sides)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    run = left(tmp_path / "run", GOOD)
    os.mkfifo(run / "pipe")
    with pytest.raises(StepError, match="left pipe, which is neither a file nor a link"):
        packed(tmp_path, run=run)


# --- rules -----------------------------------------------------------------------------------------------------------


def findings(bundle: Path) -> dict[str, list[Finding]]:
    context = Context(policy=POLICY, sonames=SONAMES, built_here=True)
    facts = read_bundle(bundle)
    return {rule.name: judged(rule, facts, context) for rule in STATIC_RULES}


def failures(bundle: Path) -> list[tuple[str, str, str]]:
    return [
        (name, finding.subject, finding.message)
        for name, found in findings(bundle).items()
        for finding in found
        if finding.severity is Severity.FAIL
    ]


def test_a_good_bundle_passes_every_rule(tmp_path: Path) -> None:
    bundle = packed(tmp_path, run=left(tmp_path / "run", GOOD))
    assert failures(bundle) == []
    assert {finding.severity for found in findings(bundle).values() for finding in found} == {Severity.PASS}


@pytest.mark.parametrize(
    ("files", "rule", "subject", "said"),
    [
        ({"bin/tool": write_elf(machine=62)}, "machine", "bin/tool", "is for x86_64"),
        (
            {"bin/tool": write_elf(versions={"libc.so.6": {"GLIBC_2.99": ["new"]}})},
            "abi",
            "bin/tool",
            "wants GLIBC_2.99 of libc.so.6 for new",
        ),
        (
            {"bin/tool": write_elf(needed=("libtool.so.1",))},
            "needed",
            "bin/tool",
            "wants libtool.so.1; neither the bundle nor",
        ),
        ({"bin/tool": write_elf(runpath="/opt/lib")}, "runpath", "bin/tool", "has a RUNPATH that names"),
        ({"bin/tool": write_elf(runpath="$ORIGIN/../..")}, "runpath", "bin/tool", "leads out of the bundle"),
        ({"bin/tool": write_elf(text=b" /build/src/a.c ")}, "paths", "bin/tool", "/build/src/a.c"),
        ({"lib/libc.so.6": write_elf(soname="libc.so.6")}, "bundled", "lib/libc.so.6", "a part of glibc"),
        ({"include/tool.h": b"text"}, "contents", f"{STEM}.tar.gz", "no machine code at all"),
    ],
)
def test_what_a_bundle_must_not_have(
    tmp_path: Path, files: dict[str, bytes], rule: str, subject: str, said: str
) -> None:
    found = failures(packed(tmp_path, run=left(tmp_path / "run", files)))
    assert [(name, where) for name, where, _ in found] == [(rule, subject)]
    assert said in found[0][2]


def test_a_library_beside_the_program_is_found_by_its_rpath(tmp_path: Path) -> None:
    files = {
        "bin/tool": write_elf(needed=("libtool.so.1",), runpath="$ORIGIN/../lib"),
        "lib/libtool.so.1.2": write_elf(soname="libtool.so.1"),
    }
    run = left(tmp_path / "run", files)
    (run / "lib/libtool.so.1").symlink_to("libtool.so.1.2")
    found = findings(packed(tmp_path, run=run))
    assert [finding.severity for finding in found["needed"]] == [Severity.PASS]


def written(path: Path, members: Mapping[str, bytes | str]) -> Path:
    """A bundle of somebody else: text is a link's target."""
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(data, str):
                info.type, info.linkname = tarfile.SYMTYPE, data
                archive.addfile(info)
            else:
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"a/bin/tool": GOOD["bin/tool"], "b/x": b""}, "2 folders at its top"),
        ({"a/bin/tool": GOOD["bin/tool"], "a/../../x": b""}, "leads out of the wheel"),
        ({"a/bin/tool": GOOD["bin/tool"], "a/bin/t": "nowhere"}, "a link to nowhere, which is not in the bundle"),
        ({"a/bin/tool": GOOD["bin/tool"], "a/bin/t": "/usr/bin/tool"}, "a link to /usr/bin/tool"),
    ],
)
def test_contents_that_nobody_should_unpack(tmp_path: Path, members: dict[str, bytes | str], said: str) -> None:
    found = failures(written(tmp_path / f"{STEM}.tar.gz", members))
    assert [rule for rule, _, _ in found] == ["contents"]
    assert said in found[0][2]


def test_a_file_that_is_no_bundle(tmp_path: Path) -> None:
    cut = packed(tmp_path, run=left(tmp_path / "run", GOOD))
    cut.write_bytes(cut.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"cannot be read as a \.tar\.gz"):
        read_bundle(cut)


# --- attempts --------------------------------------------------------------------------------------------------------

VERSION = Attempt(argv=("{bundle}/bin/tool", "--version"), expect=r"^tool {version}$")


def outcome(*lines: str, status: int = 0, timed_out: bool = False, **files: str | None) -> AttemptOutcome:
    run = RunOutcome(status=status, timed_out=timed_out, seconds=0.5, lines=lines, result=None, what="`tool --version`")
    return AttemptOutcome(run=run, left=files)


def proved(tmp_path: Path, attempt: Attempt, ended: AttemptOutcome) -> Proof:
    return prove_bundle(
        packed(tmp_path, run=left(tmp_path / "run", GOOD)),
        POLICY,
        sonames=SONAMES,
        attempts=[attempt],
        version="1.0",
        timeout=9,
        run=lambda: ([ended], {"libc6": "2.36"}),
    )


def test_an_attempt_that_does_as_expected_releases_the_bundle(tmp_path: Path) -> None:
    proof = proved(tmp_path, VERSION, outcome("the engine says something first", "tool 1.0"))
    assert proof.passed
    assert proof.run is not None
    assert (proof.run.tests, proof.run.failures, proof.run.used) == (1, 0, {"libc6": "2.36"})
    assert "1 attempts did as expected" in proof.findings[-1].message
    assert proof.rules == RULES
    assert proof.as_json()["bundle"] == f"{STEM}.tar.gz"
    assert Proof.from_json(proof.as_json()) == proof


@pytest.mark.parametrize(
    ("attempt", "ended", "said"),
    [
        (VERSION, outcome("tool 1x0"), r"it said 'tool 1x0', in which nothing matches"),
        (VERSION, outcome("tool 1.0", status=3), "ended with status 3"),
        (VERSION, outcome(timed_out=True, status=137), "did not end within 9 s"),
        (VERSION, outcome("qemu: uncaught target signal 4 (Illegal instruction)", status=132), "died of SIGILL"),
        (Attempt(argv=("x",), leaves={"a": "b"}), outcome(a=None), "it did not leave a"),
        (Attempt(argv=("x",), leaves={"a": "b"}), outcome(a="c"), "it left a with 'c', in which nothing matches 'b'"),
    ],
)
def test_an_attempt_that_does_not(tmp_path: Path, attempt: Attempt, ended: AttemptOutcome, said: str) -> None:
    proof = proved(tmp_path, attempt, ended)
    assert not proof.passed
    assert proof.run is not None
    assert proof.run.failures == 1
    assert [said in finding.message for finding in proof.of(Severity.FAIL)] == [True]


def test_nothing_is_run_of_a_bundle_for_another_machine(tmp_path: Path) -> None:
    def run() -> tuple[list[AttemptOutcome], dict[str, str]]:
        raise AssertionError("it was run")

    bundle = packed(tmp_path, run=left(tmp_path / "run", {"bin/tool": write_elf(machine=62)}))
    proof = prove_bundle(bundle, POLICY, sonames=SONAMES, attempts=[VERSION], version="1", timeout=9, run=run)
    assert proof.run is None
    assert "the rule machine failed" in proof.findings[-1].message


def test_an_attempt_that_asks_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="proves nothing"):
        Attempt(argv=("tool",))


# --- the run ---------------------------------------------------------------------------------------------------------


@dataclass
class FakeSandbox:
    """Runs nothing: ``work`` stands in for each container."""

    work: Callable[[Path, Callable[[str], None]], int]
    seen: list[Container] = field(default_factory=list)

    def run(
        self, container: Container, *, log: Callable[[str], None], cancelled: threading.Event, label_key: str
    ) -> int:
        self.seen.append(container)
        return self.work(next(mount.source for mount in container.mounts if mount.writable), log)

    def shell(self, container: Container) -> int:
        raise NotImplementedError

    def sweep(self, key: str) -> None:
        raise NotImplementedError


def test_attempts_see_the_bundle_its_starters_and_the_chain(tmp_path: Path) -> None:
    for folder in ("root/usr/lib/aarch64-linux-gnu", "emulator/usr/bin", "trial", "protobuf"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "root/usr/lib/aarch64-linux-gnu/libc.so.6").touch()
    (tmp_path / "emulator/usr/bin/qemu-aarch64-static").touch()
    made = packed(tmp_path / "made", run=left(tmp_path / "run", GOOD))
    roles = {
        "bundle": made.parent,
        "root": tmp_path / "root",
        "emulator": tmp_path / "emulator",
        "trial": tmp_path / "trial",
        "target protobuf": tmp_path / "protobuf",
    }
    attempts = (
        Attempt(argv=("{externals}/protobuf/bin/protoc", "--plugin={start}/tool", "{trial}/a"), leaves={"a": "^A$"}),
        Attempt(argv=("{bundle}/bin/tool", "{out}/a"), expect="fine"),
    )
    step = BundleProofStep(
        name="prove",
        inputs={role: given(role) for role in roles},
        policy=POLICY.model_dump(mode="json"),
        attempts=tuple(attempt.model_dump(mode="json") for attempt in attempts),
        version="1.0",
        timeout=9,
        rules=RULES,
    )

    def work(out: Path, log: Callable[[str], None]) -> int:
        (out / "a").write_text("A")
        log("fine")
        return 0

    sandbox = FakeSandbox(work)
    job = job_in(tmp_path / "job")
    run_bundle_proof(step, roles, job, sandbox=sandbox)
    assert Proof.read(job.out / "proof.json").passed
    first, second = sandbox.seen
    qemu = "/emulator/qemu-aarch64-static"
    assert first.argv == (
        qemu,
        "-cpu",
        POLICY.qemu,
        "/externals/protobuf/bin/protoc",
        "--plugin=/start/tool",
        "/trial/a",
    )
    assert second.argv[3:] == ("/bundle/bin/tool", "/out/a")
    assert first.env["QEMU_CPU"] == POLICY.qemu
    places = {mount.target: mount for mount in first.mounts}
    assert set(places) == {"/emulator", "/bundle", "/start", "/out", "/trial", "/externals/protobuf"}
    assert [target for target, mount in places.items() if mount.writable] == ["/out"]
    assert (places["/bundle"].source / "bin/tool").is_file()
    starter = places["/start"].source / "tool"
    assert starter.read_text() == f'#!{qemu} /bin/dash\nexec {qemu} /bundle/bin/tool "$@"\n'
    assert os.access(starter, os.X_OK)
