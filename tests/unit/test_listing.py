"""`list`: what a recipe's releases need, where they fit and where they were built."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from crosswheel.cli.listing import Listing, pythons
from crosswheel.spec.catalog import Catalog

pytestmark = pytest.mark.unit

PROOFS = Path(__file__).resolve().parents[2] / "docs/proofs"


def table(listing: Listing, recipe: str) -> dict[str, dict[str, str]]:
    _, columns, rows = listing.recipe_table(listing.catalog.recipe(recipe))
    return {row[0]: dict(zip(columns, row, strict=True)) for row in rows}


@pytest.mark.parametrize(
    ("range_", "told"),
    [
        (">=2.7,!=3.0.*,!=3.1.*,!=3.2.*,<3.7", "2.7, 3.3 to 3.6"),
        (">=3.9,<3.14", "3.9 to 3.13"),
        ("==3.11.*", "3.11"),
        (">=3.8", "3.8 and later"),
        ("<2", "none"),
    ],
)
def test_a_range_of_pythons_for_a_person(range_: str, told: str) -> None:
    assert pythons(range_) == told


def test_the_table_of_tensorflow(catalog: Catalog, tmp_path: Path) -> None:
    rows = table(Listing(catalog, tmp_path), "tensorflow")
    assert list(rows) == list(catalog.versions("tensorflow"))
    old = rows["1.13.2"]
    assert old["built by"] == "bazel 0.20.0, 0.19.1, 0.21.0"
    assert old["accepts"] == ">=0.19.0,<=0.21.0"
    assert (old["CPython"], old["NumPy"]) == ("2.7, 3.3 to 3.7", ">=1.16.0,<1.19")
    assert old["CUDA, cuDNN"] == "10.0, 7.4"
    assert old["its code takes"] == "CUDA <10.2, cuDNN >=6,<8"
    assert "nanopi-m4 2.7" in old["targets"]
    assert rows["2.4.4"]["targets"] == "none"
    assert rows["1.10.1"]["targets"].startswith("jetson-nano 3.6, ")
    assert {row["state"] for row in rows.values()} == {"planned"}


def test_what_is_for_gpus_alone_is_listed_for_targets_with_one(catalog: Catalog, tmp_path: Path) -> None:
    row = table(Listing(catalog, tmp_path), "libkmcuda")["6.2.3"]
    assert row["targets"] == "jetson-orin 3.10, sbsa-debian 3.13 3.11, x86_64 3.13"
    everywhere = table(Listing(catalog, tmp_path), "tensorflow")["1.15.5"]["targets"]
    assert "x86_64 2.7" in everywhere, "which has no CUDA: TensorFlow does without"


def test_cuda_that_is_on_for_one_architecture_does_not_count_for_another(data: Path, tmp_path: Path) -> None:
    path = data / "recipes/libkmcuda/recipe.toml"
    path.write_text(path.read_text().replace("default = true", 'default = true\narches = ["aarch64"]'))
    targets = table(Listing(Catalog(data), tmp_path), "libkmcuda")["6.2.3"]["targets"]
    assert "x86_64 3.11 3.13" in targets
    assert "rpi4" not in targets


def test_columns_that_say_nothing_are_left_out(catalog: Catalog, tmp_path: Path) -> None:
    _, columns, _ = Listing(catalog, tmp_path).recipe_table(catalog.recipe("wrapt"))
    assert list(columns) == ["version", "built by", "CPython", "targets", "tests", "state"]


def test_what_was_built_is_read_from_the_proofs(catalog: Catalog, tmp_path: Path) -> None:
    name = "wrapt-1.16.0-cp311-cp311-linux_aarch64_rpi4_cortex-a72.json"
    shutil.copy(PROOFS / name, tmp_path)
    assert table(Listing(catalog, tmp_path), "wrapt")["1.16.0"]["state"] == "built: rpi4 3.11"
    failed: dict[str, Any] = json.loads((tmp_path / name).read_text()) | {"passed": False}
    (tmp_path / name).write_text(json.dumps(failed))
    assert table(Listing(catalog, tmp_path), "wrapt")["1.16.0"]["state"] == "planned"


def test_the_json_has_everything_of_a_release(catalog: Catalog, tmp_path: Path) -> None:
    listing = Listing(catalog, tmp_path)
    releases: Any = listing.recipe(catalog.recipe("tf"))["releases"]
    found = {item["version"]: item for item in releases}["1.15.5"]
    assert found["bazel"][0] == "0.26.1" and found["bazel_enforced"] == ">=0.24.1,<=0.26.1"
    assert found["needs"] == {"compiler": "GCC 7.3.1", "numpy": ">=1.16.0,<1.19", "cuda": "10.0", "cudnn": "7.4"}
    assert found["accepts"] == {"cuda": ">=9,<10.2", "cudnn": ">=6,<8"}
    assert found["facts"]["bazel"]["grade"] == "A" and "3db52be7be" in found["facts"]["bazel"]["source"]
    assert "jemalloc" not in found["features"] and "xla" in found["features"]
    assert found["outputs"] == ["wheel", "libc", "tools"]
    assert json.loads(json.dumps(listing.everything()))["recipes"]


def test_the_table_of_all_recipes_stays_narrow(catalog: Catalog, tmp_path: Path) -> None:
    _, _, rows = Listing(catalog, tmp_path).recipes_table()
    versions = {row[0]: row[2] for row in rows}
    assert versions["tensorflow"].endswith("more, to 1.0.1")
    assert versions["wrapt"] == "1.16.0"
