"""The documents: links lead somewhere, commands exist with their options, tables say what the written data says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from invoke.exceptions import ParseError
from invoke.parser import Parser
from invoke.program import Program
from packaging.version import Version

from crosswheel.building.job import Settings
from crosswheel.cli import ns
from crosswheel.cli.listing import system_words
from crosswheel.cli.settings import UserSettings
from crosswheel.proving.prove import STATIC_RULES
from crosswheel.spec.catalog import Catalog

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
GENERATED = ROOT / "docs" / "status.md"
FOLDERS = ("benchmarks", "crosswheel", "docs", "patches", "recipes", "sysroots", "tests", "toolchains")
LATER = ("sysroots/locks", "docs/proofs", "docs/status")
"""Made by commands."""

_LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """The names of a page's headings in links, as the usual renderers make them."""
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(prose(page))}


# --- links -----------------------------------------------------------------------------------------------------------


@pages
def test_local_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(prose(page)):
        if re.match(r"[a-z]+://", target):
            continue
        name, _, anchor = target.partition("#")
        place = (page.parent / name).resolve() if name else page
        assert place.is_relative_to(ROOT), f"{page.name}: {target} leads out of the project"
        if place != GENERATED:
            assert place.exists(), f"{page.name}: {target} is not there"
            assert not anchor or anchor in anchors(place), f"{page.name}: {target} names no heading"


def test_every_document_is_linked_from_the_readme() -> None:
    linked = {(ROOT / target).resolve() for target in _LINK.findall(prose(ROOT / "README.md"))}
    assert set(PAGES) - {ROOT / "README.md"} - linked == set()


@pages
def test_files_that_a_page_names_exist(page: Path) -> None:
    for span in _SPAN.findall(prose(page)):
        top = span.partition("/")[0]
        if top not in FOLDERS or not re.fullmatch(r"[\w./-]+", span) or span.startswith(LATER):
            continue
        added = f"`{span}`:\n\n```" in page.read_text()  # a page that has one write the file
        assert added or (ROOT / span).exists(), f"{page.name} names {span}"


# --- commands --------------------------------------------------------------------------------------------------------


def shown(page: Path) -> list[str]:
    """The command lines of a page: lines of blocks, and spans, that begin with ./x or `invoke`, but for what is shown
    of commands in general (``./x TASK``, ``./x plan …``)."""
    text = page.read_text()
    lines = [line.strip().removeprefix("$ ") for line in text.splitlines()]
    spans = _SPAN.findall(prose(page))
    return [line for line in [*lines, *spans] if re.match(r"(\./x|invoke) (?!TASK\b|\w+ …$)", line)]


def words(line: str) -> list[str]:
    """A command line's words without the program, comments and the marks of what may be left out."""
    found = shlex.split(line, comments=True)[1:]
    return joined([word for word in (re.sub(r"[\[\]…]", "", each) for each in found) if word])


def joined(found: list[str]) -> list[str]:
    """The two words of a collection's task as the one that Invoke knows, also behind ``--help``."""
    at = 1 if found[:1] == ["--help"] else 0
    name = ".".join(found[at : at + 2])
    return [*found[:at], name, *found[at + 2 :]] if name in ns.task_names else found


def unparsed(line: str) -> str:
    """Why a command line is none; empty if the tasks take it."""
    program = Program(namespace=ns)
    program.create_config()
    initial, contexts = program.initial_context, ns.to_contexts()
    try:  # as Invoke does: its own options first, then the tasks
        core = Parser(initial=initial, ignore_unknown=True).parse_argv(words(line))
        parsed = Parser(initial=initial, contexts=contexts).parse_argv(core.unparsed)
    except ParseError as error:
        return str(error)
    asked = core[0].args["help"].value
    if asked and asked not in {context.name for context in contexts}:
        return f"no help of {asked}"
    if len(parsed) > 2:
        return f"two tasks: {', '.join(str(context.name) for context in parsed[1:])}"
    if len(parsed) == 2 and parsed[1].missing_positional_args:
        return "an argument is missing"
    return ""


@pages
def test_commands_that_a_page_shows_are_real(page: Path) -> None:
    for line in shown(page):
        assert unparsed(line) == "", f"{page.name}: {line}"


@pytest.mark.parametrize(
    "line",
    [
        "./x frobnicate",
        "./x build dm-tree --colour blue",
        "./x list one two",
        "./x plan dm-tree --out DIR",
        "./x build",
        "./x --help frobnicate",
    ],
)
def test_a_command_that_is_none_is_found_out(line: str) -> None:
    assert unparsed(line) != ""


