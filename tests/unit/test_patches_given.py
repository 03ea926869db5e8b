"""`patches check` on given bytes: what meets in a build, where bytes come from, what is kept of it."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from crosswheel.building.job import Settings
from crosswheel.building.sources.checking import check_series
from crosswheel.building.sources.upstream import take
from crosswheel.cli.patching import check_patches, given_sources
from crosswheel.digest import sha256_file
from crosswheel.errors import DataError, InputError
from crosswheel.publishing.checked import checked_lines
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.checked import CHECKED, Checked, read_checked, series_digest, write_checked
from crosswheel.spec.conditions import Circumstances, holds, selections
from crosswheel.spec.patches import Patch, Series, When

FIRST = "Why.\n\n--- a/a.txt\n+++ b/a.txt\n@@ -1,3 +1,3 @@\n one\n-two\n+TWO\n three\n"
SECOND = "--- a/a.txt\n+++ b/a.txt\n@@ -1,3 +1,3 @@\n one\n-TWO\n+Two\n three\n"
TEXT = "one\ntwo\nthree\n"


def patch(file: str, versions: str = ">=1", **when: object) -> Patch:
    base = {"file": file, "versions": versions, "reason": "a reason that is long enough", "upstream": "nowhere"}
    return Patch.model_validate(base | ({"when": when} if when else {}))


# --- conditions ------------------------------------------------------------------------------------------------------


def chosen(*patches: Patch) -> list[tuple[str, ...]]:
    return [tuple(one.file for one in choice) for choice in selections(patches)]


def test_patches_without_conditions_are_one_choice() -> None:
    assert chosen(patch("1.patch"), patch("2.patch")) == [("1.patch", "2.patch")]
    assert next(iter(selections([patch("1.patch")]).values())).told() == "aarch64"


def test_what_excludes_each_other_never_meets() -> None:
    choices = chosen(patch("arm", arch="aarch64"), patch("x86", arch="x86_64"), patch("both"))
    assert choices == [("arm", "both"), ("x86", "both")]
    choices = chosen(patch("old", bazel="<1"), patch("new", bazel=">=1"))
    assert sorted(choices) == [("new",), ("old",)]


def test_ranges_that_overlap_meet_and_stand_alone() -> None:
    choices = chosen(patch("37", python=">=3.7"), patch("310", python=">=3.10"), patch("27", python="==2.7.*"))
    assert sorted(choices) == [(), ("27",), ("37",), ("37", "310")]
    assert ("open",) in chosen(patch("open", bazel=">3.1.0")), "a bound that is not in its own range"


def test_features_are_tried_in_all_sets() -> None:
    choices = selections([patch("c", features=("cuda",)), patch("ca", features=("cuda", "avx")), patch("n")])
    assert sorted(tuple(one.file for one in choice) for choice in choices) == [("c", "ca", "n"), ("c", "n"), ("n",)]
    told = {tuple(one.file for one in choice): given.told() for choice, given in choices.items()}
    assert told[("c", "ca", "n")] == "aarch64, with avx, cuda"


def test_holds() -> None:
    given = Circumstances("aarch64", "3.9", "0.17.2", frozenset({"cuda"}))
    assert holds(When(), given)
    assert holds(When(python=">=3.7", bazel="<1", arch="aarch64", features=("cuda",)), given)
    assert not holds(When(python=">=3.10"), given)
    assert not holds(When(bazel=">=1"), given)
    assert not holds(When(arch="x86_64"), given)
    assert not holds(When(features=("cuda", "xla")), given)


def test_a_patch_that_fails_in_one_combination_fails(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a.txt").write_text(TEXT)
    (tmp_path / "1.patch").write_text(FIRST)
    (tmp_path / "2.patch").write_text(SECOND)
    series = Series(patches=(patch("1.patch", features=("cuda",)), patch("2.patch", arch="aarch64")))
    first, second = check_series(lambda _v, _e: tree, series, tmp_path, ["1.0"])
    assert first.state == "applies"
    assert second.state == "fails", "without cuda the first one is not there, and the second needs it"
    assert second.why.startswith("(aarch64)\nhunk 1 of 1 in a.txt")


def test_a_condition_that_nothing_meets_is_no_pass(tmp_path: Path) -> None:
    (tmp_path / "1.patch").write_text(FIRST)
    series = Series(patches=(patch("1.patch", bazel=">2,<1"),))
    (verdict,) = check_series(lambda _v, _e: tmp_path, series, tmp_path, ["1.0"])
    assert (verdict.state, verdict.why) == ("fails", "no build meets its conditions")


# --- upstream's bytes ------------------------------------------------------------------------------------------------


def packed(path: Path, files: dict[str, str]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(text.encode()), 0o755 if name.endswith(".sh") else 0o644
            tar.addfile(info, io.BytesIO(text.encode()))
    return path


def repository(path: Path, files: dict[str, str]) -> str:
    path.mkdir()
    for name, text in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    for words in (("init", "-q"), ("add", "-A"), (*identity, "commit", "-q", "-m", "1")):
        subprocess.run(["git", *words], cwd=path, check=True)
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=path, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_take_from_an_archive(tmp_path: Path) -> None:
    archive = packed(tmp_path / "p-1.tar.gz", {"p-1/a.txt": TEXT, "p-1/s/b.sh": "x\n", "p-1/other": "y\n"})
    origin = take(str(archive), {"a.txt", "s/b.sh", "gone"}, tmp_path / "out")
    assert (origin.kind, origin.id) == ("archive", sha256_file(archive))
    assert (tmp_path / "out/a.txt").read_text() == TEXT
    assert (tmp_path / "out/s/b.sh").stat().st_mode & 0o100
    assert not (tmp_path / "out/other").exists()


def test_take_from_a_commit(tmp_path: Path) -> None:
    commit = repository(tmp_path / "repo", {"a.txt": TEXT, "s/b.txt": "x\n"})
    (tmp_path / "repo/a.txt").write_text("changed after the commit\n")
    origin = take(f"{tmp_path / 'repo'}@{commit[:12]}", {"a.txt", "gone"}, tmp_path / "out")
    assert (origin.kind, origin.id) == ("commit", commit)
    assert (tmp_path / "out/a.txt").read_text() == TEXT
    assert not (tmp_path / "out/s").exists()
    with pytest.raises(InputError, match="git cannot read this commit"):
        take(f"{tmp_path / 'repo'}@0000", {"a.txt"}, tmp_path / "out")


def test_take_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/a.txt").write_text(TEXT)
    (tmp_path / "secret").write_text("s\n")
    first = take(str(tmp_path / "tree"), {"a.txt", "../secret"}, tmp_path / "out")
    assert first.kind == "folder"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.txt"]
    (tmp_path / "tree/a.txt").write_text("other\n")
    assert take(str(tmp_path / "tree"), {"a.txt"}, tmp_path / "out2").id != first.id


def test_take_from_nothing(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("no archive\n")
    for given in (tmp_path / "note.txt", tmp_path / "gone", f"{tmp_path}@abc"):
        with pytest.raises(InputError, match="no source tree"):
            take(str(given), {"a.txt"}, tmp_path / "out")


# --- the command -----------------------------------------------------------------------------------------------------

RECIPE = """\
name = "thing"
summary = "a thing"
homepage = "https://example.org"
distribution = "thing"
modules = ["thing"]

