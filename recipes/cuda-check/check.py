"""cuda-check on a machine without a GPU: check.py RESULT.

Under the emulator there is no driver. The libraries answer, and what is missing is said in sentences; the calls on a
GPU are the board's to try.
"""

import contextlib
import io
import json
import runpy
import sys
import types
import unittest
import unittest.mock

import cuda_check
from cuda_check import __main__ as command
from cuda_check import libraries, report

PRELOADED = libraries.preload()


def module(name):
    found, why = libraries.load(name)
    assert found is not None, why
    return found


class Libraries(unittest.TestCase):
    """The compiled modules load, and the libraries that they are linked with answer."""

    def test_the_runtime_is_of_the_version_it_was_compiled_with(self):
        versions = module("_runtime").versions()
        self.assertGreaterEqual(versions["compiled"], 8000)
        if versions["compiled"] >= 12000:
            self.assertEqual(versions["runtime"] // 10, versions["compiled"] // 10)
        else:
            # The runtimes before ask the driver first.
            self.assertEqual((versions["runtime"], versions["error"]["number"]), (0, report.NO_DRIVER))

    def test_there_is_no_driver_and_so_no_gpu(self):
        self.assertEqual(module("_runtime").versions()["driver"], 0)
        listed = module("_runtime").devices()
        self.assertEqual(listed["devices"], [])
        self.assertEqual(listed["error"]["number"], report.NO_DRIVER)
        self.assertEqual(listed["error"]["name"], "cudaErrorInsufficientDriver")

    def test_a_kernel_does_not_run_and_says_why(self):
        ran = module("_runtime").kernel(0)
        self.assertEqual(ran["error"]["number"], report.NO_DRIVER)

    def test_cublas_answers(self):
        versions = module("_blas").versions()
        self.assertEqual(versions["library"][:2], versions["compiled"][:2])
        self.assertNotEqual(module("_blas").call(0)["call"], "")

    @unittest.skipUnless(libraries.built("_dnn"), "it was built without cuDNN")
    def test_cudnn_answers(self):
        versions = module("_dnn").versions()
        self.assertEqual(versions["library"], versions["compiled"])
        self.assertEqual(versions["cuda"] // 1000, module("_runtime").versions()["runtime"] // 1000)
        self.assertNotEqual(module("_dnn").call(0)["call"], "")


class Sentences(unittest.TestCase):
    def told(self, subject, found):
        return next(finding.sentence for finding in found.findings if finding.subject == subject)

    def test_without_a_driver_it_says_so(self):
        found = cuda_check.check()
        self.assertFalse(found.works)
        self.assertIn("there is no NVIDIA driver", self.told("driver", found))
        self.assertIn("not called, as there is no GPU that works", self.told("cuBLAS", found))
        self.assertEqual([f.subject for f in found.findings if not f.works], ["driver"])

    def test_the_command(self):
        said = io.StringIO()
        # In this process: what it would start would not be emulated.
        command_line = unittest.mock.patch.object(sys, "argv", ["cuda_check"])
        with contextlib.redirect_stdout(said), command_line, self.assertRaises(SystemExit) as ended:
            runpy.run_module("cuda_check", run_name="__main__")
        self.assertEqual(ended.exception.code, 1)
        text = said.getvalue()
        self.assertIn("FAIL  driver", text)
        self.assertTrue(text.endswith("CUDA does not work here as it should.\n"), text)

    def test_the_command_as_json(self):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            self.assertEqual(command.main(["--json"]), 1)
        told = json.loads(said.getvalue())
        self.assertFalse(told["works"])
        self.assertEqual(told["facts"]["versions"], module("_runtime").versions())
        self.assertEqual(told["facts"]["preloaded"], PRELOADED)

    def test_other_options_are_refused(self):
        with contextlib.redirect_stderr(io.StringIO()) as said:
            self.assertEqual(command.main(["--jsn"]), 2)
        self.assertIn("usage: python -m cuda_check", said.getvalue())

    def test_a_library_that_is_not_there_is_named(self):
        why = "libcudnn.so.9: cannot open shared object file: No such file or directory"
        self.assertEqual(libraries.missing(why), "libcudnn.so.9")
        self.assertIsNone(libraries.missing("undefined symbol: cudnnCreate"))

    def test_a_gpu_that_works(self):
        found = report.Report()
        runtime = types.SimpleNamespace(
            kernel=lambda number: {
                "call": "",
                "wrong": 0,
                "binary_version": 53,
                "ptx_version": 53,
                "milliseconds": 0.5,
                "error": None,
            }
        )
        device = {
            "number": 0,
            "name": "NVIDIA Tegra X1",
            "capability": [5, 3],
            "memory": 4 << 30,
            "integrated": True,
            "error": None,
        }
        self.assertTrue(report._device(found, runtime, device))
        self.assertEqual(
            [finding.sentence for finding in found.findings],
            [
                "NVIDIA Tegra X1, compute capability 5.3, 4.0 GiB, shared with the processor",
                "ran from the code for sm_53; the first start took 0.5 ms",
            ],
        )

    def test_versions_are_read_as_people_write_them(self):
        self.assertEqual(report.version(12040), "12.4")
        self.assertEqual(report.version(8000), "8.0")
        self.assertEqual(report.dnn_version(90600), (9, 6, 0))
        self.assertEqual(report.dnn_version(8907), (8, 9, 7))
        self.assertEqual(report.dnn_version(5105), (5, 1, 5))


(result,) = sys.argv[1:]
tests = unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"])
outcome = unittest.TextTestRunner(verbosity=2).run(tests)
failures = len(outcome.failures) + len(outcome.errors)
with open(result, "w") as out:
    json.dump({"tests": outcome.testsRun, "failures": failures, "skipped": len(outcome.skipped)}, out)
sys.exit(0 if outcome.wasSuccessful() else 1)
