"""Installing packages of another architecture with a builder's own apt and dpkg: what the step ``install`` does.

The builder was assembled without running any script, so it has no dpkg database. One is written that names what is in
it, and the packages lie in a folder as a flat archive whose index is made of their own control files. Each has the
sha256 of its lock, which came from a signed archive; that is why the folder itself is trusted.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from crosswheel.building.debian.aptrun import AptRunner, apt_runner
from crosswheel.building.debian.deb import control
from crosswheel.building.debian.debs import Search
from crosswheel.building.debian.given import package_in
from crosswheel.building.debian.lock import Lock, LockedPackage
from crosswheel.building.debian.roots import FOLDER
from crosswheel.building.job import Job
from crosswheel.building.sandbox.installer import Installer
from crosswheel.errors import MachineError, StepError
from crosswheel.planning.installing import InstallStep
from crosswheel.planning.steps import LockStep
from crosswheel.spec.sysroots import Archive

PACKAGES = "/var/cache/crosswheel"
"""Where the container sees the packages."""

OPTIONS = ("-o", "APT::Sandbox::User=root", "-o", "APT::Install-Recommends=false", "-o", "Dpkg::Use-Pty=false")
"""apt works as root (it has no other user there), and takes nothing that is only recommended."""

FORCE = ("-o", "Dpkg::Options::=--force-architecture")
"""What NVIDIA's packages for another architecture want: it reaches dpkg, and not apt's own resolution."""

_EMPTY = ("info", "updates", "triggers", "alternatives")


def run_install(step: InstallStep, inputs: Mapping[str, Path], job: Job, *, archives: Mapping[str, Archive]) -> None:
    """Makes ``out/`` the builder with the packages in it.

    ``StepError`` where apt or dpkg refuses, with their words; ``MachineError`` for a sandbox that is no container.
    """
    if job.settings.sandbox != "docker":
        raise MachineError(
            "Packages are installed by force in a container alone.",
            where="--apt-force",
            hint="leave out --sandbox host, or --apt-force: by default the packages are extracted",
        )
    folder = job.work / "packages"
    folder.mkdir()
    locks = {role: _lock(path) for role, path in inputs.items() if role.startswith("lock-")}
    forced: dict[str, LockedPackage] = {}
    for role, lock in locks.items():
        origin = step.inputs[role]
        files = {name: package_in(inputs[name]) for name in origin.inputs if name in inputs}
        for name, deb in _gather(lock, origin, job, archives, files).items():
            shutil.copyfile(deb, folder / name)  # a link would lead out of what the container sees
        forced |= {package.sha256: package for package in lock.packages}
    _write_index(folder, forced.values())
    own = Lock.parse((inputs["builder"] / FOLDER / "lock.json").read_text(), step.name)
    database = job.work / "database"
    _write_database(database, own, _gather(own, step.inputs["builder"].inputs["lock"], job, archives, {}))
    names = [_of(step.architecture, name) for name in step.packages]
    _install(step, inputs["builder"], names, folder, database, job)
    kept = job.out / FOLDER
    # The lock of the builder does not tell this root from another: its own name is made of what is installed.
    (kept / "lock.json").rename(kept / "builder-lock.json")
    for role, lock in locks.items():
        (kept / f"{role}.json").write_text(lock.text())


def _of(architecture: str, package: str) -> str:
    """A package's name with the architecture, which apt wants where dpkg does not know it."""
    name, equals, version = package.partition("=")
    return f"{name}:{architecture}{equals}{version}"


def sources(architectures: Iterable[str]) -> str:
    """The line of sources.list for the folder: a flat archive that serves both architectures."""
    return f"deb [arch={','.join(architectures)} trusted=yes] file:{PACKAGES}/ /\n"


def _lock(path: Path) -> Lock:
    return Lock.parse((path / "lock.json").read_text(), str(path))


def _gather(
    lock: Lock, origin: object, job: Job, archives: Mapping[str, Archive], files: Mapping[str, Path]
) -> dict[str, Path]:
    """The packages of a lock by their files' names, from the store or from where they can be had."""
    resolved_by = origin if isinstance(origin, LockStep) else None
    found: dict[str, Path] = {}

    @cache
    def runner() -> AptRunner:
        return apt_runner([archives[suite.archive] for suite in lock.suites if suite.archive in archives], job)

    Search(
        lock=lock,
        job=job,
        archives=archives,
        runner=runner,
        ready=lambda package, deb: found.update({file_name(package): deb}),
        where="--apt-force",
        lock_name=resolved_by.lock if resolved_by else "NAME",
        snapshot=resolved_by.snapshot if resolved_by else None,
        files=files,
    ).run()
    return found


def file_name(package: LockedPackage) -> str:
    """A package's name as a file; without what a URL would quote."""
    return f"{package.package}_{package.version.replace(':', '%3a')}_{package.architecture}.deb"


def _write_index(folder: Path, packages: Iterable[LockedPackage]) -> None:
    """``Packages`` of the folder, with the hashes of the locks."""
    paragraphs = []
    for package in sorted(packages, key=lambda package: package.package):
        name = file_name(package)
        more = f"Filename: ./{name}\nSize: {package.size}\nSHA256: {package.sha256}\n"
        paragraphs.append(control(folder / name) + more)
    (folder / "Packages").write_text("\n".join(paragraphs))


def _write_database(place: Path, lock: Lock, debs: Mapping[str, Path]) -> None:
    """dpkg's database of a root that was extracted: every package of its lock is installed. What files it has is left
    out: nothing is removed or replaced in a builder."""
    for name in _EMPTY:
        (place / name).mkdir(parents=True)
    paragraphs = []
    for package in lock.packages:
        text = control(debs[file_name(package)])
        head, _, rest = text.partition("\n")
        paragraphs.append(f"{head}\nStatus: install ok installed\n{rest}")
        same = "\nMulti-Arch: same\n" in text
        (place / "info" / f"{package.package}{f':{package.architecture}' if same else ''}.list").write_text("/.\n")
    (place / "info" / "format").write_text("1\n")
    (place / "status").write_text("\n".join(paragraphs))
    (place / "available").touch()


def _install(step: InstallStep, builder: Path, names: list[str], folder: Path, database: Path, job: Job) -> None:
    said: list[str] = []

    def log(line: str) -> None:
        said.append(line)
        job.log(line)

    with Installer(builder, step.inputs["builder"].key, folder, PACKAGES, job) as installer:
        installer.put(database, "/var/lib/dpkg")
        installer.write("/etc/apt/sources.list", sources(("amd64", step.architecture)))
        for argv in (
            ("apt-get", *OPTIONS, "update"),
            ("apt-get", *OPTIONS, *FORCE, "--yes", "install", *names),
        ):
            log("$ " + " ".join(argv))
            status = installer.run(argv, log)
            if status:
                raise _refused(argv, status, said)
        installer.take(job.out)


def _refused(argv: tuple[str, ...], status: int, said: list[str]) -> StepError:
    hint = "Leave out --apt-force: the packages are then extracted, and nothing is asked of dpkg."
    words = "\n".join(line for line in said if line.strip())
    if "unmet dependencies" in words or "held broken packages" in words:
        hint = (
            "--force-architecture reaches dpkg alone: what a package depends on must be of its own architecture, `all`,"
            " or Multi-Arch: foreign. " + hint
        )
    what = f"The builder's apt-get {argv[-1] if argv[-1] == 'update' else 'install'} ended with status {status}."
    return StepError(what, where="--apt-force", why="\n".join(words.splitlines()[-12:]), hint=hint)
