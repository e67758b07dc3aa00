"""A small DICOMweb service that goes wrong when told to: one study of one series, over real sockets."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLContext
from typing import Any

STUDY, SERIES = "1.2.3.1", "1.2.3.2"
Fault = Callable[["Handler"], None]


@dataclass
class Service:
    """What the service holds and what goes wrong.

    Attributes:
        files: DICOM files of the one series.
        faults: by kind of request (``search``, ``series``, ``data``, ``store``), the next answers; after
            them it answers rightly.
        asked: kinds of the requests that came, in order.
        headers: of the last request.
        port: where it listens.
    """

    files: list[bytes] = field(default_factory=list)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    port: int = 0

    @property
    def address(self) -> str:
        return f"dicomweb+http://127.0.0.1:{self.port}/dw"

    def multipart(self) -> bytes:
        parts = [
            b"--limit\r\nContent-Type: application/dicom\r\n\r\n" + file + b"\r\n" for file in self.files
        ]
        return b"".join(parts) + b"--limit--\r\n"


class Handler(BaseHTTPRequestHandler):
    """Answers as PS3.18 says, or with a fault."""

    protocol_version = "HTTP/1.1"
    service: Service

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].removeprefix("/dw")
        kind = {1: "search", 3: "series", 4: "data"}.get(path.count("/"), "unknown")
        self._answer(kind)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer("store")

    def _answer(self, kind: str) -> None:
        self.service.asked.append(kind)
        self.service.headers = dict(self.headers)
        if faults := self.service.faults.get(kind):
            faults.pop(0)(self)
        elif kind == "search":
            page = [] if "offset=0" not in self.path else [{"0020000D": {"vr": "UI", "Value": [STUDY]}}]
            self.send(200, json.dumps(page).encode(), "application/dicom+json")
        elif kind == "series":
            entry = {
                "0020000E": {"vr": "UI", "Value": [SERIES]},
                "00080060": {"vr": "CS", "Value": ["MR"]},
                "00201209": {"vr": "IS", "Value": [len(self.service.files)]},
            }
            page = [] if "offset=0" not in self.path else [entry]
            self.send(200, json.dumps(page).encode(), "application/dicom+json")
        elif kind == "data":
            self.send(200, self.service.multipart(), MULTIPART)
        else:
            self.send(200, b"{}", "application/dicom+json")

    def send(self, status: int, body: bytes, content_type: str, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)


MULTIPART = 'multipart/related; type="application/dicom"; boundary=limit'


def status(code: int, **headers: str) -> Fault:
    """An answer with a status and nothing else."""

    def answer(handler: Handler) -> None:
        handler.send_response(code)
        for name, value in {**headers, "Content_Length": "0"}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()

    return answer


def drop_at(share: float, *, said: bool = True) -> Fault:
    """Closes the connection after a share of the body; `said`: the length had been announced."""

    def answer(handler: Handler) -> None:
        body = handler.service.multipart()
        part = body[: int(len(body) * share)]
        if said:
            handler.send(200, part, MULTIPART, length=len(body))
        else:
            handler.send_response(200)
            handler.send_header("Content-Type", MULTIPART)
            handler.send_header("Connection", "close")
            handler.end_headers()
            handler.wfile.write(part)
        handler.close_connection = True

    return answer


def hang(seconds: float) -> Fault:
    """Says nothing for a while, then closes."""

    def answer(handler: Handler) -> None:
        time.sleep(seconds)
        handler.close_connection = True

    return answer


def drip(seconds: float) -> Fault:
    """Sends a byte now and then, so that no read ever times out."""

    def answer(handler: Handler) -> None:
        handler.send(200, b"", MULTIPART, length=1 << 20)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                handler.wfile.write(b"-" * 64)
                handler.wfile.flush()
            except OSError:
                break
            time.sleep(0.02)
        handler.close_connection = True

    return answer


def body(content: bytes, content_type: str, code: int = 200) -> Fault:
    """Another body than is wanted."""
    return lambda handler: handler.send(code, content, content_type)


@contextmanager
def serving(service: Service, tls: SSLContext | None = None) -> Iterator[Service]:
    """The service on a free port until the block ends."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Clients go away in the middle: that is what is tested."""

    handler = type("Bound", (Handler,), {"service": service})
    server = Quiet(("127.0.0.1", 0), handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    service.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
