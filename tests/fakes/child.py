"""A child process that keeps the protocol of `llama_child.py` and serves canned answers, without any model.

Its config says how it behaves: `mode` "ready" | "error" | "crash" | "silent", and `touch`, a file it writes its pid to.
Requests: /health, /die (the process ends), anything else echoes method, path, key and body as JSON; or, where the
environment has OPROXY_FAKE_ANSWER, gets the bytes of that file, a whole HTTP response, and a closed connection.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        if self.path == "/die":
            self.send_response(200)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"4\r\nhalf\r\n")
            self.wfile.flush()
            os._exit(3)
        if file := os.environ.get("OPROXY_FAKE_ANSWER"):
            self.wfile.write(Path(file).read_bytes())
            self.close_connection = True
            return
        answer = json.dumps(
            {
                "path": self.path,
                "authorization": self.headers.get("authorization"),
                "body": body.decode(),
                "model": CONFIG["model"],
                "pid": os.getpid(),
            }
        ).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass


def watch() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


def main() -> None:
    if touch := CONFIG.get("touch"):
        with Path(touch).open("a") as file:
            file.write(f"{os.getpid()}\n")
    print("a line on stderr", file=sys.stderr, flush=True)
    match CONFIG.get("mode", "ready"):
        case "crash":
            print("out of luck", file=sys.stderr, flush=True)
            os._exit(7)
        case "error":
            print(json.dumps({"error": "no such model"}), flush=True)
            os._exit(1)
        case "silent":
            threading.Thread(target=watch).start()
        case _:
            threading.Thread(target=watch).start()
            server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            print(json.dumps({"url": f"http://127.0.0.1:{server.server_port}", "version": "1.0"}), flush=True)
            server.serve_forever()


if __name__ == "__main__":
    with open(0, "rb", buffering=0, closefd=False) as stdin:
        CONFIG = json.loads(stdin.readline())
    main()
