"""wrapt's own tests, from its source, in one process: check.py RESULT SOURCE."""

import json
import sys

import pytest
import wrapt

result, source = sys.argv[1:]
# The package falls back to Python where its extension is missing, and all tests pass; that would prove nothing.
assert wrapt.FunctionWrapper.__module__ != "wrapt.wrappers", "the compiled extension is not loaded"


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


counter = Counter()
status = pytest.main(["-q", "-p", "no:cacheprovider", source + "/tests"], plugins=[counter])
with open(result, "w") as out:
    json.dump({"tests": counter.tests, "failures": counter.failures, "skipped": counter.skipped}, out)
sys.exit(int(status))
