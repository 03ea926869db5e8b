"""Data of the user's own over the shipped: what is added, what replaces, what is joined, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from commandline import CommandLine

from crosswheel.cli.command import as_typed
from crosswheel.cli.program import split_data
from crosswheel.errors import DataError, InputError
from crosswheel.planning.plan import plan
from crosswheel.planning.resolve import Request, resolve
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.layers import Layers, own_folder
from crosswheel.spec.lint import lint

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]

PATCH = "--- a/setup.py\n+++ b/setup.py\n@@ -1 +1 @@\n-a\n+b\n"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def entry(file: str, reason: str = "a reason of some length") -> str:
    return f'[[patches]]\nfile = "{file}"\nversions = ">=0"\nreason = "{reason}"\nupstream = "none"\n'


def shipped(path: str) -> str:
    return (ROOT / path).read_text()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    return folder


def told(own: Path) -> dict[str, str]:
    return {problem.where: problem.what for problem in lint(Catalog(ROOT, own))}


def test_an_empty_folder_changes_nothing(own: Path, catalog: Catalog) -> None:
    over = Catalog(ROOT, own)
    assert over.recipe_names == catalog.recipe_names
    assert over.target_names == catalog.target_names
    asked = Request(recipe="dm-tree", target="rpi4")
    keys = [[step.key for step in plan(resolve(asked, data), data, rules={}).steps] for data in (over, catalog)]
    assert keys[0] == keys[1]


def test_a_release_a_recipe_and_a_target_are_added(own: Path) -> None:
    release = shipped("recipes/wrapt/1.16.0.toml").replace('version = "1.16.0"', 'version = "1.16.1"')
    write(own / "recipes/wrapt/1.16.1.toml", release)
    for name in ("recipe.toml", "1.16.0.toml", "check.py"):
        text = shipped(f"recipes/wrapt/{name}").replace('name = "wrapt"', 'name = "mine"')
        write(own / "recipes/mine" / name, text)
    board = shipped("toolchains/targets/rpi4.toml").replace('"rpi4"', '"my-board"')
    write(own / "toolchains/targets/my-board.toml", board)
    over = Catalog(ROOT, own)
    assert lint(over) == []
    assert over.versions("wrapt") == ("1.16.1", "1.16.0")
    assert over.recipe("mine").distribution == "wrapt"
    resolution = resolve(Request(recipe="mine", target="my-board"), over)
    assert resolution.target.name == "my-board"
    mine = plan(resolve(Request(recipe="mine", target="rpi4"), over), over, rules={})
    assert mine.steps


def test_a_file_of_the_same_path_replaces_as_a_whole(own: Path) -> None:
    text = shipped("recipes/wrapt/recipe.toml").replace("Decorators", "My decorators")
    write(own / "recipes/wrapt/recipe.toml", text)
    over = Catalog(ROOT, own)
    assert over.recipe("wrapt").summary.startswith("My decorators")
    assert over.versions("wrapt") == ("1.16.0",)
    assert over.check_script(over.recipe("wrapt")) == shipped("recipes/wrapt/check.py")


def test_tables_are_joined_by_name(own: Path, catalog: Catalog) -> None:
    write(
        own / "toolchains/cpus.toml",
        '[[cpu]]\nname = "my-core"\narch = "aarch64"\nabove = "cortex-a72"\nflags = ["-mcpu=cortex-a72"]\n'
        'qemu = "cortex-a72"\nsource = "the maker of my board"\n',
    )
    over = Catalog(ROOT, own)
    assert set(over.cpus) - set(catalog.cpus) == {"my-core"}
    assert over.cpu("cortex-a72") == catalog.cpu("cortex-a72")


def test_patches_come_behind_the_shipped_ones_and_drop_none(own: Path, catalog: Catalog) -> None:
    before = [patch.file for patch in catalog.series("dm-tree").patches]
    assert before
    write(own / "patches/dm-tree/series.toml", entry("mine.patch") + entry(before[0], "my own reason for it"))
    write(own / "patches/dm-tree/mine.patch", PATCH)
    over = Catalog(ROOT, own)
    series = over.series("dm-tree")
    assert [patch.file for patch in series.patches] == [*before, "mine.patch"]
    assert series.patches[0].reason == "my own reason for it"
    assert over.patch_text("dm-tree", "mine.patch") == PATCH
    assert over.patch_text("dm-tree", before[0]) == catalog.patch_text("dm-tree", before[0])
    assert lint(over) == []


def test_problems_are_told_with_the_users_own_file(own: Path) -> None:
    board = shipped("toolchains/targets/rpi4.toml").replace('"rpi4"', '"mine"').replace("debian-12", "debian-99")
    target = write(own / "toolchains/targets/mine.toml", board)
    stray = write(own / "patches/dm-tree/stray.patch", PATCH)
    release = write(own / "recipes/wrapt/9.9.toml", 'version = "9.8"\nbackend = "pep517"\n')
    found = told(own)
    assert any(where.startswith(f"{target}:") and "debian-99" in what for where, what in found.items())
    assert found[str(stray)] == "no series lists this patch; add it to series.toml or delete it"
    assert any(where.startswith(str(release)) for where in found)
    assert not any(where.startswith(("recipes/", "toolchains/", "patches/")) for where in found)


def test_a_folder_of_recipes_without_recipe_toml_is_told_unless_it_adds_to_a_shipped_one(own: Path) -> None:
    write(own / "recipes/new/1.0.toml", "")
    assert told(own) == {str(own / "recipes/new"): "this folder has no recipe.toml"}


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        own_folder(tmp_path / "nowhere")
    write(tmp_path / "pictures/cat.png", "")
    with pytest.raises(InputError, match="no folder of written data") as refused:
        own_folder(tmp_path)
    assert "pictures" in refused.value.why
    (tmp_path / "recipes").mkdir()
    assert own_folder(tmp_path) == tmp_path


def test_an_error_of_reading_names_the_users_file(own: Path) -> None:
    path = write(own / "recipes/wrapt/recipe.toml", "name = 3\n")
    with pytest.raises(DataError) as raised:
        Catalog(ROOT, own).recipe("wrapt")
    assert raised.value.where.startswith(str(path))


def test_the_lowest_is_named_where_none_is_there(tmp_path: Path) -> None:
    layers = Layers((tmp_path / "own", tmp_path / "shipped"))
    assert layers.file("recipes", "x") == tmp_path / "shipped/recipes/x"
    assert layers.shown(tmp_path / "shipped/recipes/x") == "recipes/x"
    assert layers.shown(tmp_path / "own/recipes/x") == str(tmp_path / "own/recipes/x")


# --- the option ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "found", "rest"),
    [
        ("list", None, "list"),
        ("--data D list", "D", "list"),
        ("list --data D --json", "D", "list --json"),
        ("list --data=D", "D", "list"),
        ("list --data=D --data E", "E", "list"),
        ("list --data", None, "list --data"),
    ],
)
def test_the_option_stands_anywhere(words: str, found: str | None, rest: str) -> None:
    assert split_data(words.split()) == (found, rest.split())


@pytest.mark.timeout(60)
def test_every_task_takes_the_option(own: Path) -> None:
    release = shipped("recipes/wrapt/1.16.0.toml").replace('version = "1.16.0"', 'version = "1.16.1"')
    write(own / "recipes/wrapt/1.16.1.toml", release)
    run = CommandLine()
    ways = (("--data", own, "list", "wrapt"), ("list", "wrapt", "--data", own), (f"--data={own}", "list", "wrapt"))
    for words in ways:
        done = run(*words)
        assert done.returncode == 0, done.stderr
        assert "1.16.1" in done.stdout
    assert "1.16.1" in run("list", "wrapt", env={"CROSSWHEEL_DATA": str(own)}).stdout
    assert "1.16.1" not in run("list", "wrapt").stdout
    settings = write(own.parent / "settings.toml", f'data = "{own}"\n')
    assert "1.16.1" in run("list", "wrapt", env={"CROSSWHEEL_SETTINGS": str(settings)}).stdout
    refused = run("list", "--data", own / "nowhere")
    assert refused.returncode == 2
    assert "this folder does not exist" in refused.stderr


def test_no_task_but_the_checkouts_own_reads_the_shipped_data_alone() -> None:
    """`status` is of what this project has proved, whatever data its user has besides."""
    alone = {path.name for path in (ROOT / "crosswheel/cli").glob("*.py") if "Catalog(DATA)" in path.read_text()}
    assert alone == {"upkeep.py"}


# --- what the user runs ----------------------------------------------------------------------------------------------


def test_texts_say_the_command_that_is_there() -> None:
    text = "`./x build wrapt`, then ./x log KEY; ./x --help\n./xyz and a/./x/b stay"
    said = as_typed(text, "crosswheel")
    assert said == "`crosswheel build wrapt`, then crosswheel log KEY; crosswheel --help\n./xyz and a/./x/b stay"
