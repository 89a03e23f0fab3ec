"""A gRPC server and a gRPC client with every kind of call, for the tests of the edge.

    talk.py server                    prints its port
    talk.py client ADDRESS CA HOST    calls through TLS; prints what came of it
"""

import sys
import threading
from concurrent import futures

import grpc


def say(request, context):
    context.set_trailing_metadata((("x-trailer", "after " + request.decode()),))
    return b"said " + request


def fail(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now: " + request.decode())


def count(request, context):
    for number in range(int(request)):
        yield b"%d" % number


def total(requests, context):
    return b"%d" % sum(len(request) for request in requests)


def chat(requests, context):
    for request in requests:
        yield b"heard " + request


CALLS = {
    "Say": grpc.unary_unary_rpc_method_handler(say),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Total": grpc.stream_unary_rpc_method_handler(total),
    "Chat": grpc.stream_stream_rpc_method_handler(chat),
}


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Talk", CALLS),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    # Ends with whoever started it.
    sys.stdin.read()
    server.stop(0)


def call(address, ca, host):
    with open(ca, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    options = (("grpc.ssl_target_name_override", host), ("grpc.default_authority", host))
    with grpc.secure_channel(address, credentials, options) as channel:
        answer, told = channel.unary_unary("/test.Talk/Say").with_call(b"hello", timeout=20)
        print("unary", answer.decode(), dict(told.trailing_metadata())["x-trailer"])
        try:
            channel.unary_unary("/test.Talk/Fail")(b"x", timeout=20)
        except grpc.RpcError as error:
            print("error", error.code().name, error.details())
        counted = list(channel.unary_stream("/test.Talk/Count")(b"5000", timeout=20))
        print("server stream", len(counted), counted[-1].decode())
        parts = (b"x" * 10_000 for _ in range(200))
        print("client stream", channel.stream_unary("/test.Talk/Total")(parts, timeout=20).decode())
        # Each word waits for the answer to the one before: nothing may be held back.
        may_go_on = threading.Semaphore(1)

        def words():
            for number in range(20):
                may_go_on.acquire()
                yield b"%d" % number

        heard = []
        for answer in channel.stream_stream("/test.Talk/Chat")(words(), timeout=20):
            heard.append(answer.decode())
            may_go_on.release()
        print("both", len(heard), heard[-1])
        many = [channel.unary_unary("/test.Talk/Say").future(b"%d" % it, timeout=20) for it in range(200)]
        print("at once", sum(it.result() == b"said %d" % number for number, it in enumerate(many)))


if __name__ == "__main__":
    serve() if sys.argv[1] == "server" else call(*sys.argv[2:])
