"""What the page of one cell tells: facts of its wheel, findings of its proof, the error and the log of its night."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

from crosswheel.proving.findings import Finding, Severity
from crosswheel.proving.prove import Proof
from crosswheel.publishing.page.cells import Cell
from crosswheel.publishing.page.text import block, counted, night_words, plain, shortened, size_words, time_words
from crosswheel.publishing.page.wheels import Proved
from crosswheel.publishing.sidecars import ENVELOPE, PROOF, SBOM, SIGSTORE, STATEMENT

MOST_FINDINGS = 300
MOST_LOG = 400
"""Lines of a log; the last ones."""

MOST_LINE = 2_000
"""Characters of a line of a log."""
MOST_TEXT = 20_000
"""Characters of an error's texts."""

_SEVERITIES = {
    Severity.FAIL: ("fail", "✗", "failed"),
    Severity.WARN: ("warning", "!", "refused"),
    Severity.NOT_PROVEN: ("not proven", "?", "never"),
    Severity.PASS: ("pass", "✓", "built"),
}
"""Word, symbol and colour, the worst first."""

_BESIDE = {
    PROOF: "the proof",
    SBOM: "what it is made of (CycloneDX)",
    STATEMENT: "how it was made (SLSA provenance, in-toto)",
    ENVELOPE: "the provenance, signed with a key",
    SIGSTORE: "the provenance, signed by sigstore",
}


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A finding as the table shows it. ``subject`` is empty where it is the wheel itself."""

    severity: str
    symbol: str
    css: str
    rule: str
    subject: str
    message: str
    hint: str


def findings_of(proof: Proof) -> tuple[Shown, ...]:
    """The findings, failures first; at most :data:`MOST_FINDINGS`."""
    order = list(_SEVERITIES)
    found = sorted(proof.findings, key=lambda finding: order.index(finding.severity))
    return tuple(_shown(finding, proof) for finding in found[:MOST_FINDINGS])


def over_most(proof: Proof) -> str:
    """What to say where there are more findings than are shown."""
    more = len(proof.findings) - MOST_FINDINGS
    return f"And {counted(more, 'more finding')}: the proof has them all." if more > 0 else ""


def _shown(finding: Finding, proof: Proof) -> Shown:
    word, symbol, css = _SEVERITIES[finding.severity]
    return Shown(
        severity=word,
        symbol=symbol,
        css=css,
        rule=plain(finding.rule),
        subject="" if finding.subject == proof.file else plain(finding.subject),
        message=plain(finding.message),
        hint=plain(finding.hint),
    )


def facts_of(cell: Cell) -> tuple[tuple[str, str], ...]:
    """What is known of a cell's wheel and of the night that made it, as pairs of words and values."""
    return (*_of_wheel(cell.proved), *_of_night(cell)) if cell.proved or cell.ended else ()


def _of_wheel(proved: Proved | None) -> Iterator[tuple[str, str]]:
    if proved is None:
        return
    proof, policy = proved.proof, proved.proof.policy
    yield "File", plain(proof.file)
    yield "Size", f"{size_words(proof.size)} ({proof.size:,} bytes)"
    yield "sha256", plain(proof.sha256)
    gpu = f", GPUs of capability {', '.join(policy.capabilities)}" if policy.capabilities else ""
    yield "Made for", plain(f"{policy.target}: {policy.sysroot}, {policy.arch}, {policy.cpu}{gpu}")
    if proof.kind == "wheel":
        yield "Python", f"CPython {policy.python}"
    yield "glibc", f"{plain(policy.floors.GLIBC)} or newer"
    if proved.requires is not None:
        yield "Requires", plain(", ".join(proved.requires)) or "nothing"
    run = proof.run
    if run is not None and run.tests is not None:
        passed = run.tests - (run.failures or 0) - (run.skipped or 0)
        yield "Tests", f"{passed:,} of {run.tests:,} passed on the emulated {plain(run.qemu)}"
    bazel = proved.told("bazel")
    built_by = f"Bazel {bazel}" if bazel else proved.told("backend")
    if built_by:
        yield "Built by", built_by


def _of_night(cell: Cell) -> Iterator[tuple[str, str]]:
    ended = cell.ended
    if ended is None:
        return
    yield "Night", night_words(cell.night or "")
    words = {"built": "built", "cached": "all was in the store: nothing had to run", "failed": "failed"}
    yield "Outcome", words[ended.outcome]
    yield "Time", time_words(ended.seconds)
    steps = ended.steps
    yield "Steps", f"{steps.cached:,} of {steps.total:,} were there already (cached), {steps.ran:,} ran"


def error_of(cell: Cell) -> tuple[tuple[str, str], ...]:
    """What went wrong in the night that tried it last, as pairs."""
    ended = cell.ended
    if ended is None or (ended.outcome != "failed" and ended.error is None):
        return ()
    fault = ended.error
    found = [("Step", ended.step or "")]
    if fault is not None:
        found += [("What", fault.what), ("Where", fault.where), ("Why", fault.why), ("What to do", fault.hint)]
    return tuple((word, block(shortened(text, MOST_TEXT))) for word, text in found if text)


def log_of(cell: Cell) -> str:
    """The lines of its log that matter, as plain text."""
    if cell.ended is None:
        return ""
    return "\n".join(block(shortened(line, MOST_LINE)) for line in cell.ended.log[-MOST_LOG:])


def beside_of(proved: Proved, base: str) -> tuple[tuple[str, str, str], ...]:
    """What lies beside a wheel: (what it is, file name, address or nothing)."""
    folder, _, name = proved.path.rpartition("/")
    place = f"{base}/wheels/{quote(folder)}" if base.startswith(("https://", "http://")) else ""
    files = [("the wheel", name)] if proved.there else []
    files += [(_BESIDE[suffix], name + suffix) for suffix in proved.beside if suffix in _BESIDE]
    return tuple((what, plain(file), f"{place}/{quote(file)}" if place else "") for what, file in files)
