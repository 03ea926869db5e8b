"""The files by which GitHub and GitLab run a matrix every night: data, written as YAML.

A job runs one shard by ``matrix run --shard K/N``, which is what anybody runs at home, and leaves wheels, proofs and
history as artefacts; a last one makes the index and the page of them all, and publishes both. No word of a workflow's
expressions stands in a script: values reach it through the environment, where no shell reads them as its own.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crosswheel.errors import InputError
from crosswheel.spec.ci import Ci

STORE = ".crosswheel/store"
"""Where a job keeps the store: below the folder of the checkout, since caches can hold nothing else on GitLab."""

_Step = dict[str, Any]

_INDEX_FOLDER = "public"
_KEPT = ("dist", "history")
_NIGHT = "${{ github.event_name == 'pull_request' && github.ref || 'night' }}"
_NO_PULL_REQUEST = "github.event_name != 'pull_request'"


@dataclass(frozen=True, kw_only=True)
class Nightly:
    """What the files are rendered from. ``command`` runs crosswheel, after ``setup``; ``options`` go behind every
    command that reads data, ``matrix`` behind those that read the matrix, ``again`` is how this file is rendered.
    ``shards`` are the names of the jobs. ``hour`` and ``minute`` are in UTC."""

    command: str
    setup: tuple[str, ...]
    options: str
    matrix: str
    again: str
    shards: tuple[str, ...]
    hour: int
    minute: int

    def run(self, words: str) -> str:
        """A command line of crosswheel."""
        return " ".join(filter(None, (self.command, words, self.options)))

    def of_matrix(self, words: str) -> str:
        """A command line that reads the matrix."""
        return self.run(" ".join(filter(None, (words, self.matrix))))


def cap_gib(whole: float, shards: int) -> float:
    """How large the store of one of so many jobs may be, so that all of them fit into the cache, in GiB; it leaves a
    tenth for the index. What is stored is compressed besides."""
    return max(0.1, round(0.9 * whole / shards, 1))


# --- GitHub ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pinned:
    """``uses`` with the version behind it as a comment."""

    path: str


def github(night: Nightly, facts: Ci) -> str:
    """The workflow's text. ``InputError`` for more jobs than a matrix may have."""
    _few(len(night.shards), facts.github.jobs, "GitHub")
    workflow = {
        "name": "wheels of the night",
        "on": {
            "schedule": [{"cron": f"{night.minute} {night.hour} * * *"}],
            "workflow_dispatch": {},
            "pull_request": {},
        },
        "permissions": {},
        # Two nights never overlap, and none is cut off by the next; of a pull request the newest state counts.
        "concurrency": {
            "group": f"crosswheel-{_NIGHT}",
            "cancel-in-progress": "${{ github.event_name == 'pull_request' }}",
        },
        "env": {"CROSSWHEEL_STORE": "${{ github.workspace }}/" + STORE},
        "jobs": {
            "check": _github_check(night, facts),
            "night": _github_night(night, facts),
            "index": _github_index(night, facts),
            "publish": _github_publish(facts),
        },
    }
    return _yaml(workflow, facts, _head(night, "github"))


def _github_check(night: Nightly, facts: Ci) -> dict[str, Any]:
    """All that a pull request runs: it reads, and no more."""
    return {
        "name": "check",
        "runs-on": facts.github.runner,
        "timeout-minutes": 20,
        "permissions": {"contents": "read"},
        "outputs": {"night": "${{ steps.night.outputs.name }}"},
        "steps": [
            _checkout(),
            *_setup(night),
            _step("The data", night.run("check")),
            _step("The cells", night.of_matrix("matrix plan")),
            _step("This file is what is rendered", f"{night.again} --check"),
            _step("The night's name", 'echo "name=$(date -u +%Y-%m-%dT%H-%M-%SZ)" >> "$GITHUB_OUTPUT"', id="night"),
        ],
    }


def _github_night(night: Nightly, facts: Ci) -> dict[str, Any]:
    count = len(night.shards)
    include = [{"shard": f"{k}/{count}", "unit": f"{k}-of-{count}", "name": n} for k, n in enumerate(night.shards, 1)]
    cap = cap_gib(facts.github.cache, count)
    key = "crosswheel-store-${{ matrix.unit }}-"
    return {
        "name": "${{ matrix.name }}",
        "needs": "check",
        "if": _NO_PULL_REQUEST,
        "runs-on": facts.github.runner,
        "timeout-minutes": facts.github.minutes - 10,
        "permissions": {"contents": "read"},
        "strategy": {"fail-fast": False, "matrix": {"include": include}},
        "env": {
            "SHARD": "${{ matrix.shard }}",
            "NIGHT": "${{ needs.check.outputs.night }}",
            # Without the secret it is empty, and an empty one names no cache.
            "CROSSWHEEL_REMOTE_CACHE": "${{ secrets.CROSSWHEEL_REMOTE_CACHE }}",
        },
        "steps": [
            _checkout(),
            *_packages(facts.github.packages),
            *_setup(night),
            _action(
                "The store of the night before",
                "actions/cache/restore",
                {
                    "path": STORE,
                    "key": key + "${{ github.run_id }}",
                    "restore-keys": f"{key}\ncrosswheel-store-\n",
                },
            ),
            _step("Build and prove", night.of_matrix('matrix run --shard "$SHARD" --night "$NIGHT" --keep-going')),
            _step(f"At most {cap} GiB are kept", night.run(f"clean --max-size {cap}G"), when="always()"),
            _action(
                "Keep the store",
                "actions/cache/save",
                {"path": STORE, "key": key + "${{ github.run_id }}-${{ github.run_attempt }}"},
                when="always()",
            ),
            _action(
                "Wheels, proofs, history",
                "actions/upload-artifact",
                {
                    "name": "night-${{ matrix.unit }}",
                    "path": "".join(f"{folder}\n" for folder in _KEPT),
                    "overwrite": True,
                    "if-no-files-found": "warn",
                    "retention-days": facts.github.retention,
                },
                when="always()",
            ),
        ],
    }


