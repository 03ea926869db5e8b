"""What of a release's externals is taken for a build; and what functions of other repositories declare."""

from __future__ import annotations

from pathlib import Path

import pytest
from commandline import CommandLine

from crosswheel.building.sources.workspace import Workspace, read_workspace
from crosswheel.cli.recipes import externals_text, further_trees, write_externals
from crosswheel.errors import InputError
from crosswheel.planning.resolve import Request, Resolution, resolve
from crosswheel.planning.sources import externals_of, without_stand_ins
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.lint import lint
from crosswheel.spec.sources import External

pytestmark = pytest.mark.unit

A, B, C = (letter * 64 for letter in "abc")


# --- functions of other repositories


WORKSPACE = f"""
workspace(name = "main")
load("//:own.bzl", "own")
load("@rules//deps:deps.bzl", "rules_deps")
load("@bazel_tools//tools/build_defs/repo:http.bzl", "http_archive")
http_archive(name = "rules", sha256 = "{A}", urls = ["https://a.test/rules.tar.gz"])
own()
rules_deps(omit_js = True)
"""

OWN = f"""
def own():
    http_archive(name = "zlib", sha256 = "{A}", urls = ["https://a.test/zlib.tar.gz"])
"""

DEPS = f"""
load(":inner.bzl", "inner")
load("//more:more.bzl", "more")
load("@main//:own.bzl", "own")
load("@go//:deps.bzl", "go_deps")

def rules_deps(omit_js = False, omit_css = True):
    if not omit_js:
        http_archive(name = "js", sha256 = "{B}", urls = ["https://a.test/js.tar.gz"])
    if not omit_css:
        http_archive(name = "css", sha256 = "{B}", urls = ["https://a.test/css.tar.gz"])
    if "zlib" not in native.existing_rules():
        http_archive(name = "zlib", sha256 = "{B}", urls = ["https://a.test/other.tar.gz"])
    if not native.existing_rule("upb"):
        http_archive(name = "upb", sha256 = "{B}", urls = ["https://a.test/upb.tar.gz"])
    maybe(http_archive, name = "upb", sha256 = "{C}", urls = ["https://a.test/upb2.tar.gz"])
    git_repository(name = "go", remote = "https://a.test/go.git", commit = "123abc")
    inner()
    more()
    go_deps()
"""


def trees(base: Path) -> tuple[Path, Path]:
    """A tree whose WORKSPACE calls a function of the repository ``rules``; and that repository's tree."""
    files = {
        "main/WORKSPACE": WORKSPACE,
        "main/own.bzl": OWN,
        "rules/deps/deps.bzl": DEPS,
        "rules/deps/inner.bzl": (
            f'def inner():\n    http_archive(name = "inner", sha256 = "{B}", urls = ["https://a.test/i.zip"])\n'
        ),
        "rules/more/more.bzl": (
            f'def more():\n    http_archive(name = "more", sha256 = "{C}", urls = ["https://a.test/m.zip"])\n'
        ),
    }
    for name, text in files.items():
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_text(text)
    return base / "main", base / "rules"


def names(found: Workspace) -> list[str]:
    return [item.name for item in found.externals]


def test_functions_of_a_tree_that_was_given_are_read(tmp_path: Path) -> None:
    main, rules = trees(tmp_path)
    found = read_workspace(main, {"rules": rules})
    assert names(found) == ["rules", "zlib", "upb", "inner", "more"]
    assert {item.name: item.sha256 for item in found.externals}["zlib"] == A, "the guard of rules_deps sees it"
    assert {item.name: item.sha256 for item in found.externals}["upb"] == B, "maybe declares it no second time"
    assert {"@rules//deps/deps.bzl", "@rules//deps/inner.bzl", "@rules//more/more.bzl"} < set(found.read)


def test_functions_of_a_tree_that_was_not_given_are_named(tmp_path: Path) -> None:
    main, rules = trees(tmp_path)
    alone = read_workspace(main)
    assert names(alone) == ["rules", "zlib"]
    assert alone.unread == {"rules": ("rules_deps",)}
    assert "#   @rules: rules_deps\n" in externals_text("thing", "1.0", alone, "")
    with_it = read_workspace(main, {"rules": rules})
    assert with_it.unread == {"go": ("go_deps",)}
    assert "--with rules=DIR\n" in externals_text("thing", "1.0", with_it, "")


def test_what_build_files_load_from_is_told(tmp_path: Path) -> None:
    main, rules = trees(tmp_path)
    found = read_workspace(main, {"rules": rules})
    assert found.loaded == ("rules",)
    assert found.wanting == {"go": "git_repository pins no sha256: https://a.test/go.git at 123abc"}
    text = externals_text("thing", "1.0", found, "")
    assert 'loaded = [\n    "rules",\n]\n' in text
    assert "#   @go: git_repository pins no sha256: https://a.test/go.git at 123abc\n" in text


def test_a_further_tree_is_not_left(tmp_path: Path) -> None:
    main, rules = trees(tmp_path)
    (tmp_path / "outside.bzl").write_text("x = 1")
    (rules / "deps" / "inner.bzl").write_text('load("//..:outside.bzl", "x")\ndef inner():\n    pass\n')
    found = read_workspace(main, {"rules": rules})
    assert not [path for path in found.read if "outside" in path]
    assert [item.where for item in found.left if "does not have this file" in item.why] == ["@rules//../outside.bzl"]


