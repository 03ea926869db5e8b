"""libKMCUDA on a machine without a GPU: check.py RESULT SOURCE.

Under the emulator there is no driver. Arguments are looked at before a GPU is asked for, and the runtime that is linked
then answers that there is none; what needs one is the board's to try, by the package's own test.py. Of that, the tests
that want no GPU run here.
"""

import ctypes
import importlib.util
import json
import sys
import types
import unittest

import libKMCUDA
import numpy
from libKMCUDA import kmeans_cuda, knn_cuda

RESULT, SOURCE = sys.argv[1:]

OWN = (("KmeansTests", "test_crap"), ("KmeansTests", "test_random_lloyd_all_explicit_gpus"))
INVALID_ARGUMENTS, NO_SUCH_DEVICE = 1, 2
"""Of ``KMCUDAResult`` in its kmcuda.h."""

SAMPLES = numpy.random.RandomState(7).rand(500, 4).astype(numpy.float32)
CENTROIDS, ASSIGNMENTS = SAMPLES[:10].copy(), numpy.zeros(500, dtype=numpy.uint32)


def own_tests():
    """The package's test.py. It compares with scikit-learn, which its tests without a GPU never come to."""
    for name, members in (
        ("sklearn", ()),
        ("sklearn.cluster", ("KMeans",)),
        ("sklearn.metrics", ()),
        ("sklearn.metrics.pairwise", ("cosine_distances",)),
        ("sklearn.neighbors", ("NearestNeighbors", "DistanceMetric")),
    ):
        module = types.ModuleType(name)
        for member in members:
            setattr(module, member, None)
        sys.modules[name] = module
    spec = importlib.util.spec_from_file_location("kmcuda_tests", SOURCE + "/test.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [getattr(module, group)(name) for group, name in OWN]


class WithoutGpu(unittest.TestCase):
    """The runtime that is linked answers, and its answer comes through."""

    def refused(self, error, sentence, function, *args, **named):
        with self.assertRaises(error) as raised:
            function(*args, **named)
        self.assertEqual(str(raised.exception), sentence)

    def test_kmeans_finds_no_gpu(self):
        for metric in ("L2", "cos"):
            for init in ("kmeans++", "random", ("afkmc2", 100), CENTROIDS):
                self.refused(
                    ValueError, "No such CUDA device exists", kmeans_cuda, SAMPLES, 10, init=init, metric=metric
                )

    def test_kmeans_finds_no_gpu_of_that_number(self):
        self.refused(ValueError, "No such CUDA device exists", kmeans_cuda, SAMPLES, 10, device=4)

    def test_nearest_neighbours_find_no_gpu(self):
        for metric in ("L2", "cos"):
            arguments = (3, SAMPLES, CENTROIDS, ASSIGNMENTS, metric)
            self.refused(ValueError, "No such CUDA device exists", knn_cuda, *arguments)

    def test_memory_of_a_gpu_that_is_not_there(self):
        pointer = (SAMPLES.ctypes.data, 0, SAMPLES.shape)
        self.refused(ValueError, "No such CUDA device exists", kmeans_cuda, pointer, 10)


class Arguments(unittest.TestCase):
    """What is wrong with arguments is said before a GPU is asked for."""

    refused = WithoutGpu.refused

    def test_the_number_of_clusters(self):
        said = '"clusters" must be greater than 1 and less than (1 << 32) - 1'
        self.refused(ValueError, said, kmeans_cuda, SAMPLES, 1)

    def test_more_clusters_than_samples(self):
        self.refused(ValueError, "Invalid arguments were passed to kmeans_cuda", kmeans_cuda, SAMPLES, 501)

    def test_the_metric(self):
        said = 'Unknown metric. Supported values are "L2" and "cos".'
        self.refused(ValueError, said, kmeans_cuda, SAMPLES, 10, metric="manhattan")
        self.refused(TypeError, '"metric" must be either None or string.', kmeans_cuda, SAMPLES, 10, metric=2)

    def test_the_shape_of_the_samples(self):
        self.refused(ValueError, '"samples" must be a 2D numpy array', kmeans_cuda, SAMPLES.ravel(), 10)
        wide = numpy.zeros((4, 70000), dtype=numpy.float32)
        said = '"samples": more than 70000 features is not supported'
        self.refused(ValueError, said, kmeans_cuda, wide, 2)

    def test_the_type_of_the_samples(self):
        said = '"samples" must be a 2D float32 or float16 numpy array'
        self.refused(TypeError, said, kmeans_cuda, SAMPLES.astype(complex), 10)

    def test_centroids_that_are_given(self):
        said = '"init" centroids shape[0] does not match the number of clusters'
        self.refused(ValueError, said, kmeans_cuda, SAMPLES, 11, init=CENTROIDS)
        said = '"init" centroids shape[1] does not match the number of features'
        self.refused(ValueError, said, kmeans_cuda, SAMPLES, 10, init=CENTROIDS[:, :3])

    def test_the_number_of_neighbours(self):
        said = '"k" must be greater than 0 and less than (1 << 16)'
        for k in (0, 1 << 16):
            self.refused(ValueError, said, knn_cuda, k, SAMPLES, CENTROIDS, ASSIGNMENTS)

    def test_assignments_of_another_length(self):
        said = '"assignments" must be of the same length as "samples"'
        self.refused(ValueError, said, knn_cuda, 3, SAMPLES, CENTROIDS, ASSIGNMENTS[:-1])

    def test_half_floats(self):
        halves = SAMPLES.astype(numpy.float16)
        said = "No such CUDA device exists"
        if not libKMCUDA.supports_fp16:
            said = "Invalid arguments were passed to kmeans_cuda"
        self.refused(ValueError, said, kmeans_cuda, halves, 10)
        said = "the number of features must be even in fp16 mode"
        self.refused(ValueError, said, kmeans_cuda, halves[:, :3], 10)


class Library(unittest.TestCase):
    """The module is a C library as well, by its kmcuda.h."""

    def call(self, clusters):
        function = ctypes.CDLL(libKMCUDA.__file__).kmeans_cuda
        centroids, assignments = numpy.zeros((clusters, 4), "f4"), numpy.zeros(len(SAMPLES), "u4")
        method, metric, device, pointers, halves, verbosity = 0, 0, 0, -1, 0, 0
        return function(
            ctypes.c_int(method), None, ctypes.c_float(0.01), ctypes.c_float(0.1), ctypes.c_int(metric),
            ctypes.c_uint32(len(SAMPLES)), ctypes.c_uint16(4), ctypes.c_uint32(clusters), ctypes.c_uint32(7),
            ctypes.c_uint32(device), ctypes.c_int32(pointers), ctypes.c_int32(halves), ctypes.c_int32(verbosity),
            ctypes.c_void_p(SAMPLES.ctypes.data), ctypes.c_void_p(centroids.ctypes.data),
            ctypes.c_void_p(assignments.ctypes.data), None,
        )  # fmt: skip

    def test_its_functions_answer(self):
        self.assertEqual(self.call(10), NO_SUCH_DEVICE)
        self.assertEqual(self.call(501), INVALID_ARGUMENTS)


tests = unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"])
tests.addTests(own_tests())
outcome = unittest.TextTestRunner(verbosity=2).run(tests)
failures = len(outcome.failures) + len(outcome.errors)
with open(RESULT, "w") as out:
    json.dump({"tests": outcome.testsRun, "failures": failures, "skipped": len(outcome.skipped)}, out)
sys.exit(0 if outcome.wasSuccessful() else 1)