def _github_index(night: Nightly, facts: Ci) -> dict[str, Any]:
    kept = f"{_INDEX_FOLDER}\nhistory\n"
    page = f"report build {_INDEX_FOLDER} --from {_INDEX_FOLDER} --history history"
    return {
        "name": "index and page",
        "needs": ["check", "night"],
        # A cell that failed keeps no other from being published.
        "if": f"!cancelled() && needs.check.result == 'success' && {_NO_PULL_REQUEST}",
        "runs-on": facts.github.runner,
        "timeout-minutes": 30,
        "permissions": {"contents": "read", "pages": "read"},
        "steps": [
            _checkout(),
            *_setup(night),
            _action(
                "The index of the night before",
                "actions/cache/restore",
                {"path": kept, "key": "crosswheel-index-${{ github.run_id }}", "restore-keys": "crosswheel-index-\n"},
            ),
            _action(
                "This night's wheels",
                "actions/download-artifact",
                {"pattern": "night-*", "merge-multiple": True},
            ),
            _action("Where it will be", "actions/configure-pages", id="pages"),
            _step("The index", night.run(f"index build {_INDEX_FOLDER}")),
            _step(
                "The page",
                night.run(f'{page} --index-url "$BASE"'),
                env={"BASE": "${{ steps.pages.outputs.base_url }}"},
            ),
            _action(
                "Keep the index",
                "actions/cache/save",
                {"path": kept, "key": "crosswheel-index-${{ github.run_id }}-${{ github.run_attempt }}"},
            ),
            _action("The site", "actions/upload-pages-artifact", {"path": _INDEX_FOLDER}),
        ],
    }


def _github_publish(facts: Ci) -> dict[str, Any]:
    """The one job that may write, and it runs nothing but the action that does."""
    return {
        "name": "publish",
        "needs": "index",
        "if": "!cancelled() && needs.index.result == 'success'",
        "runs-on": facts.github.runner,
        "timeout-minutes": 20,
        "permissions": {"pages": "write", "id-token": "write"},
        "environment": {"name": "github-pages", "url": "${{ steps.deployed.outputs.page_url }}"},
        "steps": [_action("Publish", "actions/deploy-pages", id="deployed")],
    }


def _checkout() -> _Step:
    return _action("The checkout", "actions/checkout", {"persist-credentials": False})


def _setup(night: Nightly) -> list[_Step]:
    return [_step("crosswheel", "\n".join(night.setup) + "\n")] if night.setup else []


def _packages(names: Sequence[str]) -> list[_Step]:
    if not names:
        return []
    words = " ".join(names)
    text = f"sudo apt-get update\nsudo apt-get install --yes --no-install-recommends {words}\n"
    return [_step("What the machine lacks", text)]


def _step(name: str, run: str, *, id: str = "", when: str = "", env: Mapping[str, str] | None = None) -> _Step:
    found: _Step = {"name": name}
    found |= {"id": id} if id else {}
    found |= {"if": when} if when else {}
    found |= {"env": dict(env)} if env else {}
    return found | {"run": run}


def _action(name: str, path: str, inputs: Mapping[str, Any] | None = None, *, id: str = "", when: str = "") -> _Step:
    found: _Step = {"name": name}
    found |= {"id": id} if id else {}
    found |= {"if": when} if when else {}
    found |= {"uses": _Pinned(path)}
    return found | ({"with": dict(inputs)} if inputs else {})


# --- GitLab ----------------------------------------------------------------------------------------------------------


def gitlab(night: Nightly, facts: Ci) -> str:
    """The text of ``.gitlab-ci.yml``. ``InputError`` for more jobs than ``parallel`` takes."""
    _few(len(night.shards), facts.gitlab.jobs, "GitLab")
    packages = " ".join(facts.gitlab.packages)
    pipeline: dict[str, Any] = {
        "stages": ["check", "night", "publish"],
        "variables": {
            "CROSSWHEEL_STORE": f"$CI_PROJECT_DIR/{STORE}",
            "CROSSWHEEL_YES": "1",
            # Only what changed is packed, and quickly.
            "CACHE_COMPRESSION_LEVEL": "fast",
        },
        "default": {
            "image": facts.gitlab.image,
            "interruptible": False,
            "before_script": [
                "apt-get -qq update",
                f"apt-get -qq install --yes --no-install-recommends {packages}",
                *night.setup,
            ],
        },
        "check": {
            "stage": "check",
            "rules": [{"if": '$CI_PIPELINE_SOURCE == "merge_request_event"'}, *_gitlab_nights()],
            "script": [night.run("check"), night.of_matrix("matrix plan"), f"{night.again} --check"],
        },
        "night": _gitlab_night(night, facts),
        "pages": _gitlab_pages(night),
    }
    return _yaml(pipeline, facts, _head(night, "gitlab"))


