"""Answers every request with what it knows of itself, and says so."""

import json
import os
import platform
import signal
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        known = {
            "python": platform.python_version(),
            "path": self.path,
            "greeting": os.environ.get("GREETING"),
        }
        body = (json.dumps(known) + "\n").encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        print(self.command, self.path, flush=True)


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
port = int(os.environ.get("PORT", "8080"))
print("listening on", port, flush=True)
Server(("::", port), Answer).serve_forever()
