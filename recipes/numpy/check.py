"""NumPy on the target: every compiled module does its work, and the constants fit the machine. Python 2.7 and 3.

Where the target's distribution has pytest and hypothesis, files of NumPy's own tests are run as well: those that come
near the compiler (vector code, conversions, printing of floats, long double) and the compiled modules. All of them
would be some 40,000 tests, hours on an emulated processor.
"""

import json
import os
import sys
import unittest

import numpy as np

OWN = (
    "core/tests/test_einsum.py",
    "core/tests/test_half.py",
    "core/tests/test_indexing.py",
    "core/tests/test_longdouble.py",
    "core/tests/test_scalarprint.py",
    "core/tests/test_simd.py",
    "core/tests/test_umath_accuracy.py",
    "fft/tests",
    "linalg/tests/test_linalg.py",
    "random/tests/test_random.py",
)

# It starts processes, which would not be emulated.
PROCESSES = ("test_sdot_bug_8577",)


class Arrays(unittest.TestCase):
    def test_arithmetic_of_every_type(self):
        for kind in "?bBhHiIlLqQefdgFDG":
            values = np.arange(1, 9).astype(kind)
            twice = values.astype("c16") * (1 if kind == "?" else 2)
            self.assertTrue(((values + values).astype("c16") == twice).all())

    def test_floating_point_edges(self):
        with np.errstate(all="ignore"):
            self.assertTrue(np.isinf(np.float32(1) / np.float32(0)))
            self.assertTrue(np.isnan(np.float64(0) / np.float64(0)))
        self.assertEqual(np.finfo("f4").eps, 2.0 ** -23)
        self.assertEqual(np.finfo("f8").eps, 2.0 ** -52)

    def test_long_double(self):
        # 63 bits behind the point on x86, 112 in IEEE quadruple precision.
        self.assertIn(np.finfo(np.longdouble).nmant, (63, 112))
        third = np.longdouble(1) / 3
        self.assertLess(abs(third * 3 - 1), np.finfo(np.longdouble).eps)

    def test_half(self):
        self.assertEqual(float(np.float16(65504)), 65504.0)
        self.assertEqual(np.float16(0.1).view("u2"), 0x2E66)

    def test_matmul(self):
        left, right = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
        self.assertEqual(left.dot(right).tolist(), [[20, 23, 26, 29], [56, 68, 80, 92]])

    def test_einsum(self):
        cube = np.arange(24).reshape(2, 3, 4)
        self.assertEqual(np.einsum("ijk->j", cube).tolist(), cube.sum(axis=(0, 2)).tolist())

    def test_sort_and_search(self):
        values = np.random.RandomState(1).permutation(1000)
        self.assertTrue((np.sort(values) == np.arange(1000)).all())
        self.assertEqual(np.searchsorted(np.arange(10), 7), 7)

    def test_ufuncs(self):
        angles = np.linspace(0, 10, 501)
        self.assertTrue(np.allclose(np.sin(angles) ** 2 + np.cos(angles) ** 2, 1))
        self.assertTrue(np.allclose(np.exp(np.log(angles[1:])), angles[1:]))

    def test_strings_and_dates(self):
        self.assertEqual(np.char.upper(np.array(["ab", "c"])).tolist(), ["AB", "C"])
        self.assertEqual(np.datetime64("2020-02-28") + np.timedelta64(2, "D"), np.datetime64("2020-03-01"))

    def test_buffers_and_files(self):
        data = np.arange(10, dtype="<i4")
        self.assertEqual(np.frombuffer(data.tobytes(), "<i4").tolist(), data.tolist())
        swapped = data.byteswap().view(data.dtype.newbyteorder())
        self.assertEqual(swapped.tolist(), data.tolist())

    def test_printing(self):
        self.assertEqual(repr(np.float64(0.1) + 0).strip("np.float64()"), "0.1")
        self.assertEqual(str(np.array([1.5, 2.25])), "[1.5  2.25]")


class Modules(unittest.TestCase):
    def test_linear_algebra(self):
        square = np.random.RandomState(2).rand(8, 8) + np.eye(8) * 4
        self.assertTrue(np.allclose(np.linalg.inv(square).dot(square), np.eye(8)))
        self.assertTrue(np.allclose(np.linalg.solve(square, square[:, 0]), np.eye(8)[0]))

    def test_eigenvalues_and_svd(self):
        symmetric = np.array([[2.0, 1.0], [1.0, 2.0]])
        self.assertTrue(np.allclose(np.linalg.eigvalsh(symmetric), [1, 3]))
        self.assertTrue(np.allclose(np.linalg.svd(symmetric, compute_uv=False), [3, 1]))

    def test_fourier(self):
        wave = np.random.RandomState(3).rand(96)
        self.assertTrue(np.allclose(np.fft.irfft(np.fft.rfft(wave)), wave))

    def test_random_numbers_are_the_known_ones(self):
        # numpy promises RandomState's stream for ever (NEP 19).
        self.assertTrue(np.allclose(np.random.RandomState(42).random_sample(3), [0.37454012, 0.95071431, 0.73199394]))

    def test_headers_are_there(self):
        self.assertTrue(os.path.exists(os.path.join(np.get_include(), "numpy", "arrayobject.h")))


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


def run_own():
    """Runs NumPy's own tests; what they counted, and pytest's exit status."""
    counter = Counter()
    try:
        import hypothesis  # noqa: F401
        import pytest
    except ImportError:
        return counter, 0
    root = os.path.dirname(np.__file__)
    files = [os.path.join(root, *name.split("/")) for name in OWN]
    chosen = " and ".join("not " + name for name in PROCESSES)
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", root, "-m", "not slow", "-k", chosen]
    return counter, int(pytest.main(options + files, plugins=[counter]))


suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])
result = unittest.TextTestRunner(verbosity=2).run(suite)
own, status = run_own()
failures = len(result.failures) + len(result.errors) + own.failures
counts = {"tests": result.testsRun + own.tests, "failures": failures, "skipped": len(result.skipped) + own.skipped}
with open(sys.argv[1], "w") as out:
    json.dump(counts, out)
sys.exit(1 if failures or status else 0)