def _gitlab_nights() -> list[dict[str, str]]:
    """When wheels are built: by the schedule, or when somebody asks for it."""
    return [{"if": '$CI_PIPELINE_SOURCE == "schedule"'}, {"if": '$CI_PIPELINE_SOURCE == "web"'}]


def _gitlab_night(night: Nightly, facts: Ci) -> dict[str, Any]:
    count = len(night.shards)
    return {
        "stage": "night",
        "rules": _gitlab_nights(),
        "services": [{"name": facts.gitlab.service, "alias": "docker"}],
        "variables": {"DOCKER_HOST": "tcp://docker:2375", "DOCKER_TLS_CERTDIR": ""},
        **({"parallel": count} if count > 1 else {}),
        # Two nights of one shard wait for each other.
        "resource_group": "crosswheel-night-" + ("$CI_NODE_INDEX" if count > 1 else "1"),
        "cache": {
            "key": "crosswheel-store-" + ("$CI_NODE_INDEX" if count > 1 else "1"),
            "paths": [f"{STORE}/"],
            "when": "always",
        },
        "script": [
            'NIGHT=$(echo "$CI_PIPELINE_CREATED_AT" | tr : -)',
            night.of_matrix(_gitlab_run(count)),
        ],
        "after_script": [*night.setup, night.run("clean --max-size 8G")],
        "allow_failure": True,
        "artifacts": {
            "when": "always",
            "paths": [f"{folder}/" for folder in _KEPT],
            "expire_in": f"{facts.github.retention} days",
        },
    }


def _gitlab_pages(night: Nightly) -> dict[str, Any]:
    page = f"report build {_INDEX_FOLDER} --from {_INDEX_FOLDER} --history .crosswheel/history"
    return {
        "stage": "publish",
        "rules": _gitlab_nights(),
        "resource_group": "crosswheel-publish",
        "cache": {"key": "crosswheel-index", "paths": [f"{_INDEX_FOLDER}/", ".crosswheel/history/"]},
        "script": [
            # history/ has this night's, as artefacts; those before it are in the cache.
            "mkdir -p .crosswheel/history history",
            "find history -name '*.jsonl' -exec cp -n {} .crosswheel/history/ ';'",
            night.run(f"index build {_INDEX_FOLDER}"),
            night.run(f'{page} --index-url "$CI_PAGES_URL"'),
        ],
        "pages": True,
        "artifacts": {"paths": [_INDEX_FOLDER]},
    }


def _gitlab_run(count: int) -> str:
    shard = ' --shard "$CI_NODE_INDEX/$CI_NODE_TOTAL"' if count > 1 else ""
    return f'matrix run{shard} --night "$NIGHT" --keep-going'


# --- the text --------------------------------------------------------------------------------------------------------


def _few(count: int, most: int, engine: str) -> None:
    if count > most:
        raise InputError(
            f"{engine} runs at most {most} jobs of one matrix, and these are {count}",
            where="--shards",
            hint=f"--shards {most}, or fewer",
        )


def _head(night: Nightly, engine: str) -> str:
    more = {
        "github": "Pages must be switched on for the repository, with GitHub Actions as its source.",
        "gitlab": "GitLab keeps schedules outside of files: make one under Build, Pipeline schedules.",
    }[engine]
    at = f"{night.hour:02}:{night.minute:02} UTC"
    when = f"Every night at {at}." if engine == "github" else f"Meant for every night, at {at} say."
    return (
        f"Rendered by `{night.again}`; a change by hand is lost with the next.\n{when} {more}\ndocs/ci.md tells of it."
    )


def _yaml(data: Mapping[str, Any], facts: Ci, head: str) -> str:
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap, CommentedSeq
    from ruamel.yaml.scalarstring import LiteralScalarString

    def made(value: Any) -> Any:
        if isinstance(value, Mapping):
            found = CommentedMap()
            for key, item in value.items():
                if isinstance(item, _Pinned):
                    action = facts.pinned(item.path)
                    found[key] = f"{item.path}@{action.commit}"
                    found.yaml_add_eol_comment(action.version, key, column=0)
                else:
                    found[key] = made(item)
            return found
        if isinstance(value, (list, tuple)):
            return CommentedSeq(made(item) for item in value)
        return LiteralScalarString(value) if isinstance(value, str) and "\n" in value else value

    yaml = YAML()
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    out = io.StringIO()
    yaml.dump(made(data), out)
    return "".join(f"# {line}\n" for line in head.splitlines()) + out.getvalue()
