"""What a wheel requires on its target, which wheels serve it, and the folder in which they lie."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version
from wheel_writer import POLICY

from crosswheel.building.artefacts import Artefact
from crosswheel.building.dependencies import Refused, Served, serve
from crosswheel.building.shelf import Brought, TargetShelf, requires_dist
from crosswheel.building.wheelhouse import Wheelhouse, lay_out
from crosswheel.errors import InputError
from crosswheel.planning.plan import Plan, plan
from crosswheel.planning.resolve import Request, resolve
from crosswheel.planning.steps import FetchStep, ProofStep, Step
from crosswheel.planning.wheelhouse import IndexFile, Offer, index_offers
from crosswheel.proving.findings import Finding, Severity
from crosswheel.proving.prove import Proof
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.requirements import Machine, machine_of, wanted

pytestmark = pytest.mark.unit

PI = Machine(python="3.11.2", arch="aarch64", glibc="2.36")
OLD = Machine(python="2.7.18", arch="aarch64", glibc="2.31")


# --- the machine -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "fits"),
    [
        ("cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64", True),
        ("cp311-cp311-manylinux_2_36_aarch64", True),
        ("cp311-cp311-manylinux_2_37_aarch64", False),
        ("cp311-cp311-musllinux_1_2_aarch64", False),
        ("cp311-cp311-manylinux_2_17_x86_64", False),
        ("cp311-cp311-linux_aarch64", True),
        ("cp38-abi3-manylinux2014_aarch64", True),
        ("cp312-abi3-manylinux2014_aarch64", False),
        ("py2.py3-none-any", True),
        ("py2-none-any", False),
        ("py3-none-manylinux_2_28_aarch64", True),
        ("cp310-cp310-manylinux_2_17_aarch64", False),
    ],
)
def test_the_targets_tags_say_which_wheel_fits(tag: str, fits: bool) -> None:
    files = [IndexFile(file=f"quick-1.0-{tag}.whl", sha256="0" * 64)]
    assert bool(index_offers(canonicalize_name("quick"), files, PI)) is fits


def test_python_2_has_its_own_abi() -> None:
    files = [IndexFile(file=f"quick-{n}.0-cp27-{abi}-manylinux2014_aarch64.whl", sha256="0" * 64)
             for n, abi in ((1, "cp27mu"), (2, "cp27m"))]  # fmt: skip
    assert [offer.version for offer in index_offers(canonicalize_name("quick"), files, OLD)] == [Version("1.0")]


def test_of_an_index_the_best_wheel_of_each_version_is_offered_newest_first() -> None:
    def file(name: str, **more: object) -> IndexFile:
        return IndexFile(**{"file": name, "sha256": "0" * 64, **more})  # type: ignore[arg-type]

    found = index_offers(
        canonicalize_name("quick"),
        [
            file("quick-1.0-py3-none-any.whl"),
            file("quick-1.0-cp311-cp311-manylinux_2_17_aarch64.whl"),
            file("quick-3.0-py3-none-any.whl", yanked=True),
            file("quick-2.0-py3-none-any.whl"),
            file("quick-4.0-py3-none-any.whl", sha256=None),
            file("quick-5.0-py3-none-any.whl", requires_python=">=3.12"),
            file("quick-5.1-py3-none-any.whl", requires_python="nonsense"),
            file("other-9.0-py3-none-any.whl"),
            file("quick-6.0.tar.gz"),
            file("no wheel at all.whl"),
        ],
        PI,
    )
    assert [offer.file for offer in found] == [
        "quick-5.1-py3-none-any.whl",
        "quick-2.0-py3-none-any.whl",
        "quick-1.0-cp311-cp311-manylinux_2_17_aarch64.whl",
    ]


def test_markers_are_the_targets() -> None:
    lines = [
        'board; platform_machine == "aarch64"',
        'desktop; platform_machine == "x86_64"',
        'futures; python_version < "3"',
        'late; python_full_version >= "3.11.2"',
        'windows; sys_platform == "win32"',
        'linux2; sys_platform == "linux2"',
        "six (>=1.10)",
        'more; extra == "fast"',
    ]
    assert [r.name for r in wanted(lines, PI, (), "x")] == ["board", "late", "six"]
    assert [r.name for r in wanted(lines, OLD, (), "x")] == ["board", "futures", "linux2", "six"]
    assert [r.name for r in wanted(lines, PI, ("fast",), "x")] == ["board", "late", "six", "more"]
    with pytest.raises(InputError, match="no requirement"):
        wanted(["=== what"], PI, (), "x")


# --- the search ------------------------------------------------------------------------------------------------------


@dataclass
class FakeShelf:
    """Wheels by ``name version``, with what they require."""

    wheels: Mapping[str, Sequence[str]]
    bad: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def offers(self, name: str) -> Sequence[Offer]:
        versions = [key.split()[1] for key in self.wheels if key.split()[0] == name and key not in self.bad]
        return [
            Offer(name=canonicalize_name(name), version=Version(text), origin="index", file=f"{name}-{text}.whl")
            for text in sorted(versions, key=Version, reverse=True)
        ]

    def requires(self, offer: Offer) -> Sequence[str]:
        key = f"{offer.name} {offer.version}"
        self.asked.append(key)
        if key.endswith(".666"):
            self.bad.add(key)
            raise Refused(key)
        return self.wheels[key]

    def why_none(self, name: str) -> str:
        return f"ask for {name}"


def served(wheels: Mapping[str, Sequence[str]]) -> Served:
    shelf = FakeShelf({"root 1": [], **wheels})
    return serve(shelf.offers("root")[0], shelf, PI)


def chosen(found: Served) -> list[str]:
    return [f"{offer.name} {offer.version}" for offer in found.offers]


def test_what_is_required_is_found_recursively_in_the_newest_versions_that_serve() -> None:
    found = served({"root 1": ["a", "b>=1"], "a 1": [], "a 2": ["c<3"], "b 1": ["c"], "c 2": [], "c 3": []})
    assert chosen(found) == ["root 1", "a 2", "b 1", "c 2"]
    assert found.missing == ()
    assert found.by == {"root": (), "a": ("root",), "b": ("root",), "c": ("a", "b")}


def test_versions_that_exclude_each_other_make_it_try_older_ones() -> None:
    found = served({"root 1": ["a", "c==1"], "a 2": ["c>=2"], "a 1": ["c"], "c 1": [], "c 2": []})
    assert chosen(found) == ["root 1", "a 1", "c 1"]


def test_a_circle_of_requirements_ends() -> None:
    assert chosen(served({"root 1": ["a"], "a 1": ["root", "b"], "b 1": ["a"]})) == ["root 1", "a 1", "b 1"]


def test_extras_bring_what_they_require() -> None:
    found = served({"root 1": ["a[fast,slow]"], "a 1": ["b; extra == 'fast'", "c; extra == 'other'"], "b 1": []})
    assert chosen(found) == ["root 1", "a 1", "b 1"]


def test_a_prerelease_is_taken_only_where_it_is_asked_for() -> None:
    wheels = {"a 1": [], "a 2rc1": []}
    assert chosen(served({"root 1": ["a"], **wheels})) == ["root 1", "a 1"]
    assert chosen(served({"root 1": ["a>=2rc1"], **wheels})) == ["root 1", "a 2rc1"]


def test_all_that_is_missing_is_named_at_once_and_the_rest_is_served() -> None:
    found = served({"root 1": ["a", "gone", "b>=2", "d @ https://example.org/d.whl"], "a 1": ["gone>=1"], "b 1": []})
    assert chosen(found) == ["root 1", "a 1"]
    told = {item.name: item.sentence for item in found.missing}
    assert told["gone"] == ("gone (of root) and gone>=1 (of a): there is no wheel that the target takes; ask for gone")
    assert told["b"] == "b>=2 (of root): no one version serves; there are 1; ask for b"
    assert "names an address" in told["d"]


def test_requirements_that_contradict_each_other_are_told_together() -> None:
    found = served({"root 1": ["a", "b"], "a 1": ["c<2"], "b 1": ["c>=2"], "c 1": [], "c 2": []})
    assert chosen(found) == ["root 1", "a 1", "b 1"]
    assert found.missing[0].sentence.startswith("c<2 (of a) and c>=2 (of b): no one version serves; there are 2, 1")


def test_a_wheel_that_is_refused_when_it_is_looked_at_gives_way_to_the_next() -> None:
    assert chosen(served({"root 1": ["a"], "a 1": [], "a 1.666": []})) == ["root 1", "a 1"]
    found = served({"root 1": ["a"], "a 1.666": []})
    assert [item.name for item in found.missing] == ["a"]


# --- the shelf of a target -------------------------------------------------------------------------------------------


def write(folder: Path, file: str, requires: Sequence[str] = ()) -> Path:
    """A wheel with METADATA alone."""
    name, version = file.split("-")[:2]
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {line}" for line in requires]
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / file, "w") as bundle:
        bundle.writestr(f"{name}-{version}.dist-info/METADATA", "\n".join(lines) + "\n\ntext\n")
    return folder / file


def verdict(severity: Severity, wheel: str) -> Proof:
    return Proof(
        file=wheel,
        sha256="a" * 64,
        size=1,
        policy=POLICY,
        policy_sha256="b" * 64,
        rules={},
        findings=(Finding(rule="abi", severity=severity, subject=wheel, message="wants GLIBC_2.99"),),
        run=None,
    )


@dataclass
class Maker:
    """Executes steps by writing what they would leave; compiled wheels of the index fail their proof if ``fail``."""

    folder: Path
    requires: Mapping[str, Sequence[str]] = field(default_factory=dict)
    fail: bool = False
    made: list[str] = field(default_factory=list)

    def __call__(self, steps: Sequence[Step]) -> Mapping[str, Artefact]:
        return {step.key: self._one(step) for step in steps}

    def _one(self, step: Step) -> Artefact:
        place = self.folder / step.key
        self.made.append(step.name)
        if isinstance(step, FetchStep):
            write(place, step.file, self.requires.get(step.file, ()))
        elif isinstance(step, ProofStep):
            place.mkdir(exist_ok=True)
            verdict(Severity.FAIL if self.fail and not step.built_here else Severity.PASS, step.name).write(
                place / "proof.json"
            )
        else:
            write(place, f"{step.distribution}-{step.version}-{step.tag}.whl")  # type: ignore[attr-defined]
        return cast(Artefact, SimpleNamespace(key=step.key, path=place))


def tree(catalog: Catalog) -> Plan:
    request = Request(recipe="dm-tree", target="rpi4", version="0.1.9")
    return plan(resolve(request, catalog), catalog, rules={})


def shelf(catalog: Catalog, tmp_path: Path, maker: Maker, pages: Mapping[str, Sequence[str]]) -> TargetShelf:
    planned = tree(catalog)
    wheel = write(
        tmp_path / "rpi4", "dm_tree-0.1.9-cp311-cp311-linux_aarch64.whl", ["absl-py", "attrs", "numpy<2", "wrapt"]
    )
    return TargetShelf(
        root=planned,
        wheel=wheel,
        proof=tmp_path / "proof.json",
        request=Request(recipe="dm-tree", target="rpi4", version="0.1.9"),
        catalog=catalog,
        machine=machine_of(POLICY, "3.11.2"),
        rules={},
        make=maker,
        listed=lambda name: [IndexFile(file=file, sha256="d" * 64) for file in pages.get(name, ())],
    )


PAGES = {
    "attrs": ["attrs-23.1.0-py3-none-any.whl", "attrs-22.1.0-py3-none-any.whl"],
    "numpy": ["numpy-1.26.9-cp311-cp311-manylinux_2_17_aarch64.whl"],
    "absl-py": ["absl_py-2.1.0-py3-none-any.whl"],
    "wrapt": ["wrapt-1.99.0-cp311-cp311-manylinux_2_17_aarch64.whl"],
}


def test_our_recipes_come_first_then_the_checks_wheels_then_the_index(catalog: Catalog, tmp_path: Path) -> None:
    maker = Maker(tmp_path)
    found = shelf(catalog, tmp_path, maker, PAGES)
    result = serve(found.asked, found, found.machine)
    assert {str(offer.name): offer.said for offer in result.offers} == {
        "dm-tree": "recipe dm-tree 0.1.9",
        "absl-py": "pypi:absl-py==1.4.0",
        "attrs": "pypi:attrs==23.1.0",
        "numpy": "recipe numpy 1.26.4",
        "wrapt": "recipe wrapt 1.16.0",
    }
    judged = {str(offer.name): found.bring(offer).judged for offer in result.offers}
    assert judged == {"dm-tree": "proved", "absl-py": "pure", "attrs": "pure", "numpy": "proved", "wrapt": "proved"}


def test_a_compiled_wheel_of_the_index_is_judged_and_refused_if_it_fails(catalog: Catalog, tmp_path: Path) -> None:
    compiled = {"lz4": ["lz4-4.0-cp311-cp311-manylinux_2_17_aarch64.whl", "lz4-3.0-py3-none-any.whl"]}
    for fail, version, judged in ((False, "4.0", "read"), (True, "3.0", "pure")):
        maker = Maker(tmp_path / version, requires={}, fail=fail)
        found = shelf(catalog, tmp_path, maker, {**PAGES, **compiled})
        write(tmp_path / "rpi4", found.wheel.name, ["lz4"])
        result = serve(found.asked, found, found.machine)
        assert [(str(o.version), found.bring(o).judged) for o in result.offers[1:]] == [(version, judged)]


def test_what_cannot_be_had_says_why(catalog: Catalog, tmp_path: Path) -> None:
    pages = {**PAGES, "termcolor": ["termcolor-1.1.0.tar.gz"], "bad": ["bad-1.0-cp311-cp311-manylinux2014_aarch64.whl"]}
    found = shelf(catalog, tmp_path, Maker(tmp_path, fail=True), pages)
    write(tmp_path / "rpi4", found.wheel.name, ["termcolor", "nowhere", "bad"])
    told = {item.name: item.why for item in serve(found.asked, found, found.machine).missing}
    assert "a source archive, termcolor-1.1.0.tar.gz" in told["termcolor"]
    assert "no index that pip uses here lists it" in told["nowhere"]
    assert "does not pass its proof (wants GLIBC_2.99)" in told["bad"]


def test_offline_no_index_is_asked(catalog: Catalog, tmp_path: Path) -> None:
    def never(name: str) -> Sequence[IndexFile]:
        raise AssertionError(name)

    found = shelf(catalog, tmp_path, Maker(tmp_path), {})
    found.offline, found.listed = True, never
    result = serve(found.asked, found, found.machine)
    assert [str(offer.name) for offer in result.offers] == ["dm-tree", "absl-py", "numpy", "wrapt"]
    assert [(item.name, "offline" in item.why) for item in result.missing] == [("attrs", True)]


def test_a_wheel_without_metadata_is_none(tmp_path: Path) -> None:
    (tmp_path / "a-1-py3-none-any.whl").write_bytes(b"no zip")
    with pytest.raises(InputError, match="no METADATA"):
        requires_dist(tmp_path / "a-1-py3-none-any.whl")


# --- the folder ------------------------------------------------------------------------------------------------------


def laid(catalog: Catalog, tmp_path: Path, files: Mapping[str, Sequence[str]]) -> Wheelhouse:
    """A wheelhouse for the first of ``files``, all of which it requires."""
    source = tmp_path / "source"
    offers, brought = [], {}
    for file in files:
        name, version = file.split("-")[:2]
        plain = canonicalize_name(name)
        offers.append(Offer(name=plain, version=Version(version), origin="index", file=file))
        brought[str(plain)] = Brought(wheel=write(source, file, files[file]), judged="pure")
    return lay_out(
        tmp_path / "wheelhouse",
        Served(offers=tuple(offers), missing=(), by={str(offers[-1].name): (str(offers[0].name),)}),
        brought,
        tree(catalog).resolution,
    )


def test_wheels_share_a_wheelhouse_and_leave_nothing_behind(catalog: Catalog, tmp_path: Path) -> None:
    folder = tmp_path / "wheelhouse"
    laid(catalog, tmp_path, {"a-1-py3-none-any.whl": ["c"], "c-1-py3-none-any.whl": []})
    laid(catalog, tmp_path, {"b-1-py3-none-any.whl": ["c"], "c-1-py3-none-any.whl": []})
    (folder / "mine.txt").write_text("not of the manifest")
    house = laid(catalog, tmp_path, {"a-1-py3-none-any.whl": ["d"], "d-1-py3-none-any.whl": []})
    assert house.finding.severity is Severity.PASS
    laid(catalog, tmp_path, {"b-1-py3-none-any.whl": []})
    names = {path.name for path in folder.iterdir()} - {".lock"}
    assert names == {
        "a-1-py3-none-any.whl",
        "b-1-py3-none-any.whl",
        "d-1-py3-none-any.whl",
        "mine.txt",
        "manifest.json",
    }
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest["files"]) == names - {"mine.txt", "manifest.json"}
    assert manifest["wheels"]["a-1-py3-none-any.whl"]["required_by"] == {"d-1-py3-none-any.whl": ["a"]}
    assert manifest["files"]["d-1-py3-none-any.whl"]["from"] == "pypi:d==1"
    assert manifest["wheels"]["b-1-py3-none-any.whl"]["target"] == "rpi4"


def test_a_manifest_that_cannot_be_read_is_refused(catalog: Catalog, tmp_path: Path) -> None:
    folder = tmp_path / "wheelhouse"
    folder.mkdir()
    for text in ("", "[]", '{"schema": 99, "files": {}, "wheels": {}}'):
        (folder / "manifest.json").write_text(text)
        with pytest.raises(InputError, match="cannot be read"):
            laid(catalog, tmp_path, {"a-1-py3-none-any.whl": []})
