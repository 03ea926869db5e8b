"""h5py's own tests, from the wheel, in one process: check.py RESULT."""

import json
import os
import sys

import h5py
import pytest

# What starts processes, which would not be emulated, and what wants HDF5 and h5py with MPI.
LEFT_OUT = ("TestMPI", "test_multiprocess", "test_h5pl", "test_unregister_filter")


class Counter:
    """Counts what pytest reports: a test that was called, and every failure wherever it happened."""

    tests = failures = skipped = 0

    def pytest_runtest_logreport(self, report):
        if report.when == "call":
            self.tests += 1
        if report.failed:
            self.failures += 1
        if report.skipped:
            self.skipped += 1
            self.tests += report.when != "call"

    def pytest_collectreport(self, report):
        self.failures += report.failed


folder = os.path.join(os.path.dirname(h5py.__file__), "tests")
counter = Counter()
chosen = " and ".join("not " + name for name in LEFT_OUT)
options = ["-q", "-p", "no:cacheprovider", "--rootdir", folder, "-k", chosen, folder]
status = pytest.main(options, plugins=[counter])
with open(sys.argv[1], "w") as out:
    json.dump({"tests": counter.tests, "failures": counter.failures, "skipped": counter.skipped}, out)
sys.exit(int(status))
