"""The recipe's check on the emulated target: what is to be run, and what its outcome means.

How it is run is the caller's affair (:data:`Runner`); the values here say what the run sees and what it may do.
The target's own root is the root of the run, so every path in it is the target's, and qemu-user, which is static, is
seen in it at :data:`EMULATOR`. With qemu's ``-L`` instead, paths that the target lacks fall through to the builder's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from crosswheel.proving.faults import Fault, escaped
from crosswheel.proving.findings import Finding, Severity
from crosswheel.spec.policy import Policy

NAME = "emulated"
VERSION = 4
ABOUT = "the recipe's check passes on the emulated processor, with as many tests as the release promises"

EMULATOR = "/emulator"
SITE = "/site"
CHECK = "/check"
OUT = "/out"
SOURCE = "/source"
WHEELS = "/wheels"
RESULT = "result.json"
MOST_RESULT = 65536
"""The result file is read up to this size (bytes): the wheel's own code writes it."""

_SIGNALS: Mapping[int, str] = {
    4: "SIGILL",
    5: "SIGTRAP",
    6: "SIGABRT",
    7: "SIGBUS",
    8: "SIGFPE",
    9: "SIGKILL",
    11: "SIGSEGV",
}
_FATAL = "Fatal Python error: "
_SAID: Mapping[str, int] = {
    "Illegal instruction": 4,
    "Aborted": 6,
    "Bus error": 7,
    "Floating point exception": 8,
    "Segmentation fault": 11,
}
"""Signals as Python's faulthandler calls them."""

TRACED = frozenset({4, 5, 6, 7, 8, 11})
"""The signals of which qemu-user leaves a core file."""

_PLACE = re.compile(rf'^  File "{CHECK}/check\.py", line (\d{{1,6}}) in ')
_UNCAUGHT = "qemu: uncaught target signal "
_TAIL = 8


@dataclass(frozen=True, kw_only=True)
class CheckSpec:
    """A recipe's check: the text of its script, how many tests must pass, how long it may take (seconds).

    ``wheels`` are the names of the folders below :data:`WHEELS` with unpacked wheels that it needs; with ``install``
    they are files there, and the target's pip, one of them, installs from them what the wheel requires. ``source`` says
    that the release's source is there.
    """

    script: str
    tests: int
    timeout: int
    wheels: tuple[str, ...] = ()
    install: bool = False
    source: bool = True


