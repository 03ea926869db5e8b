"""What `matrix plan` and `matrix run` show: as tables and lines, and as JSON."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from crosswheel.cli.lines import duration, plain
from crosswheel.cli.nights import Chosen
from crosswheel.planning.cells import Cell
from crosswheel.planning.matrix import sharing

if TYPE_CHECKING:
    from crosswheel.building.store import Store
    from crosswheel.publishing.history import Ended

_ROWS = 120
"""A table of more cells than this is one of recipes and targets."""
_SHARED = 5
_REFUSED = 12


# --- the plan --------------------------------------------------------------------------------------------------------


def show_plan(chosen: Chosen, store: Store, estimates: Mapping[str, float]) -> None:
    """The plan of a matrix on stdout."""
    from crosswheel.cli.console import show_table

    cells = [cell for cell in chosen.wanted if cell.plan]
    there = _there(cells, store)
    shard = f", shard {chosen.shard}" if chosen.shard else ""
    title = f"Matrix {chosen.matrix.name} ({chosen.file}{shard})"
    if cells:
        show_table(title, *(_each if len(cells) <= _ROWS else _grouped)(cells, there, estimates))
    refused = [cell for cell in chosen.cells if cell.refused and (chosen.only is None or cell in _matched(chosen))]
    if refused:
        _show_refused(refused)
    if cells:
        _show_sharing(cells, there)
    _show_sum(chosen, cells, refused, there, estimates)


def _matched(chosen: Chosen) -> list[Cell]:
    from crosswheel.cli.nights import matches

    return [cell for cell in chosen.cells if chosen.only is None or matches(cell, chosen.only)]


def _there(cells: Sequence[Cell], store: Store) -> dict[str, bool]:
    """Which steps are in the store; each is looked for once."""
    found: dict[str, bool] = {}
    for cell in cells:
        for step in cell.plan.steps if cell.plan else ():
            if step.key not in found:
                found[step.key] = store.has(step.key)
    return found


def _is_stored(cell: Cell, there: Mapping[str, bool]) -> bool:
    return cell.plan is not None and there[cell.plan.proof.key] and there[cell.plan.output.key]


Table = tuple[Sequence[str], list[Sequence[str]]]


def _each(cells: Sequence[Cell], there: Mapping[str, bool], estimates: Mapping[str, float]) -> Table:
    """A row for each cell."""
    rows: list[Sequence[str]] = []
    for cell in cells:
        steps = cell.plan.steps if cell.plan else ()
        stored = _is_stored(cell, there)
        have = "stored" if stored else f"{sum(there[step.key] for step in steps)} of {len(steps)} steps"
        rows.append((cell.id, have, "" if stored else _about(estimates[cell.id])))
    return ("cell", "store", "takes"), rows


def _grouped(cells: Sequence[Cell], there: Mapping[str, bool], estimates: Mapping[str, float]) -> Table:
    """A row for each recipe and target."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.recipe, cell.target), []).append(cell)
    rows: list[Sequence[str]] = []
    for (recipe, target), mine in groups.items():
        stored = sum(_is_stored(cell, there) for cell in mine)
        takes = sum(estimates[cell.id] for cell in mine)
        rows.append((recipe, target, str(len(mine)), str(stored), _about(takes) if stored < len(mine) else ""))
    return ("recipe", "target", "cells", "stored", "takes"), rows


