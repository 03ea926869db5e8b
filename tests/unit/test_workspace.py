"""Reading upstream's build files: every rule's way to say where a file is, and files that mean no good."""

from __future__ import annotations

from pathlib import Path

import pytest

from crosswheel.building.sources import starlark
from crosswheel.building.sources.starlark import Reader
from crosswheel.building.sources.workspace import read_workspace, version_of
from crosswheel.cli.recipes import write_externals
from crosswheel.errors import InputError
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.sources import External, Externals
from crosswheel.spec.toml import load

pytestmark = pytest.mark.unit

A, B, C = "a" * 64, "b" * 64, "c" * 64


def tree(base: Path, workspace: str, **files: str) -> Path:
    """An upstream tree; ``tensorflow__workspace`` is ``tensorflow/workspace.bzl``."""
    base.mkdir(exist_ok=True)
    (base / "WORKSPACE").write_text(workspace)
    for name, text in files.items():
        path = base / (name.replace("__", "/") + ".bzl")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return base


def found(base: Path, workspace: str, **files: str) -> dict[str, External]:
    return {item.name: item for item in read_workspace(tree(base, workspace, **files)).externals}


def uris(external: External) -> list[str]:
    return [place.uri for place in external.places]


def test_upstreams_own_place_comes_before_its_copies(tmp_path: Path) -> None:
    (item,) = read_workspace(
        tree(
            tmp_path,
            f"""
http_archive(
    name = "snappy",
    sha256 = "{A}",
    strip_prefix = "snappy-1.1.4",
    urls = [
        "https://mirror.bazel.build/github.com/google/snappy/archive/1.1.4.tar.gz",
        "https://github.com/google/snappy/archive/1.1.4.tar.gz",
    ],
)
""",
        )
    ).externals
    assert (item.name, item.sha256, item.file) == ("snappy", A, "snappy-1.1.4.tar.gz")
    assert uris(item) == [
        "https://github.com/google/snappy/archive/1.1.4.tar.gz",
        "https://mirror.bazel.build/github.com/google/snappy/archive/1.1.4.tar.gz",
    ]


def test_of_a_copy_alone_the_place_that_it_copies_is_known(tmp_path: Path) -> None:
    url = "https://storage.googleapis.com/mirror.tensorflow.org/github.com/x/y/archive/v1.tar.gz"
    item = found(tmp_path, f'http_archive(name = "y", sha256 = "{A}", urls = ["{url}"])')["y"]
    assert uris(item) == ["https://github.com/x/y/archive/v1.tar.gz", url]


@pytest.mark.parametrize(
    ("url", "file", "place"),
    [
        (
            "https://registry.test/packages/source/s/six/six-1.10.0.tar.gz",
            "six-1.10.0.tar.gz",
            "pypi:six==1.10.0",
        ),
        (
            f"https://files.test/packages/bc/cc/{'0' * 60}/backports.weakref-1.0rc1.tar.gz",
            "backports.weakref-1.0rc1.tar.gz",
            "pypi:backports.weakref==1.0rc1",
        ),
        (
            "https://files.test/packages/py2.py3/w/wheel/wheel-0.37.1-py2.py3-none-any.whl",
            "wheel-0.37.1-py2.py3-none-any.whl",
            "pypi:wheel==0.37.1",
        ),
        ("https://r.test/@a/b/-/b-1.2.3.tgz", "b-1.2.3.tgz", "npm:@a/b@1.2.3"),
        ("https://r.test/d3/-/d3-4.0.0.tgz", "d3-4.0.0.tgz", "npm:d3@4.0.0"),
        (
            "https://bitbucket.org/eigen/eigen/get/034b6c3e1017.tar.gz",
            "eigen-034b6c3e1017.tar.gz",
            "https://bitbucket.org/eigen/eigen/get/034b6c3e1017.tar.gz",
        ),
        ("http://a.test/~ooura/fft.tgz", "fft.tgz", "http://a.test/~ooura/fft.tgz"),
        ("http://a.test/b%20c/x%20y.zip?raw=1", "x_y.zip", "http://a.test/b%20c/x%20y.zip?raw=1"),
    ],
)
def test_files_and_places_of_addresses(url: str, file: str, place: str, tmp_path: Path) -> None:
    item = found(tmp_path, f'http_file(name = "x", sha256 = "{A}", url = "{url}")')["x"]
    assert (item.file, uris(item)) == (file, [place])


