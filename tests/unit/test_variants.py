"""Variant wheels, an experiment: variantlib reads what is made, and takes the level that the processor has."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import sys
import zipfile
from pathlib import Path

import pytest
from index_writer import CATALOG, WHEN, released
from variantlib.models.variant import VariantProperty
from variantlib.resolver.lib import sort_and_filter_supported_variants
from variantlib.variant_dist_info import VariantDistInfo
from variantlib.variants_json import VariantsJson

from crosswheel.errors import InputError, MachineError
from crosswheel.publishing.index import build_index
from crosswheel.publishing.variants import build_variants

pytestmark = pytest.mark.unit

X86 = "cp311-cp311-linux_x86_64"


@pytest.fixture
def index(tmp_path: Path) -> Path:
    dist, index = tmp_path / "dist", tmp_path / "index"
    released(dist, folder="x86_64", tag=X86)
    for number, level in ((20, "v2"), (40, "v3")):
        build = f"{number}_x86_64_{level}"
        released(dist, folder=f"x86_64/x86-64-{level}", tag=X86, build=build, content=f"{level}\n".encode())
    released(dist, "alone", folder="x86_64", tag=X86)
    released(dist, "tuned", folder="x86_64/goldmont", tag=X86, build="28_goldmont")
    released(dist, "board")
    build_index(index, dist, CATALOG, when=WHEN)
    return index


def variants(index: Path) -> Path:
    return index / "variants" / "x86_64" / "simple" / "quick"


LABELS = {
    "null": f"quick-1.0-{X86}-null.whl",
    "x86_64_v2": f"quick-1.0-20_x86_64_v2-{X86}-x86_64_v2.whl",
    "x86_64_v3": f"quick-1.0-40_x86_64_v3-{X86}-x86_64_v3.whl",
}


def test_only_packages_with_levels_have_variants(index: Path) -> None:
    build_variants(index, CATALOG)
    assert sorted(path.name for path in variants(index).parent.iterdir()) == ["index.html", "quick"]
    names = {path.name for path in variants(index).iterdir()}
    assert names == {*LABELS.values(), "index.html", "quick-1.0-variants.json"}


def test_variantlib_reads_each_wheel(index: Path) -> None:
    build_variants(index, CATALOG)
    for label, name in LABELS.items():
        with zipfile.ZipFile(variants(index) / name) as wheel:
            info = VariantDistInfo(wheel.read("quick-1.0.dist-info/variant.json"), label)
        properties = [each.to_str() for each in info.variant_desc.properties]
        assert properties == ([] if label == "null" else [f"x86_64 :: level :: {label[-2:]}"])
        assert info.variant_desc.is_null_variant() == (label == "null")


@pytest.mark.parametrize(
    ("has", "order"),
    [
        ((), ["null"]),
        (("v1",), ["null"]),
        (("v2", "v1"), ["x86_64_v2", "null"]),
        (("v4", "v3", "v2", "v1"), ["x86_64_v3", "x86_64_v2", "null"]),
    ],
)
def test_variantlib_takes_the_highest_level_that_the_processor_has(
    index: Path, has: tuple[str, ...], order: list[str]
) -> None:
    build_variants(index, CATALOG)
    told = VariantsJson(json.loads((variants(index) / "quick-1.0-variants.json").read_text()))
    supported = [VariantProperty("x86_64", "level", level) for level in has]
    found = sort_and_filter_supported_variants(
        list(told.variants.values()),
        supported,
        namespace_priorities=told.namespace_priorities,
        feature_priorities={},
        property_priorities={},
        filter_values=True,
    )
    assert [each.label for each in found] == order


def test_variantlib_makes_the_same_index_of_the_wheels(index: Path, tmp_path: Path) -> None:
    from variantlib.commands.generate_index_json import generate_index_json

    build_variants(index, CATALOG)
    for name in LABELS.values():
        (tmp_path / name).write_bytes((variants(index) / name).read_bytes())
    generate_index_json(["-d", str(tmp_path)])
    made = json.loads((tmp_path / "quick-1.0-variants.json").read_text())
    assert made == json.loads((variants(index) / "quick-1.0-variants.json").read_text())


def test_all_else_in_a_variant_wheel_is_the_same_and_record_says_so(index: Path) -> None:
    build_variants(index, CATALOG)
    source = index / "wheels" / "x86_64" / "x86-64-v3" / f"quick-1.0-40_x86_64_v3-{X86}.whl"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(variants(index) / LABELS["x86_64_v3"]) as new:
        record, added = "quick-1.0.dist-info/RECORD", "quick-1.0.dist-info/variant.json"
        assert set(new.namelist()) == {*old.namelist(), added}
        assert new.namelist()[-1] == record
        for name in set(old.namelist()) - {record}:
            assert new.read(name) == old.read(name)
        rows = {row[0]: row[1:] for row in csv.reader(new.read(record).decode().splitlines())}
        assert set(rows) == set(new.namelist())
        for name, (digest, size) in rows.items():
            if name != record:
                data = new.read(name)
                real = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
                assert (digest, size) == (f"sha256={real}", str(len(data)))
    told = json.loads((index / "variants" / "from.json").read_text())["wheels"]
    entry = told[f"variants/x86_64/simple/quick/{LABELS['x86_64_v3']}"]
    assert entry["from_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()


def test_the_same_again_changes_nothing_and_the_index_does_not_mind_them(index: Path, tmp_path: Path) -> None:
    build_variants(index, CATALOG)
    before = {path: path.stat().st_mtime_ns for path in index.rglob("*") if path.is_file()}
    done = build_index(index, tmp_path / "dist", CATALOG)
    assert (done.written, done.notes) == ((), ())
    assert build_variants(index, CATALOG) == ()
    assert {path: path.stat().st_mtime_ns for path in index.rglob("*") if path.is_file()} == before


def test_a_variant_wheel_that_was_changed_is_made_anew(index: Path) -> None:
    build_variants(index, CATALOG)
    place = variants(index) / LABELS["null"]
    good = place.read_bytes()
    place.write_bytes(b"bad")
    assert build_variants(index, CATALOG) == (place.relative_to(index).as_posix(),)
    assert place.read_bytes() == good


def test_variants_of_what_is_no_more_go_and_foreign_files_stay(index: Path, tmp_path: Path) -> None:
    build_variants(index, CATALOG)
    foreign = index / "variants" / "notes.txt"
    foreign.write_text("mine")
    with pytest.raises(InputError, match="not of them") as told:
        build_variants(index, CATALOG)
    assert told.value.why == "variants/notes.txt"
    foreign.unlink()
    for place in (index / "wheels", tmp_path / "dist"):
        for path in place.rglob("quick*40_x86_64_v3*"):
            path.unlink()
    build_index(index, tmp_path / "dist", CATALOG, forget=True)
    gone = variants(index) / LABELS["x86_64_v3"]
    assert gone.relative_to(index).as_posix() in build_variants(index, CATALOG)
    assert not gone.exists()
    told_json = json.loads((variants(index) / "quick-1.0-variants.json").read_text())
    assert set(told_json["variants"]) == {"null", "x86_64_v2"}


def test_without_variantlib_it_says_what_to_install(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "variantlib", None)
    with pytest.raises(MachineError, match="variantlib") as told:
        build_variants(index, CATALOG)
    assert "pip install" in told.value.hint
