"""A proxy on the loopback address in front of an S3 API, which injects faults: by a script, by a seed, or not at all."""

from __future__ import annotations

import http.client
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import unquote, urlsplit

Kind = Literal["refused", "dropped", "unanswered", "misreported", "reset", "truncated", "stalled", "slow", "meanwhile"]
STATUS = {
    "SlowDown": 503,
    "ServiceUnavailable": 503,
    "InternalError": 500,
    "ExpiredToken": 400,
    "InvalidAccessKeyId": 403,
    "AccessDenied": 403,
    "InvalidObjectState": 403,
}
"""Errors that S3 may answer, with their HTTP status (Amazon S3 API reference, "Error responses")."""
HANG_UP_SECONDS = 60.0


@dataclass
class Fault:
    """What happens to the next `times` requests of `method` in whose path and query the pattern `target` is found.

    refused     answered with the S3 error `code`
    dropped     the connection is reset before the request reaches the server
    unanswered  the request is carried out, the connection is reset before the answer
    misreported the request is carried out, and answered with the S3 error `code`
    reset, truncated, stalled    a share `at` of the body comes, then the connection is reset, closed, or silent
    slow        the answer comes after `seconds`
    meanwhile   `act` is called first: what somebody else does at that moment
    """

    kind: Kind
    target: str = ""
    method: str = "GET"
    times: int = 1
    code: str = "SlowDown"
    at: float = 0.5
    seconds: float = 1.0
    act: Callable[[], object] = lambda: None


@dataclass
class Storm:
    """Faults by chance: each request meets one with probability `share`, and no request for the same thing more than `most` times.

    Chance is drawn from the seed, the request and how often it was made, so that the order of threads does not matter.
    """

    seed: int
    share: float = 0.2
    most: int = 2
    _made: Counter[tuple[str, str]] = field(default_factory=Counter)

    def fault(self, method: str, target: str) -> Fault | None:
        made, self._made[method, target] = self._made[method, target], self._made[method, target] + 1
        chance = random.Random(f"{self.seed} {method} {target} {made}")
        if made >= self.most or chance.random() >= self.share:
            return None
        kinds: list[Kind] = ["refused", "dropped", "unanswered", *(("reset", "truncated") if method == "GET" else ())]
        return Fault(chance.choice(kinds), code=chance.choice(["SlowDown", "InternalError"]), at=chance.random())


@dataclass(frozen=True)
class Request:
    """A request as it came: method, decoded path with its query, and the headers by lower-case name."""

    method: str
    target: str
    headers: dict[str, str] = field(repr=False)


class FaultProxy:
    """The proxy at `url`: `faults` is the script (the first that matches applies), `requests` what came, `injected` what became of it."""

    def __init__(self, upstream: str) -> None:
        self._upstream = urlsplit(upstream).netloc
        self._lock = threading.Lock()
        self.faults: list[Fault] = []
        self.storm: Storm | None = None
        self.requests: list[Request] = []
        self.injected: Counter[str] = Counter()
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator[FaultProxy]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()

    def made(self, method: str, target: str = "") -> list[Request]:
        """The requests of a method in whose path and query the pattern is found."""
        return [one for one in self.requests if one.method == method and re.search(target, one.target)]

    def fault(self, request: Request) -> Fault | None:
        """Note a request, and take the fault that it meets from the script or the storm."""
        with self._lock:
            self.requests.append(request)
            scripted = (
                one for one in self.faults if one.times > 0 and one.method == request.method and re.search(one.target, request.target)
            )
            fault = next(scripted, None)
            if fault:
                fault.times -= 1
            elif self.storm:
                fault = self.storm.fault(request.method, request.target)
            if fault:
                self.injected[fault.code if fault.kind == "refused" else fault.kind] += 1
            return fault

    def forward(self, request: Request, path: str, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """Carry a request out: status, headers and body of the answer."""
        connection = http.client.HTTPConnection(self._upstream, timeout=HANG_UP_SECONDS)
        try:
            headers = {name: value for name, value in request.headers.items() if name not in ("expect", "connection")}
            connection.request(request.method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: FaultProxy

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        try:
            self._meet_fault()
        except OSError:  # The client hung up.
            self.close_connection = True

    def _meet_fault(self) -> None:
        request = Request(self.command, unquote(self.path), {name.lower(): value for name, value in self.headers.items()})
        fault = self.owner.fault(request)
        kind = fault.kind if fault else None
        if kind == "dropped":
            return self._hang_up(reset=True)
        body = self.rfile.read(int(request.headers.get("content-length", 0)))
        if fault and kind == "refused":
            return self._refuse(fault.code)
        if fault and kind == "meanwhile":
            fault.act()
        status, headers, answer = self.owner.forward(request, self.path, body)
        if fault and kind == "misreported":
            return self._refuse(fault.code)
        if kind == "unanswered":
            return self._hang_up(reset=True)
        if fault and kind == "slow":
            time.sleep(fault.seconds)
        cut = fault.at if fault and kind in ("reset", "truncated", "stalled") else 1.0
        self._answer(status, headers, answer[: int(len(answer) * cut)], len(answer))
        if kind == "stalled":
            self.connection.settimeout(HANG_UP_SECONDS)
            self.connection.recv(1)
        if cut < 1.0:
            self._hang_up(reset=kind == "reset")
        return None

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

    def _refuse(self, code: str) -> None:
        text = f"<Error><Code>{code}</Code><Message>Injected by a test.</Message></Error>".encode()
        self._answer(STATUS[code], [("Content-Type", "application/xml")], text, len(text))

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, announced: int) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        if self.command == "HEAD":
            announced = int(dict(headers).get("Content-Length", 0))
        self.send_header("Content-Length", str(announced))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _hang_up(self, *, reset: bool) -> None:
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.rfile.close()
        self.connection.close()