def test_rules_with_several_files_and_names_of_their_own(tmp_path: Path) -> None:
    items = found(
        tmp_path,
        f"""
filegroup_external(
    name = "scripts",
    sha256_urls = {{"{A}": ["https://a.test/a.js"], "{B}": ["https://a.test/b.js"]}},
)
java_import_external(name = "jar", jar_sha256 = "{C}", jar_urls = ["https://a.test/c.jar"])
platform_http_file(
    name = "node",
    amd64_sha256 = "{A}", amd64_urls = ["https://a.test/linux.tgz"],
    macos_sha256 = "{B}", macos_urls = ["https://a.test/macos.tgz"],
)
temp_workaround_http_archive(name = "gif", sha256 = "{C}", urls = ["https://a.test/gif.tgz"], repository = "x")
""",
    )
    assert {name: (item.sha256, item.file) for name, item in items.items()} == {
        "scripts": (A, "a.js"),
        "scripts.2": (B, "b.js"),
        "jar": (C, "c.jar"),
        "node": (A, "linux.tgz"),
        "node.2": (B, "macos.tgz"),
        "gif": (C, "gif.tgz"),
    }


def test_what_no_external_can_be_is_told_with_its_place(tmp_path: Path) -> None:
    left = read_workspace(
        tree(
            tmp_path,
            """load("@other//a:b.bzl", "other_repositories")
load("//none:there.bzl", "x")
git_repository(name = "g", remote = "https://a.test/g.git", commit = "0123")
http_archive(name = "u", urls = ["https://a.test/u.tgz"])
http_archive(name = "m", sha256 = "HASH", urls = ["https://repo.test/maven2/junit/junit.jar"])
http_archive(name = "b", sha256 = native.bazel_version, urls = ["https://a.test/b.tgz"])
local_repository(name = "l", path = "here")
other_repositories()
""".replace("HASH", A),
        )
    ).left
    assert [(item.name, item.where) for item in left] == [
        ("none/there.bzl", "none/there.bzl"),
        ("g", "WORKSPACE:3"),
        ("u", "WORKSPACE:4"),
        ("m", "WORKSPACE:5"),
        ("b", "WORKSPACE:6"),
        ("other_repositories", "@other"),
    ]
    assert [item.why for item in left][1:5] == [
        "git_repository pins no sha256: https://a.test/g.git at 0123",
        "http_archive pins no sha256: https://a.test/u.tgz",
        "http_archive names a package registry that has no client here",
        "http_archive has arguments that only Bazel could tell",
    ]


