"""The page of 2,000 cells over 30 nights: 1,000 of them built, with wheels and proofs, 250 failed, 250 refused, and 500
never tried.

The wheels are empty ones, so that writing the page is measured and not the reading of wheels. It is one process that
computes all the time, so that its processor's time is what counts, and others on the machine do not. What is written
again is written by the same process, for the same input. The browser, where there is one, loads the page from the disk;
what it took is its own word (Navigation Timing).
"""

from __future__ import annotations

import gzip
import json
import shutil
import tempfile
import time
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.rows import Row, below, unmeasured
from crosswheel.building.job import Settings
from crosswheel.cli.settings import DATA
from crosswheel.digest import sha256_file
from crosswheel.proving.findings import Finding, Severity
from crosswheel.proving.prove import STATIC_RULES, Proof
from crosswheel.publishing.history import CellLine, End, Ended, Fault, Start, Steps, file_name, night_of
from crosswheel.publishing.page.build import build_page
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.policy import Policy
from crosswheel.spec.sysroots import Floors

SECONDS = 10.0
"""The most that writing the page may take, the processor's time."""
AGAIN = 8.0
"""The most that it may take where nothing has changed."""
MEGABYTES = 0.3
"""The most that the first page may have, as servers send it (gzip)."""
LOADED = 2.0
"""The most that a browser may take until the table is there and can be filtered."""

NIGHTS = 30
_TARGETS = (("rpi4", "3.11"), ("rk3588", "3.11"), ("rk3588", "3.13"), ("nanopi-m4", "3.9"), ("sbsa-debian", "3.13"))
_FLOORS = Floors(GLIBC="2.36", GLIBCXX="3.4.30", CXXABI="1.3.13", GCC="11.0")
_PACKAGES, _VERSIONS = 20, 20
_START = datetime(2026, 1, 1, 23, 0, tzinfo=UTC)


def measure(_settings: Settings) -> list[Row]:
    """Writes the page twice, and loads it where Chromium is installed."""
    with tempfile.TemporaryDirectory(prefix="crosswheel-benchmark-") as name:
        folder = Path(name)
        _write_nights(folder / "history", _write_cells(folder / "dist"))
        first = _built(folder)
        again = _built(folder)
        index = (folder / "page" / "index.html").read_bytes()
        packed = len(gzip.compress(index, 6)) / 1e6
        return [
            below("page: 2,000 cells, 30 nights, 1,000 wheels: the processor's time", first, "s", SECONDS),
            below("page: the same again", again, "s", AGAIN),
            Row(name="page: its first page", value=len(index) / 1e6, unit="MB"),
            below("page: the same as servers send it", packed, "MB", MEGABYTES),
            _loaded(folder / "page" / "index.html"),
        ]


def _built(folder: Path) -> float:
    began = time.process_time()
    build_page(
        folder / "page",
        Catalog(DATA),
        wheels=folder / "dist",
        history=folder / "history",
        index_url="https://wheels.example.org/crosswheel",
    )
    return time.process_time() - began


def _loaded(index: Path) -> Row:
    name = "page: loaded and ready to be filtered, in Chromium"
    programs = shutil.which("chromium"), shutil.which("chromedriver")
    try:
        from selenium.webdriver import Chrome, ChromeOptions, ChromeService
    except ImportError:
        return unmeasured(name, "selenium is not installed")
    if not all(programs):
        return unmeasured(name, "chromium and chromium-driver are not installed")
    options = ChromeOptions()
    for option in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(option)
    options.binary_location = str(programs[0])
    driver = Chrome(options=options, service=ChromeService(programs[1]))
    try:
        driver.get(index.as_uri())
        timing = "performance.getEntriesByType('navigation')[0].loadEventEnd"
        script = f"return [{timing}, document.getElementById('count').textContent]"
        milliseconds, said = driver.execute_script(script)
        return below(name, milliseconds / 1000, "s", LOADED, note=str(said))
    finally:
        driver.quit()


