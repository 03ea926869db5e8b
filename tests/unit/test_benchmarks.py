"""The benchmarks' rows, verdicts, table and exit codes; what they count; the measuring itself is `./x bench`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import __main__ as bench
from benchmarks import emulated, overhead, plan, sysroot
from benchmarks.rows import Row, below, exit_code, spread, unmeasured
from benchmarks.stored import lend
from crosswheel.building.job import Settings
from crosswheel.building.store import Store
from crosswheel.errors import InputError, MachineError, StepError
from crosswheel.planning.steps import FilesStep, RenderedFile, RunStep
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.remembering import remembering

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
MET = below("quick", 0.25, "s", 0.5)
MISSED = below("slow", 0.75, "s", 0.5)
PLAIN = Row(name="ratio", value=12.345, unit="×")
ABSENT = unmeasured("absent", "mmdebstrap is missing")


# --- rows ------------------------------------------------------------------------------------------------------------


def test_a_value_below_its_limit_is_ok_and_one_at_it_is_missed() -> None:
    assert (MET.ok, MET.target, MET.verdict) == (True, "< 0.5 s", "ok")
    assert (MISSED.ok, MISSED.verdict) == (False, "missed")
    assert below("at it", 0.5, "s", 0.5).verdict == "missed"


def test_a_value_of_which_nothing_is_wanted_has_no_verdict() -> None:
    assert (PLAIN.ok, PLAIN.verdict) == (None, "")


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0404, "0.040 s"), (1.0, "1.00 s"), (38.772, "38.77 s"), (123.4, "123 s"), (None, "–")]
)
def test_values_are_shown_as_exactly_as_they_are_known(value: float | None, shown: str) -> None:
    assert Row(name="x", value=value, unit="s").shown == shown


def test_json_keeps_the_value_unrounded() -> None:
    assert PLAIN.as_json() == {
        "name": "ratio", "value": 12.345, "unit": "×", "target": "", "ok": None, "note": "", "verdict": ""
    }  # fmt: skip
    assert ABSENT.as_json()["verdict"] == "not measured"


def test_spread_keeps_the_order() -> None:
    assert spread([1.0, 0.256]) == "1.00 0.26"


@pytest.mark.parametrize(
    ("rows", "error", "code"),
    [
        ([], 0, 0),
        ([MET, PLAIN], 0, 0),
        ([MET, MISSED], 0, 1),
        ([MISSED, ABSENT], 4, 1),
        ([MET, ABSENT], 0, 5),
        ([MET, ABSENT], 4, 4),
    ],
)
def test_exit_codes(rows: list[Row], error: int, code: int) -> None:
    assert exit_code(rows, error=error) == code


# --- names -----------------------------------------------------------------------------------------------------------


def test_names_are_measured_once_and_in_the_order_of_the_table() -> None:
    assert bench.chosen([]) == list(bench.MEASUREMENTS)
    assert bench.chosen(["plan", "noop", "plan"]) == ["noop", "plan"]


def test_every_name_is_a_module_that_measures_and_says_what() -> None:
    for name in bench.MEASUREMENTS:
        code = f"import benchmarks.{name} as m; assert callable(m.measure) and m.__doc__"
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_unknown_names_are_one_error() -> None:
    with pytest.raises(InputError) as caught:
        bench.chosen(["noop", "sysrot", "zzz"])
    told = str(caught.value)
    assert "'sysrot' or 'zzz'" in told
    assert "did you mean sysroot?" in told
    assert "emulated" in told


def test_the_command_refuses_an_unknown_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["sysrot"]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("error: ") == 1
    assert printed.out == ""
    assert bench.main(["sysrot", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["exit_code"] == 2


# --- the table -------------------------------------------------------------------------------------------------------


def serve(monkeypatch: pytest.MonkeyPatch, **measurements: Callable[[Settings], list[Row]]) -> None:
    """Puts other measurements in the place of the real ones."""
    monkeypatch.setattr(bench, "MEASUREMENTS", {name: f"what {name} is" for name in measurements})
    modules = {f"benchmarks.{name}": SimpleNamespace(measure=measure) for name, measure in measurements.items()}
    monkeypatch.setattr(bench.importlib, "import_module", modules.__getitem__)


def lacking(_settings: Settings) -> list[Row]:
    raise MachineError("There is no Docker.", hint="Start it.")


def test_the_table_has_every_row_with_its_verdict(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(monkeypatch, one=lambda _: [MET, PLAIN], two=lambda _: [MISSED])
    assert bench.main([]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Measured on ")
    assert "load average" in lines[0]
    assert [line.split() for line in lines[2:5]] == [
        ["quick", "0.250", "s", "<", "0.5", "s", "ok"],
        ["ratio", "12.35", "×"] if "12.35" in lines[3] else ["ratio", "12.34", "×"],
        ["slow", "0.750", "s", "<", "0.5", "s", "missed"],
    ]


def test_a_measurement_that_ends_in_an_error_is_a_row_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(monkeypatch, broken=lacking, one=lambda _: [MET])
    assert bench.main([]) == 5
    printed = capsys.readouterr()
    assert "not measured  There is no Docker. Start it." in printed.out
    assert "quick" in printed.out
    assert "error: There is no Docker." in printed.err


def test_json_is_one_object(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    serve(monkeypatch, one=lambda _: [MET, MISSED])
    assert bench.main(["--json", "one"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["exit_code"] == 1
    assert [(row["name"], row["ok"]) for row in answer["rows"]] == [("quick", True), ("slow", False)]
    assert answer["machine"]["cpus"] >= 1
    assert len(answer["machine"]["load"]) == 2


# --- what is measured ------------------------------------------------------------------------------------------------


def test_every_combination_is_planned_or_refused(catalog: Catalog) -> None:
    catalog = remembering(catalog)
    asked = list(plan.requests(catalog))
    assert {request.recipe for request in asked} == set(catalog.recipe_names)
    assert {request.target for request in asked} == set(catalog.target_names)
    bazels = {(request.version, request.tools.get("bazel")) for request in asked if request.recipe == "dm-tree"}
    assert {("0.1.5", "0.17.2"), ("0.1.5", "2.1.0"), ("0.1.9", None)} <= bazels
    plans, refused = plan.plan_everything(catalog)
    assert plans + refused == len(asked)
    assert plans > len(catalog.recipe_names)


def test_templates_are_compiled_once_for_all_plans(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    template = Catalog.template

    def counted(catalog: Catalog, name: str) -> str:
        read.append(name)
        return template(catalog, name)

    monkeypatch.setattr(Catalog, "template", counted)
    plan.plan_everything(remembering(Catalog(data)))
    assert sorted(read) == sorted(set(read))


def test_overhead_is_judged_by_the_medians() -> None:
    assert overhead.allowed(20.0) == pytest.approx(23.0)
    ours = [overhead.Run(seconds=time, container=time - 1.0, bazel=time - 3.5) for time in (40.0, 22.9, 21.0)]
    bare = [overhead.Run(seconds=time, container=time, bazel=time - 0.5) for time in (19.0, 20.0, 40.0)]
    rows = {row.name.removeprefix("overhead: "): row for row in overhead.rows(ours, bare)}
    assert (rows["crosswheel"].value, rows["crosswheel"].ok, rows["crosswheel"].target) == (22.9, True, "< 23.00 s")
    assert rows["crosswheel / bare"].value == pytest.approx(22.9 / 20)
    assert rows["crosswheel, outside the container"].value == pytest.approx(1.0)
    assert rows["crosswheel, in it beside Bazel (pip, setuptools)"].value == pytest.approx(2.5)
    assert rows["bare, in it beside Bazel"].value == pytest.approx(0.5)
    slow = [overhead.Run(seconds=23.1, container=22.0, bazel=20.0)]
    assert exit_code(overhead.rows(slow, bare)) == 1


def test_bazels_time_is_found_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([10.0, 31.5])
    monkeypatch.setattr(overhead.time, "perf_counter", lambda: next(now))
    found = overhead._BazelTime()
    with pytest.raises(StepError, match="first or last line"):
        _ = found.seconds
    for line in ("bazel build //tree:_tree", overhead.BEGIN, "  Loading:", f"  INFO: {overhead.END}, 46 actions"):
        found.line(line)
    assert found.seconds == 21.5


def test_the_bare_command_is_that_of_the_release(catalog: Catalog) -> None:
    planned = overhead.planned(catalog)
    step = planned.wheel.inputs["run"]
    assert isinstance(step, RunStep)
    assert planned.resolution.bazel is not None
    assert planned.resolution.bazel.version == "0.17.2"
    absl, pybind11 = "-I/externals/com_google_absl", "-I/externals/pybind11_archive/pybind11/include"
    assert emulated._includes(step)[1:3] == [absl, pybind11]


def compilation(side: str, cpu: float, sha256: str = "a") -> emulated.Compilation:
    return emulated.Compilation(side=side, cpu=cpu, wall=cpu * 1.1, sha256=sha256)


@pytest.mark.parametrize(("seconds", "ok"), [(40.0, True), (34.0, False)])
def test_emulation_is_judged_by_cpu_time(seconds: float, ok: bool) -> None:
    sides = [compilation("cross", 5.0), compilation("emulated", seconds)]
    ratio = next(row for row in emulated.rows(sides) if row.target)
    assert (ratio.value, ratio.ok) == (pytest.approx(seconds / 5), ok)


def test_emulation_is_no_comparison_where_the_objects_differ() -> None:
    with pytest.raises(StepError, match="objects differ"):
        emulated.rows([compilation("cross", 5.0, "a"), compilation("emulated", 40.0, "b")])


def test_without_mmdebstrap_the_row_says_how_to_get_it(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysroot.shutil, "which", lambda name: None)
    (row,) = sysroot.cold(catalog, runs=1)
    assert row.verdict == "not measured"
    assert "apt-get install mmdebstrap" in row.note


def test_a_lent_store_has_what_was_lent_and_leaves_no_trace(tmp_path: Path) -> None:
    step = FilesStep(name="a file", files={"a": RenderedFile(text="text")})
    whole = Store(tmp_path / "whole")
    with whole.hold(step.key):
        building = whole.open_tmp(step)
        (building.out / "a").write_text("text")
        whole.commit(building, step, 0.0)
    settings = Settings(store=whole.root)
    lend([step.key], settings, tmp_path / "lent")
    found = Store(tmp_path / "lent").lookup(step.key)
    assert found is not None
    assert (found.path / "a").read_text() == "text"
    with pytest.raises(StepError, match="left the store"):
        lend(["0" * 64], settings, tmp_path / "other")
