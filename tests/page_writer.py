"""Writes what a page is made of, wheels with proofs and nights, and reads pages as a strict browser would."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

from crosswheel.digest import sha256_file
from crosswheel.proving.findings import Finding, Severity
from crosswheel.proving.prove import Proof
from crosswheel.publishing.history import CellLine, End, Ended, Fault, Start, Steps, Writer, file_name, night_of
from crosswheel.publishing.page.build import Done, build_page
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.policy import Policy
from crosswheel.spec.sysroots import Floors

CATALOG = Catalog(Path(__file__).resolve().parents[1])
POLICY = Policy(
    target="rpi4",
    arch="aarch64",
    python="3.11",
    cpu="cortex-a72",
    qemu="cortex-a72",
    avx=False,
    sysroot="debian-12",
    floors=Floors(GLIBC="2.36", GLIBCXX="3.4.30", CXXABI="1.3.13", GCC="11.0"),
)

AT = datetime(2026, 11, 19, 23, 0, tzinfo=UTC)
URL = "https://wheels.example.org/cw"
HOSTILE = "<img src=x onerror=alert(1)></script><script>alert('x')</script>\"'&\x1b[31mred\x1b[0m\x00\u202e\ud800"
"""What breaks out of elements, attributes, scripts and terminals, and is no text at its end."""


def wheel(
    dist: Path,
    name: str = "quick",
    version: str = "1.0",
    *,
    target: str = "rpi4",
    cpu: str = "",
    python: str = "3.11",
    requires: Iterable[str] = (),
    build: Mapping[str, object] | None = None,
    told: Mapping[str, object] | None = None,
    tag: str = "",
    tags: str = "",
) -> Path:
    """A released wheel of a recipe, with its proof; ``told`` and ``build`` are what the proof says otherwise, ``tag``
    is the build tag, ``tags`` are the others where they are not the target's."""
    known = CATALOG.target(target)
    digits = python.replace(".", "")
    stem = f"{name}-{version}"
    file_tag = tags or f"cp{digits}-cp{digits}-linux_{known.arch}"
    file = f"{stem}{f'-{tag}' if tag else ''}-{file_tag}.whl"
    folder = dist / target / cpu
    folder.mkdir(parents=True, exist_ok=True)
    _pack(folder / file, name, version, file_tag, requires)
    judged_for = {"target": target, "cpu": cpu or known.cpu, "python": python, "arch": known.arch}
    proof = Proof(
        file=file,
        sha256=sha256_file(folder / file),
        size=(folder / file).stat().st_size,
        policy=POLICY.model_copy(update=judged_for),
        policy_sha256="b" * 64,
        rules={"tag": 1},
        findings=(Finding(rule="tag", severity=Severity.PASS, subject=file, message="it was said"),),
        run=None,
    )
    record = {"recipe": name.replace("_", "-"), "version": version, **(build or {})}
    value = {**proof.as_json(), **(told or {}), "build": record}
    (folder / f"{file}.proof.json").write_text(json.dumps(value))
    return folder / file


