"""The JSON Schema of a proof (docs/proof.schema.json): every proof there is follows it, and what is none does not."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from wheel_writer import POLICY, SONAMES, write_wheel

from crosswheel.proving.findings import Severity
from crosswheel.proving.prove import SCHEMA, prove
from crosswheel.spec.policy import Policy

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
TEXT = json.loads((ROOT / "docs/proof.schema.json").read_text())
KEPT = sorted((ROOT / "docs/proofs").glob("*.json"))
CHECKER = jsonschema.Draft202012Validator(TEXT)
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def proof(tmp_path: Path) -> dict[str, Any]:
    made = prove(write_wheel(tmp_path), POLICY, sonames=SONAMES, check=None, run=None).as_json()
    value: dict[str, Any] = json.loads(json.dumps(made))
    return value


def test_it_is_a_schema_of_this_version() -> None:
    jsonschema.Draft202012Validator.check_schema(TEXT)
    assert TEXT["properties"]["schema"] == {"const": SCHEMA}
    severity = TEXT["$defs"]["finding"]["properties"]["severity"]
    assert severity["enum"] == [each.value for each in Severity]


def test_its_policy_is_the_models() -> None:
    """Written by pydantic; where a policy gets another field, this is the test that says so."""
    model = Policy.model_json_schema()
    definitions = {**model.pop("$defs"), "Policy": model}
    assert {name: TEXT["$defs"][name] for name in definitions} == untitled(definitions)


def untitled(value: Any) -> Any:
    """Without pydantic's titles and descriptions, which are Python's."""
    if isinstance(value, dict):
        return {
            name: {key: untitled(each) for key, each in part.items()} if name == "properties" else untitled(part)
            for name, part in value.items()
            if name not in ("title", "description") or not isinstance(part, str)
        }
    return [untitled(each) for each in value] if isinstance(value, list) else value


def test_a_new_proof_follows_it(proof: dict[str, Any]) -> None:
    CHECKER.validate(proof)
    assert CHECKER.is_valid({**proof, "build": {"recipe": "quick"}})


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_every_kept_proof_follows_it(path: Path) -> None:
    CHECKER.validate(json.loads(path.read_text()))


BREAKS: dict[str, Change] = {
    "another version": lambda value: value.update(schema=SCHEMA + 1),
    "no verdict": lambda value: value.pop("passed"),
    "no digest": lambda value: value.update(sha256="abc"),
    "a wheel and a bundle": lambda value: value.update(bundle="quick.tar.gz"),
    "neither": lambda value: value.pop("wheel"),
    "an unknown key": lambda value: value.update(note="fine"),
    "no such severity": lambda value: value["findings"][0].update(severity="perhaps"),
    "a rule without a version": lambda value: value["rules"].update(archive="new"),
    "a policy without floors": lambda value: value["policy"].pop("floors"),
    "a run without its model": lambda value: value.update(run={"seconds": 1}),
}


@pytest.mark.parametrize("change", BREAKS.values(), ids=BREAKS.keys())
def test_what_does_not_follow_it(change: Change, proof: dict[str, Any]) -> None:
    broken = copy.deepcopy(proof)
    change(broken)
    assert not CHECKER.is_valid(broken)
