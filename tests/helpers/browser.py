"""A headless Chromium, driven over its debugging pipe: no port, no other package."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MISSING = "" if PROGRAM else "needs Chromium: make system"
_FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-pipe",
    "--proxy-server=127.0.0.1:9", "--window-size=1100,1400",
]  # fmt: skip
_PATIENCE_S = 60.0


class Page:
    """One page; `errors` gathers everything that a console shows in red."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._write, self._read = to_browser, from_browser
        self._numbers = itertools.count(1)
        self._data = b""
        self._session = ""
        self._loaded = False
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Page", "Network"):
            self.call(f"{domain}.enable")

    def open(self, path: Path) -> None:
        """Load a file and wait until it says that it is ready, or has no script to wait for."""
        self._loaded = False
        self.call("Page.navigate", url=path.resolve().as_uri())
        self._wait(lambda: self._loaded, "the page does not load")

    def ready(self) -> None:
        """Wait until the page's script has set ``data-ready``."""
        self._wait(
            lambda: self.value("document.documentElement.dataset.ready") == "yes", "the script does not end"
        )

    def value(self, expression: str) -> Any:
        """What an expression gives in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """Press and release a key where the focus is, as a person does."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return dict(answer["result"])
        raise AssertionError(f"{method}: no answer")

    def _wait(self, done: Any, otherwise: str) -> None:
        until = time.monotonic() + _PATIENCE_S
        while not done():
            assert time.monotonic() < until, (otherwise, self.errors)
            self.value("0")
            time.sleep(0.02)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._data:
            chunk = os.read(self._read, 1 << 16)
            assert chunk, "the browser went away"
            self._data += chunk
        text, _, self._data = self._data.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        params = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.errors.append(str(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.errors.append(str(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.errors.append(params["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Page.loadEventFired":
                self._loaded = True
        return message


@contextmanager
def browser() -> Iterator[Page]:
    """A page in a browser of its own, which cannot reach any network and is gone after the block."""
    assert PROGRAM is not None
    with tempfile.TemporaryDirectory(prefix="medmtl-chromium-", ignore_cleanup_errors=True) as profile:
        to_browser, from_browser = _pipe(), _pipe()
        silent = os.open(os.devnull, os.O_RDWR)
        # the browser reads descriptor 3 and writes descriptor 4
        actions = [(os.POSIX_SPAWN_DUP2, silent, number) for number in (0, 1, 2)]
        actions += [(os.POSIX_SPAWN_DUP2, to_browser[0], 3), (os.POSIX_SPAWN_DUP2, from_browser[1], 4)]
        command = [PROGRAM, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = os.posix_spawn(PROGRAM, command, os.environ, file_actions=actions, setpgroup=0)
        for end in (to_browser[0], from_browser[1], silent):
            os.close(end)
        try:
            yield Page(to_browser[1], from_browser[0])
        finally:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            os.close(to_browser[1])
            os.close(from_browser[0])


def _pipe() -> tuple[int, int]:
    """A pipe whose ends do not have the numbers that the browser wants."""
    ends = os.pipe()
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in ends)
    for end in ends:
        os.close(end)
    return high[0], high[1]
