"""The page in Chromium: click, filter, copy, keyboard, phone, dark and light, without scripts, and by axe-core."""

from __future__ import annotations

import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, served
from page_writer import CATALOG, HOSTILE, failed, line, night, page, sample, wheel
from real_wheels import made
from selenium.webdriver.common.keys import Keys

from crosswheel.planning.sources import fetch_step
from crosswheel.spec.sources import Place, Source

pytestmark = pytest.mark.integration

AXE = Source(
    file="axe-core-4.10.3.tgz",
    sha256="0f2b4d7dcdf7d1219df8d1959ad68e565f51d14c3f0d88bb71cd59abeb956292",
    places=(Place(uri="npm:axe-core@4.10.3"),),
)
LINE = "python3.11 -m pip install --index-url https://wheels.example.org/cw/rpi4/simple/ numpy==1.26.4"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.driver.quit()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a page with a cell of every kind, one of them hostile, and its folder."""
    folder = tmp_path_factory.mktemp("site")
    dist, history = sample(folder)
    bad = HOSTILE.encode("utf-8", "replace").decode()
    names = {"recipe": bad, "version": bad, "target": bad, "python": "3.11", "features": ["cuda"]}
    cell = line("a-1@rpi4+cp311", **{**names, "id": bad})
    night(history, 9, [cell], failed(bad, bad, [bad]))
    finding = {"rule": bad, "severity": "fail", "subject": bad, "message": bad, "hint": bad}
    wheel(dist, "ml_dtypes", "0.5.4", told={"findings": [finding]})
    page(folder / "page", dist, history)
    with served(folder / "page") as address:
        yield address, folder / "page"


@pytest.fixture(scope="module")
def axe() -> str:
    """axe-core's script, from the npm registry, by its sha256."""
    step = fetch_step(AXE)
    path = made([step], CATALOG)[step.key] / AXE.file
    with tarfile.open(path) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


@pytest.fixture(autouse=True)
def silent(browser: Browser) -> Iterator[None]:
    """No test leaves an error or a warning in the console."""
    browser.trouble()
    yield
    assert browser.trouble() == []


def cell_page(site: tuple[str, Path], start: str) -> str:
    (found,) = site[1].glob(f"cells/{start}*.html")
    return f"{site[0]}/cells/{found.name}"


def board_page(site: tuple[str, Path], start: str) -> str:
    (found,) = site[1].glob(f"boards/{start}-*.html")
    return f"{site[0]}/boards/{found.name}"


def allow_clipboard(browser: Browser, origin: str) -> None:
    permissions = ["clipboardReadWrite", "clipboardSanitizedWrite"]
    browser.command("Browser.grantPermissions", {"permissions": permissions, "origin": origin})


# --- the question ----------------------------------------------------------------------------------------------------


def test_board_and_python_give_the_line_and_a_click_copies_it(browser: Browser, site: tuple[str, Path]) -> None:
    allow_clipboard(browser, site[0])
    browser.open(f"{site[0]}/index.html")
    browser.choose("#ask-board", "rpi4")
    assert browser.one("#ask-python").get_property("value") == "3.11"  # its only one
    browser.choose("#ask-package", "numpy")
    assert [code.text for code in browser.shown("#answer .line code")] == [LINE]
    button = browser.one("#answer button.copy")
    button.click()
    browser.wait("return arguments[0].textContent === 'Copied'", button)
    assert browser.clipboard() == LINE
    browser.wait("return document.getElementById('said').textContent === 'The line is in the clipboard.'")
    assert browser.driver.current_url.endswith("#board=rpi4&python=3.11&package=numpy")


def test_an_answer_can_be_linked_and_every_package_is_listed(browser: Browser, site: tuple[str, Path]) -> None:
    browser.open(f"{site[0]}/index.html#board=rpi4&python=3.11")
    assert [each.text for each in browser.shown("#answer .what a")] == ["dm-tree 0.1.5", "h5py 3.11.0", "numpy 1.26.4"]
    assert "sudo apt-get install libhdf5-103-1" in browser.one("#answer").text
    assert "externally-managed-environment" in browser.one("#answer").text


