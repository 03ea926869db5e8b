"""TensorFlow on the target: kernels against NumPy, images, files, training, loaded op libraries; in one process.

Written for Python 2.7 and 3, TensorFlow 1 and 2 (by its version 1 interface): check.py RESULT.
"""

from __future__ import absolute_import, division, print_function

import json
import os
import shutil
import sys
import tempfile
import unittest

import numpy as np
import tensorflow

tf = getattr(getattr(tensorflow, "compat", None), "v1", None) or tensorflow
IS_1 = tensorflow.__version__.startswith("1.")
if not IS_1:
    tf.disable_eager_execution()


class Case(unittest.TestCase):
    def setUp(self):
        tf.reset_default_graph()
        tf.set_random_seed(7)
        np.random.seed(7)
        self.folder = tempfile.mkdtemp()

    def tearDown(self):
        shutil.rmtree(self.folder)

    def run_(self, fetches, feeds=None):
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            return session.run(fetches, feeds)


class Kernels(Case):
    def test_matmul(self):
        left, right = np.random.rand(37, 65).astype("f4"), np.random.rand(65, 41).astype("f4")
        np.testing.assert_allclose(self.run_(tf.matmul(left, right)), left.dot(right), rtol=1e-4)

    def test_matmul_of_every_type(self):
        for kind in ("f8", "i4", "c8", "c16"):
            left, right = np.arange(12).reshape(3, 4).astype(kind), np.arange(20).reshape(4, 5).astype(kind)
            np.testing.assert_allclose(self.run_(tf.matmul(left, right)), left.dot(right))

    def test_half_precision(self):
        values = np.linspace(-4, 4, 64).astype("f2")
        np.testing.assert_allclose(self.run_(tf.tanh(values)), np.tanh(values.astype("f4")), atol=2e-3)

    def test_convolution(self):
        image = np.random.rand(2, 9, 8, 3).astype("f4")
        kernel = np.random.rand(3, 3, 3, 5).astype("f4")
        found = self.run_(tf.nn.conv2d(image, kernel, strides=[1, 1, 1, 1], padding="VALID"))
        wanted = np.zeros((2, 7, 6, 5), "f4")
        for y in range(7):
            for x in range(6):
                wanted[:, y, x] = np.tensordot(image[:, y : y + 3, x : x + 3], kernel, axes=3)
        np.testing.assert_allclose(found, wanted, rtol=1e-4)

    def test_pooling_and_depthwise(self):
        image = np.random.rand(1, 6, 6, 4).astype("f4")
        found = self.run_(tf.nn.max_pool(image, [1, 2, 2, 1], [1, 2, 2, 1], "VALID"))
        np.testing.assert_allclose(found, image.reshape(1, 3, 2, 3, 2, 4).max(axis=(2, 4)))
        kernel = np.ones((1, 1, 4, 2), "f4") * 2
        depthwise = self.run_(tf.nn.depthwise_conv2d(image, kernel, [1, 1, 1, 1], "SAME"))
        np.testing.assert_allclose(depthwise, np.repeat(image * 2, 2, axis=3), rtol=1e-5)

    def test_linear_algebra(self):
        root = np.tril(np.random.rand(6, 6) + np.eye(6) * 3)
        np.testing.assert_allclose(self.run_(tf.cholesky(root.dot(root.T))), root, rtol=1e-6)
        square = np.random.rand(5, 5) + np.eye(5)
        np.testing.assert_allclose(self.run_(tf.matrix_inverse(square)), np.linalg.inv(square), rtol=1e-6)

    def test_fourier(self):
        wave = np.random.rand(64).astype("c8")
        np.testing.assert_allclose(self.run_(tf.fft(wave)), np.fft.fft(wave), rtol=1e-3, atol=1e-3)

    def test_quantised_matmul(self):
        left = np.random.randint(0, 255, (16, 24)).astype("u1")
        right = np.random.randint(0, 255, (24, 8)).astype("u1")
        # No release has a public name for it: it is what converters put into graphs.
        kinds = {"T1": tf.quint8, "T2": tf.quint8, "Toutput": tf.qint32}
        attrs = {name: tf.AttrValue(type=kind.as_datatype_enum) for name, kind in kinds.items()}
        attrs.update({name: tf.AttrValue(b=False) for name in ("transpose_a", "transpose_b")})
        inputs = [tf.bitcast(left, tf.quint8), tf.bitcast(right, tf.quint8)]
        inputs.extend(tf.constant(value) for value in (0.0, 255.0, 0.0, 255.0))
        outputs = [tf.qint32, tf.float32, tf.float32]
        product = tf.get_default_graph().create_op("QuantizedMatMul", inputs, outputs, attrs=attrs)
        found = self.run_(tf.bitcast(product.outputs[0], tf.int32))
        np.testing.assert_array_equal(found, left.astype("i4").dot(right.astype("i4")))

    def test_reductions_and_segments(self):
        values = np.arange(24, dtype="f4").reshape(4, 6)
        np.testing.assert_allclose(self.run_(tf.reduce_sum(values, axis=0)), values.sum(axis=0))
        np.testing.assert_allclose(self.run_(tf.segment_sum(values, [0, 0, 1, 1])), values.reshape(2, 2, 6).sum(axis=1))
        _, places = self.run_(tf.nn.top_k(values[2], 3))
        self.assertEqual(list(places), [5, 4, 3])

    def test_control_flow(self):
        end = tf.while_loop(lambda i, total: i < 100, lambda i, total: (i + 1, total + i), (0, 0))
        self.assertEqual([int(value) for value in self.run_(end)], [100, 4950])

    def test_random_numbers(self):
        found = self.run_(tf.random_normal([20000]))
        self.assertLess(abs(found.mean()), 0.05)
        self.assertLess(abs(found.std() - 1), 0.05)

    def test_strings(self):
        parts = self.run_(tf.string_split([b"a b c"]).values)
        self.assertEqual(list(parts), [b"a", b"b", b"c"])
        self.assertEqual(self.run_(tf.as_string(42)), b"42")

    def test_an_error_reaches_python(self):
        with self.assertRaises(tf.errors.InvalidArgumentError):
            self.run_(tf.reshape(tf.placeholder_with_default(np.zeros(3), [None]), [2]))