def test_the_trees_own_functions_are_followed(tmp_path: Path) -> None:
    items = found(
        tmp_path,
        """workspace(name = "org_tensorflow")
load("@org_tensorflow//tensorflow:workspace.bzl", setup = "tf_workspace")
setup(prefix = "p-")
""",
        tensorflow__workspace=f"""
load("//third_party:repo.bzl", "tf_http_archive", "tf_mirror_urls")
load(":more.bzl", more = "repo")

COMMIT = "0" * 3 if False else "0123abcd"

def _all(names, suffix = ".tgz"):
    for name in names:
        if name == "skip":
            continue
        tf_http_archive(
            name = name,
            sha256 = HASHES[name],
            urls = tf_mirror_urls("https://a.test/%s/{{}}{{s}}".format(name, s = suffix) % (COMMIT,)),
        )

HASHES = {{"one": "{A}", "two": "{B}"}}

def tf_workspace(prefix = "", unused = None, *args, **kwargs):
    check_version("0.5.4")
    _all(["one", "skip", "two"])
    if native.bazel_version:
        http_archive(name = prefix + "old", sha256 = "{C}", urls = ["https://a.test/" + "/".join(["x", "old.tgz"])])
    else:
        http_archive(name = prefix + "new", sha256 = "{C}", urls = [u for u in ["https://a.test/new.tgz"] if u])
    more(**{{"name": "more"}})
""",
        tensorflow__more=f"""
def repo(name):
    native.new_http_archive(name = name, sha256 = "{A}", url = "https://a.test/" + name + ".zip")
""",
        third_party__repo="""
def _impl(ctx):
    fail("never run")

tf_http_archive = repository_rule(implementation = _impl, attrs = {"urls": attr.string_list()})

def tf_mirror_urls(url):
    if not url.startswith("https://"):
        return [url]
    return ["https://storage.googleapis.com/mirror.tensorflow.org/%s" % url[8:], url]
""",
    )
    assert {name: uris(item)[0] for name, item in items.items()} == {
        "one": "https://a.test/0123abcd/one.tgz",
        "two": "https://a.test/0123abcd/two.tgz",
        "p-old": "https://a.test/x/old.tgz",
        "p-new": "https://a.test/new.tgz",
        "more": "https://a.test/more.zip",
    }
    assert len(uris(items["one"])) == 2


def test_one_name_declared_twice(tmp_path: Path) -> None:
    line = 'http_archive(name = "x", sha256 = "{}", urls = ["https://a.test/{}.tgz"])\n'
    items = found(tmp_path, line.format(A, "a") + line.format(A, "a") + line.format(B, "b"))
    assert {name: item.sha256 for name, item in items.items()} == {"x": A, "x.2": B}


def test_a_build_file_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    items = found(
        tmp_path / "tree",
        f"""
import os
os.system("touch {mark}")
open("{mark}", "w")
__import__("os").system("touch {mark}")
[c for c in ().__class__.__base__.__subclasses__()]
"{{0.__class__}}".format("x")
http_archive(name = "x", sha256 = "{A}", urls = ["https://a.test/x.tgz"])
""",
    )
    assert not mark.exists()
    assert list(items) == ["x"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def f():\n  f()\nf()\n", "call each other without end"),
        ("def f(:\n", "is not the Starlark"),
        ("x = 0755\n", "is not the Starlark"),
        ("(" * 5000, "is not the Starlark"),
    ],
)
def test_a_file_that_cannot_be_read(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=told) as caught:
        read_workspace(tree(tmp_path, text))
    assert "WORKSPACE" in caught.value.where


def test_a_file_that_would_compute_for_ever_or_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starlark, "_STEPS", 20_000)
    digits = "L = [" + ", ".join("0" for _ in range(40)) + "]\n"
    loops = "".join("    " * depth + f"for a{depth} in L:\n" for depth in range(6)) + "    " * 6 + "pass\n"
    with pytest.raises(InputError, match="computes more than can be read"):
        read_workspace(tree(tmp_path, digits + loops))
    doubling = 's = "0123456789"\n' + "s = s + s\n" * 60 + 's = s.replace("0", s)\n'
    doubling += f'http_archive(name = s, sha256 = "{A}", url = s)\n'
    assert read_workspace(tree(tmp_path, doubling)).externals == ()


def test_files_outside_the_tree_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.bzl").write_text(f'http_archive(name = "x", sha256 = "{A}", urls = ["https://a.test/x"])')
    base = tree(tmp_path / "tree", 'load("//../:secret.bzl", "x")\nload("//:link.bzl", "y")\n')
    (base / "link.bzl").symlink_to(tmp_path / "secret.bzl")
    workspace = read_workspace(base)
    assert workspace.externals == ()
    assert len(workspace.left) == 2


def test_files_that_load_each_other_come_to_an_end(tmp_path: Path) -> None:
    base = tree(tmp_path, 'load("//:a.bzl", "a")\n', a='load("//:b.bzl", "b")\n', b='load("//:a.bzl", "a")\n')
    assert sorted(read_workspace(base).read) == ["WORKSPACE", "a.bzl", "b.bzl"]