@dataclass(frozen=True, kw_only=True)
class EmulatedRun:
    """One process on the emulated target.

    The root is the target's, read-only. :data:`EMULATOR` is the folder with qemu-user, :data:`SITE` the contents of
    the wheel (writable where ``installs``), :data:`CHECK` a folder with ``check`` as ``check.py``, :data:`SOURCE` the
    release's source, with its tests, :data:`WHEELS` a folder for each of ``wheels``, :data:`OUT` a writable folder. No
    network. ``timeout`` is in seconds. ``installed`` says that pip installs the wheel, which is unpacked otherwise.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    check: str
    wheels: tuple[str, ...]
    timeout: int
    installs: bool = False
    installed: bool = False


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """How it ended. ``status`` is the exit status, ``lines`` the output, ``result`` the content of the result file.

    ``used`` names what took part, such as ``{"qemu": "7.2.9"}``. ``what`` is what ran. Where a signal ended it,
    ``fault`` is what was found out of it, or ``untraced`` says why nothing was.
    """

    status: int
    timed_out: bool
    seconds: float
    lines: tuple[str, ...]
    result: bytes | None
    used: Mapping[str, str] = field(default_factory=dict)
    what: str = "the check"
    fault: Fault | None = None
    untraced: str = ""

    @property
    def began(self) -> int:
        """The signal with which it began: the one that ended it, unless the handler that told of another crashed in
        turn (Python 3.6's does under qemu, on a stack that is not aligned)."""
        told = next((line.removeprefix(_FATAL) for line in self.lines if line.startswith(_FATAL)), "")
        return _SAID.get(told, self.signal) if self.signal else 0

    @property
    def signal(self) -> int:
        """The signal that ended it, 0 for none. qemu says it; the status says it unless qemu was process number 1."""
        for line in reversed(self.lines):
            if line.startswith(_UNCAUGHT):
                number = line.removeprefix(_UNCAUGHT).partition(" ")[0]
                return int(number) if number.isdigit() else 0
        return self.status - 128 if 128 < self.status < 160 else 0


Runner = Callable[[EmulatedRun], RunOutcome]


def dies(line: str) -> bool:
    """Whether ``line`` is qemu's last word. Where qemu is process number 1 of its container, the signal that it sends
    itself then does nothing, and it hangs (seen with qemu 7.2): who runs it had better end it."""
    return line.startswith(_UNCAUGHT)


def emulated_run(policy: Policy, check: CheckSpec) -> EmulatedRun:
    """The run of ``check`` for a target: one process of the target's Python on the target's processor model.

    ``-s`` keeps a user's packages out, ``-B`` writes no bytecode. A process that the check starts would not be
    emulated where the machine has no binfmt for the architecture: the check stays in one process.
    """
    folders = [SITE, *(f"{WHEELS}/{name}" for name in check.wheels)]
    return EmulatedRun(
        argv=(
            *_python(policy),
            *(("-c", _with_site(policy.python)) if check.install else ()),
            f"{CHECK}/check.py",
            f"{OUT}/{RESULT}",
            *((SOURCE,) if check.source else ()),
        ),
        env={**ENVIRONMENT, **({} if check.install else {"PYTHONPATH": ":".join(folders)})},
        cwd=OUT,  # where qemu leaves its core file
        check=check.script,
        wheels=check.wheels,
        timeout=check.timeout,
        installed=check.install,
    )


ENVIRONMENT: Mapping[str, str] = {
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "PATH": "/usr/bin:/bin",
    "PYTHONFAULTHANDLER": "1",  # a fault shows the line of Python that led to it
    "PYTHONHASHSEED": "0",
    "TMPDIR": "/tmp",
    "TZ": "UTC",
}
"""What every process on the emulated target finds in its environment."""


def _python(policy: Policy) -> tuple[str, ...]:
    emulator = f"{EMULATOR}/qemu-{policy.arch}-static"
    return (emulator, "-cpu", policy.qemu, f"/usr/bin/python{policy.python}", "-B", "-s")


def installed_folders(python: str) -> tuple[str, ...]:
    """Where pip with ``--prefix`` puts packages below it: by its own scheme, and by Debian's (3.10 and later)."""
    return (f"lib/python{python}/site-packages", f"local/lib/python{python}/dist-packages")


def _with_site(python: str) -> str:
    """A program that runs its first argument as a script with what pip installed: as site-packages are, with their
    .pth files, by which Python 2 knows namespace packages (``google`` of protobuf)."""
    folders = [f"{SITE}/{folder}" for folder in installed_folders(python)]
    return (
        "import runpy, site, sys\n"
        f"for folder in {folders!r}: site.addsitedir(folder)\n"
        "del sys.argv[0]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )


def installing_run(policy: Policy, check: CheckSpec, wheel: str) -> EmulatedRun | None:
    """The run in which the target's Python installs the file ``wheel`` and what it requires with pip, from the files
    in :data:`WHEELS` and the packages of the target's root alone. So the wheel's tag and its requirements are judged
    by those who will judge them on the target. None where no wheel of pip is among them."""
    pip = next((name for name in check.wheels if name.startswith("pip-")), None)
    if pip is None:
        return None
    return EmulatedRun(
        argv=(
            *_python(policy),
            f"{WHEELS}/{pip}/pip",
            "install",
            "--no-index",
            f"--find-links={WHEELS}",
            f"--prefix={SITE}",
            "--no-compile",
            "--no-cache-dir",
            "--no-warn-script-location",
            "--disable-pip-version-check",
            f"{WHEELS}/{wheel}",
        ),
        env=ENVIRONMENT,
        cwd="/tmp",
        check="",
        wheels=check.wheels,
        timeout=check.timeout,
        installs=True,
    )


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What a check says of itself."""

    tests: int
    failures: int
    skipped: int


def read_counts(result: bytes | None) -> Counts | str:
    """The counts in a result file, or what is wrong with it."""
    if result is None:
        return "it left no result"
    if len(result) > MOST_RESULT:
        return f"its result has {len(result):,} bytes"
    try:
        value = json.loads(result)
    except (ValueError, RecursionError):
        return "its result is no JSON"
    if not isinstance(value, dict):
        return "its result is no JSON object"
    numbers = [value.get(key) for key in ("tests", "failures", "skipped")]
    if not all(isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in numbers):
        return 'its result does not say {"tests": N, "failures": N, "skipped": N}'
    return Counts(tests=value["tests"], failures=value["failures"], skipped=value["skipped"])


def judge_run(wheel: str, policy: Policy, check: CheckSpec, outcome: RunOutcome) -> Iterator[Finding]:
    """The findings on a run; one of them at least."""
    counts = read_counts(outcome.result)
    where = under(policy)
    bad = ended_badly(wheel, policy, outcome, check.timeout, said=_said(counts), script=check.script)
    if bad:
        yield bad
    elif isinstance(counts, str):
        yield _fail(wheel, f"the check ended well {where}, and {counts}", "A check that says nothing proves nothing.")
    elif counts.failures:
        yield _fail(wheel, f"{counts.failures} of {counts.tests} tests failed {where}", _last(outcome))
    elif counts.tests - counts.skipped < check.tests:
        yield _fail(
            wheel,
            f"{counts.tests} tests, {counts.skipped} of them skipped, ran {where}; the release promises {check.tests}",
            "A check that ran nothing proves nothing: look why tests are skipped or not found.",
        )
    else:
        skipped = f", {counts.skipped} skipped" if counts.skipped else ""
        yield Finding(
            rule=NAME,
            severity=Severity.PASS,
            subject=wheel,
            message=f"{counts.tests - counts.skipped} tests passed{skipped} in {outcome.seconds:.1f} s {where}, in the "
            f"root of {policy.sysroot} with its Python {policy.python}",
        )


def under(policy: Policy) -> str:
    """The emulator and the processor's model, in words."""
    return f"under qemu-{policy.arch} -cpu {policy.qemu}"


def ended_badly(
    file: str,
    policy: Policy,
    outcome: RunOutcome,
    timeout: int,
    *,
    status: int = 0,
    said: str = "",
    script: str = "",
) -> Finding | None:
    """The finding on a run of ``file`` that took longer than ``timeout`` (seconds), died, or ended with another
    ``status``; ``said`` is what is known of it besides, ``script`` the check's. None where it ended well."""
    where = under(policy)
    if outcome.timed_out:
        return _fail(
            file,
            f"{outcome.what} did not end within {timeout} s {where}",
            "It hangs, or emulation is slower than the recipe allows for: give the check a longer timeout, or fewer "
            "tests." + _last(outcome),
        )
    if outcome.signal:
        return _signalled(file, policy, outcome, where, _statement(outcome.lines, script))
    if outcome.status != status:
        return _fail(file, f"{outcome.what} ended with status {outcome.status} {where}{said}", _last(outcome))
    return None


def _signalled(wheel: str, policy: Policy, outcome: RunOutcome, where: str, statement: str) -> Finding:
    signal, fault = outcome.began, _lacked(policy, outcome.fault)
    told = f": {fault.told(statement, raised=signal == 6)}" if fault else ""
    hint = _illegal(policy, fault) if signal == 4 else _crashed(signal)
    if outcome.signal != signal:
        hint += f"\nThe handler that told of it died of {_name(outcome.signal)} in turn."
    if fault and fault.stack():
        hint += "\nThe stack, from the fault on:\n" + "\n".join(f"  {line}" for line in fault.stack())
    if outcome.untraced:
        hint += f"\nIt could not be traced to a function: {outcome.untraced}."
    return _fail(wheel, f"{outcome.what} died of {_name(signal)} {where}{told}", hint + _last(outcome))


def _name(signal: int) -> str:
    return _SIGNALS.get(signal, f"signal {signal}")


def _lacked(policy: Policy, fault: Fault | None) -> Fault | None:
    """The fault with those features alone that the processor lacks; with all where the policy says that it has them,
    because then it is qemu's model that is without."""
    if fault is None or policy.instructions is None:
        return fault
    return replace(fault, features=policy.instructions.lacks(fault.features) or fault.features)


def _illegal(policy: Policy, fault: Fault | None) -> str:
    lacks = f"instructions that {policy.cpu} (qemu's {policy.qemu}) lacks"
    if fault is None or not fault.instruction:
        return (
            f"The wheel has {lacks}: something in it was compiled for a newer processor. Look for -march, -mcpu and -m "
            "flags in the log of the build."
        )
    if fault.trap:
        return (
            f"The program stopped itself: {fault.instruction} stands where it must not come to (an assertion, or a "
            "function that does not return)."
        )
    features = " and ".join(fault.features) or fault.instruction
    other = f"or judge it for a processor that has {features}, with `--cpu`."
    if not fault.file:
        return f"The program wrote {lacks} into memory: a just-in-time compiler must ask the processor first; {other}"
    whose = "" if fault.frames[0].own else ", which another package brought,"
    avx = any(feature.startswith("AVX") for feature in fault.features) and not policy.avx
    how = "with `--no-avx`" if avx else f"for {policy.cpu}"
    return f"{fault.file}{whose} was compiled with {features}: it has {lacks}. Build it {how}; {other}"


def _crashed(signal: int) -> str:
    if signal == 9:
        return "It was killed: most likely it wanted more memory than a container has (--memory)."
    return "It crashed; the lines above the fault say in which call."


def _statement(lines: Sequence[str], script: str) -> str:
    """The line of the check that led to a fault, by what Python's faulthandler said; empty where it said nothing."""
    begin = next((number for number, line in enumerate(lines) if line.startswith("Current thread ")), len(lines))
    for line in lines[begin + 1 :]:
        found = _PLACE.match(line)
        if found:
            number, text = int(found[1]), script.splitlines()
            said = escaped(text[number - 1].strip()) if 0 < number <= len(text) else ""
            return f"`{said}` (line {number} of the check)" if said else f"line {number} of the check"
        if not line.startswith("  File "):
            return ""
    return ""


def _said(counts: Counts | str) -> str:
    if isinstance(counts, str):
        return ""
    return f" ({counts.failures} of {counts.tests} tests failed)"


def _last(outcome: RunOutcome) -> str:
    lines = [line for line in outcome.lines if line.strip()][-_TAIL:]
    return "\nIts last lines:\n" + "\n".join(f"  {line[:300]}" for line in lines) if lines else ""


def _fail(wheel: str, message: str, hint: str) -> Finding:
    return Finding(rule=NAME, severity=Severity.FAIL, subject=wheel, message=message, hint=hint.strip())


def not_run(wheel: str, why: str, hint: str = "") -> Finding:
    """The finding that nothing was run."""
    return Finding(rule=NAME, severity=Severity.NOT_PROVEN, subject=wheel, message=why, hint=hint)
