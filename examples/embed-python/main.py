"""A program in Python that serves a page itself and gives it a public URL.

    HELIX_TUNNEL_LIBRARY=target/release/libhelix_tunnel_c.so main.py URL TOKEN NAME

It says the URL once visitors come, and ends with its standard input.
"""

import ctypes
import http.server
import os
import sys
import threading

ATTACHED = 1
ATTACH_TIMEOUT_MS = 20_000


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"hello from python\n"
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def load(path):
    library = ctypes.CDLL(path)
    text, tunnel, size = ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t
    for name, result, arguments in [
        ("start", tunnel, [text] * 5),
        ("url", size, [tunnel, text, size]),
        ("state", ctypes.c_int, [tunnel]),
        ("wait", ctypes.c_int, [tunnel, ctypes.c_uint32]),
        ("reason", size, [tunnel, text, size]),
        ("error", size, [text, size]),
        ("stop", None, [tunnel]),
    ]:
        function = getattr(library, f"helix_tunnel_{name}")
        function.restype, function.argtypes = result, arguments
    return library


def told(function, *arguments):
    buffer = ctypes.create_string_buffer(512)
    function(*arguments, buffer, len(buffer))
    return buffer.value.decode()


def main(url, token, name):
    library = load(os.environ["HELIX_TUNNEL_LIBRARY"])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    target = f"127.0.0.1:{server.server_port}"
    words = [word.encode() for word in (url, token, "http", name, target)]
    tunnel = library.helix_tunnel_start(*words)
    if not tunnel:
        sys.exit(f"no tunnel: {told(library.helix_tunnel_error)}")
    try:
        if library.helix_tunnel_wait(tunnel, ATTACH_TIMEOUT_MS) != ATTACHED:
            sys.exit(f"no edge: {told(library.helix_tunnel_reason, tunnel)}")
        print(told(library.helix_tunnel_url, tunnel), flush=True)
        sys.stdin.read()
    finally:
        library.helix_tunnel_stop(tunnel)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
