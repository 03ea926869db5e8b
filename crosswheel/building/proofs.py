"""Proves wheels: gives the rules the target's root and its libraries, and runs the check in a container.

The container's root is the target's own, read-only; qemu-user, which is static, is mounted into it. So every path that
the check sees is the target's. (qemu's ``-L`` would let paths that the target lacks fall through to the builder's; both
start equally fast.)
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import ZipFile

from crosswheel.building.emulation import Ended, Place, Process, emulator_mount, read_left, run_emulated
from crosswheel.building.job import Job, Mount
from crosswheel.building.sandbox import Sandbox
from crosswheel.building.tracing import CORE_BYTES, Died, Tracer, members_at, traced
from crosswheel.errors import StepError
from crosswheel.planning.steps import ProofStep
from crosswheel.planning.trial import CHECK_WHEEL
from crosswheel.proving.emulate import (
    CHECK,
    MOST_RESULT,
    OUT,
    RESULT,
    SITE,
    SOURCE,
    WHEELS,
    CheckSpec,
    EmulatedRun,
    RunOutcome,
    installed_folders,
    installing_run,
)
from crosswheel.proving.prove import Proof, prove
from crosswheel.proving.table import proof_lines
from crosswheel.spec.policy import Policy

_TRIPLETS = {"aarch64": "aarch64-linux-gnu", "x86_64": "x86_64-linux-gnu"}
_TRY_SECONDS = 120
_TRY = "import platform; print('python ' + platform.python_version() + ' ' + platform.machine())"
_DATA = re.compile(r"^[^/]+\.data/(purelib|platlib)/")
_NAMED_PACKAGES = ("libc6", "libgcc-s1", "libstdc++6")


@dataclass(frozen=True, kw_only=True)
class TargetRoot:
    """The target's runtime root and the root with qemu-user. ``key`` is the key of the step that made ``folder``."""

    folder: Path
    key: str
    emulator: Path


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A recipe's check with what it needs: the release's patched ``source`` (None for a check that needs none), and
    ``wheels`` by their names, unpacked, or as folders with the file where the check is to ``install`` them."""

    script: str
    tests: int
    timeout: int
    wheels: Mapping[str, Path]
    source: Path | None = None
    install: bool = False

    @property
    def spec(self) -> CheckSpec:
        """What the proof knows of it."""
        return CheckSpec(
            script=self.script,
            tests=self.tests,
            timeout=self.timeout,
            wheels=tuple(sorted(self.wheels)),
            install=self.install,
            source=self.source is not None,
        )


def run_proof(
    step: ProofStep, inputs: Mapping[str, Path], job: Job, *, sandbox: Sandbox, tracer: Tracer | None = None
) -> None:
    """Judges the wheel of the input ``wheel`` and writes ``out/proof.json``; see
    :class:`crosswheel.planning.steps.ProofStep`. A wheel that fails is a result. ``StepError`` where the check cannot
    be run for a reason that is not the wheel's. ``tracer`` traces a fault to a function."""
    wheels = sorted(inputs["wheel"].glob("*.whl"))
    if len(wheels) != 1:
        raise StepError(f"There are {len(wheels)} wheels to prove, and there must be one.", where=str(inputs["wheel"]))
    proof = verify_wheel(
        wheels[0],
        Policy.model_validate(step.policy),
        target=TargetRoot(folder=inputs["root"], key=step.inputs["root"].key, emulator=inputs["emulator"]),
        trial=_trial(step, inputs),
        job=job,
        sandbox=sandbox,
        tracer=tracer,
        built_here=step.built_here,
        elsewhere=step.elsewhere,
    )
    proof.write(job.out / "proof.json")
    for line in proof_lines(proof):
        job.log(line)


def _trial(step: ProofStep, inputs: Mapping[str, Path]) -> Trial | None:
    if not step.check:
        return None
    return Trial(
        script=step.check,
        tests=step.tests,
        timeout=step.timeout,
        source=inputs.get("source"),
        wheels={role.removeprefix(CHECK_WHEEL): path for role, path in inputs.items() if role.startswith(CHECK_WHEEL)},
        install=step.install,
    )


