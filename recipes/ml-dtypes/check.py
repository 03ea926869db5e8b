"""ml_dtypes against a reference in integers and fractions: check.py RESULT.

The package's own tests are not in its source archive. So every bit pattern of the small types, and many of the wide
ones, is compared with what the types' definitions say.
"""

import json
import sys
import unittest
from fractions import Fraction

import ml_dtypes
import numpy as np

# exponent bits, mantissa bits, bias, has infinities, has negative zero (OCP 8-bit floating point specification;
# "fnuz" types have one NaN and no negative zero)
FLOATS = {
    "bfloat16": (8, 7, 127, True, True),
    "float8_e5m2": (5, 2, 15, True, True),
    "float8_e4m3": (4, 3, 7, True, True),
    "float8_e4m3fn": (4, 3, 7, False, True),
    "float8_e4m3fnuz": (4, 3, 8, False, False),
    "float8_e5m2fnuz": (5, 2, 16, False, False),
    "float8_e4m3b11fnuz": (4, 3, 11, False, False),
    "float8_e3m4": (3, 4, 3, True, True),
}


def decoded(bits, exponent_bits, mantissa_bits, bias, infinities, negative_zero):
    """The value of a bit pattern: a Fraction, or 'inf', '-inf', 'nan'."""
    width = 1 + exponent_bits + mantissa_bits
    sign = -1 if bits >> (width - 1) else 1
    exponent = (bits >> mantissa_bits) & ((1 << exponent_bits) - 1)
    mantissa = bits & ((1 << mantissa_bits) - 1)
    if not negative_zero and bits == 1 << (width - 1):
        return "nan"
    if infinities and exponent == (1 << exponent_bits) - 1:
        return "nan" if mantissa else ("inf" if sign > 0 else "-inf")
    ones = exponent == (1 << exponent_bits) - 1 and mantissa == (1 << mantissa_bits) - 1
    if not infinities and negative_zero and ones:
        return "nan"
    if exponent == 0:
        return sign * Fraction(mantissa, 1 << mantissa_bits) * Fraction(2) ** (1 - bias)
    return sign * (1 + Fraction(mantissa, 1 << mantissa_bits)) * Fraction(2) ** (exponent - bias)


def told(value):
    value = float(value)
    if value != value:
        return "nan"
    if value in (float("inf"), float("-inf")):
        return "inf" if value > 0 else "-inf"
    return Fraction(value)