def test_where_there_is_no_wheel_the_answer_says_why_and_what_is_nearest(
    browser: Browser, site: tuple[str, Path]
) -> None:
    browser.open(f"{site[0]}/index.html#board=jetson-nano&python=3.6")
    assert "There is no wheel for NVIDIA Jetson Nano with Python 3.6 yet." in browser.one("#answer").text
    browser.choose("#ask-package", "grpcio")
    assert "⊘ refused" in browser.one("#answer").text
    assert "1.62.3 serves CPython >=3.7" in browser.one("#answer").text
    browser.choose("#ask-package", "tensorflow")
    assert "crosswheel build tensorflow --target jetson-nano --python 3.6" in browser.one("#answer").text
    browser.choose("#ask-python", "3.13")
    assert "There are no wheels for NVIDIA Jetson Nano with Python 3.13." in browser.one("#answer").text
    browser.choose("#ask-board", "rk3588")
    browser.choose("#ask-python", "3.11")
    browser.choose("#ask-package", "numpy")
    near = browser.one("#answer .absence p a[href^='#board=rpi4']")
    near.click()
    browser.wait("return document.querySelector('#answer .line code').textContent === arguments[0]", LINE)


# --- the table -------------------------------------------------------------------------------------------------------


def visible_rows(browser: Browser) -> list[str]:
    return [row.text.split()[0] for row in browser.shown("#table tbody tr th")]


def test_filters_narrow_the_table_count_aloud_and_stay_in_the_address(browser: Browser, site: tuple[str, Path]) -> None:
    browser.open(f"{site[0]}/index.html")
    everything = visible_rows(browser)
    browser.choose("#filter-board", "nanopi-m4")
    browser.choose("#filter-state", "built")
    browser.wait("return document.getElementById('count').textContent.includes('1 built')")
    assert visible_rows(browser) == ["wrapt"]
    assert [head.text for head in browser.shown("#table thead th.group")] == ["nanopi-m4"]
    assert browser.driver.current_url.endswith("#on=nanopi-m4&state=built")
    browser.driver.refresh()
    assert visible_rows(browser) == ["wrapt"]
    browser.one("#filter button[type=reset]").click()
    browser.wait("return document.getElementById('count').textContent.startsWith('All ')")
    assert visible_rows(browser) == everything
    browser.one("#filter-q").send_keys("NUMPY rpi4")
    browser.wait("return document.getElementById('count').textContent.startsWith('1 of ')")
    assert visible_rows(browser) == ["numpy"]
    assert len(browser.shown("#table tbody td")) == 1
    browser.one("#filter-q").send_keys(" nothing")
    browser.wait("return document.getElementById('count').textContent.startsWith('None of ')")
    assert browser.one("#count").get_attribute("role") == "status"


def test_feature_and_python_and_the_numbers_above_filter_as_well(browser: Browser, site: tuple[str, Path]) -> None:
    browser.open(f"{site[0]}/index.html#py=3.6")
    assert {cell.text for cell in browser.shown("#table thead tr:nth-child(2) th")} == {"3.6"}
    browser.open(f"{site[0]}/index.html#feature=cuda")
    assert len(visible_rows(browser)) == 1
    browser.open(f"{site[0]}/index.html")
    browser.one("a.tile.failed").click()
    browser.wait("return document.getElementById('count').textContent.includes(' failed')")
    assert set(visible_rows(browser)) > {"wrapt"}
    assert browser.shown("#table td.built:not(.off)") == []


def test_a_cell_leads_to_its_page(browser: Browser, site: tuple[str, Path]) -> None:
    browser.open(f"{site[0]}/index.html")
    browser.one("#table td.failed a").click()
    browser.wait("return document.querySelector('h1') !== null")
    assert "/cells/" in browser.driver.current_url
    assert browser.shown(".log")


# --- the keyboard ----------------------------------------------------------------------------------------------------


def focused(browser: Browser) -> str:
    return str(
        browser.run(
            "const at = document.activeElement; return at.id || at.className || at.textContent.trim() || at.tagName"
        )
    )


def press(browser: Browser, *keys: str) -> None:
    for key in keys:
        browser.driver.switch_to.active_element.send_keys(key)


