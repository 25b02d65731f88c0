"""Chromium without a window, spoken to by its DevTools protocol: what a page shows, and what goes wrong in it."""

import base64
import contextlib
import itertools
import json
import os
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from services.processes import running, wait_for, wait_until
from websocket import WebSocketTimeoutException, create_connection


class Page:
    """A page that is open.

    Attributes:
        errors: what its console was told as an error, and exceptions that nobody caught.
    """

    def __init__(self, address: str) -> None:
        self._connection = create_connection(address, suppress_origin=True, timeout=60)
        self._numbers = itertools.count(1)
        self.errors: list[str] = []
        for part in ("Page", "Runtime", "Log"):
            self._ask(f"{part}.enable")

    def open(self, address: str, width: int, height: int = 900) -> None:
        """Shows an address, in a window of this size in pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._ask("Emulation.setDeviceMetricsOverride", **size)
        found = self._ask("Page.navigate", url=address)
        assert "errorText" not in found, f"{address}: {found['errorText']}"
        self.wait("document.readyState == 'complete'")

    def value(self, expression: str) -> Any:
        """What a JavaScript expression is."""
        found = self._ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = 60.0) -> None:
        """Waits until a JavaScript expression is true."""
        wait_until(lambda: self.value(expression), expression, seconds)

    def picture(self, file: Path) -> None:
        """Keeps what the whole page looks like as a PNG file."""
        found = self._ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(found["data"]))

    def overflow(self) -> int:
        """Pixels that the page is wider than its window."""
        return int(self.value("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def close(self) -> None:
        self._connection.close()

    def _ask(self, method: str, **arguments: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": arguments}))
        while True:
            try:
                said = json.loads(self._connection.recv())
            except WebSocketTimeoutException:
                raise AssertionError(f"{method}: no answer") from None
            self._hear(said)
            if said.get("id") == number:
                assert "error" not in said, f"{method}: {said['error']}"
                return dict(said["result"])

    def _hear(self, said: dict[str, Any]) -> None:
        about = said.get("params", {})
        if said.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(about["exceptionDetails"].get("exception", {}).get("description")))
        elif said.get("method") == "Runtime.consoleAPICalled" and about["type"] in ("error", "assert"):
            self.errors.append(" ".join(str(one.get("value", one.get("description"))) for one in about["args"]))
        elif said.get("method") == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.errors.append(f"{about['entry']['text']} {about['entry'].get('url', '')}")


class Chromium:
    """A browser that runs."""

    def __init__(self, port: int) -> None:
        self._port = port

    @contextlib.contextmanager
    def page(self) -> Iterator[Page]:
        """A page of its own, empty."""
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}/json/new?about:blank", method="PUT")
        with urllib.request.urlopen(request, timeout=30) as answer:
            page = Page(json.load(answer)["webSocketDebuggerUrl"])
        try:
            yield page
        finally:
            page.close()


@contextlib.contextmanager
def chromium() -> Iterator[Chromium]:
    """A browser while the context lasts.

    Raises:
        FileNotFoundError: It is not installed.
        RuntimeError: It did not start; its log is in the message.
    """
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        raise FileNotFoundError("chromium is not here; install it (Debian: apt-get install chromium)")
    folder = Path(tempfile.mkdtemp(prefix="selftune-chromium-"))
    command = [
        program,
        "--headless=new",
        "--remote-debugging-port=0",
        f"--user-data-dir={folder}",
        "--no-first-run",
    ]
    command += ["--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
    command += ["--no-sandbox"] if os.geteuid() == 0 else []  # which root cannot have
    port = folder / "DevToolsActivePort"
    log = folder / "log"
    try:
        with running(command, log, {**os.environ, "HOME": str(folder)}) as process:
            wait_for(process, lambda: port.is_file() and "\n" in port.read_text(), log)
            yield Chromium(int(port.read_text().splitlines()[0]))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
