"""Installing what a machine lacks, with consent."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from machines import FEDORA, add, at_default, environ_with

from crosswheel.building.machine import Machine, Need, Seen, look, needs, provide, read_system
from crosswheel.errors import MachineError

pytestmark = pytest.mark.unit

APT = """#!/bin/sh
echo "$@" >>"$STUB_CALLS"
case "$*" in
  *update*) touch "$STUB_LISTS/x_Packages" ;;
  *install*) [ -e "$STUB_LISTS/x_Packages" ] || { echo "E: Unable to locate package"; exit 100; }
     [ -z "$STUB_FAIL" ] || { echo "Reading lists"; echo "E: $STUB_FAIL"; exit 100; } ;;
esac
"""


@pytest.fixture
def debian(machine: Machine, tmp_path: Path) -> Machine:
    """The machine with an apt-get that writes down what it was asked."""
    add(machine, "apt-get", text=APT)
    lists = machine.root / "var/lib/apt/lists"
    lists.mkdir(parents=True)
    path = f"{machine.environ['PATH']}{os.pathsep}/usr/bin{os.pathsep}/bin"
    return environ_with(machine, PATH=path, STUB_CALLS=str(tmp_path / "calls"), STUB_LISTS=str(lists))


def calls(machine: Machine) -> list[str]:
    path = Path(machine.environ["STUB_CALLS"])
    words = path.read_text().splitlines() if path.exists() else []
    return [call.replace("-q -y -o DPkg::Lock::Timeout=120 ", "") for call in words]


INSTALL = "install --no-install-recommends docker.io iptables"


def test_lists_are_renewed_where_there_are_none(debian: Machine) -> None:
    provide.install(debian, ["docker.io", "iptables"], say=lambda text: None)
    assert calls(debian) == ["update", INSTALL]
    provide.install(debian, ["docker.io", "iptables"], say=lambda text: None)
    assert calls(debian) == ["update", INSTALL, INSTALL]


def test_lists_are_renewed_again_where_the_first_try_fails(debian: Machine) -> None:
    (Path(debian.environ["STUB_LISTS"]) / "x_Packages").touch()
    broken = environ_with(debian, STUB_FAIL="Failed to fetch it")
    with pytest.raises(MachineError) as caught:
        provide.install(broken, ["docker.io", "iptables"], say=lambda text: None)
    assert calls(debian) == [INSTALL, "update", INSTALL]
    assert caught.value.why == "E: Failed to fetch it"
    assert caught.value.hint == "apt-get update && apt-get install -y --no-install-recommends docker.io iptables"


@pytest.mark.parametrize(
    ("task", "environ", "terminal", "fix", "consent"),
    [
        ("build", {}, False, False, "no"),
        ("build", {}, True, False, "ask"),
        ("build", {"CROSSWHEEL_YES": "1"}, False, False, "yes"),
        ("build", {"CROSSWHEEL_YES": "0"}, False, False, "no"),
        ("build", {"CI": "true"}, False, False, "yes"),
        ("build", {"CI": "false"}, False, False, "no"),
        ("test", {}, False, False, "yes"),
        ("doctor", {}, False, True, "yes"),
    ],
)
def test_consent(debian: Machine, task: str, environ: dict[str, str], terminal: bool, fix: bool, consent: str) -> None:
    given = environ_with(debian, **environ)
    assert provide.consent_for(given, task=task, terminal=terminal, fix=fix) == consent


@pytest.mark.parametrize("change", [{"uid": 1000}, {"system": read_system(FEDORA)}, {"environ": {"PATH": ""}}])
def test_only_root_on_debian_can_consent(debian: Machine, change: dict[str, object]) -> None:
    other = replace(debian, **change)
    assert provide.consent_for(other, task="test", terminal=True, fix=True) == "no"


def flag(path: Path, name: str = "git") -> Need:
    """Is there when ``path`` is."""

    def seen(machine: Machine) -> Seen:
        return Seen(status="ok") if path.exists() else Seen(status="missing", detail="not installed", fix="install")

    return Need(name=name, why="applies the patches", look=seen, packages={"apt": (name,)})


def never(question: str) -> bool:
    raise AssertionError(f"asked: {question}")


def test_nothing_is_asked_or_done_where_nothing_is_missing(debian: Machine) -> None:
    need = flag(Path("/"))
    provide.ensure(debian, [need], consent="ask", ask=never, say=never)
    assert calls(debian) == []


def test_with_a_yes_it_is_installed(debian: Machine) -> None:
    asked: list[str] = []

    def yes(question: str) -> bool:
        asked.append(question)
        return True

    need = flag(Path(debian.environ["STUB_LISTS"]) / "x_Packages")
    provide.ensure(debian, [need], consent="ask", ask=yes, say=lambda text: None)
    assert asked == ["This machine lacks: git (not installed). Install git now?"]
    assert calls(debian) == ["update", "install --no-install-recommends git"]


@pytest.mark.parametrize("consent", ["ask", "no"])
def test_without_it_all_that_is_missing_is_named(debian: Machine, consent: provide.Consent) -> None:
    lacking = [flag(Path("/nowhere")), flag(Path("/nowhere"), "tar")]
    with pytest.raises(MachineError) as caught:
        provide.ensure(debian, lacking, consent=consent, ask=lambda question: False, say=never)
    assert caught.value.what == "this machine lacks: git, tar"
    assert "apt-get install -y --no-install-recommends tar" in caught.value.why
    assert caught.value.hint == "./x doctor --fix installs and starts it"
    assert calls(debian) == []


def test_what_a_person_must_do_is_left_to_the_person(debian: Machine) -> None:
    def seen(machine: Machine) -> Seen:
        return Seen(status="missing", detail="forbidden", fix="person", command="usermod …")

    needs_both = [flag(Path("/nowhere")), Need(name="Docker engine", why="builds", look=seen)]
    with pytest.raises(MachineError) as caught:
        provide.ensure(debian, needs_both, consent="yes", ask=never, say=never)
    assert "usermod …" in caught.value.why
    assert "--fix" not in caught.value.hint
    assert calls(debian) == []


def test_what_is_still_missing_after_the_installation_is_an_error(debian: Machine) -> None:
    with pytest.raises(MachineError, match="this machine lacks: git"):
        provide.ensure(debian, [flag(Path("/nowhere"))], consent="yes", ask=never, say=lambda text: None)


def test_the_question_says_what_will_be_done(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    found = look(at_default(machine, monkeypatch, "absent"), [needs.DOCKER, needs.KEYRING])
    assert provide.question(found).endswith("Install debian-archive-keyring docker.io iptables and start Docker now?")
