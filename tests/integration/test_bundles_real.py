"""A bundle from its source to its proof, in real containers: a small library with a program, cross-built by CMake."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import pytest
from commandline import CommandLine, copy_of_checkout

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

HELLO = Path(__file__).parent / "hello"


@pytest.fixture
def crosswheel(tmp_path: Path) -> CommandLine:
    """A checkout with one more recipe; the user's store."""
    crosswheel = copy_of_checkout(tmp_path / "checkout")
    shutil.copytree(HELLO / "recipe", crosswheel.root / "recipes" / "hello")
    return crosswheel


@pytest.mark.parametrize("target", ["nanopi-m4", "x86_64"])
def test_a_bundle_is_built_proved_and_released(crosswheel: CommandLine, target: str, tmp_path: Path) -> None:
    out = tmp_path / "dist"
    words = ("build", "hello", "--target", target, "--source", f"hello={HELLO / 'source'}", "--out", out)
    answer = crosswheel.json(*words)
    released = out / target / f"hello-1.2.3-{target}.tar.gz"
    assert Path(answer["bundle"]) == released
    assert answer["proof"]["passed"] is True
    assert (answer["proof"]["run"]["tests"], answer["proof"]["run"]["failures"]) == (3, 0)
    assert {finding["severity"] for finding in answer["proof"]["findings"]} == {"pass"}
    kept = json.loads(released.with_name(f"{released.name}.proof.json").read_text())
    assert (kept["build"]["recipe"], kept["build"]["output"]) == ("hello", "hello")
    (told,) = crosswheel.json("verify", "--provenance", released)["provenance"]
    assert told["passed"] is True and len(told["findings"]) == 4
    with tarfile.open(released) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names == {
        "bin/hi",
        "include/hello.h",
        "lib/libhello.so",
        "lib/libhello.so.1",
        "lib/libhello.so.1.2.3",
        "lib/pkgconfig/hello.pc",
    }


def test_a_bundle_that_does_something_else_is_not_released(crosswheel: CommandLine, tmp_path: Path) -> None:
    recipe = crosswheel.root / "recipes/hello/recipe.toml"
    recipe.write_text(recipe.read_text().replace("'^used hello {version}$'", "'^used hello 2$'"))
    out = tmp_path / "dist"
    done = crosswheel("build", "hello", "--target", "nanopi-m4", "--source", f"hello={HELLO / 'source'}", "--out", out)
    assert done.returncode == 1, done.stderr
    assert "it said 'used hello 1.2.3', in which nothing matches '^used hello 2$'" in done.stdout
    assert "this bundle does not fit its target" in done.stdout
    assert sorted(path.name for path in out.rglob("*.tar.gz")) == ["hello-1.2.3-nanopi-m4.tar.gz"]
    assert (out / "failed/hello-1.2.3-nanopi-m4.tar.gz").is_file()
