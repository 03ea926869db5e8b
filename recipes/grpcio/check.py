"""gRPC on the target: a server and its clients in one process, in the clear and by TLS: check.py RESULT."""

import json
import sys
import time
import unittest
from concurrent import futures

import grpc
from grpc._cython import cygrpc

# A pair for these tests alone, self-signed for "localhost", good for a hundred years.
KEY = b"""-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgBSOCtFYoLgaMp7AD
W9cqpkQDsPqfr7hIXatnaC9J0dqhRANCAAQRkNX7befrxSv9d+oucrUAFks9mRzd
2u929LzZuCv7mANP+t98tmcbkvaZj95uROtXq4r/gCtJkxkECTdLR2SZ
-----END PRIVATE KEY-----
"""
CERTIFICATE = b"""-----BEGIN CERTIFICATE-----
MIIBljCCATugAwIBAgIUJqpeyIsuElHXfGTjocaqViwNXcMwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMTE0MDkyNFoYDzIxMjYxMDI4
MTQwOTI0WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQRkNX7befrxSv9d+oucrUAFks9mRzd2u929LzZuCv7mANP+t98tmcb
kvaZj95uROtXq4r/gCtJkxkECTdLR2SZo2kwZzAdBgNVHQ4EFgQUeQPSw18y23Az
CYozohy7c7+4HlQwHwYDVR0jBBgwFoAUeQPSw18y23AzCYozohy7c7+4HlQwDwYD
VR0TAQH/BAUwAwEB/zAUBgNVHREEDTALgglsb2NhbGhvc3QwCgYIKoZIzj0EAwID
SQAwRgIhAIq2uVet5ZSy8tWuBbdJlsuUW7vZPU5lZb+o/eeZ+/5cAiEAxymt9U0D
pFnYISjIG5ITk28RM0NknCGnn9KCEnCheiI=
-----END CERTIFICATE-----
"""


class Echo(grpc.GenericRpcHandler):
    """Methods whose messages are bytes: no protobuf is needed."""

    def service(self, details):
        return {
            "/test/Echo": grpc.unary_unary_rpc_method_handler(lambda request, context: request[::-1]),
            "/test/Count": grpc.unary_stream_rpc_method_handler(self.count),
            "/test/Sum": grpc.stream_unary_rpc_method_handler(lambda items, context: b"%d" % sum(map(int, items))),
            "/test/Chat": grpc.stream_stream_rpc_method_handler(lambda items, context: (i.upper() for i in items)),
            "/test/Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "/test/Slow": grpc.unary_unary_rpc_method_handler(lambda request, context: time.sleep(5) or request),
        }.get(details.method)

    @staticmethod
    def count(request, context):
        for number in range(int(request)):
            yield b"%d" % number

    @staticmethod
    def fail(request, context):
        context.set_trailing_metadata((("why", "a test"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now")


class Calls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = grpc.server(futures.ThreadPoolExecutor(4), handlers=(Echo(),))
        cls.port = cls.server.add_insecure_port("127.0.0.1:0")
        cls.secure = cls.server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(KEY, CERTIFICATE)]))
        cls.server.start()
        cls.channel = grpc.insecure_channel("127.0.0.1:%d" % cls.port)
        grpc.channel_ready_future(cls.channel).result(timeout=60)

    @classmethod
    def tearDownClass(cls):
        cls.channel.close()
        cls.server.stop(None)

    def test_one_message(self):
        self.assertEqual(self.channel.unary_unary("/test/Echo")(b"abc", timeout=60), b"cba")

    def test_a_large_message_compressed(self):
        text = bytes(range(256)) * 8192
        call = self.channel.unary_unary("/test/Echo")
        for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip, grpc.Compression.Deflate):
            self.assertEqual(call(text, timeout=120, compression=compression), text[::-1])

    def test_a_stream_of_answers(self):
        answers = self.channel.unary_stream("/test/Count")(b"100", timeout=60)
        self.assertEqual([int(item) for item in answers], list(range(100)))

    def test_a_stream_of_requests(self):
        requests = (b"%d" % number for number in range(101))
        self.assertEqual(self.channel.stream_unary("/test/Sum")(requests, timeout=60), b"5050")

    def test_streams_both_ways(self):
        answers = self.channel.stream_stream("/test/Chat")(iter([b"a", b"b"]), timeout=60)
        self.assertEqual(list(answers), [b"A", b"B"])

    def test_an_error_with_its_metadata(self):
        with self.assertRaises(grpc.RpcError) as caught:
            self.channel.unary_unary("/test/Fail")(b"", timeout=60)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.FAILED_PRECONDITION)
        self.assertEqual(caught.exception.details(), "not now")
        self.assertIn(("why", "a test"), [tuple(item) for item in caught.exception.trailing_metadata()])

    def test_a_deadline(self):
        with self.assertRaises(grpc.RpcError) as caught:
            self.channel.unary_unary("/test/Slow")(b"", timeout=0.5)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)

    def test_tls(self):
        credentials = grpc.ssl_channel_credentials(CERTIFICATE)
        options = (("grpc.ssl_target_name_override", "localhost"),)
        with grpc.secure_channel("127.0.0.1:%d" % self.secure, credentials, options) as channel:
            self.assertEqual(channel.unary_unary("/test/Echo")(b"secret", timeout=120), b"terces")

    def test_tls_refuses_a_name_that_is_not_in_the_certificate(self):
        credentials = grpc.ssl_channel_credentials(CERTIFICATE)
        options = (("grpc.ssl_target_name_override", "elsewhere"),)
        with grpc.secure_channel("127.0.0.1:%d" % self.secure, credentials, options) as channel:
            with self.assertRaises(grpc.RpcError) as caught:
                channel.unary_unary("/test/Echo")(b"secret", timeout=60)
            self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)


assert cygrpc.__file__.endswith(".so"), "the compiled module is not loaded"
suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])
result = unittest.TextTestRunner(verbosity=2).run(suite)
failures = len(result.failures) + len(result.errors)
with open(sys.argv[1], "w") as out:
    json.dump({"tests": result.testsRun, "failures": failures, "skipped": len(result.skipped)}, out)
sys.exit(1 if failures else 0)