def test_a_tree_without_a_workspace(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no WORKSPACE"):
        read_workspace(tmp_path)


VERSION = """#define TF_MAJOR_VERSION 1
#define TF_MINOR_VERSION 5
#define TF_PATCH_VERSION {}
#define TF_VERSION_SUFFIX "{}"
"""


@pytest.mark.parametrize(("patch", "suffix", "version"), [("0", "", "1.5.0"), ("1", "-rc1", "1.5.1-rc1")])
def test_the_version_of_a_tree(patch: str, suffix: str, version: str, tmp_path: Path) -> None:
    assert version_of(tmp_path) is None
    path = tmp_path / "tensorflow/core/public/version.h"
    path.parent.mkdir(parents=True)
    path.write_text(VERSION.format(patch, suffix))
    assert version_of(tmp_path) == version


def test_calls_are_noted_in_order(tmp_path: Path) -> None:
    reader = Reader(tree(tmp_path, "b(x = 1)\na(x = 2)\n"), wanted=lambda _name, arguments: "x" in arguments)
    reader.read_file("WORKSPACE")
    assert [(call.name, call.where) for call in reader.calls] == [("b", "WORKSPACE:1"), ("a", "WORKSPACE:2")]


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_writes_the_same_file_for_the_same_tree(
    catalog: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "data/recipes/tensorflow"
    recipe.mkdir(parents=True)
    (recipe / "recipe.toml").write_bytes((catalog.root / "recipes/tensorflow/recipe.toml").read_bytes())
    data = Catalog(tmp_path / "data")
    base = tree(tmp_path / "tree", f'http_archive(name = "a", sha256 = "{A}", urls = ["https://a.test/a.tgz"])\n')
    write_externals(data, "tf", "1.5.0", base)
    assert "that is not checked" in capsys.readouterr().out
    version = base / "tensorflow/core/public/version.h"
    version.parent.mkdir(parents=True)
    version.write_text(VERSION.format("0", ""))
    path = recipe / "externals/1.5.0.toml"
    text = path.read_text()
    assert text.startswith("# What tensorflow 1.5.0 downloads")
    assert "#   WORKSPACE (sha256 " in text
    assert str(tmp_path) not in text
    assert [item.name for item in load(Externals, path).externals] == ["a"]
    write_externals(data, "tensorflow", "1.5.0", base)
    assert capsys.readouterr().out == "unchanged: recipes/tensorflow/externals/1.5.0.toml: 1 externals\n"
    assert path.read_text() == text
    with pytest.raises(InputError, match=r"this is the tree of tensorflow 1\.5\.0, not of 1\.4\.1"):
        write_externals(data, "tensorflow", "1.4.1", base)
    with pytest.raises(InputError, match="this folder does not exist"):
        write_externals(data, "tensorflow", "1.5.0", tmp_path / "none")
    (base / "WORKSPACE").write_text("")
    with pytest.raises(InputError, match="pin nothing that is downloaded"):
        write_externals(data, "tensorflow", "1.5.0", base)
    assert path.read_text() == text


def test_what_was_read_of_tensorflow_can_be_used(catalog: Catalog) -> None:
    folder = catalog.root / "recipes/tensorflow/externals"
    versions = [path.stem for path in folder.glob("*.toml")]
    assert {"1.0.1", "1.5.0", "1.15.5", "2.6.0"} <= set(versions)
    for version in versions:
        names = [item.name for item in load(Externals, folder / f"{version}.toml").externals]
        assert len(names) == len(set(names)), version
        assert {"eigen_archive", "zlib_archive"} & set(names), version


def test_places_and_replacements_are_joined(catalog: Catalog) -> None:
    release = catalog.release("tensorflow", "1.5.0")
    items = {item.name: item for item in catalog.externals("tensorflow", release, "x86_64")}
    assert items["eigen_archive"].file.startswith("eigen-git-mirror-")
    assert "eigen-git-mirror" in items["eigen_archive"].places[0].uri
    assert uris(items["fft2d"])[0].startswith("http://www.kurims")
    assert len(uris(items["fft2d"])) == 3