[check]
script = "check.py"
"""
RELEASE = """\
version = "1.0"
backend = "pep517"
python = ">=3.8"
tests = 1

[source]
file = "thing-1.0.tar.gz"
sha256 = "SHA"
places = ["https://example.org/thing-1.0.tar.gz"]
"""
SERIES = """\
[[patches]]
file = "1.patch"
versions = ">=1"
when = { arch = "aarch64" }
reason = "a reason that is long enough"
upstream = "nowhere"
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    for folder in ("recipes/thing", "patches/thing"):
        (root / folder).mkdir(parents=True)
    archive = packed(tmp_path / "thing-1.0.tar.gz", {"thing-1.0/a.txt": TEXT})
    (root / "recipes/thing/recipe.toml").write_text(RECIPE)
    (root / "recipes/thing/1.0.toml").write_text(RELEASE.replace("SHA", sha256_file(archive)))
    (root / "recipes/thing/check.py").write_text("")
    (root / "patches/thing/series.toml").write_text(SERIES)
    (root / "patches/thing/1.patch").write_text(FIRST)
    return root


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(store=tmp_path / "store", jobs=1)


def test_record_keeps_what_was_tried(
    data: Path, tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    commit = repository(tmp_path / "repo", {"a.txt": TEXT})
    given = [f"1.0={tmp_path / 'thing-1.0.tar.gz'}", f"1.5={tmp_path / 'repo'}@{commit}"]
    catalog = Catalog(data)
    assert check_patches(catalog, settings, "thing", None, given)
    assert not (data / "patches/thing" / CHECKED).exists()
    assert check_patches(catalog, settings, "thing", None, given, record=True)
    assert "wrote patches/thing/checked.toml" in capsys.readouterr().out
    newest, oldest = read_checked(data / "patches/thing")
    assert (newest.version, newest.kind, newest.id) == ("1.5", "commit", commit)
    assert (oldest.version, oldest.kind, oldest.patches, oldest.combinations) == ("1.0", "archive", 1, 2)
    lines = list(checked_lines(catalog))
    assert f"| 1.5 | upstream's commit `{commit[:12]}` | 1 | 2 | all apply |" in lines
    assert not any("Not tried" in line for line in lines)
    (data / "patches/thing/1.patch").write_text(FIRST.replace("TWO", "2"))
    stale = list(checked_lines(Catalog(data)))
    assert sum("out of date" in line for line in stale) == 2


def test_what_fails_is_told_and_not_recorded(
    data: Path, tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/a.txt").write_text("one\n2\nthree\n")
    assert not check_patches(Catalog(data), settings, "thing", None, [f"1.7={tmp_path / 'tree'}"], record=True)
    told = capsys.readouterr().out
    assert "1.patch on 1.7: fails" in told
    assert "(aarch64)" in told
    assert "    > two" in told
    assert not (data / "patches/thing" / CHECKED).exists()


def test_another_archive_than_the_releases_is_refused(data: Path, tmp_path: Path, settings: Settings) -> None:
    other = packed(tmp_path / "other.tar.gz", {"thing-1.0/a.txt": TEXT, "thing-1.0/b.txt": "b\n"})
    with pytest.raises(InputError, match=r"not that of thing 1\.0"):
        check_patches(Catalog(data), settings, "thing", None, [f"1.0={other}"])


def test_words_that_make_no_sense(data: Path, tmp_path: Path, settings: Settings) -> None:
    catalog = Catalog(data)
    cases = {
        "neither NAME=FOLDER": ("thing", ["1.0"], False),
        "with a folder that exists": ("thing", [f"thing={tmp_path / 'gone'}"], False),
        "a version is one of a recipe's": (None, [f"1.0={tmp_path}"], False),
        "tried on given bytes": ("thing", [], True),
        r"no patch of thing serves 0\.9": ("thing", [f"0.9={tmp_path}"], False),
    }
    for words, (recipe, source, record) in cases.items():
        with pytest.raises(InputError, match=words):
            check_patches(catalog, settings, recipe, None, source, record)
    given = given_sources([f"thing={tmp_path}", "1.0=x", "2.0rc1=y"])
    assert given.trees == {"thing": tmp_path}
    assert given.versions == {"1.0": "x", "2.0rc1": "y"}


# --- what is kept ----------------------------------------------------------------------------------------------------


def entry(version: str, digest: str = "a" * 64) -> Checked:
    return Checked(version=version, kind="archive", id="b" * 64, patches=2, combinations=3, series=digest)


def test_records_of_other_versions_stay(tmp_path: Path) -> None:
    assert read_checked(tmp_path) == ()
    write_checked(tmp_path, (entry("1.10"), entry("1.9")))
    first = (tmp_path / CHECKED).read_text()
    write_checked(tmp_path, (entry("1.9", "c" * 64),))
    assert [(one.version, one.series[0]) for one in read_checked(tmp_path)] == [("1.10", "a"), ("1.9", "c")]
    write_checked(tmp_path, (entry("1.9"),))
    assert (tmp_path / CHECKED).read_text() == first


def test_a_broken_record_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / CHECKED).write_text('[[checked]]\nversion = "1"\nkind = "rumour"\nid = "x"\n')
    with pytest.raises(DataError, match=r"checked\.toml"):
        read_checked(tmp_path)


def test_the_digest_is_of_texts_conditions_and_order(tmp_path: Path) -> None:
    (tmp_path / "1.patch").write_text(FIRST)
    (tmp_path / "2.patch").write_text(SECOND)
    one, two, arm = patch("1.patch"), patch("2.patch"), patch("1.patch", arch="aarch64")
    digests = {
        series_digest(Series(patches=patches), tmp_path, "1.0")
        for patches in ((one, two), (two, one), (arm, two), (one,), ())
    }
    assert len(digests) == 5
    other = Series(patches=(one, patch("2.patch", "<1")))
    assert series_digest(other, tmp_path, "1.0") == series_digest(Series(patches=(one,)), tmp_path, "1.0")
    with pytest.raises(DataError, match=r"gone\.patch"):
        series_digest(Series(patches=(patch("gone.patch"),)), tmp_path, "1.0")
