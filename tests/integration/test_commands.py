"""Every command but `build`, by the real command line, on real data and real artefacts."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import ROOT, Built, CommandLine

from crosswheel.building.store import Store
from crosswheel.spec.catalog import Catalog

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


def test_the_launcher_and_invoke_are_the_same(crosswheel: CommandLine) -> None:
    words = ("plan", "wrapt", "--target", "rpi4")
    by_x = subprocess.run(
        (ROOT / "x", *words, "--json"), capture_output=True, text=True, check=False, env=crosswheel.environment(None)
    )
    assert by_x.returncode == 0, by_x.stderr
    assert json.loads(by_x.stdout) == crosswheel.json(*words)


# --- what is there ---------------------------------------------------------------------------------------------------


def test_list(crosswheel: CommandLine, catalog: Catalog) -> None:
    done = crosswheel("list")
    assert done.returncode == 0 and done.stderr == ""
    for heading in ("Recipes\n", "Targets\n", "Sysroots\n"):
        assert heading in done.stdout
    for name in (*catalog.recipe_names, *catalog.target_names, *catalog.sysroot_names):
        assert re.search(rf"^  {name} ", done.stdout, re.MULTILINE)
    assert re.search(r"^  dm-tree +tree +0\.1\.9, 0\.1\.5 ", done.stdout, re.MULTILINE)
    assert re.search(r"^  rpi4 +cortex-a72 +debian-12 \(CPython 3\.11\) ", done.stdout, re.MULTILINE)


def test_list_of_a_recipe(crosswheel: CommandLine) -> None:
    done = crosswheel("list", "tree")  # by its alias
    assert done.returncode == 0
    old = r"^  0\.1\.5 +bazel 0\.17\.2, 2\.1\.0 +3\.6 to 3\.13 .*nanopi-m4 3\.9.* 63 +built: .*nanopi-m4 3\.9"
    assert re.search(old, done.stdout, re.MULTILINE)
    new = r"^  0\.1\.9 +cmake +3\.10 to 3\.13 .*rk3588 3\.11 3\.13, rpi4 3\.11, .*x86_64 3\.11 3\.13 3\.10 +70 +built: "
    assert re.search(new, done.stdout, re.MULTILINE)


def test_list_as_json(crosswheel: CommandLine, catalog: Catalog) -> None:
    everything = crosswheel.json("list")
    assert {"recipes", "targets", "sysroots", "cpus"} == set(everything)
    assert [recipe["name"] for recipe in everything["recipes"]] == list(catalog.recipe_names)
    assert [target["name"] for target in everything["targets"]] == list(catalog.target_names)
    one = crosswheel.json("list", "dm-tree")
    assert one == next(recipe for recipe in everything["recipes"] if recipe["name"] == "dm-tree")
    assert {release["version"]: release["tests"] for release in one["releases"]} == {"0.1.5": 63, "0.1.9": 70}


def test_check(crosswheel: CommandLine, checkout: CommandLine) -> None:
    done = crosswheel("check")
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith(" 0 problems.\n")
    assert crosswheel.json("check") == []

    release = checkout.root / "recipes" / "wrapt" / "1.16.0.toml"
    release.write_text(release.read_text().replace('backend = "pep517"', 'backend = "pep517"\nbakend = 1'))
    (checkout.root / "patches" / "dm-tree" / "unlisted.patch").write_text("--- a/x\n+++ b/x\n")
    target = checkout.root / "toolchains" / "targets" / "rpi4.toml"
    target.write_text(target.read_text().replace('sysroot = "debian-12"', 'sysroot = "debian-99"'))
    done = checkout("check")
    assert done.returncode == 2
    told = done.stdout.splitlines()
    place = told.index("recipes/wrapt/1.16.0.toml:3: this file has 1 problem")
    assert told[place + 1] == "    line 3: `bakend` is no known key"
    assert any("unlisted.patch" in line for line in told)
    assert any(line.startswith("toolchains/targets/rpi4.toml") and "debian-99" in line for line in told)
    assert told[-1].endswith(" 3 problems.")


def test_plan(crosswheel: CommandLine, built: Callable[[str], Built]) -> None:
    made = built("main job")
    done = crosswheel("plan", *made.words)
    assert done.returncode == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "dm-tree 0.1.5 for rpi4 (CPython 3.11, cortex-a72, Bazel 0.17.2)"
    for number, (name, key) in enumerate(made.keys.items(), start=1):
        assert re.match(rf"  {number} +{re.escape(name)} +\w+ +{key[:12]} .*stored$", lines[number + 1])
    assert lines[-1] == f"{len(made.keys)} steps, 0 of them not in the store."


def test_plan_as_json(crosswheel: CommandLine, built: Callable[[str], Built], tmp_path: Path) -> None:
    made = built("main job")
    answer = crosswheel.json("plan", *made.words)
    assert {step["name"]: step["key"] for step in answer["steps"]} == made.keys
    assert all(step["cached"] for step in answer["steps"])
    assert answer["patches"] == ["python-3.10-collections-abc.patch"]
    assert (answer["python"], answer["cpu"], answer["bazel"]) == ("3.11", "cortex-a72", "0.17.2")
    keys = {step["key"] for step in answer["steps"]}
    assert all(set(step["inputs"].values()) <= keys for step in answer["steps"])
    elsewhere = crosswheel.with_store(tmp_path / "empty").json("plan", *made.words)
    assert [step["key"] for step in elsewhere["steps"]] == [step["key"] for step in answer["steps"]]
    assert not any(step["cached"] for step in elsewhere["steps"])
    assert not (tmp_path / "empty" / "artefacts").exists()


def test_explain_and_log(crosswheel: CommandLine, built: Callable[[str], Built]) -> None:
    made = built("main job")
    run = made.key("run")
    told = crosswheel.json("explain", run[:10])
    assert told["key"] == run
    assert told["step"]["fields"]["commands"][0][:4] == ["python3", "-m", "pip", "wheel"]
    assert set(told["step"]["inputs"].values()) <= set(made.keys.values())
    shown = crosswheel("explain", run)
    assert shown.stdout.startswith(f"compile dm-tree 0.1.5 for rpi4\n{run} (stored)\n")
    log = crosswheel("log", run[:12])
    assert log.returncode == 0
    assert "Build completed successfully" in log.stdout
    assert "\x1b" not in log.stdout


def test_doctor(crosswheel: CommandLine, tmp_path: Path) -> None:
    """It was right: tests that need Docker run here. An engine that is not there is missing, with its remedy."""
    answer = crosswheel.json("doctor")
    states = {need["name"]: need["status"] for need in answer["needs"]}
    assert states["Docker engine"] == "ok"
    assert "missing" not in states.values()
    done = crosswheel("doctor", env={"DOCKER_HOST": f"unix://{tmp_path}/none.sock"})
    assert done.returncode == 5
    assert re.search(r"^  Docker engine +missing ", done.stdout, re.MULTILINE)


# --- verify ----------------------------------------------------------------------------------------------------------


def test_verify_several_wheels(crosswheel: CommandLine, built: Callable[[str], Built], tmp_path: Path) -> None:
    """The recipe is found by the name, and its check runs; wheels may lie anywhere."""
    wheels = [Path(shutil.copy(built(name).wheel, tmp_path)) for name in ("main job", "wrapt")]
    answer = crosswheel.json("verify", *wheels, "--target", "rpi4")
    assert [proof["wheel"] for proof in answer["proofs"]] == [wheel.name for wheel in wheels]
    assert all(proof["passed"] for proof in answer["proofs"])
    assert [proof["run"]["tests"] for proof in answer["proofs"]] == [63, 438]
    shown = crosswheel("verify", *wheels, "--target", "rpi4")
    assert shown.returncode == 0
    assert "63 tests passed" in shown.stdout and "438 tests passed" in shown.stdout
    assert all(f"✓ {wheel}" in shown.stdout for wheel in wheels)


def test_verify_for_another_machine(crosswheel: CommandLine, built: Callable[[str], Built]) -> None:
    done = crosswheel("verify", built("wrapt").wheel, "--target", "x86_64")
    assert done.returncode == 1, done.stderr
    assert re.search(r"^  FAIL +machine .*aarch64", done.stdout, re.MULTILINE)
    assert "this wheel does not fit its target" in done.stdout
    assert "nothing was run" in done.stdout


def test_verify_what_is_no_wheel(crosswheel: CommandLine, built: Callable[[str], Built], tmp_path: Path) -> None:
    garbage = tmp_path / "garbage-1.0-py3-none-any.whl"
    garbage.write_bytes(os.urandom(1000))
    cut = tmp_path / built("wrapt").wheel.name
    cut.write_bytes(built("wrapt").wheel.read_bytes()[:-500])
    renamed = Path(shutil.copy(built("wrapt").wheel, tmp_path / "wrapt.zip"))
    for wheel in (garbage, cut, renamed):
        done = crosswheel("verify", wheel, "--target", "rpi4")
        assert done.returncode == 2, done.stdout
        assert str(wheel) in done.stderr
        assert "error: " in done.stderr and "Traceback" not in done.stderr


# --- upkeep ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(crosswheel: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """With a store that holds dm-tree's sources alone, both fetched and unpacked."""
    command = crosswheel.with_store(tmp_path_factory.mktemp("small"))
    done = command("patches", "check", "dm-tree")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^  0\.1\.5 +dm-tree +python-3\.10-collections-abc\.patch +applies$", done.stdout, re.MULTILINE)
    return command


