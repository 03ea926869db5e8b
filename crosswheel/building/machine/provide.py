"""Brings to this machine what a build needs and the machine lacks: installs packages, starts the Docker engine.

Only root on Debian, Ubuntu and what descends from them gets packages installed, and only with consent. Everybody else
is told the commands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from crosswheel.building.machine import Finding, Machine, Need, missing
from crosswheel.building.sandbox import engine
from crosswheel.errors import MachineError

Consent = Literal["yes", "ask", "no"]
Say = Callable[[str], None]

_APT = ("apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=120")
_APT_SIGNS = ("E:", "Err:", "W: Failed", "dpkg: error", "No space left")


def consent_for(machine: Machine, *, task: str, terminal: bool, fix: bool = False) -> Consent:
    """Whether packages may be installed and the engine started for the task ``task``.

    ``terminal``: a person can be asked. ``fix``: the person has asked for it (``doctor --fix``).
    """
    if not machine.may_install:
        return "no"
    ci = machine.environ.get("CI", "") not in ("", "0", "false")
    if fix or ci or task == "test" or machine.environ.get("CROSSWHEEL_YES") == "1":
        return "yes"
    return "ask" if terminal else "no"


def ensure(machine: Machine, needs: Iterable[Need], *, consent: Consent, ask: Callable[[str], bool], say: Say) -> None:
    """Sees to it that the machine meets the needs.

    Where something is missing and ``consent`` allows it (``ask`` puts a question and gives the answer), it is
    installed and started; ``say`` tells what happens. Raises MachineError that names all that is still missing, each
    with its command.
    """
    needs = tuple(needs)
    lacking = missing(machine, needs)
    if not lacking:
        return
    ours = all(finding.fix in ("install", "start") for finding in lacking)
    if ours and (consent == "yes" or (consent == "ask" and ask(question(lacking)))):
        provide(machine, lacking, say=say)
        lacking = missing(machine, needs)
    if lacking:
        raise lack_error(machine, lacking)


def question(lacking: Sequence[Finding]) -> str:
    """What a person is asked before anything is installed or started."""
    packages = sorted({package for finding in lacking for package in finding.packages})
    names = ", ".join(f"{finding.need.name} ({finding.detail})" for finding in lacking)
    starts = any(finding.need.name == "Docker engine" for finding in lacking)
    deeds = [f"install {' '.join(packages)}"] if packages else []
    deeds += ["start Docker"] if starts else []
    deed = " and ".join(deeds)
    return f"This machine lacks: {names}. {deed[:1].upper()}{deed[1:]} now?"


def lack_error(machine: Machine, lacking: Sequence[Finding]) -> MachineError:
    """Names each missing thing with its command."""
    lines = []
    for finding in lacking:
        lines.append(f"{finding.need.name} ({finding.need.why}): {finding.detail}")
        if finding.command:
            lines.append(f"    {finding.command}")
    names = ", ".join(finding.need.name for finding in lacking)
    ours = machine.may_install and all(finding.fix in ("install", "start") for finding in lacking)
    hint = "./x doctor --fix installs and starts it" if ours else "run what stands above, then ./x doctor"
    return MachineError(f"this machine lacks: {names}", why="\n".join(lines), hint=hint)


def provide(machine: Machine, lacking: Sequence[Finding], *, say: Say) -> None:
    """Installs and starts what of ``lacking`` crosswheel can. Raises MachineError where that fails."""
    packages = sorted({package for finding in lacking for package in finding.packages})
    if packages:
        if not machine.may_install:
            raise lack_error(machine, lacking)
        install(machine, packages, say=say)
    if any(finding.need.name == "Docker engine" and finding.fix in ("install", "start") for finding in lacking):
        start_docker(machine, say=say)


def start_docker(machine: Machine, *, say: Say) -> None:
    """Starts the engine unless one answers or is coming up. Its log: ``<store>/machine/dockerd.log``."""
    log = machine.store / "machine" / "dockerd.log"
    engine.start(log, say=say, host=machine.docker_host, environ=machine.environ, root=machine.root)


def install(machine: Machine, packages: Sequence[str], *, say: Say) -> None:
    """Installs Debian packages. apt's lists are renewed first where there are none, and again where it fails.

    Raises MachineError with the lines of apt's output that matter; all of it is in ``<store>/machine/apt-get.log``.
    """
    log = machine.store / "machine" / "apt-get.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    command = (*_APT, "install", "--no-install-recommends", *packages)
    environ = {**machine.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    say(f"installing {' '.join(packages)}")
    have_lists = any((machine.root / "var/lib/apt/lists").glob("*_Packages*"))
    if have_lists and _run(command, environ, log) == 0:
        return
    begin = log.stat().st_size
    say("renewing apt's lists")
    status = _run((*_APT, "update"), environ, log) or _run(command, environ, log)
    if status:
        text = log.read_bytes()[begin:].decode(errors="replace")
        raise MachineError(
            f"apt-get could not install {' '.join(packages)} (exit status {status})",
            where=str(log),
            why="\n".join(relevant_lines(text)),
            hint=f"{machine.as_root('apt-get update')} && {machine.install_command(packages)}",
        )


def _run(argv: tuple[str, ...], environ: Mapping[str, str], log: Path) -> int:
    """Exit status. The output goes to a file, not to a pipe: a daemon that a package starts would keep a pipe open."""
    import subprocess

    with log.open("ab") as output:
        output.write(f"$ {' '.join(argv)}\n".encode())
        output.flush()
        return subprocess.run(
            argv, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False
        ).returncode


def relevant_lines(text: str, limit: int = 8) -> list[str]:
    """The lines of apt's output that tell of an error, each once; else the last ones."""
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(_APT_SIGNS) or "No space left" in line]
    return list(dict.fromkeys(errors or lines))[-limit:]
