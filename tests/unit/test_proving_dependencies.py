"""What a wheel requires: the rule's words for everything that may be found, and the search that finds it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version
from wheel_writer import NAME, POLICY, SONAMES, good_files, metadata, write_wheel

from crosswheel.building.offered import MOST_PROJECTS, offered
from crosswheel.building.own_wheels import OwnWheels
from crosswheel.building.sources.package_index import Page
from crosswheel.building.store import Store
from crosswheel.errors import FetchError
from crosswheel.planning.wheelhouse import IndexFile, Offer
from crosswheel.proving.dependencies import MOST_REQUIREMENTS, findings_of
from crosswheel.proving.emulate import NAME as EMULATED
from crosswheel.proving.facts import read_metadata
from crosswheel.proving.findings import Finding, Severity
from crosswheel.proving.offered import Found, Offered
from crosswheel.proving.prove import Proof, prove
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.requirements import machine_of

pytestmark = pytest.mark.unit

WHEEL = "six-1.17.0-py2.py3-none-any.whl"


def proof_of(tmp_path: Path, *lines: str, offers: Offered | None = None) -> Proof:
    files = good_files()
    files["quick-1.0.dist-info/METADATA"] = metadata(more="".join(f"Requires-Dist: {line}\n" for line in lines))
    return prove(write_wheel(tmp_path, files), POLICY, sonames=SONAMES, check=None, run=None, offered=offers)


def said(proof: Proof) -> list[Finding]:
    return [item for item in proof.findings if item.rule == "dependencies"]


def only(*lines: str, **found: object) -> Finding:
    """What the rule says of a wheel that requires ``six`` (or ``lines``), of which this was found."""
    told = Found(**{"asked": ("six>=1",), **found})  # type: ignore[arg-type]
    (finding,) = findings_of(NAME, {"requires-dist": lines or ("six>=1",)}, POLICY, Offered(found={"six": told}))
    return finding


# --- the rule --------------------------------------------------------------------------------------------------------


def test_a_wheel_that_requires_nothing_passes_without_asking(tmp_path: Path) -> None:
    for lines in ((), ('pywin32; sys_platform == "win32"', 'fast; extra == "fast"', 'six; python_version < "3"')):
        (finding,) = said(proof_of(tmp_path, *lines))
        assert (finding.severity, finding.message) == (Severity.PASS, "requires nothing on rpi4")


def test_where_nobody_was_asked_it_says_who_asks(tmp_path: Path) -> None:
    (finding,) = said(proof_of(tmp_path, "six", "attrs>=1", 'pywin32; sys_platform == "win32"'))
    assert finding.severity is Severity.NOT_PROVEN
    assert finding.message == "requires attrs, six on rpi4; whether there are wheels of them was not asked"
    assert "./x verify" in finding.hint and "--offline" in finding.hint


def test_where_the_index_cannot_be_asked_it_says_why() -> None:
    (finding,) = findings_of(NAME, {"requires-dist": ("six",)}, POLICY, Offered(trouble="no route"))
    assert finding.severity is Severity.NOT_PROVEN
    assert finding.message.endswith("could not be asked: no route")


def test_what_is_there_is_counted_by_kind() -> None:
    found = {
        "six": Found(asked=("six",), kind="index", version="1", file=WHEEL),
        "wrapt": Found(asked=("wrapt",), kind="ours", file="wrapt-1.16.0-cp311.whl", folder="/dist/rpi4"),
        "numpy": Found(asked=("numpy (of wrapt)",), kind="package", direct=False, file="python3-numpy"),
    }
    (finding,) = findings_of(NAME, {"requires-dist": ("six", "wrapt")}, POLICY, Offered(found=found, unread=1))
    assert finding.severity is Severity.PASS
    assert finding.message == (
        "requires 2 projects and, by these, 1 more on rpi4; all are there: 1 wheel on the package index, 1 wheel of "
        "ours (wrapt-1.16.0-cp311.whl), 1 package of debian-12 (python3-numpy); the index does not tell what 1 of "
        "these require in turn"
    )
    assert finding.hint == "pip finds wheels of ours with --find-links /dist/rpi4"


def test_source_alone_would_be_built_on_the_board() -> None:
    finding = only(kind="source", file="six-1.tar.gz", build="./x build six --target rpi4")
    assert finding.severity is Severity.WARN
    assert "pip would build six-1.tar.gz there" in finding.message
    assert finding.hint == "`./x build six --target rpi4` makes a wheel of it."
    assert "add-a-package.md" in only(kind="source", file="six-1.tar.gz").hint
    assert "add-a-version.md" in only(kind="source", file="six-1.tar.gz", recipe="six").hint


def test_what_nothing_serves_fails_on_the_board_and_what_would_fit_is_named() -> None:
    finding = only(kind="nothing", why="no version of it is in the range; the newest is 1.17.0", fits="1.17.0")
    assert finding.severity is Severity.WARN
    assert finding.message.startswith("six>=1: `pip install` fails on rpi4: no version of it is in the range")
    assert finding.hint.startswith("1.17.0 has a wheel for rpi4")


def test_a_newer_source_archive_is_what_pip_takes() -> None:
    finding = only(kind="index", version="1.16", file=WHEEL, newer="six-1.17.tar.gz")
    assert finding.severity is Severity.WARN
    assert "pip would build six-1.17.tar.gz on rpi4" in finding.message
    assert "--prefer-binary" in finding.hint


@pytest.mark.parametrize("kind", ["address", "unasked"])
def test_what_was_not_looked_at_is_not_proven(kind: str) -> None:
    assert only(kind=kind, why="no route").severity is Severity.NOT_PROVEN


def test_a_requirement_of_which_the_answer_says_nothing_is_not_proven() -> None:
    found = Found(asked=("six",), kind="index")
    lines = ("six", "left-out")
    findings = findings_of(NAME, {"requires-dist": lines}, POLICY, Offered(found={"six": found}))
    assert [item.severity for item in findings] == [Severity.NOT_PROVEN]
    assert "left-out" in findings[0].message


def test_a_requirement_that_nobody_has_makes_this_rule_speak_and_no_other(tmp_path: Path) -> None:
    nothing = Found(asked=("nobody-has-this",), kind="nothing", why="no index that pip uses here lists it")
    good = Found(asked=("six",), kind="index", file=WHEEL)
    proof = proof_of(
        tmp_path, "nobody-has-this", "six", offers=Offered(found={"nobody-has-this": nothing, "six": good})
    )
    speaking = {item.rule for item in proof.findings if item.severity is not Severity.PASS}
    assert speaking == {"dependencies", EMULATED}
    assert proof.passed
    assert [item.severity for item in said(proof)] == [Severity.WARN, Severity.PASS]
    assert said(proof)[1].message.startswith("requires 2 projects on rpi4; 1 is there: 1 wheel on")


def test_the_answer_takes_the_place_of_what_the_proof_said_without_one(tmp_path: Path) -> None:
    proof = proof_of(tmp_path, "six")
    headers = read_metadata(tmp_path / NAME)
    answered = proof.asked(headers, Offered(found={"six": Found(asked=("six",), kind="index", file=WHEEL)}))
    assert [item.rule for item in answered.findings] == [item.rule for item in proof.findings]
    assert [item.severity for item in said(answered)] == [Severity.PASS]


BAD = [
    "=== what",
    "a; b == 'c'",
    "x" * 3000,
    "a; " + "(" * 900 + "os_name == 'posix'" + ")" * 900,
    "six (>dev)",
    "-x",
    "",
]


def test_lines_that_are_no_requirement_are_the_rule_metadatas(tmp_path: Path) -> None:
    for line in BAD[:-1]:
        proof = proof_of(tmp_path, line)
        speaking = {item.rule: item for item in proof.findings if item.severity is not Severity.PASS}
        assert set(speaking) == {"metadata", EMULATED}, line
        assert speaking["metadata"].severity is Severity.FAIL
        assert "no requirement" in speaking["metadata"].message
        assert len(speaking["metadata"].message) < 400


def test_an_older_python_has_a_pip_that_takes_them(tmp_path: Path) -> None:
    path = write_wheel(
        tmp_path, {**good_files(), "quick-1.0.dist-info/METADATA": metadata(more="Requires-Dist: six (>dev)\n")}
    )
    old = POLICY.model_copy(update={"python": "3.7"})
    proof = prove(path, old, sonames=SONAMES, check=None, run=None)
    assert [item.severity for item in proof.findings if "no requirement" in item.message] == [Severity.WARN]


def test_a_wheel_of_endless_requirements_is_not_read_to_its_end(tmp_path: Path) -> None:
    findings = said(proof_of(tmp_path, *(f"p{number}" for number in range(MOST_REQUIREMENTS + 5))))
    assert [item.severity for item in findings] == [Severity.NOT_PROVEN] * 2
    assert "of which 1,000 were looked at" in findings[0].message


@given(st.lists(st.text(max_size=60) | st.sampled_from(BAD), max_size=6))
@settings(max_examples=200, deadline=1000)
def test_no_line_makes_the_rule_fall(lines: list[str]) -> None:
    for offers in (None, Offered()):
        assert findings_of(NAME, {"requires-dist": tuple(lines)}, POLICY, offers)


# --- the search ------------------------------------------------------------------------------------------------------


@dataclass
class FakeIndex:
    """Files by project; METADATA that is served beside a wheel, as lines of Requires-Dist by file."""

    files: Mapping[str, Sequence[str | IndexFile]] = field(default_factory=dict)
    beside: Mapping[str, Sequence[str]] = field(default_factory=dict)
    trouble: str = ""
    asked: list[str] = field(default_factory=list)

    def pages(self, projects: Iterable[str]) -> Mapping[str, Page]:
        return {name: self._page(name) for name in projects}

    def _page(self, name: str) -> Page:
        self.asked.append(name)
        files = (
            item if isinstance(item, IndexFile) else IndexFile(file=item, sha256="0" * 64, metadata=item in self.beside)
            for item in self.files.get(name, ())
        )
        return Page(files=tuple(files), trouble=self.trouble)

    def papers(self, wheels: Iterable[tuple[str, str]]) -> Mapping[str, str | None]:
        return {
            file: "Metadata-Version: 2.1\n" + "".join(f"Requires-Dist: {line}\n" for line in self.beside[file])
            for _, file in wheels
        }


@dataclass
class FakeOwn:
    beside: Sequence[Path] = ()
    distribution: Mapping[str, str] = field(default_factory=dict)
    recipes: Mapping[str, str] = field(default_factory=dict)

    def wheels(self, name: NormalizedName) -> Iterable[Offer]:
        for path in self.beside:
            project, version = path.name.split("-")[:2]
            if canonicalize_name(project) == name:
                yield Offer(name=name, version=Version(version), origin="beside", file=path.name, place=str(path))

    def package(self, name: NormalizedName) -> Offer | None:
        version = self.distribution.get(name)
        return Offer(name=name, version=Version(version), origin="package", file=f"python3-{name}") if version else None

    def recipe(self, name: str, asked: Iterable[Requirement]) -> tuple[str, str]:
        return (name, self.recipes[name]) if name in self.recipes else ("", "")


def search(
    lines: Sequence[str], index: FakeIndex | None = None, own: FakeOwn | None = None, python: str | None = "3.11.2"
) -> Offered:
    return offered(
        NAME, {"requires-dist": tuple(lines)}, POLICY, python, index=index or FakeIndex(), own=own or FakeOwn()
    )


def kinds(found: Offered) -> dict[str, str]:
    return {name: item.kind for name, item in found.found.items()}


def test_a_wheel_that_the_target_takes_is_found_and_its_requirements_where_the_index_tells_them() -> None:
    quick = "wrapt-2.0-cp311-cp311-manylinux_2_17_aarch64.whl"
    index = FakeIndex(
        {
            "wrapt": [quick, "wrapt-2.1-cp311-cp311-manylinux_2_17_x86_64.whl", "wrapt-2.0.tar.gz"],
            "six": [WHEEL],
            "attrs": ["attrs-1-py3-none-any.whl"],
        },
        {quick: ["six>=1", "=== what", 'gone; python_version < "3"'], WHEEL: []},
    )
    found = search(["wrapt", "attrs"], index)
    assert kinds(found) == {"wrapt": "index", "six": "index", "attrs": "index"}
    assert found.found["wrapt"] == Found(asked=("wrapt",), kind="index", version="2.0", file=quick)
    assert found.found["six"].asked == ("six>=1 (of wrapt)",)
    assert not found.found["six"].direct
    assert found.unread == 1  # attrs, of which the index serves no METADATA


def test_what_lies_here_serves_what_the_index_has_not_and_the_distribution_after_it(tmp_path: Path) -> None:
    files = {**good_files(), "quick-1.0.dist-info/METADATA": metadata(more="Requires-Dist: deeper\n")}
    own = FakeOwn([write_wheel(tmp_path, files, name="needed-3.0-cp311-cp311-linux_aarch64.whl")], {"numpy": "1.24.2"})
    found = search(["needed>=2", "numpy<2"], FakeIndex({"needed": ["needed-3.0.tar.gz"], "numpy": []}), own)
    assert kinds(found) == {"needed": "ours", "numpy": "package", "deeper": "nothing"}
    assert found.found["numpy"].file == "python3-numpy"
    assert found.found["needed"].folder == str(tmp_path)
    assert found.unread == 0


def test_source_alone_is_told_with_what_builds_it() -> None:
    index = FakeIndex({"h5py": ["h5py-3.1.tar.gz", "h5py-3.2.tar.gz", "h5py-2.0-py3-none-any.whl"]})
    told = search(["h5py>=3"], index, FakeOwn(recipes={"h5py": "./x build h5py"})).found["h5py"]
    assert (told.kind, told.file, told.build, told.fits) == ("source", "h5py-3.2.tar.gz", "./x build h5py", "2.0")


def test_a_newer_source_archive_is_found_only_in_the_range() -> None:
    index = FakeIndex(
        {"grpcio": ["grpcio-1.0-py3-none-any.whl", "grpcio-1.5.tar.gz", "grpcio-2.0.tar.gz", "grpcio-1.7rc1.tar.gz"]}
    )
    assert search(["grpcio<2"], index).found["grpcio"].newer == "grpcio-1.5.tar.gz"
    assert search(["grpcio<=1"], index).found["grpcio"].newer == ""


def why(line: str, *files: str | IndexFile) -> Found:
    return search([line], FakeIndex({canonicalize_name(Requirement(line).name): files})).found["six"]


def test_why_there_is_nothing() -> None:
    assert why("six").why == "no index that pip uses here lists it"
    outside = why("six>=2", WHEEL, "six-1.18rc1-py3-none-any.whl")
    assert (outside.why, outside.fits) == ("no version of it is in the range; the newest is 1.17.0", "1.17.0")
    other = why("six>=2", "six-2.1-cp311-cp311-win_amd64.whl", WHEEL)
    assert other.why == "2.1, the newest in the range, has wheels for other machines or other Pythons alone"
    assert why("six", IndexFile(file=WHEEL, sha256="0" * 64, yanked=True)).why.endswith("withdrawn (yanked): 1.17.0")
    assert "no sha256" in why("six", IndexFile(file=WHEEL, sha256=None)).why
    late = IndexFile(file=WHEEL, sha256="0" * 64, requires_python=">=3.12")
    assert "other Pythons" in why("six", late).why


def test_pip_takes_what_was_withdrawn_where_just_that_is_wanted() -> None:
    assert why("six==1.17.0", IndexFile(file=WHEEL, sha256="0" * 64, yanked=True)).kind == "index"
    assert why("six==1.*", IndexFile(file=WHEEL, sha256="0" * 64, yanked=True)).kind == "nothing"


def test_requirements_that_exclude_each_other_are_told_with_who_has_them() -> None:
    index = FakeIndex({"a": ["a-1-py3-none-any.whl"], "six": [WHEEL]}, {"a-1-py3-none-any.whl": ["six<1"], WHEEL: []})
    told = search(["a", "six>=1"], index).found["six"]
    assert told.kind == "nothing"
    assert told.asked == ("six<1 (of a)", "six>=1")


def test_an_address_and_an_index_that_does_not_answer() -> None:
    assert kinds(search(["d @ https://example.org/d.whl"])) == {"d": "address"}
    assert kinds(search(["six"], FakeIndex(trouble="Could not fetch URL"))) == {"six": "unasked"}
    assert kinds(search(["six"], FakeIndex({"six": [WHEEL]}, trouble="a second index is down"))) == {"six": "index"}


def test_where_pip_does_not_run_nothing_is_known() -> None:
    class Broken(FakeIndex):
        def pages(self, projects: Iterable[str]) -> Mapping[str, Page]:
            raise FetchError("the package index could not be asked", why="no pip\nat all")

    assert search(["six"], Broken()) == Offered(trouble="no pip", python="3.11.2")


def test_no_more_projects_are_asked_for_than_a_wheel_may_require() -> None:
    index = FakeIndex()
    found = search([f"p{number}" for number in range(MOST_PROJECTS + 50)], index)
    assert len(set(index.asked)) == len(found.found) == MOST_PROJECTS
    # … and a wheel of the index that requires as many is not followed to its end.
    many = FakeIndex({"six": [WHEEL]}, {WHEEL: [f"p{number}" for number in range(MOST_PROJECTS + 50)]})
    found = search(["six"], many)
    assert len(set(many.asked)) == MOST_PROJECTS
    assert sum(item.kind == "unasked" for item in found.found.values()) == 51


def test_without_a_patch_version_the_python_is_a_late_one() -> None:
    late = IndexFile(file=WHEEL, sha256="0" * 64, requires_python=">=3.11.4")
    assert kinds(search(["six"], FakeIndex({"six": [late]}), python=None)) == {"six": "index"}
    assert kinds(search(["six"], FakeIndex({"six": [late]}), python="3.11.2")) == {"six": "nothing"}


# --- what this machine has -------------------------------------------------------------------------------------------


def own_wheels(catalog: Catalog, tmp_path: Path, *folders: Path, root: tuple[str, str] | None = None) -> OwnWheels:
    target = catalog.target("rpi4")
    return OwnWheels(
        catalog=catalog,
        store=Store(tmp_path / "store"),
        target=target,
        system=target.systems[0],
        cpu=catalog.cpu(target.cpu),
        machine=machine_of(POLICY, "3.11.2"),
        folders=folders,
        root=(canonicalize_name(root[0]), Version(root[1])) if root else None,
    )


def test_wheels_in_folders_count_where_the_target_takes_them(catalog: Catalog, tmp_path: Path) -> None:
    for name in ("a-1-py3-none-any.whl", "a-2-py3-none-any.whl", "a-3-cp311-cp311-linux_x86_64.whl", "no wheel.whl"):
        (tmp_path / name).write_bytes(b"")
    found = own_wheels(catalog, tmp_path, tmp_path).wheels(canonicalize_name("A"))
    assert [(str(offer.version), Path(offer.place).name) for offer in found] == [
        ("2", "a-2-py3-none-any.whl"),
        ("1", "a-1-py3-none-any.whl"),
    ]


def test_a_wheel_in_the_store_counts_and_is_found_by_its_plan(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wrapt-1.16.0-cp311-cp311-linux_aarch64.whl").write_bytes(b"")
    own = own_wheels(catalog, tmp_path)
    assert list(own.wheels(canonicalize_name("wrapt"))) == []
    monkeypatch.setattr(Store, "has", lambda *_: True)
    monkeypatch.setattr(Store, "lookup", lambda *_: type("Made", (), {"path": tmp_path}))
    offers = list(own.wheels(canonicalize_name("wrapt")))
    assert ("1.16.0", "wrapt-1.16.0-cp311-cp311-linux_aarch64.whl") in [(str(o.version), o.file) for o in offers]


def test_the_distributions_numpy_and_the_commands_of_recipes(catalog: Catalog, tmp_path: Path) -> None:
    own = own_wheels(catalog, tmp_path, root=("dm-tree", "0.1.9"))
    numpy = own.package(canonicalize_name("numpy"))
    assert numpy and (str(numpy.version), numpy.file) == ("1.24.2", "python3-numpy")
    assert own.package(canonicalize_name("scipy")) is None
    assert own.recipe("wrapt", [Requirement("wrapt<1.17")]) == (
        "wrapt",
        "./x build wrapt --version 1.16.0 --target rpi4",
    )
    assert own.recipe("wrapt", [Requirement("wrapt>900")]) == ("wrapt", "")
    # What the check of the wheel's own recipe was proved with is laid beside the wheel.
    assert own.recipe("absl-py", [Requirement("absl-py>=0.6.1")]) == (
        "",
        "./x build dm-tree --version 0.1.9 --target rpi4 --with-dependencies",
    )
    assert own.recipe("absl-py", [Requirement("absl-py>900")]) == ("", "")
    assert own_wheels(catalog, tmp_path).recipe("absl-py", []) == ("", "")