def test_the_line_is_copied_without_a_mouse(browser: Browser, site: tuple[str, Path]) -> None:
    allow_clipboard(browser, site[0])
    browser.open(f"{site[0]}/index.html")
    press(browser, Keys.TAB)
    assert focused(browser) == "skip"
    assert browser.one(".skip").rect["y"] >= 0  # it is seen when it has the focus
    for _ in range(12):
        if focused(browser) == "ask-board":
            break
        press(browser, Keys.TAB)
        outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", focused(browser)
    press(browser, "Rasp", Keys.TAB)
    assert focused(browser) == "ask-python"
    press(browser, Keys.TAB, "numpy", Keys.TAB)
    browser.wait("return document.querySelectorAll('#answer .line code').length === 1")
    while focused(browser) != "copy":
        press(browser, Keys.TAB)
    press(browser, Keys.ENTER)
    browser.wait("return document.activeElement.textContent === 'Copied'")
    assert browser.clipboard() == LINE


def test_the_cursor_keys_move_in_the_table_and_a_link_skips_it(browser: Browser, site: tuple[str, Path]) -> None:
    browser.open(f"{site[0]}/index.html")
    browser.run("document.querySelector('#table a[href*=grpcio]').focus()")
    here = "return document.activeElement.getAttribute('href')"
    places = [browser.run(here)]
    for key in (Keys.ARROW_RIGHT, Keys.ARROW_LEFT, Keys.ARROW_DOWN, Keys.ARROW_UP):
        press(browser, key)
        places.append(browser.run(here))
    start, right, left, down, up = places
    assert start == left == up
    assert len({start, right, down}) == 3
    assert all(place.startswith("cells/") for place in places)
    browser.run("document.querySelector('.skip.inner').focus()")
    assert browser.one(".skip.inner").rect["x"] >= 0
    press(browser, Keys.ENTER)
    assert browser.driver.current_url.endswith("#nights")


# --- dark and light, phones, no scripts ------------------------------------------------------------------------------


def ground(browser: Browser) -> str:
    return str(browser.run("return getComputedStyle(document.body).backgroundColor"))


def test_the_systems_theme_stands_until_another_is_chosen(browser: Browser, site: tuple[str, Path]) -> None:
    browser.open(f"{site[0]}/index.html")
    light = ground(browser)
    browser.open(f"{site[0]}/index.html", dark=True)
    dark = ground(browser)
    assert light != dark
    button = browser.one("#theme")
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert (ground(browser), button.get_attribute("aria-pressed")) == (light, "false")
    browser.open(board_page(site, "rpi4"), dark=True)
    assert ground(browser) == light
    browser.run("localStorage.clear()")
    browser.driver.refresh()
    assert ground(browser) == dark


@pytest.mark.parametrize("width", [320, 360, 1280])
def test_no_page_is_wider_than_its_window(browser: Browser, site: tuple[str, Path], width: int) -> None:
    pages = [
        f"{site[0]}/index.html",
        f"{site[0]}/index.html#board=rpi4&python=3.11",
        board_page(site, "rpi4"),
        cell_page(site, "dm-tree-0.1.5-rpi4"),
        cell_page(site, "wrapt-1.16.0-rpi4"),
        cell_page(site, "img-src"),
    ]
    for url in pages:
        browser.open(url, width=width)
        assert browser.run("return document.documentElement.scrollWidth") <= width, url


def test_on_a_phone_each_row_is_a_card_and_stays_a_table_for_those_who_hear_it(
    browser: Browser, site: tuple[str, Path]
) -> None:
    browser.open(f"{site[0]}/index.html", width=360)
    assert browser.run("return getComputedStyle(document.querySelector('#table tbody tr')).display") == "block"
    link = browser.one("#table tbody td.built a")
    assert link.rect["height"] >= 40
    tree = browser.command("Accessibility.getFullAXTree", {})["nodes"]
    roles = {node["role"]["value"] for node in tree if not node.get("ignored")}
    assert {"table", "row", "rowheader", "cell"} <= roles


