"""Patches that apply, that do not, and what is said then; refreshing one."""

from __future__ import annotations

import os
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from crosswheel.building.job import Cancelled, Job, Settings
from crosswheel.building.sources.applying import apply_patch, most_alike, touched
from crosswheel.building.sources.checking import PatchVerdict, check_series
from crosswheel.building.sources.patch import refresh, run_tree
from crosswheel.building.sources.unpack import TIME
from crosswheel.digest import sha256_tree
from crosswheel.errors import DataError, InputError, MachineError, StepError
from crosswheel.planning.steps import PatchText, TreeStep
from crosswheel.spec.patches import Series

pytestmark = pytest.mark.unit

SOURCE = "".join(f"line {n}\n" for n in range(1, 41))

PATCH = """\
Why: line 20 is wrong since 3.10.

--- a/src/code.py
+++ b/src/code.py
@@ -4,3 +4,3 @@
 line 4
-line 5
+line five
 line 6
@@ -19,3 +19,3 @@
 line 19
-line 20
+line twenty
 line 21
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "src").mkdir(parents=True)
    (root / "src/code.py").write_text(SOURCE)
    return root


def job(tmp_path: Path) -> tuple[Job, list[str]]:
    lines: list[str] = []
    out, work = tmp_path / "job/out", tmp_path / "job/work"
    out.mkdir(parents=True)
    work.mkdir()
    settings = Settings(store=tmp_path / "store")
    cancelled = threading.Event()
    return Job(key="0" * 64, out=out, work=work, settings=settings, log=lines.append, cancelled=cancelled), lines


def given(tmp_path: Path, root: Path) -> dict[str, Path]:
    """The tree as the artefact of a fetched archive."""
    folder = tmp_path / "artefact"
    folder.mkdir()
    with tarfile.open(folder / "src-1.0.tar.gz", "w:gz") as tar:
        tar.add(root, "src-1.0")
    return {"archive": folder}


def test_a_tree_is_unpacked_patched_and_added_to(tree: Path, tmp_path: Path) -> None:
    step = TreeStep(
        name="unpack",
        patches=(PatchText(file="py310.patch", text=PATCH),),
        files={"BUILD.bazel": "licenses([])\n", "src/code.h": "x", "new/deep/file": "y"},
    )
    work, lines = job(tmp_path)
    run_tree(step, given(tmp_path, tree), work)
    text = (work.out / "src/code.py").read_text()
    assert text == SOURCE.replace("line 5\n", "line five\n").replace("line 20\n", "line twenty\n")
    assert (work.out / "BUILD.bazel").read_text() == "licenses([])\n"
    assert (work.out / "new/deep/file").read_text() == "y"
    assert {p.lstat().st_mtime for p in work.out.rglob("*")} == {TIME}
    assert "applied py310.patch" in lines


def test_a_folder_is_copied_and_left_as_it_is(tree: Path, tmp_path: Path) -> None:
    before = sha256_tree(tree)
    work, _ = job(tmp_path)
    run_tree(TreeStep(name="unpack", patches=(PatchText(file="p", text=PATCH),)), {"archive": tree}, work)
    assert "line five" in (work.out / "src/code.py").read_text()
    assert sha256_tree(tree) == before


def test_a_hunk_at_another_line_is_applied_and_logged(tree: Path, tmp_path: Path) -> None:
    (tree / "src/code.py").write_text("# new\n# lines\n" + SOURCE)
    work, lines = job(tmp_path)
    run_tree(TreeStep(name="unpack", patches=(PatchText(file="p", text=PATCH),)), {"archive": tree}, work)
    assert "applied p (2 hunks at another line)" in lines
    assert any("Hunk #2 succeeded at 21 (offset 2 lines)" in line for line in lines)


def test_a_patch_that_does_not_apply_shows_the_hunk_and_what_stands_there(tree: Path, tmp_path: Path) -> None:
    (tree / "src/code.py").write_text("# new\n" + SOURCE.replace("line 20\n", "line xx\n"))
    work, _ = job(tmp_path)
    step = TreeStep(name="unpack dm-tree 0.1.5", patches=(PatchText(file="py310.patch", text=PATCH),))
    with pytest.raises(StepError) as caught:
        run_tree(step, {"archive": tree}, work)
    assert str(caught.value).splitlines() == [
        "unpack dm-tree 0.1.5: the patch py310.patch does not apply",
        "hunk 2 of 2 in src/code.py, line 19, expects",
        "      line 19",
        "    > line 20",
        "      line 21",
        "what stands at line 20 of the file is",
        "      line 19",
        "    > line xx",
        "      line 21",
        "→ ./x patches check   shows every patch against its source; ./x patches refresh rewrites one",
    ]
    assert "line five" not in (work.out / "src/code.py").read_text()


def test_there_is_no_fuzz(tree: Path) -> None:
    # GNU patch would apply this one with fuzz 1: only the outermost context differs.
    (tree / "src/code.py").write_text(SOURCE.replace("line 19\n", "line nineteen\n"))
    assert not apply_patch(tree, PATCH).ok


def test_a_missing_file_and_an_applied_patch_are_said(tree: Path, tmp_path: Path) -> None:
    assert apply_patch(tree, PATCH).ok
    work, _ = job(tmp_path)
    step = TreeStep(name="unpack", patches=(PatchText(file="p", text=PATCH),))
    with pytest.raises(StepError, match="does not apply") as caught:
        run_tree(step, {"archive": tree}, work)
    assert "the tree has its changes already" in caught.value.why
    (tree / "src/code.py").unlink()
    assert "the file src/code.py is not there" in apply_patch(tree, PATCH).described()


def test_a_corrupt_patch_is_told_in_gits_words(tree: Path) -> None:
    cut = "".join(PATCH.splitlines(keepends=True)[:-2])
    assert "corrupt patch" in apply_patch(tree, cut).described()
    assert "No valid patches" in apply_patch(tree, "nothing but words\n").described()


def test_a_patch_cannot_write_outside(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("safe\n")
    evil = "--- a/../victim\n+++ b/../victim\n@@ -1 +1 @@\n-safe\n+gone\n"
    assert not apply_patch(tree, evil).ok
    (tree / "link").symlink_to(tmp_path)
    through = "--- a/link/victim\n+++ b/link/victim\n@@ -1 +1 @@\n-safe\n+gone\n"
    assert not apply_patch(tree, through).ok
    assert (tmp_path / "victim").read_text() == "safe\n"


def test_an_enclosing_repository_and_the_users_configuration_do_not_matter(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tree / ".git").write_text("gitdir: /nowhere\n")
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.gitconfig").write_text("[apply]\n\twhitespace = error\n[core]\n\tautocrlf = true\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))
    trailing = PATCH.replace("+line five\n", "+line five   \n")
    assert apply_patch(tree, trailing).ok
    assert b"line five   \n" in (tree / "src/code.py").read_bytes()


def test_without_git_the_command_that_installs_it_is_named(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(MachineError, match="apt-get install --yes git"):
        apply_patch(tree, PATCH)


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", "link/x", "src/code.py/x", "src", ""])
def test_a_file_is_not_written_outside_the_tree(path: str, tree: Path, tmp_path: Path) -> None:
    (tree / "link").symlink_to(tmp_path)
    work, _ = job(tmp_path)
    with pytest.raises(DataError):
        run_tree(TreeStep(name="unpack", files={path: "text"}), {"archive": tree}, work)
    assert not (tmp_path / "x").exists()


def test_a_file_replaces_a_link_instead_of_writing_through_it(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("safe")
    (tree / "BUILD").symlink_to(tmp_path / "victim")
    work, _ = job(tmp_path)
    run_tree(TreeStep(name="unpack", files={"BUILD": "text"}), {"archive": tree}, work)
    assert (work.out / "BUILD").read_text() == "text"
    assert (tmp_path / "victim").read_text() == "safe"


def test_a_cancelled_build_stops_before_the_next_patch(tree: Path, tmp_path: Path) -> None:
    work, _ = job(tmp_path)
    work.cancelled.set()
    with pytest.raises(Cancelled):
        run_tree(TreeStep(name="unpack", patches=(PatchText(file="p", text=PATCH),)), {"archive": tree}, work)


def test_most_alike() -> None:
    lines = ["a", "", "b", "c", "a", "", "b", "x"]
    assert most_alike(lines, ("a", "", "b", "c"), 4) == 0
    assert most_alike(lines, ("a", "", "b", "y"), 4) == 4
    assert most_alike(lines, ("q",), 99) == 7
    assert most_alike([], ("q",), 3) == 0


def test_touched() -> None:
    new = "--- /dev/null\n+++ b/new file.txt\n@@ -0,0 +1 @@\n+x\n"
    assert touched(PATCH + new) == ("new file.txt", "src/code.py")


# --- series ----------------------------------------------------------------------------------------------------------

SECOND = "--- a/src/code.py\n+++ b/src/code.py\n@@ -5,2 +5,2 @@\n-line five\n+LINE FIVE\n line 6\n"
OTHER = "--- a/lib.h\n+++ b/lib.h\n@@ -1 +1 @@\n-old\n+new\n"


def series(*patches: dict[str, object]) -> Series:
    base = {"reason": "a reason that is long enough", "upstream": "https://example.org/1"}
    return Series.model_validate({"patches": [base | patch for patch in patches]})


def test_check_series(tree: Path, tmp_path: Path) -> None:
    patches = tmp_path / "patches"
    patches.mkdir()
    for name, text in (("1.patch", PATCH), ("2.patch", SECOND), ("ext.patch", OTHER), ("alone.patch", PATCH)):
        (patches / name).write_text(text)
    newer = tmp_path / "newer"
    (newer / "src").mkdir(parents=True)
    fixed = SOURCE.replace("line 5\n", "line five\n").replace("line 20\n", "line twenty\n")
    (newer / "src/code.py").write_text(fixed.replace("line 6\n", "line 6 and more\n"))
    external = tmp_path / "ext"
    external.mkdir()
    (external / "lib.h").write_text("old\n")
    asked: list[tuple[str, str | None]] = []
    before = sha256_tree(tree)

    def provide(version: str, name: str | None) -> Path:
        asked.append((version, name))
        return external if name else {"1.0": tree, "2.0": newer}[version]

    (patches / "1b.patch").write_text(PATCH.replace("twenty", "XX"))
    verdicts = check_series(
        provide,
        series(
            {"file": "1.patch", "versions": ">=1.0", "when": {"bazel": "<1"}},
            {"file": "1b.patch", "versions": "==1.0", "when": {"bazel": ">=1"}},
            {"file": "2.patch", "versions": ">=1.0", "when": {"bazel": "<1"}},
            {"file": "ext.patch", "versions": "<2", "external": "lib"},
        ),
        patches,
        ["1.0", "2.0"],
    )
    assert [(v.file, v.version, v.external, v.state) for v in verdicts] == [
        ("1.patch", "1.0", None, "applies"),
        ("1b.patch", "1.0", None, "applies"),  # not together with 1.patch, whose condition excludes it
        ("2.patch", "1.0", None, "applies"),  # after 1.patch
        ("ext.patch", "1.0", "lib", "applies"),
        ("1.patch", "2.0", None, "fails"),
        ("2.patch", "2.0", None, "fails"),
    ]
    assert asked == [("1.0", None), ("1.0", "lib"), ("2.0", None)]
    failed = verdicts[4]
    assert "hunk 1 of 2 in src/code.py, line 4, expects" in failed.why
    assert "    > line five" in failed.why
    assert sha256_tree(tree) == before


def test_check_series_knows_what_is_applied_already(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "1.patch").write_text(PATCH)
    assert apply_patch(tree, PATCH).ok
    before = sha256_tree(tree)
    verdicts = check_series(lambda v, e: tree, series({"file": "1.patch", "versions": ">=1"}), tmp_path, ["1.0"])
    assert verdicts == [PatchVerdict("1.patch", "1.0", None, "already applied")]
    assert sha256_tree(tree) == before


def test_check_series_names_a_missing_file(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.patch"):
        check_series(lambda v, e: tree, series({"file": "gone.patch", "versions": ">=1"}), tmp_path, ["1.0"])


def test_refresh_round_trip(tree: Path, tmp_path: Path) -> None:
    (tree / "gone.txt").write_text("gone\n")
    (tree / "tool.sh").write_text("#!/bin/sh\n")
    (tree / "latin.c").write_bytes(b"/* \xe9 */\nint x;\n")
    (tree / "link").symlink_to("src")
    edited = tmp_path / "edited"
    subprocess.run(["cp", "-a", str(tree), str(edited)], check=True)
    (edited / "src/code.py").write_text(SOURCE.replace("line 7\n", "line seven\n"))
    (edited / "gone.txt").unlink()
    (edited / "new").mkdir()
    (edited / "new/file.txt").write_text("new\ndiff --git b/x b/x\n")
    (edited / "blob.bin").write_bytes(bytes(range(256)))
    (edited / "latin.c").write_bytes(b"/* \xe9 */\nint y;\n")
    (edited / "tool.sh").chmod(0o755)
    (edited / "__pycache__").mkdir()
    (edited / "__pycache__/code.pyc").write_bytes(b"cache")
    patch_file = tmp_path / "p.patch"
    patch_file.write_text(PATCH)
    text = refresh(patch_file, tree, edited)
    assert text.startswith("Why: line 20 is wrong since 3.10.\n\ndiff --git a/blob.bin b/blob.bin\n")
    assert "diff --git a/new/file.txt b/new/file.txt\n" in text
    assert "diff --git a/gone.txt b/gone.txt\n" in text
    assert "+diff --git b/x b/x\n" in text
    assert str(tmp_path) not in text
    assert "pycache" not in text
    os.utime(edited / "src/code.py", (1, 1))
    assert refresh(patch_file, tree, edited) == text
    assert apply_patch(tree, text).ok
    (edited / "__pycache__/code.pyc").unlink()
    (edited / "__pycache__").rmdir()
    assert sha256_tree(tree) == sha256_tree(edited)


def test_refresh_of_an_unedited_tree_is_refused(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="edited tree is the same"):
        refresh(tmp_path / "none.patch", tree, tree)
