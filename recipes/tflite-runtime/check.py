"""TensorFlow Lite's interpreter on the target: check.py RESULT SOURCE.

The models are those of the release's own tests (tensorflow/lite/testdata in SOURCE), and small ones that are made here,
whose results are compared with NumPy's. Each runs by XNNPACK's kernels and by TensorFlow Lite's own.
"""

import ctypes
import json
import os
import re
import struct
import sys
import unittest

import numpy as np
import tflite_runtime
from tflite_runtime.interpreter import Delegate, Interpreter, OpResolverType, load_delegate

RESULT, SOURCE = sys.argv[1:]
LITE = os.path.join(SOURCE, "tensorflow", "lite")
WITHOUT_XNNPACK = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
RESOLVERS = (OpResolverType.AUTO, WITHOUT_XNNPACK, OpResolverType.BUILTIN_REF)

# Mesa's delegate for NPUs (Etnaviv, Rocket), where Debian's package mesa-teflon-delegate puts it.
TEFLON = "/usr/lib/teflon/libteflon.so"

# tensorflow/lite/schema/schema.fbs: TensorType, BuiltinOperator, the union BuiltinOptions
TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int8": 9}
ADD, CONV_2D, FULLY_CONNECTED, RESHAPE, SOFTMAX = 0, 3, 9, 22, 25
CONV_OPTIONS, FULLY_CONNECTED_OPTIONS, SOFTMAX_OPTIONS, ADD_OPTIONS, RESHAPE_OPTIONS = 1, 8, 9, 11, 17
SAME, VALID, RELU = 0, 1, 1


# --- a writer of flatbuffers ------------------------------------------------------------------------------------------


def scalar(form, value):
    return lambda flat: flat.put(struct.pack("<" + form, value), struct.calcsize(form))


def uint(value):
    return scalar("I", value)


def int32(value):
    return scalar("i", value)


def byte(value):
    return scalar("b", value)


class Reference:
    """A field that is written elsewhere, and pointed to."""

    def __init__(self, write):
        self.write = write


def vector(form, values):
    """A vector of numbers; its elements begin at a multiple of 16, as Buffer.data wants."""

    def write(flat):
        flat.pad(16, 4)
        place = flat.put(struct.pack("<I", len(values)), 4)
        flat.bytes += struct.pack("<{}{}".format(len(values), form), *values)
        return place

    return Reference(write)


def string(text):
    def write(flat):
        place = flat.put(struct.pack("<I", len(text)), 4)
        flat.bytes += text.encode() + b"\0"
        return place

    return Reference(write)


def tables(items):
    """A vector of tables."""

    def write(flat):
        place = flat.put(struct.pack("<I", len(items)), 4)
        flat.bytes += bytes(4 * len(items))
        for number, item in enumerate(items):
            flat.point(place + 4 + 4 * number, item.write(flat))
        return place

    return Reference(write)


def table(fields):
    """A table: number of the field → what it holds. A field that is not given has its default."""

    def write(flat):
        slots = max(fields) + 1 if fields else 0
        flat.pad(8, 4 + 2 * slots)
        places = [0] * slots
        start = len(flat.bytes) + 4 + 2 * slots
        vtable = flat.put(bytes(4 + 2 * slots), 2)
        flat.put(struct.pack("<i", start - vtable), 4)
        pending = []
        for number, field in fields.items():
            if isinstance(field, Reference):
                place = flat.put(bytes(4), 4)
                pending.append((place, field))
            else:
                place = field(flat)
            places[number] = place - start
        size = len(flat.bytes) - start
        struct.pack_into("<HH{}H".format(slots), flat.bytes, vtable, 4 + 2 * slots, size, *places)
        for place, field in pending:
            flat.point(place, field.write(flat))
        return start

    return Reference(write)