def verify_wheel(
    wheel: Path,
    policy: Policy,
    *,
    target: TargetRoot | None,
    trial: Trial | None,
    job: Job,
    sandbox: Sandbox | None,
    tracer: Tracer | None = None,
    built_here: bool = False,
    elsewhere: Mapping[str, str] | None = None,
) -> Proof:
    """The proof of any wheel.

    Without ``target`` nothing is run and libraries that are not glibc's are not looked for; without ``trial`` the wheel
    is imported, and nothing else is run. Both are said in the proof. ``job.work`` is used; ``job.out`` is not. Raises
    ``InputError`` where ``wheel`` is none, ``StepError`` where the target's root does not run, :class:`Cancelled`.
    """

    def run(wanted: EmulatedRun) -> RunOutcome:
        assert target is not None
        assert sandbox is not None
        return _EmulatedTarget(target, policy, job, sandbox, tracer).run(wheel, wanted, trial)

    return prove(
        wheel,
        policy,
        sonames=None if target is None else target_sonames(target.folder, policy.arch),
        check=None if trial is None else trial.spec,
        run=None if target is None or sandbox is None else run,
        built_here=built_here,
        elsewhere=elsewhere,
    )


def target_sonames(root: Path, arch: str) -> frozenset[str]:
    """The file names of the libraries in the folders where the target's loader looks (glibc's defaults on Debian and
    Ubuntu: the multiarch folders first, then ``/lib`` and ``/usr/lib``). A link that leads nowhere is none."""
    triplet = _TRIPLETS[arch]
    found: set[str] = set()
    for folder in ("lib", "usr/lib", "lib64", "usr/lib64", f"lib/{triplet}", f"usr/lib/{triplet}"):
        place = root / folder
        if place.is_dir():
            with os.scandir(place) as entries:
                found.update(entry.name for entry in entries if ".so" in entry.name and entry.is_file())
    return frozenset(found)


class _EmulatedTarget:
    """Runs checks on the emulated target, in a container."""

    def __init__(self, target: TargetRoot, policy: Policy, job: Job, sandbox: Sandbox, tracer: Tracer | None) -> None:
        self._target = target
        self._policy = policy
        self._job = job
        self._sandbox = sandbox
        self._tracer = tracer
        self._work = _fresh(job.work)

    def run(self, wheel: Path, wanted: EmulatedRun, trial: Trial | None) -> RunOutcome:
        """Runs the check on the contents of ``wheel``, or imports it."""
        used = {"python": self._try(wanted), **packages_used(self._target)}
        if wanted.installed:
            assert trial is not None
            refused = self._install(wheel, trial)
            if refused:
                return RunOutcome(
                    status=refused.status,
                    timed_out=refused.timed_out,
                    seconds=refused.seconds,
                    lines=refused.lines,
                    result=None,
                    used=used,
                    what="the installation by the target's pip",
                )
        else:
            unpack_site(wheel, self._work / "site")
        self._job.log("running the check on the emulated target")
        mounts = self._lay_out(wanted, trial)
        ended = self._contained(wanted.argv, wanted, mounts, wanted.timeout, core=CORE_BYTES)
        outcome = RunOutcome(
            status=ended.status,
            timed_out=ended.timed_out,
            seconds=ended.seconds,
            lines=ended.lines,
            result=read_left(self._work / "out" / RESULT, MOST_RESULT),
            used=used,
        )
        died = Died(
            program=wanted.argv[3],
            place=self._place(mounts),
            cwd=wanted.cwd,
            cores=self._work / "out",
            arch=self._policy.arch,
            member=_members(wheel, self._policy.python),
        )
        return traced(outcome, died, self._tracer, self._job, self._sandbox)

    def _install(self, wheel: Path, trial: Trial) -> Ended | None:
        """Lets the target's pip install the wheel below ``work/site``; how it ended where it did not."""
        wanted = installing_run(self._policy, trial.spec, wheel.name)
        if wanted is None:
            raise StepError(
                "The recipe's check is to be installed by pip, and no wheel of pip is among its wheels.",
                hint="Add pip to [[check.wheels]] of recipe.toml.",
            )
        self._job.log("installing the wheel with the target's own Python and pip")
        files = self._work / "wheels"
        files.mkdir()
        for path in (wheel, *(found for folder in trial.wheels.values() for found in sorted(folder.glob("*.whl")))):
            shutil.copyfile(path, files / path.name)
        (self._work / "site").mkdir()
        mounts = (
            *self._fixed_mounts(),
            Mount(source=files, target=WHEELS),
            Mount(source=self._work / "site", target=SITE, writable=True),
        )
        ended = self._contained(wanted.argv, wanted, mounts, wanted.timeout)
        return ended if ended.status != 0 or ended.timed_out else None

    def _try(self, wanted: EmulatedRun) -> str:
        """The version of the target's Python, asked of itself: a target that does not run is no fault of the wheel."""
        command = (*wanted.argv[:4], "-B", "-s", "-c", _TRY)
        ended = self._contained(command, replace(wanted, cwd="/tmp"), self._fixed_mounts(), _TRY_SECONDS)
        for line in ended.lines:
            if line.startswith("python ") and ended.status == 0:
                return line.split()[1]
        raise StepError(
            f"The target's Python {self._policy.python} does not run under qemu-{self._policy.arch} "
            f"-cpu {self._policy.qemu}, so the wheel was not tried.",
            where=str(self._target.folder),
            why="\n".join(ended.lines[-10:]) or f"it ended with status {ended.status} and said nothing",
            hint="Is it in the root, and is the root for this architecture? `./x log` with the key of the root's step "
            "shows what was extracted.",
        )

    def _contained(
        self, argv: tuple[str, ...], wanted: EmulatedRun, mounts: tuple[Mount, ...], timeout: float, core: int = 0
    ) -> Ended:
        what = Process(argv=argv, env=wanted.env, cwd=wanted.cwd, timeout=timeout, core=core)
        return run_emulated(what, self._place(mounts), self._job, self._sandbox)

    def _place(self, mounts: tuple[Mount, ...]) -> Place:
        return Place(root=self._target.folder, root_key=self._target.key, mounts=mounts)

    def _fixed_mounts(self) -> tuple[Mount, ...]:
        return (emulator_mount(self._target.emulator, self._policy.arch),)

    def _lay_out(self, wanted: EmulatedRun, trial: Trial | None) -> tuple[Mount, ...]:
        """Writes the check, makes a folder for its result."""
        work = self._work
        (work / "check").mkdir()
        (work / "check" / "check.py").write_text(wanted.check, encoding="utf-8")
        (work / "out").mkdir()
        return (
            *self._fixed_mounts(),
            Mount(source=work / "site", target=SITE),
            Mount(source=work / "check", target=CHECK),
            Mount(source=work / "out", target=OUT, writable=True),
            *([Mount(source=trial.source, target=SOURCE)] if trial and trial.source else []),
            *(self._support(trial) if trial and not wanted.installed else ()),
        )

    def _support(self, trial: Trial) -> Iterator[Mount]:
        """The wheels of the check, unpacked."""
        for number, (name, path) in enumerate(sorted(trial.wheels.items())):
            place = path
            if trial.install:
                place = self._work / f"support-{number}"
                place.mkdir()
                for wheel in sorted(path.glob("*.whl"))[:1]:
                    unpack_site(wheel, place)
            yield Mount(source=place, target=f"{WHEELS}/{name}")