def _about(seconds: float) -> str:
    """An estimate for a person: in minutes, from one minute on."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"


def _show_refused(cells: Sequence[Cell]) -> None:
    """The reasons why cells are refused, each once, with the cells that it is the reason of."""
    width = shutil.get_terminal_size((100, 24)).columns
    reasons: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        reasons.setdefault(cell.why, []).append(cell)
    print(f"Refused ({len(cells)})")
    for why, mine in sorted(reasons.items(), key=lambda item: -len(item[1]))[:_REFUSED]:
        names = ", ".join(cell.id for cell in mine[:3]) + (f" and {len(mine) - 3} more" if len(mine) > 3 else "")
        _print_wrapped(names, width, "  ")
        for reason in why:
            _print_wrapped(plain(reason), width, "    ")
    if len(reasons) > _REFUSED:
        print(f"  … and {len(reasons) - _REFUSED} more reasons: --json has them all")
    print()


def _print_wrapped(text: str, width: int, indent: str) -> None:
    print(
        "\n".join(wrap(text, max(40, width), initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False))
    )


def _show_sharing(cells: Sequence[Cell], there: Mapping[str, bool]) -> None:
    shared = sharing(cell.plan for cell in cells if cell.plan)
    if not shared.shared:
        return
    print(f"Shared: {shared.steps:,} steps of all cells are {shared.distinct:,}, each done once; by the most cells:")
    roots = [(step, count) for step, count in shared.shared if step.kind not in ("lock", "fetch", "tree")]
    for step, count in roots[:_SHARED]:
        print(f"  {count:>4} cells  {plain(step.name)}{'' if there[step.key] else ' (to be done)'}")
    print()


def _show_sum(
    chosen: Chosen,
    cells: Sequence[Cell],
    refused: Sequence[Cell],
    there: Mapping[str, bool],
    estimates: Mapping[str, float],
) -> None:
    stored = sum(_is_stored(cell, there) for cell in cells)
    left = len(cells) - stored
    takes = sum(estimates[cell.id] for cell in cells)
    parts = [f"{len(cells)} cell{'' if len(cells) == 1 else 's'}", f"{stored} stored"]
    parts += [f"{left} to build (about {_about(takes)})"] if left else []
    parts += [f"{len(refused)} refused"] if refused else []
    print(f"{', '.join(parts)}.")
    minutes = chosen.matrix.cost.minutes
    over = [cell.id for cell in cells if minutes and estimates[cell.id] > minutes * 60]
    for name in over[:_SHARED]:
        print(f"warning: {name} is thought to take longer than the {minutes:g} minutes that a cell may cost")


def plan_json(chosen: Chosen, store: Store, estimates: Mapping[str, float]) -> dict[str, object]:
    """The plan of a matrix as `matrix plan --json` prints it; seconds are estimates."""
    there = _there(chosen.wanted, store)
    wanted = {cell.id for cell in chosen.wanted}
    shared = sharing(cell.plan for cell in chosen.wanted if cell.plan)
    cells = [cell for cell in _matched(chosen) if cell.refused or cell.id in wanted]
    return {
        "matrix": chosen.matrix.name,
        "file": str(chosen.file),
        "sha256": chosen.sha256,
        "shard": chosen.shard,
        "cells": [_cell_json(cell, there, estimates) for cell in cells],
        "steps": {"all": shared.steps, "distinct": shared.distinct},
        "shared": [
            {"name": step.name, "kind": step.kind, "key": step.key, "cells": count, "cached": there[step.key]}
            for step, count in shared.shared
        ],
        "seconds": round(sum(estimates[cell.id] for cell in chosen.wanted), 1),
    }


def _cell_json(cell: Cell, there: Mapping[str, bool], estimates: Mapping[str, float]) -> dict[str, object]:
    told: dict[str, object] = {
        "id": cell.id,
        "recipe": cell.recipe,
        "version": cell.version,
        "target": cell.target,
        "cpu": cell.cpu,
        "python": cell.python,
        "features": list(cell.features),
        "state": "refused" if cell.refused else "planned",
        "why": list(cell.why),
    }
    if cell.plan:
        steps = cell.plan.steps
        told |= {
            "cached": _is_stored(cell, there),
            "steps": {"total": len(steps), "cached": sum(there[step.key] for step in steps)},
            "key": cell.plan.proof.key,
            "seconds": round(estimates[cell.id], 1),
        }
    return told


# --- the night -------------------------------------------------------------------------------------------------------


def ended_words(line: Ended) -> tuple[str, str, str]:
    """A mark, what became of a cell, and the style of the mark."""
    if line.outcome == "failed":
        return "✗", f"{line.cell}: {plain(line.error.what) if line.error else 'failed'}", "bold red"
    took = f"built in {duration(line.seconds)}" if line.outcome == "built" else "stored"
    return "✓", f"{line.cell}: {took}", "green"


def show_night(chosen: Chosen, lines: Mapping[str, Ended], seconds: float) -> None:
    """What a night came to, on stdout; the errors of failed cells on stderr."""
    from crosswheel.cli.console import show_error
    from crosswheel.errors import CrosswheelError

    mine = [lines[cell.id] for cell in chosen.wanted if cell.id in lines]
    for line in mine:
        if line.outcome == "failed" and line.error:
            told = line.error
            where = f"{line.cell}: {told.where}" if told.where else line.cell
            show_error(CrosswheelError(told.what, where=where, why=told.why, hint=told.hint), stream=sys.stderr)
    count = Counter(line.outcome for line in mine)
    refused = sum(cell.refused for cell in chosen.cells)
    if mine and count["cached"] == len(mine):
        print(f"Nothing to do: all {len(mine)} cells are in the store ({duration(seconds)}).")
        return
    parts = [f"{count['built']} built", f"{count['cached']} from the store", f"{count['failed']} failed"]
    parts += [f"{refused} refused"] if refused else []
    print(f"Night of {len(mine)} cells: {', '.join(parts)} ({duration(seconds)}).")


def night_json(chosen: Chosen, night: str, lines: Mapping[str, Ended], seconds: float) -> dict[str, object]:
    """What `matrix run --json` prints: each cell as the history has it."""
    return {
        "matrix": chosen.matrix.name,
        "night": night,
        "shard": chosen.shard,
        "cells": [lines[cell.id].model_dump(mode="json") for cell in chosen.wanted if cell.id in lines],
        "refused": [{"id": cell.id, "why": list(cell.why)} for cell in chosen.cells if cell.refused],
        "seconds": round(seconds, 3),
    }