def _write_cells(dist: Path) -> list[tuple[CellLine, Ended | None]]:
    """Every cell, and what becomes of it in each night; the wheels of those that are built."""
    cells: list[tuple[CellLine, Ended | None]] = []
    for number in range(_PACKAGES * _VERSIONS):
        recipe, version = f"package-{number % _PACKAGES}", f"{number // _PACKAGES}.0"
        for target, python in _TARGETS:
            kind = len(cells) % 8
            line = CellLine(
                id=f"{recipe}-{version}@{target}+cp{python.replace('.', '')}",
                recipe=recipe,
                version=version,
                target=target,
                cpu=None,
                python=python,
                state="refused" if kind == 5 else "planned",
                why=f"- {version} serves CPython >=3.14, and asked for is {python} on {target}" if kind == 5 else "",
            )
            ended = _built_cell(dist, line) if kind < 4 else _failed_cell(line) if kind == 4 else None
            cells.append((line, ended))
    return cells


def _built_cell(dist: Path, line: CellLine) -> Ended:
    digits, python = (line.python or "").replace(".", ""), line.python or ""
    stem = f"{line.recipe.replace('-', '_')}-{line.version}"
    file = f"{stem}-cp{digits}-cp{digits}-linux_aarch64.whl"
    wheel = dist / line.target / file
    wheel.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        text = f"Metadata-Version: 2.1\nName: {line.recipe}\nVersion: {line.version}\nRequires-Dist: numpy\n\n"
        archive.writestr(f"{stem}.dist-info/METADATA", text)
    policy = Policy(
        target=line.target,
        arch="aarch64",
        python=python,
        cpu="cortex-a72",
        qemu="cortex-a72",
        avx=False,
        sysroot="debian-12",
        floors=_FLOORS,
    )
    proof = Proof(
        file=file,
        sha256=sha256_file(wheel),
        size=wheel.stat().st_size,
        policy=policy,
        policy_sha256="0" * 64,
        rules={rule.name: rule.version for rule in STATIC_RULES},
        findings=tuple(
            Finding(rule=rule.name, severity=Severity.PASS, subject=file, message=rule.about) for rule in STATIC_RULES
        ),
        run=None,
    )
    told = {**proof.as_json(), "build": {"recipe": line.recipe, "version": line.version, "features": []}}
    wheel.with_name(f"{file}.proof.json").write_text(json.dumps(told))
    path = f"{line.target}/{file}"
    return Ended(
        cell=line.id,
        outcome="built",
        started=_START,
        seconds=60.0,
        steps=Steps(total=22, cached=16, ran=6),
        wheel=path,
        sha256=proof.sha256,
        size=proof.size,
        proof=f"{path}.proof.json",
        passed=True,
    )


def _failed_cell(line: CellLine) -> Ended:
    fault = Fault(
        where=line.id, what="The build ended with status 1.", why="fatal error: no such header", hint="./x log"
    )
    return Ended(
        cell=line.id,
        outcome="failed",
        started=_START,
        seconds=30.0,
        steps=Steps(total=22, cached=16, ran=3),
        step="compile",
        error=fault,
        log=tuple(f"a line of the log, number {number}" for number in range(20)),
    )


def _write_nights(history: Path, cells: list[tuple[CellLine, Ended | None]]) -> None:
    history.mkdir()
    for number in range(NIGHTS):
        at = _START + timedelta(days=number)
        start = Start(
            night=night_of(at),
            matrix="benchmark",
            matrix_sha256="0" * 64,
            crosswheel="0",
            started=at,
            cells=tuple(line for line, _ in cells),
        )
        lines = [start, *(ended for _, ended in cells if ended), End(ended=at + timedelta(hours=3))]
        text = "".join(json.dumps(line.model_dump(mode="json", by_alias=True)) + "\n" for line in lines)
        (history / file_name(start.night, None)).write_text(text)
