"""A file of cells: what it may say, what is refused when it is read, and that each cell is called its own name."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswheel.cli.settings import DATA
from crosswheel.errors import DataError
from crosswheel.planning.cells import Cell
from crosswheel.planning.matrix import Cells, balanced, plan_matrix, sharing, usual_minutes
from crosswheel.planning.plan import plan
from crosswheel.proving.prove import RULES
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.matrix import Matrix, read_matrix
from crosswheel.spec.remembering import remembering
from crosswheel.spec.toml import validate

pytestmark = pytest.mark.unit

CATALOG = remembering(Catalog(DATA))
SMALL = 'name = "small"\n[axes]\nrecipe = "wrapt"\ntarget = ["rpi4", "x86_64"]\n'


def cells(folder: Path, text: str) -> Cells:
    path = folder / "matrix.toml"
    path.write_text(text)
    return plan_matrix(read_matrix(path)[0], CATALOG, str(path), rules=RULES)


def names(found: tuple[Cell, ...]) -> list[str]:
    return [cell.id for cell in found]


def why(folder: Path, text: str) -> str:
    with pytest.raises(DataError) as caught:
        cells(folder, text)
    return str(caught.value)


def test_the_shipped_matrix_can_be_planned() -> None:
    matrix, sha256 = read_matrix(DATA / "matrix.toml")
    found = plan_matrix(matrix, CATALOG, "matrix.toml", rules=RULES)
    assert len(sha256) == 64
    assert len(found.planned) >= 30 and all(cell.plan for cell in found.planned)
    assert "wrapt-1.16.0@jetson-nano+cp36" in names(found.planned)
    assert all(cell.why for cell in found.refused)
    assert len({cell.id for cell in found.all}) == len(found.all)
    assert all(re.fullmatch(r"[A-Za-z0-9@+._-]+", cell.id) for cell in found.all)


def test_what_is_remembered_changes_no_key() -> None:
    matrix, _ = read_matrix(DATA / "matrix.toml")
    plain = Catalog(DATA)
    for cell in plan_matrix(matrix, CATALOG, "matrix.toml", rules=RULES).planned:
        assert cell.resolution and cell.plan
        anew = plan(cell.resolution, plain, rules=RULES)
        assert [step.key for step in anew.steps] == [step.key for step in cell.plan.steps], cell.id


def test_ten_thousand_cells_are_planned_in_seconds(tmp_path: Path) -> None:
    everything = ", ".join(f'"{name}"' for name in CATALOG.target_names)
    recipes = '["tensorflow", "numpy", "dm-tree", "wrapt", "ml-dtypes", "h5py", "grpcio", "tflite-runtime"]'
    cpus = '["default", "cortex-a53", "cortex-a57", "cortex-a76", "x86-64-v2", "x86-64-v3", "sandybridge"]'
    path = tmp_path / "matrix.toml"
    path.write_text(
        f'name = "huge"\n[axes]\nrecipe = {recipes}\nversion = "all"\ntarget = [{everything}]\n'
        f'python = "all"\ncpu = {cpus}\n'
    )
    began = time.process_time()
    found = plan_matrix(read_matrix(path)[0], remembering(Catalog(DATA)), str(path), rules=RULES)
    assert len(found.all) > 10_000 and len(found.planned) > 1_000
    assert time.process_time() - began < 15  # the benchmark `matrix` says how long it is on a machine that is idle
    assert all(cell.why for cell in found.refused)


def test_axes_are_a_product_in_their_order(tmp_path: Path) -> None:
    text = 'name = "x"\n[axes]\nrecipe = ["wrapt", "ml_dtypes"]\ntarget = ["x86_64", "rpi4"]\n'
    assert names(cells(tmp_path, text).all) == [
        "wrapt-1.16.0@x86_64+cp311",
        "wrapt-1.16.0@rpi4+cp311",
        "ml-dtypes-0.5.4@x86_64+cp311",
        "ml-dtypes-0.5.4@rpi4+cp311",
    ]


def test_all_pythons_and_all_versions_are_cells_each(tmp_path: Path) -> None:
    text = 'name = "x"\n[axes]\nrecipe = "numpy"\nversion = "all"\ntarget = "nanopi-m4"\npython = "all"\n'
    found = cells(tmp_path, text)
    assert names(found.planned) == ["numpy-1.26.4@nanopi-m4+cp39", "numpy-1.16.6@nanopi-m4+cp27"]
    assert names(found.refused) == ["numpy-1.26.4@nanopi-m4+cp27", "numpy-1.16.6@nanopi-m4+cp39"]
    assert "1.26.4 serves CPython" in found.refused[0].why[0]


def test_the_newest_is_what_fits_and_can_be_built(tmp_path: Path) -> None:
    text = 'name = "x"\n[axes]\nrecipe = ["dm-tree", "numpy"]\nversion = "newest"\ntarget = ["rpi4", "jetson-nano"]\n'
    assert names(cells(tmp_path, text).planned) == [
        "dm-tree-0.1.9@rpi4+cp311",
        "dm-tree-0.1.5@jetson-nano+cp36",
        "numpy-1.26.4@rpi4+cp311",
        "numpy-1.16.6@jetson-nano+cp36",
    ]


def test_cpus_and_features_are_in_the_name(tmp_path: Path) -> None:
    text = SMALL.replace('["rpi4", "x86_64"]', '"x86_64"') + 'cpu = ["default", "x86-64-v2"]\n'
    assert names(cells(tmp_path, text).all) == ["wrapt-1.16.0@x86_64+cp311", "wrapt-1.16.0@x86_64+cp311+x86-64-v2"]
    text = 'name = "x"\n[axes]\nrecipe = "tensorflow"\nversion = "1.5.0"\ntarget = "nanopi-m4"\nfeatures = "xla"\n'
    (cell,) = cells(tmp_path, text).all
    assert cell.id == "tensorflow-1.5.0@nanopi-m4+cp39+xla" and "xla" in cell.features


def test_sets_of_features_that_give_the_same_file_are_refused(tmp_path: Path) -> None:
    text = 'name = "x"\n[axes]\nrecipe = "tensorflow"\nversion = "1.5.0"\ntarget = "nanopi-m4"\nfeatures = '
    told = why(tmp_path, text + '[[], ["xla"]]\n')
    assert "no cell can use 'xla'" in told and "the same file as tensorflow-1.5.0@nanopi-m4+cp39" in told


def test_the_same_cell_twice_is_one(tmp_path: Path) -> None:
    again = SMALL + 'version = ["default", "1.16.0"]\n[[include]]\nrecipe = "wrapt"\ntarget = "rpi4"\n'
    assert names(cells(tmp_path, again).all) == ["wrapt-1.16.0@rpi4+cp311", "wrapt-1.16.0@x86_64+cp311"]


def test_excluded_cells_are_gone_and_included_ones_stay(tmp_path: Path) -> None:
    text = 'name = "x"\n[axes]\nrecipe = "wrapt"\ntarget = "x86_64"\npython = "all"\n'
    whole = names(cells(tmp_path, text).planned)
    less = text + '[[exclude]]\nrecipe = "wrapt"\npython = ["3.8", "3.10"]\n'
    gone = {"wrapt-1.16.0@x86_64+cp38", "wrapt-1.16.0@x86_64+cp310"}
    assert names(cells(tmp_path, less).planned) == [name for name in whole if name not in gone]
    again = less + '[[include]]\nrecipe = "wrapt"\ntarget = "x86_64"\npython = "3.8"\n'
    assert set(names(cells(tmp_path, again).planned)) == {*whole} - {"wrapt-1.16.0@x86_64+cp310"}


def test_all_names_that_do_not_exist_are_told_at_once(tmp_path: Path) -> None:
    told = why(
        tmp_path,
        'name = "x"\n[axes]\nrecipe = ["wrap", "dm-tree"]\ntarget = ["rpi5", "rpi4"]\nversion = "0.1.99"\n'
        'python = "3.4"\ncpu = "cortex-a99"\nfeatures = ["turbo"]\n[[exclude]]\ntarget = "nowhere"\n',
    )
    for part in (
        "this matrix has 7 problems",
        "axes.recipe: there is no recipe 'wrap'; did you mean wrapt?",
        "axes.target: there is no target 'rpi5'; did you mean rpi4",
        "axes.version: there is no release of dm-tree '0.1.99'; did you mean 0.1.9",
        "axes.python: there is no CPython on rpi4: '3.4'",
        "axes.cpu: there is no cpu 'cortex-a99'",
        "axes.features: there is no feature of dm-tree 'turbo'",
        "exclude.1.target: there is no target 'nowhere'",
    ):
        assert part in told


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "`name` is missing"),
        ('name = "x"\n', "it has no cells"),
        ('name = "x"\n[axes]\ntarget = "rpi4"\n', "`axes.recipe` is missing"),
        ('name = "x"\n[axes]\nrecipe = []\ntarget = "rpi4"\n', "axes.recipe"),
        (SMALL + "pythons = 3\n", "`axes.pythons` is no known key"),
        (SMALL + "[[exclude]]\n", "it excludes everything"),
        (SMALL + '[[exclude]]\nversion = "newest"\n', "'newest' is no value of a cell"),
        (SMALL + "[cost]\nminutes = 0\n", "cost.minutes"),
        (SMALL + "[cost]\nhours = 1\n", "`cost.hours` is no known key"),
        ("name = \n", "no valid TOML"),
        (
            'name = "x"\n[[exclude]]\ntarget = "rpi4"\n[[include]]\nrecipe = "wrapt"\ntarget = "rpi4"\n',
            "there are none",
        ),
    ],
)
def test_what_a_file_may_not_say_is_told_with_its_place(tmp_path: Path, text: str, part: str) -> None:
    told = why(tmp_path, text)
    assert part in told and f"{tmp_path}/matrix.toml" in told


def test_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such matrix"):
        read_matrix(tmp_path / "none.toml")


def test_a_matrix_of_which_no_cell_is_left_is_told_with_the_reasons(tmp_path: Path) -> None:
    told = why(tmp_path, 'name = "x"\n[axes]\nrecipe = "ml-dtypes"\ntarget = "jetson-nano"\n')
    assert "no cell is left" in told and "0.5.4 serves CPython" in told
    told = why(tmp_path, SMALL + '[[exclude]]\nrecipe = "wrapt"\n')
    assert "no cell is left" in told


def test_a_value_that_no_cell_can_use_is_told_with_the_reason(tmp_path: Path) -> None:
    told = why(tmp_path, 'name = "x"\n[axes]\nrecipe = ["ml-dtypes", "wrapt"]\ntarget = "jetson-nano"\n')
    assert "axes.recipe: no cell can use 'ml-dtypes': 0.5.4 serves CPython" in told
    told = why(tmp_path, SMALL + '[[exclude]]\ntarget = "rpi4"\n[[exclude]]\ntarget = "jetson-nano"\n')
    assert "exclude.2: it excludes no cell" in told
    assert "axes.target: no cell can use 'rpi4': each is excluded" in told


def test_included_cells_that_cannot_work_are_told_all_at_once(tmp_path: Path) -> None:
    more = '[[include]]\nrecipe = ["ml-dtypes", "numpy"]\ntarget = "jetson-xavier"\n'
    more += '[[include]]\nrecipe = "bazel"\ntarget = "x86_64"\n'
    told = why(tmp_path, SMALL + more)
    assert "include.1: ml-dtypes-default@jetson-xavier+default: 0.5.4 serves CPython" in told
    assert "include.1: numpy-default@jetson-xavier+default: 1.26.4 serves" in told
    assert "include.2: bazel-" in told and "is no wheel" in told


def test_a_release_that_can_be_planned_only_is_refused(tmp_path: Path) -> None:
    text = 'name = "x"\n[axes]\nrecipe = ["tensorflow", "wrapt"]\ntarget = "x86_64"\nversion = ["all"]\n'
    found = cells(tmp_path, text)
    planned_only = [cell for cell in found.refused if "its own build files download is not known" in cell.why[0]]
    assert planned_only and all(cell.recipe == "tensorflow" for cell in planned_only)


def test_shared_steps_are_counted_once(tmp_path: Path) -> None:
    found = cells(tmp_path, SMALL.replace('"x86_64"', '"rk3588"'))
    shared = sharing(cell.plan for cell in found.planned if cell.plan)
    plans = [cell.plan for cell in found.planned if cell.plan]
    assert shared.steps == sum(len(plan.steps) for plan in plans)
    assert shared.distinct == len({step.key for plan in plans for step in plan.steps}) < shared.steps
    assert all(count == 2 for _, count in shared.shared)


@pytest.mark.parametrize("shards", [1, 2, 3, 5, 34, 50])
def test_shards_have_each_cell_once_and_are_balanced(shards: int) -> None:
    matrix = read_matrix(DATA / "matrix.toml")[0]
    planned = plan_matrix(matrix, CATALOG, "matrix.toml", rules=RULES).planned
    parts = balanced(planned, shards, usual_minutes)
    assert len(parts) == shards
    assert sorted(cell.id for part in parts for cell in part) == sorted(cell.id for cell in planned)
    other = balanced(tuple(reversed(planned)), shards, usual_minutes)
    assert [{cell.id for cell in part} for part in parts] == [{cell.id for cell in part} for part in other]
    loads = [sum(map(usual_minutes, part)) for part in parts]
    assert max(loads) - min(loads) <= max(map(usual_minutes, planned))


def test_a_matrix_is_frozen() -> None:
    matrix = Matrix.model_validate({"name": "x", "axes": {"recipe": "wrapt", "target": "rpi4"}})
    assert matrix.axes is not None and matrix.axes.recipe == ("wrapt",) and matrix.axes.features == ((),)


def test_a_matrix_without_end_is_told_at_once(tmp_path: Path) -> None:
    many = ", ".join(['"wrapt"'] * 2000)
    began = time.monotonic()
    told = why(tmp_path, f'name = "x"\n[axes]\nrecipe = [{many}]\ntarget = [{many.replace("wrapt", "rpi4")}]\n')
    assert "axes: it has up to 4,000,000 combinations, and 100,000 are the most" in told
    assert time.monotonic() - began < 20


def test_the_same_value_again_is_no_other_cell(tmp_path: Path) -> None:
    text = SMALL.replace('"wrapt"', '["wrapt", "wrapt"]') + 'features = [["no-avx"], ["no-avx", "no-avx"]]\n'
    with pytest.raises(DataError, match="a problem"):  # no-avx is for x86_64 alone, so rpi4 cannot be used
        cells(tmp_path, text)
    assert len(cells(tmp_path, text.replace('"rpi4", ', "")).all) == 1


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["all", "rpi4", "wrapt"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
_KEYS = st.sampled_from(["name", "axes", "include", "exclude", "cost", "recipe", "target", "version", "features", "x"])
_TABLES = st.dictionaries(_KEYS, _VALUES | st.dictionaries(_KEYS, _VALUES, max_size=4), max_size=5)


@settings(max_examples=200, deadline=None)
@given(_TABLES)
def test_no_data_is_more_than_an_error(data: dict[str, object]) -> None:
    try:
        matrix = validate(Matrix, {"name": "x", **data}, "", Path("matrix.toml"))
        plan_matrix(matrix, CATALOG, "matrix.toml", rules=RULES)
    except DataError as error:
        assert str(error)


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "matrix.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        read_matrix(tmp_path / "matrix.toml")
    with pytest.raises(DataError, match="no such matrix"):
        read_matrix(tmp_path)