def test_without_scripts_the_table_and_the_lines_are_there(browser: Browser, site: tuple[str, Path]) -> None:
    browser.open(f"{site[0]}/index.html", scripts=False)
    assert browser.shown("#table tbody td.built a")
    assert browser.shown("#question, #filter, #theme, button.copy") == []
    assert browser.shown("noscript a")
    browser.open(board_page(site, "rpi4"), scripts=False)
    assert LINE in [code.text for code in browser.shown("code")]


def test_it_works_from_a_disk(browser: Browser, site: tuple[str, Path]) -> None:
    browser.open(f"{(site[1] / 'index.html').as_uri()}#board=rpi4&python=3.11&package=numpy")
    assert [code.text for code in browser.shown("#answer .line code")] == [LINE]
    assert browser.run("return getComputedStyle(document.querySelector('.ask')).borderRadius") != "0px"


# --- accessibility, hostile names, many cells ------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "dark"), [(360, False), (1280, True)], ids=["phone, light", "desktop, dark"])
def test_axe_finds_nothing(browser: Browser, site: tuple[str, Path], axe: str, width: int, dark: bool) -> None:
    found = {}
    for url in (
        f"{site[0]}/index.html#board=rpi4&python=3.11",
        f"{site[0]}/index.html#board=jetson-nano&python=3.6&state=refused",
        board_page(site, "rpi4"),
        cell_page(site, "dm-tree-0.1.5-rpi4"),
        cell_page(site, "wrapt-1.16.0-rpi4"),
    ):
        browser.open(url, width=width, dark=dark)
        browser.run("for (const each of document.querySelectorAll('details')) each.open = true")
        found[url] = browser.axe(axe)
    assert {url: faults for url, faults in found.items() if faults} == {}


def test_hostile_names_are_text_and_nothing_runs(browser: Browser, site: tuple[str, Path]) -> None:
    browser.open(f"{site[0]}/index.html")
    bad = next(
        value
        for option in browser.all("#ask-board option")
        if (value := str(option.get_property("value"))).startswith("<img")
    )
    for name, value in (("board", bad), ("python", "3.11")):
        change = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change', {bubbles: true}))"
        browser.run(change, browser.one(f"#ask-{name}"), value)
    assert "alert(1)" in browser.one("#answer").text
    assert browser.all("img") == []
    browser.open(cell_page(site, "img-src"))
    assert "<script>alert('x')</script>" in browser.one("h1").text
    assert browser.all("img") == []
    assert browser.run("return document.scripts.length") == 2


def test_the_policy_lets_no_other_script_run(browser: Browser, site: tuple[str, Path]) -> None:
    browser.open(f"{site[0]}/index.html")
    ran = browser.run(
        """
        const script = document.createElement('script');
        try { script.textContent = 'window.ran = true'; document.body.append(script); } catch (refused) {}
        try { document.body.insertAdjacentHTML('beforeend', '<b id=made>x</b>'); } catch (refused) {}
        return [window.ran === true, document.getElementById('made') !== null];
        """
    )
    assert ran == [False, False]
    assert browser.trouble() != []


def test_two_thousand_cells_load_and_filter_at_once(browser: Browser, tmp_path: Path) -> None:
    targets = [("rpi4", "311"), ("rk3588", "311"), ("rk3588", "313"), ("nanopi-m4", "39"), ("sbsa-debian", "313")]
    cells = [line(f"many-{n}.0@{target}+cp{python}") for n in range(400) for target, python in targets]
    night(tmp_path / "history", 0, cells, *(failed(each.id) for each in cells[::7]))
    page(tmp_path / "page", tmp_path / "none", tmp_path / "history")
    with served(tmp_path / "page") as address:
        start = time.monotonic()
        browser.open(f"{address}/index.html")
        browser.wait("return document.getElementById('count').textContent.startsWith('All 2,000')")
        loaded = time.monotonic() - start
        start = time.monotonic()
        browser.choose("#filter-board", "rpi4")
        browser.wait("return document.getElementById('count').textContent.startsWith('400 of')")
        filtered = time.monotonic() - start
    print(f"2,000 cells: loaded in {loaded:.2f} s, filtered in {filtered:.2f} s")
    assert loaded < 20  # on a machine with much else to do; `./x bench page` has the true ones
    assert filtered < 10