class Floats(unittest.TestCase):
    def each(self):
        for name, layout in FLOATS.items():
            dtype = np.dtype(getattr(ml_dtypes, name))
            with self.subTest(name):
                yield dtype, layout

    def patterns(self, dtype):
        unsigned = np.uint16 if dtype.itemsize == 2 else np.uint8
        return np.arange(1 << (8 * dtype.itemsize), dtype=np.uint32).astype(unsigned)

    def test_every_bit_pattern_means_what_the_format_says(self):
        for dtype, layout in self.each():
            bits = self.patterns(dtype)
            values = bits.view(dtype).astype(np.float64)
            for pattern, value in zip(bits.tolist(), values.tolist()):
                self.assertEqual(told(value), decoded(pattern, *layout), (dtype, pattern))

    def test_every_value_survives_a_round_trip(self):
        for dtype, _ in self.each():
            values = self.patterns(dtype).view(dtype)
            for wide in (np.float32, np.float64):
                back = values.astype(wide).astype(dtype)
                same = (back.view(self.patterns(dtype).dtype) == values.view(self.patterns(dtype).dtype)) | (
                    np.isnan(values.astype(np.float32)) & np.isnan(back.astype(np.float32))
                )
                self.assertTrue(same.all(), (dtype, wide))

    def test_rounding_is_to_nearest_even(self):
        random = np.random.RandomState(7)
        bits = random.randint(0, 1 << 32, size=20000, dtype=np.uint64).astype(np.uint32)
        singles = bits.view(np.float32)
        bits = bits[np.isfinite(singles)]
        singles = bits.view(np.float32)
        wide = bits.astype(np.uint64)
        expected = ((wide + 0x7FFF + ((wide >> 16) & 1)) >> 16).astype(np.uint16)
        np.testing.assert_array_equal(singles.astype(ml_dtypes.bfloat16).view(np.uint16), expected)

    def test_the_nearest_of_a_small_type_is_found(self):
        random = np.random.RandomState(11)
        for name in ("float8_e4m3fn", "float8_e5m2"):
            layout, dtype = FLOATS[name], np.dtype(getattr(ml_dtypes, name))
            known = [decoded(p, *layout) for p in range(256)]
            finite = sorted({v for v in known if isinstance(v, Fraction)})
            for single in (random.standard_normal(300) * 10).astype(np.float32):
                got = Fraction(float(single.astype(dtype)))
                best = min(abs(v - Fraction(float(single))) for v in finite)
                self.assertEqual(abs(got - Fraction(float(single))), best, (name, single))

    def test_arithmetic_is_that_of_float32_rounded(self):
        random = np.random.RandomState(3)
        a, b = (random.standard_normal(5000).astype(ml_dtypes.bfloat16) for _ in range(2))
        wide_a, wide_b = a.astype(np.float32), b.astype(np.float32)
        for operation in (np.add, np.subtract, np.multiply, np.divide, np.maximum):
            got = operation(a, b)
            self.assertEqual(got.dtype, ml_dtypes.bfloat16)
            expected = operation(wide_a, wide_b).astype(ml_dtypes.bfloat16)
            np.testing.assert_array_equal(got.view(np.uint16), expected.view(np.uint16))

    def test_functions_and_comparisons(self):
        values = np.linspace(0.1, 8, 500).astype(ml_dtypes.bfloat16)
        wide = values.astype(np.float32)
        for function in (np.sqrt, np.exp, np.log, np.tanh, np.sin, np.floor):
            expected = function(wide).astype(ml_dtypes.bfloat16)
            np.testing.assert_array_equal(function(values).view(np.uint16), expected.view(np.uint16), str(function))
        np.testing.assert_array_equal(values[1:] > values[:-1], wide[1:] > wide[:-1])
        np.testing.assert_array_equal(np.sort(values[::-1]), values)

    def test_reductions_and_products(self):
        ones = np.ones((16, 16), ml_dtypes.bfloat16)
        self.assertEqual(float(ones.sum()), 256.0)
        np.testing.assert_array_equal(np.dot(ones, ones).astype(np.float32), np.full((16, 16), 16.0))

    def test_special_values(self):
        for dtype, layout in self.each():
            nan = np.array(float("nan"), np.float32).astype(dtype)
            self.assertTrue(np.isnan(nan))
            if layout[3]:
                self.assertTrue(np.isinf(np.array(float("inf"), np.float32).astype(dtype)))

    def test_limits(self):
        for dtype, layout in self.each():
            finite = [v for p in range(1 << (8 * dtype.itemsize)) if isinstance(v := decoded(p, *layout), Fraction)]
            limits = ml_dtypes.finfo(dtype)
            self.assertEqual(Fraction(float(limits.max)), max(finite))
            self.assertEqual(Fraction(float(limits.min)), min(finite))
            self.assertEqual(limits.bits, 8 * dtype.itemsize)


class Integers(unittest.TestCase):
    RANGES = {"int4": (-8, 7), "uint4": (0, 15), "int2": (-2, 1), "uint2": (0, 3)}

    def test_every_value_and_its_sums(self):
        for name, (low, high) in self.RANGES.items():
            with self.subTest(name):
                dtype = getattr(ml_dtypes, name)
                values = np.arange(low, high + 1).astype(dtype)
                self.assertEqual(values.astype(np.int32).tolist(), list(range(low, high + 1)))
                self.assertEqual((values - values).astype(np.int32).tolist(), [0] * len(values))
                self.assertEqual((ml_dtypes.iinfo(dtype).min, ml_dtypes.iinfo(dtype).max), (low, high))

    def test_sums_wrap_around(self):
        for name, (low, high) in self.RANGES.items():
            with self.subTest(name):
                dtype = getattr(ml_dtypes, name)
                self.assertEqual(int(np.array(high).astype(dtype) + np.array(1).astype(dtype)), low)


class Arrays(unittest.TestCase):
    def test_a_file_keeps_the_bytes(self):
        import io

        values = np.arange(100).astype(ml_dtypes.bfloat16)
        stream = io.BytesIO()
        np.save(stream, values.view(np.uint16))
        stream.seek(0)
        np.testing.assert_array_equal(np.load(stream).view(ml_dtypes.bfloat16), values)

    def test_types_promote(self):
        values = np.ones(3, ml_dtypes.bfloat16)
        self.assertEqual((values + np.ones(3, np.float32)).dtype, np.float32)
        self.assertEqual(str(values.dtype), "bfloat16")


suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])
outcome = unittest.TextTestRunner(verbosity=2).run(suite)
failures = len(outcome.failures) + len(outcome.errors) + len(outcome.unexpectedSuccesses)
with open(sys.argv[1], "w") as out:
    json.dump({"tests": outcome.testsRun, "failures": failures, "skipped": len(outcome.skipped)}, out)
sys.exit(1 if failures else 0)