class Training(Case):
    def test_a_convolution_learns(self):
        images = np.random.rand(32, 8, 8, 1).astype("f4")
        wanted = (images.mean(axis=(1, 2, 3)) > 0.5).astype("f4")[:, None]
        kernel = tf.Variable(tf.random_normal([3, 3, 1, 4], stddev=0.3))
        weights = tf.Variable(tf.zeros([4, 1]))
        bias = tf.Variable(tf.zeros([1]))
        seen = tf.nn.relu(tf.nn.conv2d(images, kernel, strides=[1, 1, 1, 1], padding="SAME"))
        logits = tf.matmul(tf.reduce_mean(seen, axis=[1, 2]), weights) + bias
        loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=wanted, logits=logits))
        step = tf.train.AdamOptimizer(0.05).minimize(loss)
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            before = session.run(loss)
            for _ in range(60):
                session.run(step)
            after = session.run(loss)
        self.assertLess(after, before * 0.95)

    def test_gradients(self):
        x = tf.constant([[1.0, -2.0], [0.5, 3.0]])
        (gradient,) = tf.gradients(tf.reduce_sum(tf.square(tf.matmul(x, x))), [x])
        values = np.array([[1.0, -2.0], [0.5, 3.0]])
        product = values.dot(values)
        np.testing.assert_allclose(
            self.run_(gradient), 2 * (product.dot(values.T) + values.T.dot(product)), rtol=1e-5
        )


class Files(Case):
    def test_jpeg_there_and_back(self):
        ramp = np.linspace(0, 255, 48).astype("u1")
        image = np.stack([np.tile(ramp, (32, 1)), np.tile(ramp[::-1], (32, 1)), np.full((32, 48), 90, "u1")], axis=2)
        encoded = tf.image.encode_jpeg(image, quality=95)
        data, back = self.run_([encoded, tf.image.decode_jpeg(encoded)])
        self.assertEqual(data[:2], b"\xff\xd8")
        self.assertLess(np.abs(back.astype("i4") - image.astype("i4")).mean(), 4)

    def test_png_there_and_back(self):
        image = np.random.randint(0, 255, (13, 17, 4)).astype("u1")
        np.testing.assert_array_equal(self.run_(tf.image.decode_png(tf.image.encode_png(image))), image)

    def test_gif(self):
        one = bytearray.fromhex("47494638396101000100800000ff0000ffffff2c00000000010001000002024401003b")
        found = self.run_(tf.image.decode_gif(bytes(one)))
        self.assertEqual(found.reshape(-1).tolist(), [255, 0, 0])

    def test_checkpoint(self):
        value = tf.Variable(np.arange(1000, dtype="f4"), name="value")
        saver = tf.train.Saver()
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            path = saver.save(session, os.path.join(self.folder, "model"))
        with tf.Session() as session:
            saver.restore(session, path)
            np.testing.assert_array_equal(session.run(value), np.arange(1000, dtype="f4"))

    def test_records(self):
        path = os.path.join(self.folder, "records")
        with tf.python_io.TFRecordWriter(path) as writer:
            for number in range(5):
                writer.write(("record %d" % number).encode())
        self.assertEqual(list(tf.python_io.tf_record_iterator(path))[4], b"record 4")

    def test_a_graph_there_and_back(self):
        tf.add(tf.placeholder(tf.float32, name="x"), 2.0, name="y")
        graph = tf.get_default_graph().as_graph_def().SerializeToString()
        tf.reset_default_graph()
        read = tf.GraphDef()
        read.ParseFromString(graph)
        tf.import_graph_def(read, name="")
        self.assertEqual(self.run_("y:0", {"x:0": 40.0}), 42.0)


class Whole(Case):
    def test_the_target_has_a_processor_device(self):
        with tf.Session() as session:
            self.assertTrue(any(device.device_type == "CPU" for device in session.list_devices()))

    def test_contrib_loads_its_libraries(self):
        if not IS_1:
            self.skipTest("contrib is no part of TensorFlow 2")
        from tensorflow.contrib.rnn.python.ops import lstm_ops
        from tensorflow.contrib.tensor_forest.python.ops import tensor_forest_ops

        self.assertTrue(lstm_ops and tensor_forest_ops)
        cell = tf.contrib.rnn.LSTMBlockCell(3)
        state = cell.zero_state(2, tf.float32)
        found, _ = cell(tf.ones([2, 4]), state)
        self.assertEqual(self.run_(found).shape, (2, 3))


suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])
result = unittest.TextTestRunner(verbosity=2).run(suite)
failures = len(result.failures) + len(result.errors)
with open(sys.argv[1], "w") as out:
    json.dump({"tests": result.testsRun, "failures": failures, "skipped": len(result.skipped)}, out)
sys.stdout.flush()
sys.exit(1 if failures else 0)