def _pack(path: Path, name: str, version: str, tags: str, requires: Iterable[str]) -> None:
    """A wheel that pip installs: a module that says from where it is."""
    wanted = "".join(f"Requires-Dist: {each}\n" for each in requires)
    info = f"{name}-{version}.dist-info"
    members = {
        f"{name}.py": f"path = {str(path)!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{wanted}\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: false\nTag: {tags}\n",
    }
    members[f"{info}/RECORD"] = "".join(f"{member},,\n" for member in (*members, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in members.items():
            archive.writestr(zipfile.ZipInfo(member, (2020, 1, 1, 0, 0, 0)), text)


def line(cell: str, *, state: str = "planned", why: str = "", **more: object) -> CellLine:
    """A cell of the matrix from its id: ``quick-1.0@rpi4+cp311``."""
    name, _, place = cell.partition("@")
    recipe, _, version = name.rpartition("-")
    target, _, python = place.partition("+cp")
    digits = python.partition("+")[0]
    told = {
        "id": cell,
        "recipe": recipe,
        "version": version,
        "target": target,
        "cpu": None,
        "python": f"{digits[0]}.{digits[1:]}",
        "state": state,
        "why": why,
    }
    return CellLine.model_validate({**told, **more})


def ended(cell: str, outcome: str = "built", **more: object) -> Ended:
    """What became of a cell."""
    told = {"cell": cell, "outcome": outcome, "started": AT, "seconds": 61.0, "steps": Steps(total=9, cached=3, ran=6)}
    return Ended.model_validate({**told, **more})


def failed(cell: str, text: str = "no such header", log: Iterable[str] = ("line one", "line two")) -> Ended:
    """A cell that failed, with its error and log."""
    fault = Fault(where=f"at {text}", what=f"what {text}", why=f"why {text}", hint=f"do {text}")
    return ended(cell, "failed", step=f"compile {text}", error=fault, log=tuple(log))


def night(
    folder: Path,
    number: int,
    cells: Iterable[CellLine],
    *lines: Ended,
    whole: bool = True,
    matrix: str = "default",
    only: str | None = None,
) -> Path:
    """Writes the night of a day."""
    at = AT + timedelta(days=number)
    start = Start(
        night=night_of(at),
        matrix=matrix,
        matrix_sha256="0" * 64,
        crosswheel="1",
        only=only,
        started=at,
        cells=tuple(cells),
    )
    path = folder / file_name(start.night, None)
    with Writer(path) as writer:
        writer.append(start)
        for each in lines:
            writer.append(each)
        if whole:
            writer.append(End(ended=at + timedelta(hours=2)))
    return path


def of_wheel(made: Path, dist: Path) -> dict[str, object]:
    """What a night says of a wheel."""
    proof = json.loads(made.with_name(f"{made.name}.proof.json").read_bytes())
    path = made.relative_to(dist).as_posix()
    return {
        "wheel": path,
        "proof": f"{path}.proof.json",
        "sha256": proof["sha256"],
        "size": proof["size"],
        "passed": proof["passed"],
    }


def sample(folder: Path) -> tuple[Path, Path]:
    """Wheels and three nights with a cell of every kind; returns (dist, history)."""
    dist, history = folder / "dist", folder / "history"
    tree = wheel(dist, "dm_tree", "0.1.5", requires=["six"], build={"backend": "bazel", "bazel": "0.17.2"})
    numpy = wheel(dist, "numpy", "1.26.4")
    wheel(dist, "h5py", "3.11.0", requires=["numpy>=1.17"])
    wheel(dist, "wrapt", "1.16.0", target="nanopi-m4", python="3.9")
    cells = [
        line("dm-tree-0.1.5@rpi4+cp311"),
        line("numpy-1.26.4@rpi4+cp311"),
        line("wrapt-1.16.0@rpi4+cp311"),
        line("wrapt-1.16.0@rk3588+cp313"),
        line("grpcio-1.62.3@jetson-nano+cp36", state="refused", why="- 1.62.3 serves CPython >=3.7\n- nothing else"),
    ]
    for number in range(3):
        night(
            history,
            number,
            cells,
            ended("dm-tree-0.1.5@rpi4+cp311", **{**of_wheel(tree, dist), "seconds": 60.0 + number}),
            ended("numpy-1.26.4@rpi4+cp311", "cached" if number else "built", **of_wheel(numpy, dist)),
            failed("wrapt-1.16.0@rpi4+cp311"),
        )
    return dist, history


def page(folder: Path, dist: Path, history: Path, url: str = URL) -> Done:
    """Builds the page with the project's own data."""
    return build_page(folder, CATALOG, wheels=dist, history=history, index_url=url)


VOID = {"meta", "link", "br", "input", "img", "hr"}
LOADS = {"script": "src", "link": "href", "img": "src"}


class Page(HTMLParser):
    """A page, parsed. ``faults`` are what is wrong with its markup."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.path = path
        self.faults: list[str] = []
        self.ids: Counter[str] = Counter()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self._open: list[str] = []
        source = path.read_bytes().decode("utf-8")
        self.source = source
        if not source.startswith("<!doctype html>"):
            self.faults.append("no doctype")
        self.feed(source)
        self.close()
        if self._open:
            self.faults.append(f"never closed: {self._open}")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if len(found) != len(attrs):
            self.faults.append(f"<{tag}> has an attribute twice")
        self.tags.append((tag, found))
        if "id" in found:
            self.ids[found["id"]] += 1
        self.faults += [f"<{tag} {name}>" for name in found if name.startswith("on") or name == "style"]
        self.faults += [f"<{tag}> leads to {value}" for value in found.values() if "javascript:" in value.lower()]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        (self.scripts if self._open and self._open[-1] == "script" else self.text).append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())

    def check(self, root: Path) -> list[str]:
        """All that is wrong: ids, labels, tables, links and what is loaded."""
        faults = [*self.faults, *(f"id {name} is there {count} times" for name, count in self.ids.items() if count > 1)]
        labels = {attrs.get("for") for attrs in self.all("label")}
        for tag, attrs in self.tags:
            faults += self._references(tag, attrs)
            if tag in ("select", "input", "textarea") and attrs.get("id") not in labels and "aria-label" not in attrs:
                faults.append(f"<{tag} id={attrs.get('id')}> has no label")
            if tag == "th" and "scope" not in attrs:
                faults.append("a <th> has no scope")
            if tag in LOADS and (place := attrs.get(LOADS[tag])) and not place.startswith("data:"):
                faults += [] if self._local(place, root) else [f"<{tag}> loads {place}"]
            if tag == "a" and not attrs["href"].startswith(("https:", "http:")):
                faults += [] if self._local(attrs["href"], root) else [f"a link leads to {attrs['href']}"]
            if tag in ("iframe", "object", "embed", "base") or (tag == "form" and "action" in attrs):
                faults.append(f"<{tag}>")
        tables = len(self.all("table"))
        if len(self.all("caption")) != tables or len(self.all("h1")) != 1 or len(self.all("main")) != 1:
            faults.append("a table has no caption, or there is not one h1 and one main")
        return faults

    def _references(self, tag: str, attrs: Mapping[str, str]) -> list[str]:
        wanted = [*attrs.get("aria-labelledby", "").split(), *filter(None, (attrs.get("for"), attrs.get("data-copy")))]
        return [f"<{tag}> names #{each}, which is not there" for each in wanted if each not in self.ids]

    def _local(self, place: str, root: Path) -> bool:
        path, _, anchor = place.partition("#")
        if not path:
            return "=" in anchor or anchor in self.ids
        target = (self.path.parent / path).resolve()
        return target.is_relative_to(root.resolve()) and target.is_file()


def pages(folder: Path) -> dict[str, Page]:
    """All pages below a folder, by their paths."""
    return {path.relative_to(folder).as_posix(): Page(path) for path in sorted(folder.rglob("*.html"))}