def pristine_tree(command: CommandLine) -> Path:
    """The unpatched source of dm-tree 0.1.5 in a small store."""
    store = Store(Path(command.env["CROSSWHEEL_STORE"]))
    records = map(store.describe, store.keys())
    (tree,) = [record for record in records if record.name == "unpack dm-tree-0.1.5.tar.gz"]
    return tree.folder / "out"


def test_patches_check_of_a_tree(small: CommandLine, tmp_path: Path) -> None:
    """Where a patch fails, the hunk and what stands there instead are shown."""
    tree = tmp_path / "tree"
    shutil.copytree(pristine_tree(small), tree)
    patch = (ROOT / "patches" / "dm-tree" / "python-3.10-collections-abc.patch").read_text()
    (removed, *_) = [line[1:] for line in patch.splitlines() if re.match(r"-(?!--)", line)]
    (file,) = {path for path in tree.rglob("*.*") if path.suffix in (".py", ".cc") and removed in read(path)}
    file.chmod(0o644)
    file.write_text(read(file).replace(removed, "# something else stands here"))
    done = small("patches", "check", "dm-tree", "--source", f"dm-tree={tree}")
    assert done.returncode == 2
    assert re.search(r"python-3\.10-collections-abc\.patch +fails$", done.stdout, re.MULTILINE)
    assert removed in done.stdout
    assert "# something else stands here" in done.stdout


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def test_patches_refresh(small: CommandLine, checkout: CommandLine, tmp_path: Path) -> None:
    """A patch that is rewritten from its own tree stays what it does; one more change in the tree is one more hunk."""
    name = "python-3.10-collections-abc.patch"
    patch = checkout.root / "patches" / "dm-tree" / name
    before = patch.read_text()
    pristine, edited = tmp_path / "pristine", tmp_path / "edited"
    for place in (pristine, edited):
        shutil.copytree(pristine_tree(small), place)
        for path in (place, *place.rglob("*")):
            path.chmod(path.stat().st_mode | 0o200)
    applied = subprocess.run(("git", "apply", str(patch)), cwd=edited, capture_output=True, text=True, check=False)
    assert applied.returncode == 0, applied.stderr
    with (edited / "README.md").open("a") as stream:
        stream.write("One more change.\n")
    words = ("patches", "refresh", "dm-tree", "--patch", name, "--pristine", pristine, "--edited", edited)
    done = checkout(*words)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"wrote patches/dm-tree/{name}\n"
    after = patch.read_text()
    assert "+One more change." in after
    assert before.partition("\n--- a/")[0].partition("diff --git")[0] == after.partition("\n--- a/")[0].partition(
        "diff --git"
    )[0], "the header, with the reason, stays"
    changed = [line for line in before.splitlines() if re.match(r"[-+](?![-+])", line)]
    assert changed and set(changed) <= set(after.splitlines())
    store = Path(small.env["CROSSWHEEL_STORE"])
    assert checkout.with_store(store)("patches", "check", "dm-tree").returncode == 0
    assert checkout("check").returncode == 0