def test_a_broken_file_of_a_further_tree_is_named(tmp_path: Path) -> None:
    main, rules = trees(tmp_path)
    (rules / "deps" / "inner.bzl").write_text("def (:\n")
    with pytest.raises(InputError, match="this file is not the Starlark that can be read") as caught:
        read_workspace(main, {"rules": rules})
    assert str(caught.value).startswith("@rules//deps/inner.bzl:1: ")


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("rules", "this is not NAME=DIR"),
        ("rules=", "this is not NAME=DIR"),
        ("rules=/nowhere/at/all", "this folder does not exist"),
    ],
)
def test_bad_further_trees(word: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        further_trees([word])


def test_further_trees_by_name(tmp_path: Path) -> None:
    assert further_trees([f"rules={tmp_path}", f"@go={tmp_path}"]) == {"rules": tmp_path, "go": tmp_path}


def test_the_option_of_further_trees() -> None:
    command = CommandLine()
    told = command("recipe", "externals", "tensorflow", "--version", "1.5.0", "--source", "none", "--with", "rules")
    assert told.returncode == 2
    assert "--with rules: this is not NAME=DIR" in told.stderr
    assert "  --with WITH  " in command("recipe", "--help").stdout


def test_a_further_tree_that_nothing_loads_from(data: Path, tmp_path: Path) -> None:
    main, rules = trees(tmp_path)
    with pytest.raises(InputError, match="nothing of this tree loads a file of @rulez") as caught:
        write_externals(Catalog(data), "tensorflow", "1.5.0", main, "", {"rulez": rules})
    assert caught.value.hint == "it calls functions of: rules"


# --- what is taken for a build


def resolved(catalog: Catalog, version: str, target: str, python: str, **features: bool) -> Resolution:
    return resolve(Request(recipe="tf", version=version, target=target, python=python, features=features), catalog)


def test_what_build_files_load_from_is_always_fetched(catalog: Catalog) -> None:
    release = catalog.release("tensorflow", "2.5.0")
    assert release.bazel is not None
    assert release.bazel.optional["build_bazel_rules_swift"] == ""
    assert "build_bazel_rules_swift" in catalog.loaded_externals("tensorflow", release)
    found = {item.name for item in externals_of(resolved(catalog, "2.5.0", "nanopi-m4", "3.9"), catalog)}
    assert "build_bazel_rules_swift" in found
    assert "phantomjs" not in found


def test_a_rendered_repository_gives_way_to_one_that_the_release_brings(catalog: Catalog) -> None:
    resolution = resolved(catalog, "2.6.0", "nanopi-m4", "3.9")
    assert resolution.bazel is not None
    assert "rules_cc" in resolution.bazel.repositories
    own = without_stand_ins(resolution, catalog).bazel
    assert own is not None
    assert "rules_cc" not in own.repositories


@pytest.mark.parametrize("feature", ["gcp", "s3"])
def test_a_replacement_is_not_taken_with_a_feature_that_it_is_not_for(catalog: Catalog, feature: str) -> None:
    release = catalog.release("tensorflow", "1.5.0")

    def curl(*features: str) -> External:
        return {item.name: item for item in catalog.externals("tensorflow", release, "aarch64", features)}["curl"]

    assert curl("jemalloc").file == "curl-7_49_1.tar.gz"
    assert curl("jemalloc", feature).file == "curl-7.49.1.tar.gz"
    assert "https://curl.haxx.se/download/curl-7.49.1.tar.gz" in [place.uri for place in curl(feature).places]


@pytest.mark.parametrize("feature", ["gcp", "s3"])
def test_the_patch_of_a_replacement_goes_with_it(catalog: Catalog, feature: str) -> None:
    def patches(**features: bool) -> set[str]:
        return {patch.file for patch in resolved(catalog, "1.5.0", "nanopi-m4", "2.7", **features).patches}

    assert "curl-7.49.1-git.patch" in patches()
    assert "curl-7.49.1-git.patch" not in patches(**{feature: True})


def test_a_replacement_serves_its_range_alone(catalog: Catalog) -> None:
    for version, file in (("1.4.1", "curl-7.49.1.tar.gz"), ("1.7.1", "curl-7_49_1.tar.gz")):
        release = catalog.release("tensorflow", version)
        items = {item.name: item for item in catalog.externals("tensorflow", release, "x86_64")}
        assert items["curl"].file == file


def test_a_replacement_that_no_patch_asks_for_is_told(data: Path) -> None:
    path = data / "recipes/tensorflow/replacements.toml"
    path.write_text(path.read_text().replace('without = ["gcp", "s3"]', 'without = ["gcp"]'))
    told = [problem.what for problem in lint(Catalog(data)) if "replacements.toml" in problem.where]
    assert told == [
        f"no patch makes {version} ask for curl-7_49_1.tar.gz, under the same conditions"
        for version in ("1.5.0", "1.5.1", "1.6.0", "1.7.0", "1.7.1")
    ]