class Flat:
    """The bytes of a flatbuffer that grows at its end."""

    def __init__(self):
        self.bytes = bytearray()

    def pad(self, multiple, ahead):
        while (len(self.bytes) + ahead) % multiple:
            self.bytes += b"\0"

    def put(self, data, multiple):
        self.pad(multiple, 0)
        self.bytes += data
        return len(self.bytes) - len(data)

    def point(self, place, target):
        struct.pack_into("<I", self.bytes, place, target - place)


# --- models -----------------------------------------------------------------------------------------------------------


class Model:
    """A model with one subgraph."""

    def __init__(self):
        self.buffers, self.tensors, self.operators, self.codes = [b""], [], [], []

    def tensor(self, name, shape, kind="float32", data=None, scale=None, zero=(0,), axis=0):
        """The number of a new tensor; with ``data`` it is a constant, with ``scale`` it is quantized."""
        buffer = 0
        if data is not None:
            buffer = len(self.buffers)
            self.buffers.append(np.ascontiguousarray(data).tobytes())
        fields = {0: vector("i", shape), 1: byte(TYPES[kind]), 2: uint(buffer), 3: string(name)}
        if scale is not None:
            zeros = list(zero) * (len(scale) // len(zero))
            fields[4] = table({2: vector("f", scale), 3: vector("q", zeros), 6: int32(axis)})
        self.tensors.append(table(fields))
        return len(self.tensors) - 1

    def operator(self, code, inputs, outputs, kind=0, options=None, version=1):
        """An operation; ``kind`` is the number of its options in the union BuiltinOptions."""
        self.codes.append(table({0: byte(min(code, 127)), 2: int32(version), 3: int32(code)}))
        fields = {0: uint(len(self.codes) - 1), 1: vector("i", inputs), 2: vector("i", outputs)}
        if options is not None:
            fields.update({3: scalar("B", kind), 4: table(options)})
        self.operators.append(table(fields))

    def content(self, inputs, outputs):
        """The model's bytes."""
        ends = {1: vector("i", inputs), 2: vector("i", outputs)}
        graph = table({0: tables(self.tensors), **ends, 3: tables(self.operators), 4: string("main")})
        buffers = [table({0: vector("B", data)} if data else {}) for data in self.buffers]
        root = table({0: uint(3), 1: tables(self.codes), 2: tables([graph]), 3: string("check"), 4: tables(buffers)})
        flat = Flat()
        flat.bytes += bytes(4) + b"TFL3"
        flat.point(0, root.write(flat))
        return bytes(flat.bytes)


def testdata(name):
    return os.path.join(LITE, "testdata", name)


def run(interpreter, *inputs):
    """All outputs for the inputs in their order."""
    interpreter.allocate_tensors()
    for detail, value in zip(interpreter.get_input_details(), inputs):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def loaded(model, **more):
    """An interpreter of a file of testdata, or of bytes."""
    given = {"model_content": model} if isinstance(model, bytes) else {"model_path": testdata(model)}
    return Interpreter(**given, **more)


def by(resolvers, model, *inputs):
    """The first output of a model, by each of the kernels."""
    return [run(loaded(model, experimental_op_resolver_type=resolver), *inputs)[0] for resolver in resolvers]


def random(seed, *shape):
    return np.random.RandomState(seed).uniform(-1, 1, shape).astype(np.float32)


def convolved(image, filters, bias, padding):
    """NHWC by OHWI, stride 1, in double precision."""
    size = filters.shape[1]
    margin = size // 2 if padding == SAME else 0
    wide = np.pad(image.astype(np.float64), ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="constant")
    height, width = wide.shape[1] - size + 1, wide.shape[2] - size + 1
    out = np.zeros((image.shape[0], height, width, filters.shape[0]))
    for y in range(size):
        for x in range(size):
            part = wide[:, y : y + height, x : x + width]
            out += np.einsum("nhwc,oc->nhwo", part, filters[:, y, x].astype(np.float64))
    return out + bias


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


class Network:
    """Convolution, ReLU, reshape, fully connected, softmax, with random weights."""

    def __init__(self, batch=1, size=12, channels=3, filters=16, classes=10):
        self.shape = (batch, size, size, channels)
        self.filters, self.bias = random(1, filters, 3, 3, channels), random(2, filters)
        features = size * size * filters
        self.weights, self.offsets = random(3, classes, features) / 16, random(4, classes)
        model = Model()
        image = model.tensor("image", self.shape)
        kernel = model.tensor("filters", self.filters.shape, data=self.filters)
        bias = model.tensor("bias", self.bias.shape, data=self.bias)
        hidden = model.tensor("hidden", (batch, size, size, filters))
        shape = model.tensor("shape", (2,), "int32", data=np.array([batch, features], np.int32))
        flat = model.tensor("flat", (batch, features))
        weights = model.tensor("weights", self.weights.shape, data=self.weights)
        offsets = model.tensor("offsets", self.offsets.shape, data=self.offsets)
        logits = model.tensor("logits", (batch, classes))
        answer = model.tensor("answer", (batch, classes))
        options = {0: byte(SAME), 1: int32(1), 2: int32(1), 3: byte(RELU)}
        model.operator(CONV_2D, [image, kernel, bias], [hidden], CONV_OPTIONS, options)
        model.operator(RESHAPE, [hidden, shape], [flat], RESHAPE_OPTIONS, {})
        model.operator(FULLY_CONNECTED, [flat, weights, offsets], [logits], FULLY_CONNECTED_OPTIONS, {0: byte(0)})
        model.operator(SOFTMAX, [logits], [answer], SOFTMAX_OPTIONS, {0: scalar("f", 1.0)})
        self.content = model.content([image], [answer])

    def expected(self, image):
        hidden = np.maximum(convolved(image, self.filters, self.bias, SAME), 0).reshape(self.shape[0], -1)
        return softmax(hidden @ self.weights.astype(np.float64).T + self.offsets)


def quantized_convolution():
    """A convolution in int8 with a scale for each channel: the model, and the reference."""
    scales = np.linspace(0.01, 0.03, 8).astype(np.float32)
    filters = np.random.RandomState(5).randint(-127, 128, (8, 3, 3, 4)).astype(np.int8)
    bias = np.random.RandomState(6).randint(-2000, 2000, 8).astype(np.int32)
    in_scale, in_zero, out_scale, out_zero = 0.05, 3, 1.5, -7
    model = Model()
    image = model.tensor("image", (1, 9, 9, 4), "int8", scale=[in_scale], zero=[in_zero])
    kernel = model.tensor("filters", filters.shape, "int8", data=filters, scale=scales.tolist())
    products = (scales.astype(np.float64) * in_scale).tolist()
    offsets = model.tensor("bias", (8,), "int32", data=bias, scale=products)
    out = model.tensor("out", (1, 7, 7, 8), "int8", scale=[out_scale], zero=[out_zero])
    options = {0: byte(VALID), 1: int32(1), 2: int32(1), 3: byte(0)}
    model.operator(CONV_2D, [image, kernel, offsets], [out], CONV_OPTIONS, options, version=3)

    def reference(pixels):
        sums = convolved(pixels.astype(np.int64) - in_zero, filters, bias, VALID)
        return np.clip(np.round(sums * np.array(products) / out_scale) + out_zero, -128, 127)

    return model.content([image], [out]), reference


# --- tests ------------------------------------------------------------------------------------------------------------


class MadeHere(unittest.TestCase):
    def test_convolution_fully_connected_softmax(self):
        network = Network()
        image = random(7, *network.shape)
        for answer in by(RESOLVERS, network.content, image):
            np.testing.assert_allclose(answer, network.expected(image), rtol=1e-4, atol=1e-5)

    def test_threads_give_the_same(self):
        network = Network(size=32, filters=32)
        image = random(8, *network.shape)
        answers = [run(loaded(network.content, num_threads=number), image)[0] for number in (1, 2, 4)]
        for answer in answers:
            np.testing.assert_allclose(answer, network.expected(image), rtol=1e-3, atol=1e-5)

    def test_a_batch_is_as_its_parts(self):
        many, single = Network(batch=4), Network()
        images = random(9, *many.shape)
        (together,) = run(loaded(many.content), images)
        interpreter = loaded(single.content)
        apart = [run(interpreter, images[number : number + 1])[0][0] for number in range(4)]
        np.testing.assert_allclose(together, apart, rtol=1e-5, atol=1e-6)

    def test_int8_convolution_with_a_scale_for_each_channel(self):
        content, reference = quantized_convolution()
        pixels = np.random.RandomState(10).randint(-128, 128, (1, 9, 9, 4)).astype(np.int8)
        expected = reference(pixels)
        for got in by(RESOLVERS, content, pixels):
            self.assertEqual(got.dtype, np.int8)
            self.assertLessEqual(np.abs(got.astype(int) - expected).max(), 1)
            self.assertGreater(np.unique(got).size, 50)

    def test_every_builtin_operation_has_a_kernel(self):
        with open(os.path.join(LITE, "schema", "schema.fbs")) as stream:
            body = re.search(r"enum BuiltinOperator : int32 \{(.*?)\n\}", stream.read(), re.S).group(1)
        operations = {name: int(code) for name, code in re.findall(r"^\s*([A-Z0-9_]+) *= *(\d+),", body, re.M)}
        self.assertGreater(len(operations), 150)
        with open(os.path.join(LITE, "core", "kernels", "register.cc")) as stream:
            calls = re.findall(r"AddBuiltin\(BuiltinOperator_(\w+),(.*?)\);", stream.read(), re.S)
        versions = {name: re.search(r"min_version[ =*/]*(\d+)", call) for name, call in calls}
        # The names that are no operations, and those that the release has no kernel for.
        absent = {"CUSTOM", "DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES", "CALL", "CONCAT_EMBEDDINGS"}
        self.assertEqual(set(operations) - set(versions), absent)
        for name, version in sorted(versions.items()):
            with self.subTest(name):
                self.assertTrue(self.resolved(operations[name], int(version.group(1)) if version else 1))
        for name in ("CALL", "CONCAT_EMBEDDINGS"):
            self.assertFalse(self.resolved(operations[name], 1), name)

    def resolved(self, code, version):
        """Whether the interpreter has a kernel for an operation."""
        model = Model()
        tensor = model.tensor("x", (1,))
        model.operator(code, [tensor], [tensor], version=version)
        try:
            loaded(model.content([tensor], [tensor]), experimental_op_resolver_type=WITHOUT_XNNPACK)
        except ValueError as error:
            return "Didn't find op for builtin opcode" not in str(error)
        return True

    def test_a_new_shape(self):
        model = Model()
        a, b, out = (model.tensor(name, (1, 4)) for name in "abc")
        model.operator(ADD, [a, b], [out], ADD_OPTIONS, {0: byte(0)})
        interpreter = loaded(model.content([a, b], [out]))
        for rows in (3, 1, 17):
            for tensor in (a, b):
                interpreter.resize_tensor_input(tensor, [rows, 4])
            left, right = random(rows, rows, 4), random(rows + 1, rows, 4)
            (total,) = run(interpreter, left, right)
            self.assertEqual(total.shape, (rows, 4))
            np.testing.assert_array_equal(total, left + right)


class ReleaseModels(unittest.TestCase):
    """tensorflow/lite/testdata."""

    def test_add(self):
        values = random(11, 1, 8, 8, 3)
        for total in by(RESOLVERS, "add.bin", values):
            np.testing.assert_array_equal(total, values + values + values)

    def test_several_inputs_and_outputs(self):
        a, b, c, d = (random(seed, 1, 8, 8, 3) for seed in range(4))
        x, y = run(loaded("multi_add.bin"), a, b, c, d)
        np.testing.assert_allclose(x, a + (b + c), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(y, d + (b + c), rtol=1e-6, atol=1e-6)

    def test_subtraction(self):
        a, b = random(12, 1, 3), random(13, 1, 3)
        np.testing.assert_array_equal(run(loaded("sub.bin"), a, b)[0], a - b)

    def test_quantized_additions(self):
        for name in ("add_quantized.bin", "add_quantized_int8.bin"):
            with self.subTest(name):
                interpreter = loaded(name)
                given, wanted = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
                info = np.iinfo(given["dtype"])
                pixels = np.random.RandomState(14).randint(info.min, info.max + 1, given["shape"])
                (scale, zero), (out_scale, out_zero) = given["quantization"], wanted["quantization"]
                reals = (pixels.astype(np.float64) - zero) * scale
                (got,) = run(interpreter, pixels.astype(given["dtype"]))
                expected = np.clip(np.round(3 * reals / out_scale) + out_zero, info.min, info.max)
                self.assertLessEqual(np.abs(got.astype(int) - expected).max(), 2)

    def test_signatures(self):
        interpreter = loaded("multi_signatures.bin")
        signatures = interpreter.get_signature_list()
        self.assertEqual(sorted(signatures), ["add", "sub"])
        value = np.array([5], np.float32)
        results = {}
        for name, signature in signatures.items():
            runner = interpreter.get_signature_runner(name)
            (results[name],) = runner(**{signature["inputs"][0]: value}).values()
        self.assertGreater(results["add"], value)
        self.assertLess(results["sub"], value)

    def test_variables_and_a_subgraph_that_is_called_once(self):
        # Each answer is the product of the input and the one before it, which begins with 2.
        interpreter = loaded("call_once_mul.bin")
        interpreter.allocate_tensors()
        given, wanted = (d[0]["index"] for d in (interpreter.get_input_details(), interpreter.get_output_details()))
        answers = []
        for value in (1, 3, 5):
            interpreter.set_tensor(given, np.array(value, np.float32))
            interpreter.invoke()
            answers.append(float(interpreter.get_tensor(wanted)))
        self.assertEqual(answers, [2, 3, 15])

    def test_loops(self):
        answers = by(RESOLVERS, "nested_while.bin", np.array(1, np.float32))
        self.assertTrue(np.isfinite(answers).all())
        self.assertEqual(len(set(map(float, answers))), 1)
        self.assertEqual(len(run(loaded("multi_subgraphs_while.bin"), np.array(2, np.float32))), 2)

    def test_recurrent_cells_agree_with_the_reference_kernels(self):
        for name, shape in (("lstm.bin", (1, 2)), ("unidirectional_sequence_lstm.bin", (1, 2, 2))):
            with self.subTest(name):
                values = random(15, *shape)
                optimized, reference = by(RESOLVERS[1:], name, values)
                self.assertTrue(np.isfinite(optimized).all())
                np.testing.assert_allclose(optimized, reference, rtol=1e-4, atol=1e-5)

    def test_half_precision_weights(self):
        values = random(16, 1, 5, 5, 3)
        fast, slow = by(RESOLVERS[:2], "test_model_redux_precision.bin", values)
        self.assertGreater(np.ptp(slow), 0)
        np.testing.assert_allclose(fast, slow, rtol=1e-3, atol=1e-4)

    def test_a_larger_graph_by_both_kernels(self):
        x, y = random(17, 8, 42, 1024), random(18, 1, 90, 1024)
        which = np.array([[1]], np.float32)
        fast, slow = by(RESOLVERS[:2], "dynamic_shapes.bin", x, y, which)
        self.assertEqual(fast.shape[-1], 1024)
        np.testing.assert_allclose(fast, slow, rtol=1e-3, atol=1e-4)

    def test_depthwise_convolution_with_a_scale_for_each_channel(self):
        path = os.path.join(LITE, "python", "testdata", "pc_conv.bin")
        interpreter = Interpreter(model_path=path)
        scales = interpreter.get_tensor_details()[1]["quantization_parameters"]["scales"]
        self.assertEqual(scales.size, 128)
        values = random(19, 1, 128, 128, 1)
        (fast,) = run(interpreter, values)
        (slow,) = run(Interpreter(model_path=path, experimental_op_resolver_type=OpResolverType.BUILTIN_REF), values)
        self.assertGreater(np.ptp(fast), 0)
        step = interpreter.get_output_details()[0]["quantization"][0] or np.ptp(slow) / 255
        self.assertLessEqual(np.abs(fast - slow).max(), 2 * step + 1e-6)

    def test_strings(self):
        given = np.array([[word.encode() for word in ("a", "bc", "\u00e4\u00f6")]])
        (got,) = run(loaded("string_input_model.bin"), given)
        self.assertEqual(got.tolist(), given.tolist())

    def test_what_needs_other_operations_says_so(self):
        wanted = {"custom_sinh.bin": "unresolved custom op: Sinh", "double_flex.bin": "Select TensorFlow op"}
        for name, words in wanted.items():
            with self.subTest(name), self.assertRaisesRegex(RuntimeError, words):
                loaded(name).allocate_tensors()


class BadInput(unittest.TestCase):
    def test_models_that_are_none(self):
        # A model that is cut off is not tried: this release reads models without verifying them.
        good = Network().content
        bad = {
            "another identifier": good[:4] + b"TFL2" + good[8:],
            "text": b"this is no model at all, but it is long enough to be looked at",
        }
        for what, content in bad.items():
            with self.subTest(what), self.assertRaises(ValueError):
                loaded(content)

    def test_files_that_are_none(self):
        with self.assertRaisesRegex(ValueError, "Could not open"):
            Interpreter(model_path="/nowhere/model.tflite")
        for name in ("test_model_broken.bin", "no_subgraphs.bin"):
            with self.subTest(name), self.assertRaises(ValueError):
                loaded(name)
        with self.assertRaisesRegex(RuntimeError, "inconsistent model"):
            loaded("add_shared_tensors.bin").allocate_tensors()

    def test_tensors_that_do_not_fit(self):
        interpreter = loaded("add.bin")
        with self.assertRaisesRegex(RuntimeError, "allocate_tensors|AllocateTensors|not ready"):
            interpreter.invoke()
        interpreter.allocate_tensors()
        index = interpreter.get_input_details()[0]["index"]
        for value in (np.zeros((1, 8, 8, 4), np.float32), np.zeros((1, 8, 8, 3), np.int32)):
            with self.assertRaisesRegex(ValueError, "Cannot set tensor"):
                interpreter.set_tensor(index, value)
        with self.assertRaises(ValueError):
            interpreter.get_tensor(1000)

    def test_numbers_of_threads(self):
        for threads in (0, -2, "two"):
            with self.subTest(threads), self.assertRaises(ValueError):
                loaded("add.bin", num_threads=threads)


class Memory(unittest.TestCase):
    def test_a_view_is_the_tensor_itself(self):
        interpreter = loaded("add.bin", experimental_op_resolver_type=WITHOUT_XNNPACK)
        interpreter.allocate_tensors()
        view = interpreter.tensor(interpreter.get_input_details()[0]["index"])
        view().fill(2)
        interpreter.invoke()
        out = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        np.testing.assert_array_equal(out, np.full(out.shape, 6, np.float32))

    def test_no_invocation_while_a_view_is_held(self):
        interpreter = loaded("add.bin")
        interpreter.allocate_tensors()
        held = interpreter.tensor(interpreter.get_input_details()[0]["index"])()
        with self.assertRaisesRegex(RuntimeError, "reference to internal data"):
            interpreter.invoke()
        del held
        interpreter.invoke()

    def test_many_interpreters(self):
        content = Network().content
        image = random(20, 1, 12, 12, 3)
        answers = [run(loaded(content), image)[0] for _ in range(20)]
        for answer in answers:
            np.testing.assert_array_equal(answer, answers[0])


class TfLiteDelegate(ctypes.Structure):
    """tensorflow/lite/core/c/common.h."""

    PREPARE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("prepare", PREPARE),
        ("copy_from_buffer_handle", ctypes.c_void_p),
        ("copy_to_buffer_handle", ctypes.c_void_p),
        ("free_buffer_handle", ctypes.c_void_p),
        ("flags", ctypes.c_int64),
        ("opaque_delegate_builder", ctypes.c_void_p),
    ]


class HandMade:
    """What Interpreter takes for a delegate, with a function of Python's as its Prepare."""

    def __init__(self, status):
        self.calls = []
        self.native = TfLiteDelegate()
        self.native.prepare = TfLiteDelegate.PREPARE(lambda context, delegate: self.calls.append(delegate) or status)

    def _get_native_delegate_pointer(self):
        return ctypes.addressof(self.native)


class Delegates(unittest.TestCase):
    def test_xnnpack_takes_part_of_the_graph(self):
        for resolver, taken in ((OpResolverType.AUTO, True), (WITHOUT_XNNPACK, False)):
            interpreter = loaded(Network().content, experimental_op_resolver_type=resolver)
            interpreter.allocate_tensors()
            operations = {detail["op_name"] for detail in interpreter._get_ops_details()}
            self.assertEqual("DELEGATE" in operations, taken)

    def test_a_delegate_is_asked_and_may_decline(self):
        delegate = HandMade(status=0)
        values = random(21, 1, 8, 8, 3)
        (total,) = run(loaded("add.bin", experimental_delegates=[delegate]), values)
        self.assertEqual(delegate.calls, [ctypes.addressof(delegate.native)])
        np.testing.assert_array_equal(total, values + values + values)

    def test_a_delegate_that_fails(self):
        with self.assertRaises(RuntimeError):
            loaded("add.bin", experimental_delegates=[HandMade(status=1)]).allocate_tensors()

    def test_libraries_that_are_no_delegate(self):
        with self.assertRaises(OSError):
            load_delegate("libnowhere-delegate.so.1")
        with self.assertRaisesRegex(AttributeError, "tflite_plugin_create_delegate"):
            load_delegate("libm.so.6")

    @unittest.skipUnless(os.path.exists(TEFLON), "this distribution has no mesa-teflon-delegate")
    def test_mesas_teflon(self):
        library = ctypes.PyDLL(TEFLON)
        for name in ("tflite_plugin_create_delegate", "tflite_plugin_destroy_delegate"):
            self.assertTrue(ctypes.cast(getattr(library, name), ctypes.c_void_p).value, name)
        values = random(22, 1, 8, 8, 3)
        try:
            delegates = [load_delegate(TEFLON)]
        except ValueError as error:  # no NPU, as in every container
            print("Teflon was loaded and asked:", error)
            self.assertIn("Failed to load delegate from " + TEFLON, str(error))
            return
        self.assertIsInstance(delegates[0], Delegate)
        (total,) = run(loaded("add.bin", experimental_delegates=delegates), values)
        np.testing.assert_array_equal(total, values + values + values)


class Version(unittest.TestCase):
    def test_it_is_the_sources(self):
        with open(os.path.join(SOURCE, "tensorflow", "tools", "pip_package", "setup.py")) as stream:
            version = re.search(r"^_VERSION = '(.+)'", stream.read(), re.M).group(1)
        self.assertEqual(tflite_runtime.__version__, version)


suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])
outcome = unittest.TextTestRunner(verbosity=2, stream=sys.stdout).run(suite)
failures = len(outcome.failures) + len(outcome.errors) + len(outcome.unexpectedSuccesses)
with open(RESULT, "w") as out:
    json.dump({"tests": outcome.testsRun, "failures": failures, "skipped": len(outcome.skipped)}, out)
sys.exit(1 if failures else 0)