def test_sysroot_lock(checkout: CommandLine, crosswheel: CommandLine) -> None:
    """A lock in the written data pins the packages, and with them the keys of all that is made of them."""
    before = crosswheel.json("plan", "wrapt", "--target", "rpi4")["steps"]
    assert {step["name"]: step["key"] for step in before} == {
        step["name"]: step["key"] for step in checkout.json("plan", "wrapt", "--target", "rpi4")["steps"]
    }
    done = checkout("sysroot", "lock", "emulator")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "wrote sysroots/locks/emulator.json\n"
    lock = json.loads((checkout.root / "sysroots" / "locks" / "emulator.json").read_text())
    assert {"qemu-user-static"} <= {package["package"] for package in lock["packages"]}
    assert all(re.fullmatch("[0-9a-f]{64}", package["sha256"]) for package in lock["packages"])
    after = checkout.json("plan", "wrapt", "--target", "rpi4")["steps"]
    changed = {new["name"] for old, new in zip(before, after, strict=True) if old["key"] != new["key"]}
    assert changed == {"resolve emulator", "assemble emulator", after[-1]["name"]}
    assert checkout("check").returncode == 0


def test_clean(small: CommandLine) -> None:
    """Last of this file: it empties the small store."""
    root = Path(small.env["CROSSWHEEL_STORE"])
    store = Store(root)
    keys = {record.name: record.key for record in map(store.describe, store.keys())}
    assert keys
    kept = small("clean", "--older-than", "1w")
    assert kept.returncode == 0
    assert kept.stdout.startswith("0 removed, 0.0 MiB freed in ")
    old = keys["fetch dm-tree-0.1.5.tar.gz"]
    long_ago = time.time() - 8 * 86400
    os.utime(store.path(old) / "meta.json", (long_ago, long_ago))
    leftover = root / "tmp" / f"{old}.killed"
    leftover.mkdir()
    removed = small("clean", "--older-than", "1w")
    assert "removed fetch dm-tree-0.1.5.tar.gz (" in removed.stdout
    assert not leftover.exists()
    assert set(store.keys()) == set(keys.values()) - {old}
    gone = small("explain", old)
    assert gone.returncode == 2
    assert "No step in the store has a key that begins with" in gone.stderr
    assert small("clean", "--max-size", "10G").stdout.startswith("0 removed")
    assert small("clean", "--all").returncode == 0
    assert store.keys() == {}
    both = small("clean", "--all", "--older-than", "1w")
    assert both.returncode == 2