def test_the_pages_together_show_every_task_and_commands_md_every_option() -> None:
    contexts = {str(context.name): context for context in ns.to_contexts()}
    used = {word for page in PAGES for line in shown(page) for word in words(line)}
    assert set(contexts) - used == set()
    text = (ROOT / "docs" / "commands.md").read_text()
    for name, context in contexts.items():
        section = re.search(rf"^## `{name.replace('.', ' ')}`$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        assert section, f"docs/commands.md has no section about {name}"
        own = {flag for flag in context.flags if flag.startswith("--")}
        options = own - {f"--{argument.name}" for argument in context.positional_args}
        options -= {"--recipe"} if name in ("list", "patches") else set()
        options -= {"--wheels", "--proofs", "--files", "--names", "--packages"}
        options -= {"--name"} if name == "sysroot" else set()
        if name in ("sysroot", "toolchain"):  # shown as words, or as options
            options |= own & {"--target", "--out"}
        inherited = "the options of `build`" in section[1]
        build = text[text.index("## `build`") : text.index("## `plan`")]
        for option in sorted(options):
            assert option in section[1] or (inherited and option in build), f"docs/commands.md, {name}: {option}"


def test_the_settings_file_is_told_with_every_key() -> None:
    text = (ROOT / "docs" / "commands.md").read_text()
    block = re.search(r"```toml\n(.*?)```", text, re.DOTALL)
    assert block
    import tomllib

    given = tomllib.loads(block[1])
    assert set(given) == set(UserSettings.model_fields)
    UserSettings.model_validate(given)


# --- tables ----------------------------------------------------------------------------------------------------------


def table(page: Path, heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, without its head."""
    section = re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", page.read_text(), re.MULTILINE | re.DOTALL)
    assert section
    rows = [line.strip("|").split("|") for line in section[1].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


MANY = 12
"""From how many releases on the README counts them."""


def test_the_readmes_recipes_are_the_catalogs(catalog: Catalog) -> None:
    for row, name in zip(table(ROOT / "README.md", "Recipes"), catalog.recipe_names, strict=True):
        recipe, releases = catalog.recipe(name), catalog.releases(name)
        assert row[0] == name
        assert row[1] == ", ".join(recipe.aliases)
        if len(releases) >= MANY:
            assert row[2] == f"{len(releases)} releases, {releases[-1].version} to {releases[0].version}"
            used = {version for release in releases if release.bazel for version in release.bazel.versions}
            ordered = sorted(used, key=Version)
            assert row[3] == f"Bazel {ordered[0]} to {ordered[-1]}"
            continue
        assert row[2] == ", ".join(release.version for release in releases)
        built = [
            f"Bazel {' or '.join(release.bazel.versions)}" if release.bazel else release.backend for release in releases
        ]
        assert row[3] == ", ".join(built)
        counts = [str(release.tests) for release in releases if release.tests]
        assert re.findall(r"\d+", row[4]) == counts


def test_the_readmes_targets_are_the_catalogs(catalog: Catalog) -> None:
    for row, name in zip(table(ROOT / "README.md", "Targets"), catalog.target_names, strict=True):
        target = catalog.target(name)
        systems = ", ".join(system_words(system) for system in target.systems)
        assert row == [name, target.cpu, systems, target.title]


def test_the_main_command_does_what_its_comment_says(catalog: Catalog) -> None:
    from crosswheel.planning.resolve import Request, resolve

    text = (ROOT / "README.md").read_text()
    assert "    ./x build dm-tree --target rpi4        # main job: a linux_aarch64 wheel, cross-built by Bazel" in text
    resolution = resolve(Request(recipe="dm-tree", target="rpi4"), catalog)
    assert resolution.bazel is not None
    assert resolution.wheel_tag.endswith("linux_aarch64")
    assert f"its own {resolution.release.tests} tests" in text


def test_every_kind_of_step_is_told() -> None:
    from crosswheel.building.runners import runners

    kinds = {step.kind for step in runners(Catalog(ROOT), Settings(store=Path("/nowhere")))}
    rows = table(ROOT / "docs" / "architecture.md", "Steps and keys")
    assert {row[0].strip("`") for row in rows} == kinds


def test_every_rule_of_the_proof_is_told() -> None:
    rows = table(ROOT / "docs" / "proof.md", "Rules")
    assert [row[0].strip("`") for row in rows] == [*(rule.name for rule in STATIC_RULES), "emulated"]


# --- words -----------------------------------------------------------------------------------------------------------


def test_the_exit_codes_are_those_of_the_errors() -> None:
    from crosswheel import errors

    codes = {row[0] for row in table(ROOT / "docs" / "commands.md", "Exit codes")}
    known = {
        kind.exit_code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.CrosswheelError)
    }
    assert codes == {"0", "130", *(str(code) for code in known)}


@pages
def test_lines_are_not_too_long(page: Path) -> None:
    for number, line in enumerate(prose(page).splitlines(), start=1):
        if not line.startswith(("|", "    ", "[")):
            assert len(line) <= 125, f"{page.name}: {number}: {len(line)} characters"
