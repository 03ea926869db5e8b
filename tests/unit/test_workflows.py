"""The rendered workflows: who may write, what is pinned, what a pull request runs, and that all cells are run once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commandline import CommandLine
from ruamel.yaml import YAML
from test_docs import unparsed

from crosswheel.cli.nights import choose
from crosswheel.cli.rendering_ci import JOBS, rendered, shard_names
from crosswheel.errors import DataError, InputError
from crosswheel.publishing.workflows import Nightly, cap_gib, github, gitlab
from crosswheel.spec.ci import Ci
from crosswheel.spec.toml import load

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
FACTS = load(Ci, ROOT / "toolchains/ci.toml")

MATRIX = """
name = "small"
[axes]
recipe = ["wrapt", "dm-tree"]
target = ["rpi4", "x86_64"]
"""


def night(shards: int = 3, **more: Any) -> Nightly:
    given = {"command": "./x", "setup": (), "options": "", "matrix": "", "again": "./x matrix render --for github"}
    names = tuple(f"cell {number}" for number in range(shards))
    return Nightly(**{**given, "shards": names, "hour": 1, "minute": 17, **more})


def read(text: str) -> Any:
    return YAML(typ="safe").load(text)


def scripts(data: Any) -> Iterator[str]:
    """Every line that a shell runs."""
    if isinstance(data, dict):
        for key, value in data.items():
            if key in ("run", "script", "before_script", "after_script"):
                yield from "\n".join([value] if isinstance(value, str) else value).splitlines()
            else:
                yield from scripts(value)
    elif isinstance(data, list):
        for item in data:
            yield from scripts(item)


# --- GitHub ----------------------------------------------------------------------------------------------------------


def test_only_the_job_that_publishes_may_write_and_it_runs_no_code_of_the_repository() -> None:
    workflow = read(github(night(), FACTS))
    assert workflow["permissions"] == {}
    writing = {name for name, job in workflow["jobs"].items() if "write" in job["permissions"].values()}
    assert writing == {"publish"}
    assert [step["uses"].split("@")[0] for step in workflow["jobs"]["publish"]["steps"]] == ["actions/deploy-pages"]
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= FACTS.github.minutes
        for step in job["steps"]:
            if "checkout" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False


def test_actions_are_pinned_by_commit_with_the_version_beside_it() -> None:
    text = github(night(), FACTS)
    uses = re.findall(r"uses: (\S+)@(\S+) # (\S+)$", text, re.MULTILINE)
    assert len(uses) == text.count("uses:") >= 10
    known = {(action.name, action.commit, action.version) for action in FACTS.action}
    assert {("/".join(path.split("/")[:2]), commit, version) for path, commit, version in uses} == known


def test_a_pull_request_reads_and_runs_the_check_alone() -> None:
    workflow = read(github(night(), FACTS))
    assert "pull_request_target" not in workflow["on"]
    assert workflow["jobs"]["check"]["permissions"] == {"contents": "read"}
    for name in ("night", "index"):
        assert "github.event_name != 'pull_request'" in workflow["jobs"][name]["if"]
    assert workflow["jobs"]["publish"]["needs"] == "index"
    assert not any("cache" in step.get("uses", "") for step in workflow["jobs"]["check"]["steps"])


def test_no_expression_stands_in_a_script() -> None:
    for text in (github(night(), FACTS), gitlab(night(), FACTS)):
        found = list(scripts(read(text)))
        assert found and not any("${{" in line for line in found)


def test_each_shard_is_run_once_and_nights_do_not_overlap() -> None:
    workflow = read(github(night(3), FACTS))
    job = workflow["jobs"]["night"]
    assert [item["shard"] for item in job["strategy"]["matrix"]["include"]] == ["1/3", "2/3", "3/3"]
    assert job["strategy"]["fail-fast"] is False
    assert workflow["concurrency"]["group"].endswith("|| 'night' }}")
    assert workflow["concurrency"]["cancel-in-progress"] == "${{ github.event_name == 'pull_request' }}"


@pytest.mark.parametrize("shards", [1, 2, 8, 90])
def test_the_stores_of_all_jobs_fit_into_the_cache(shards: int) -> None:
    assert cap_gib(10, shards) * shards <= 9.1
    assert f"clean --max-size {cap_gib(10, shards)}G" in github(night(shards), FACTS)


def test_keys_of_caches_roll_and_fall_back_to_the_night_before() -> None:
    steps = read(github(night(), FACTS))["jobs"]["night"]["steps"]
    restore = next(step["with"] for step in steps if "cache/restore" in step.get("uses", ""))
    save = next(step["with"] for step in steps if "cache/save" in step.get("uses", ""))
    first, *_ = restore["restore-keys"].splitlines()
    assert save["key"].startswith(first) and "run_id" in save["key"]
    assert restore["path"] == save["path"]


def test_more_jobs_than_an_engine_runs_are_refused() -> None:
    for render, most in ((github, FACTS.github.jobs), (gitlab, FACTS.gitlab.jobs)):
        with pytest.raises(InputError, match="runs at most"):
            render(night(most + 1), FACTS)
        assert render(night(most), FACTS)


def test_an_action_that_is_not_pinned_is_told() -> None:
    with pytest.raises(DataError, match="'actions/stale' is pinned to no commit"):
        FACTS.pinned("actions/stale")


# --- GitLab ----------------------------------------------------------------------------------------------------------


def test_gitlab_runs_the_same_shards_and_a_merge_request_only_checks() -> None:
    pipeline = read(gitlab(night(3), FACTS))
    assert pipeline["night"]["parallel"] == 3
    assert any('--shard "$CI_NODE_INDEX/$CI_NODE_TOTAL"' in line for line in pipeline["night"]["script"])
    asked = {name: str(job["rules"]) for name, job in pipeline.items() if isinstance(job, dict) and "rules" in job}
    assert {name for name, rules in asked.items() if "merge_request_event" in rules} == {"check"}
    assert "parallel" not in read(gitlab(night(1), FACTS))["night"]
    assert "--shard" not in gitlab(night(1), FACTS)


@pytest.mark.parametrize("options", ["", "--data ."])
def test_commands_in_scripts_are_real(options: str) -> None:
    for text in (github(night(options=options), FACTS), gitlab(night(options=options), FACTS)):
        commands = [line for line in scripts(read(text)) if line.startswith("./x ")]
        assert len(commands) >= 6
        for line in commands:
            assert unparsed(line) == "", line


# --- the task --------------------------------------------------------------------------------------------------------


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(MATRIX)
    return path


def test_how_many_jobs_there_are(matrix: Path) -> None:
    chosen = choose(str(matrix), None, None)
    cells = {cell.id for cell in chosen.whole.planned}
    assert len(cells) == 4 < JOBS
    assert set(shard_names(chosen, FACTS, "github", None, per_cell=False)) == cells
    assert set(shard_names(chosen, FACTS, "github", None, per_cell=True)) == cells
    assert shard_names(chosen, FACTS, "github", 2, per_cell=False) == ("shard 1 of 2", "shard 2 of 2")
    few = FACTS.model_copy(update={"github": FACTS.github.model_copy(update={"jobs": 3})})
    assert len(shard_names(chosen, few, "github", None, per_cell=True)) == 3
    for shards, per_cell, message in ((0, False, "no number of jobs"), (2, True, "each say how many")):
        with pytest.raises(InputError, match=message):
            shard_names(chosen, FACTS, "github", shards, per_cell=per_cell)


def test_a_time_that_is_none_is_refused() -> None:
    for at in ("25:00", "noon", "1:7", "01:17; rm"):
        with pytest.raises(InputError, match="no time of a day"):
            rendered("github", FACTS, ("a",), (), at=at)
    assert read(rendered("github", FACTS, ("a",), (), at="3:05"))["on"]["schedule"] == [{"cron": "5 3 * * *"}]


def test_the_file_is_written_where_the_engine_looks_and_check_tells_of_drift(tmp_path: Path, matrix: Path) -> None:
    run = CommandLine()
    words = ("matrix", "render", "--for", "github", "--matrix", matrix)
    missing = run(*words, "--check", cwd=tmp_path)
    assert missing.returncode == 2 and "is not there" in missing.stderr
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "wrote .github/workflows/nightly.yml: 4 jobs for 4 cells\n"
    assert run(*words, "--check", cwd=tmp_path).returncode == 0
    matrix.write_text(MATRIX.replace('"dm-tree"', '"ml-dtypes"'))
    drifted = run(*words, "--check", cwd=tmp_path)
    assert drifted.returncode == 2 and "is not what is rendered" in drifted.stderr
    refused = run("matrix", "render", "--for", "jenkins", cwd=tmp_path)
    assert refused.returncode == 2 and "--for github, or --for gitlab" in refused.stderr


def test_hostile_names_of_files_are_quoted(tmp_path: Path) -> None:
    folder = tmp_path / "a b; touch x"
    folder.mkdir()
    (folder / "m.toml").write_text(MATRIX)
    done = CommandLine()("matrix", "render", "--for", "gitlab", "--matrix", folder / "m.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line for line in scripts(read((tmp_path / ".gitlab-ci.yml").read_text())) if "touch x" in line]
    assert lines and all("--matrix 'a b; touch x/m.toml'" in line for line in lines)


def test_what_a_job_would_not_find_is_refused_and_own_data_goes_with_every_command(tmp_path: Path) -> None:
    elsewhere, repository = tmp_path / "elsewhere.toml", tmp_path / "repository"
    elsewhere.write_text(MATRIX)
    (repository / "data").mkdir(parents=True)
    (repository / "data/matrix.toml").write_text(MATRIX)
    run = CommandLine()
    refused = run("matrix", "render", "--for", "github", "--matrix", elsewhere, cwd=repository)
    assert refused.returncode == 2 and "it is not in the repository" in refused.stderr
    done = run("matrix", "render", "--for", "github", "--data", "data", "--out", "w.yml", cwd=repository)
    assert done.stdout == "wrote w.yml: 4 jobs for 4 cells\n", done.stderr
    commands = [line for line in scripts(read((repository / "w.yml").read_text())) if line.startswith("./x")]
    assert commands and all(" --data data" in line for line in commands)