def _fresh(work: Path) -> Path:
    """A folder for one run: there may be two, where the recipe's check cannot be installed."""
    folder = work / f"run-{sum(1 for _ in work.iterdir())}"
    folder.mkdir()
    return folder


def unpack_site(wheel: Path, site: Path) -> None:
    """Unpacks a wheel as an installer would put it into site-packages: ``purelib`` and ``platlib`` of its ``.data``
    folder go to the top, its scripts, headers and data stay where they are. ``InputError`` for a hostile archive."""
    from crosswheel.building.sources.unpack import unpack

    unpack(wheel, site, strip=False)
    for data in sorted(site.glob("*.data")):
        for scheme in ("purelib", "platlib"):
            if (data / scheme).is_dir():
                _merge(data / scheme, site)


def _merge(source: Path, target: Path) -> None:
    """Moves what is in ``source`` to ``target``; folders that both have are joined."""
    for path in sorted(source.iterdir()):
        place = target / path.name
        if path.is_dir() and place.is_dir():
            _merge(path, place)
        else:
            path.rename(place)


def _members(wheel: Path, python: str) -> Callable[[str], str | None]:
    """Which path of the target is which file of the wheel; what pip installed besides is none of it."""
    with ZipFile(wheel) as archive:
        names = [_DATA.sub("", name) for name in archive.namelist()]
    return members_at(names, (SITE, *(f"{SITE}/{folder}" for folder in installed_folders(python))))


def packages_used(target: TargetRoot) -> dict[str, str]:
    """Which packages took part: those that were asked for and the C and C++ libraries of the target's root, and
    those of the emulator's; the sha256 of each lock. Empty for a root that no lock made."""
    from crosswheel.digest import sha256_file

    used: dict[str, str] = {}
    for role, folder in (("target", target.folder), ("emulator", target.emulator)):
        path = folder / ".crosswheel" / "lock.json"
        if path.is_file():
            used[f"{role} lock sha256"] = sha256_file(path)
            used.update(_versions(path))
    return used


def _versions(path: Path) -> dict[str, str]:
    from crosswheel.building.debian.lock import Lock

    lock = Lock.parse(path.read_text(), str(path))
    wanted = {*lock.requested, *_NAMED_PACKAGES}
    return {item.package: item.version for item in lock.packages if item.package in wanted}
