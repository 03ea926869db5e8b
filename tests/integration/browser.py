"""Chromium for the tests, without a screen: from Debian's packages, and with it the driver that goes with it."""

from __future__ import annotations

import base64
import functools
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from crosswheel.building.machine import Machine
from crosswheel.building.machine.provide import install
from crosswheel.cli.settings import read_settings

_PACKAGES = {"chromium": "chromium", "chromedriver": "chromium-driver"}
_FONT = "fonts-dejavu-core"  # without one, text has no height
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # the tests may be root, in a container without user namespaces
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
    "--lang=en",
)


class Browser:
    """A window of Chromium."""

    def __init__(self, profile: Path) -> None:
        options = ChromeOptions()
        options.binary_location = _needed("chromium")
        for option in (*_OPTIONS, f"--user-data-dir={profile}"):
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = Chrome(options=options, service=ChromeService(_needed("chromedriver")))

    def open(self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False, scripts: bool = True) -> None:
        """Loads a page afresh in a window of this size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.get("about:blank")
        self.command("Emulation.setDeviceMetricsOverride", size)
        self.command("Emulation.setEmulatedMedia", {"features": [theme]})
        self.command("Emulation.setScriptExecutionDisabled", {"value": not scripts})
        self.driver.get(url)
        self.wait("return document.readyState === 'complete' && document.querySelector('main').offsetHeight > 0")

    def command(self, name: str, words: dict[str, Any]) -> Any:
        return self.driver.execute_cdp_cmd(name, words)

    def run(self, script: str, *words: Any) -> Any:
        return self.driver.execute_script(script, *words)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def shown(self, selector: str) -> list[WebElement]:
        return [element for element in self.all(selector) if element.is_displayed()]

    def choose(self, selector: str, value: str) -> None:
        Select(self.one(selector)).select_by_value(value)

    def wait(self, script: str, *words: Any, seconds: float = 20) -> Any:
        """Waits until a script's value is true, and gives it."""
        return WebDriverWait(self.driver, seconds, poll_frequency=0.05).until(lambda _: self.run(script, *words))

    def trouble(self) -> list[str]:
        """What the console says of errors and warnings since the last time."""
        log = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in log if entry["level"] in ("SEVERE", "WARNING")]

    def clipboard(self) -> str:
        return str(
            self.driver.execute_async_script(
                "const done = arguments[0]; navigator.clipboard.readText().then(done, (error) => done(String(error)))"
            )
        )

    def screenshot(self, path: Path) -> None:
        shot = self.command("Page.captureScreenshot", {"format": "png"})
        path.write_bytes(base64.b64decode(shot["data"]))

    def axe(self, source: str) -> list[str]:
        """What axe-core finds wrong with the page: rule, and where."""
        self.command("Runtime.evaluate", {"expression": source})
        answer = self.command(
            "Runtime.evaluate",
            {
                "expression": "axe.run(document).then((found) => JSON.stringify(found.violations))",
                "awaitPromise": True,
                "returnByValue": True,
            },
        )
        return [
            f"{rule['id']}: {node['target']} {node.get('failureSummary', '')}"
            for rule in json.loads(answer["result"]["value"])
            for node in rule["nodes"]
        ]


def _needed(program: str) -> str:
    """Where a program is; installed if it is not there."""
    found = shutil.which(program)
    if found:
        return found
    machine = Machine.here(read_settings().store, os.environ)
    if not machine.may_install:
        pytest.skip(f"{program} is not there, and cannot be installed here")
    install(machine, [*_PACKAGES.values(), _FONT], say=print)
    found = shutil.which(program)
    assert found, f"{_PACKAGES[program]} brought no {program}"
    return found


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A plain static server on this machine; gives its address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
