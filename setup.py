"""What pyproject.toml cannot say: a wheel has the written data inside the package, as ``crosswheel/_data``.

In a checkout the data lies beside the package, where people look for it, and an editable install reads it there.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
DATA = ("recipes", "toolchains", "sysroots", "patches", "matrix.toml", "docs/proofs")
"""What the tasks read. The proofs tell `list` where a release was built."""


class BuildWithData(build_py):
    """setuptools' own, and the data."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        folder = Path(self.build_lib, "crosswheel", "_data")
        shutil.rmtree(folder, ignore_errors=True)  # what an earlier build left may have been deleted since
        for name in DATA:
            source, place = ROOT / name, folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", ".*"))
            elif source.exists():
                shutil.copy2(source, place)


setup(cmdclass={"build_py": BuildWithData})
