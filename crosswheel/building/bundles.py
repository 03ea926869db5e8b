"""Packs bundles, so that equal contents give equal bytes, and proves them."""

from __future__ import annotations

import gzip
import stat
import tarfile
from collections.abc import Mapping
from pathlib import Path

from crosswheel.building.emulation import Place, Process, emulator_mount, run_emulated
from crosswheel.building.job import Job, Mount
from crosswheel.building.proofs import TargetRoot, packages_used, target_sonames
from crosswheel.building.sandbox import Sandbox
from crosswheel.building.sources.unpack import unpack
from crosswheel.building.tracing import CORE_BYTES, Died, Tracer, traced
from crosswheel.errors import StepError
from crosswheel.planning.backends import SOURCE_DATE_EPOCH, filled
from crosswheel.planning.bundles import BUNDLE
from crosswheel.planning.roots import SHELL
from crosswheel.planning.steps import BundleProofStep, BundleStep
from crosswheel.planning.toolchains import EXTERNALS
from crosswheel.proving.bundles import AttemptOutcome, prove_bundle
from crosswheel.proving.emulate import EMULATOR, ENVIRONMENT, OUT, RunOutcome
from crosswheel.proving.table import proof_lines
from crosswheel.spec.outputs import Attempt
from crosswheel.spec.policy import Policy

TRIAL = "/trial"
START = "/start"
_MOST_LEFT = 1 << 20
"""A file that an attempt left is read up to this size (bytes)."""


def run_bundle(step: BundleStep, inputs: Mapping[str, Path], job: Job) -> None:
    """Writes ``out/<stem>.tar.gz`` from the folders of the inputs. ``StepError`` for what no bundle can hold, and
    where two inputs have one file."""
    members: dict[str, Path] = {}
    for role in sorted(inputs):
        for path in sorted(inputs[role].rglob("*")):
            name = path.relative_to(inputs[role]).as_posix()
            if path.is_dir() and not path.is_symlink():
                continue
            if not (path.is_symlink() or path.is_file()):
                raise StepError(f"The build left {name}, which is neither a file nor a link.", where=step.name)
            if name in members:
                raise StepError(f"The build left {name}, which is rendered as well.", where=step.name)
            members[name] = path
    with (
        (job.out / step.file).open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=9) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in sorted(members):
            _add(archive, f"{step.stem}/{name}", members[name])
    job.log(f"{step.file}: {len(members)} files")


def _add(archive: tarfile.TarFile, name: str, path: Path) -> None:
    """One member, of nobody and of no time but the build's own."""
    info = tarfile.TarInfo(name)
    info.mtime = int(SOURCE_DATE_EPOCH)
    if path.is_symlink():
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, str(path.readlink()), 0o777
        archive.addfile(info)
        return
    about = path.stat()
    info.size = about.st_size
    info.mode = 0o755 if about.st_mode & stat.S_IXUSR else 0o644
    with path.open("rb") as stream:
        archive.addfile(info, stream)


# --- the proof -------------------------------------------------------------------------------------------------------


def run_bundle_proof(
    step: BundleProofStep, inputs: Mapping[str, Path], job: Job, *, sandbox: Sandbox, tracer: Tracer | None = None
) -> None:
    """Judges the bundle and writes ``out/proof.json``; see :class:`crosswheel.planning.steps.BundleProofStep`. A
    bundle that fails is a result. ``tracer`` traces a fault to a function."""
    bundle = next(inputs["bundle"].glob("*.tar.gz"))
    policy = Policy.model_validate(step.policy)
    target = TargetRoot(folder=inputs["root"], key=step.inputs["root"].key, emulator=inputs["emulator"])
    attempts = [Attempt.model_validate(attempt) for attempt in step.attempts]

    def run() -> tuple[list[AttemptOutcome], dict[str, str]]:
        unpack(bundle, _made(job.work / "bundle"))
        running = _Running(step, inputs, job, sandbox, policy, tracer)
        return [running.attempt(attempt) for attempt in attempts], packages_used(target)

    proof = prove_bundle(
        bundle,
        policy,
        sonames=target_sonames(target.folder, policy.arch),
        attempts=attempts,
        version=step.version,
        timeout=step.timeout,
        run=run,
    )
    proof.write(job.out / "proof.json")
    for line in proof_lines(proof):
        job.log(line)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


class _Running:
    """Runs attempts, one process each, in one place. Each may read what an earlier one left."""

    def __init__(
        self,
        step: BundleProofStep,
        inputs: Mapping[str, Path],
        job: Job,
        sandbox: Sandbox,
        policy: Policy,
        tracer: Tracer | None,
    ) -> None:
        self._job = job
        self._tracer = tracer
        self._arch = policy.arch
        self._sandbox = sandbox
        self._timeout = step.timeout
        self._qemu = f"{EMULATOR}/qemu-{policy.arch}-static"
        self._cpu = policy.qemu
        self._left = _made(job.work / "left")
        needed = {role.removeprefix("target "): path for role, path in inputs.items() if role.startswith("target ")}
        self._place = Place(
            root=inputs["root"],
            root_key=step.inputs["root"].key,
            mounts=(
                emulator_mount(inputs["emulator"], policy.arch),
                Mount(source=job.work / "bundle", target=BUNDLE),
                Mount(source=self._starters(_made(job.work / "start")), target=START),
                Mount(source=self._left, target=OUT, writable=True),
                *([Mount(source=inputs["trial"], target=TRIAL)] if "trial" in inputs else []),
                *(Mount(source=path, target=f"{EXTERNALS}/{name}") for name, path in sorted(needed.items())),
            ),
        )

    def _starters(self, folder: Path) -> Path:
        """A script for each program of the bundle. Where a program of the target starts another, the kernel of this
        machine is asked to run it, and does not know it; it knows qemu, and qemu knows the target's shell."""
        for path in sorted((self._job.work / "bundle").glob("bin/*")):
            script = folder / path.name
            text = f'#!{self._qemu} /bin/{SHELL}\nexec {self._qemu} {BUNDLE}/bin/{path.name} "$@"\n'
            script.write_text(text, encoding="utf-8")
            script.chmod(0o755)
        return folder

    def attempt(self, attempt: Attempt) -> AttemptOutcome:
        """Runs one."""
        words = {"{bundle}": BUNDLE, "{trial}": TRIAL, "{start}": START, "{out}": OUT, "{externals}": EXTERNALS}
        argv = tuple(filled(word, words) for word in attempt.argv)
        what = " ".join(Path(word).name if word is argv[0] else word for word in argv)
        self._job.log(f"attempt: {what}")
        process = Process(
            argv=(self._qemu, "-cpu", self._cpu, *argv),
            # What a starter starts is to run on the same processor.
            env={**ENVIRONMENT, "QEMU_CPU": self._cpu},
            cwd=OUT,
            timeout=self._timeout,
            core=CORE_BYTES,
        )
        ended = run_emulated(process, self._place, self._job, self._sandbox)
        outcome = RunOutcome(
            status=ended.status,
            timed_out=ended.timed_out,
            seconds=ended.seconds,
            lines=ended.lines,
            result=None,
            what=f"`{what}`",
        )
        died = Died(program=argv[0], place=self._place, cwd=OUT, cores=self._left, arch=self._arch, member=self._member)
        outcome = traced(outcome, died, self._tracer, self._job, self._sandbox)
        return AttemptOutcome(run=outcome, left={name: self._text(name) for name in attempt.leaves})

    def _member(self, path: str) -> str | None:
        """The name of a file of the bundle."""
        return path.removeprefix(f"{BUNDLE}/") if path.startswith(f"{BUNDLE}/") else None

    def _text(self, name: str) -> str | None:
        """What an attempt left. The bundle's own program wrote it: links are not followed."""
        path = self._left / name
        if path.is_symlink() or not path.resolve().is_relative_to(self._left.resolve()) or not path.is_file():
            return None
        with path.open("rb") as stream:
            return stream.read(_MOST_LEFT).decode("utf-8", "replace")
