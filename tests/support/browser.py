"""A headless Chromium for tests, spoken to over two pipes: no driver, no port, no package."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PROGRAM = next(
    (found for name in ("chromium", "google-chrome", "chromium-browser") if (found := shutil.which(name))), None
)


class Browser:
    """Opens local pages at a size and keeps what they said and asked for.

    ``errors`` are exceptions and console errors, ``requests`` all addresses that were asked for.
    """

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._number = 0
        self._buffer = b""

    def __enter__(self) -> Self:
        self._home = tempfile.TemporaryDirectory()
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        # The browser reads its commands from descriptor 3 and answers on 4.
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]
        flags += ["--disable-extensions", "--disable-background-networking", f"--user-data-dir={self._home.name}"]
        line = f'exec 3<&{to_read} 4>&{to_write}; exec "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", line, "bash", str(PROGRAM), *flags, "about:blank"],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        target = next(t for t in self._ask("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self._ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)
        shutil.rmtree(self._home.name, ignore_errors=True)
        self._home.cleanup()

    def open(self, page: Path, width: int, height: int = 844, dark: bool = False, phone: bool = False) -> None:
        """Open a page and wait until it is loaded and laid out."""
        self.errors, self.requests = [], []
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.ask("Emulation.setDeviceMetricsOverride", **metrics)
        self.ask("Emulation.setTouchEmulationEnabled", enabled=phone)
        # No smooth scrolling: what is pointed at must not move while the pointer is on its way.
        features = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}
        self.ask("Emulation.setEmulatedMedia", features=[{"name": k, "value": v} for k, v in features.items()])
        self.ask("Page.navigate", url=page.resolve().as_uri())
        deadline = time.monotonic() + 60
        while self.value("document.readyState + location.protocol") != "completefile:":
            assert time.monotonic() < deadline, f"{page} does not load"
            time.sleep(0.02)
        self._drawn()

    def _drawn(self) -> None:
        """Wait until all that was changed is on the screen, which is what a pointer meets."""
        self.value("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def value(self, expression: str) -> Any:
        """Return what an expression of JavaScript comes to, promises awaited."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def key(self, name: str) -> None:
        """Press a key, as a person would."""
        codes = {"ArrowLeft": 37, "ArrowRight": 39, "Enter": 13, "Tab": 9}
        for kind in ("rawKeyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=codes[name])

    def point(self, x: float, y: float, tap: bool = False) -> None:
        """Move the pointer to a place in the window, or tap there, and wait until the page has answered."""
        self._drawn()
        if tap:
            self.ask("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
            self.ask("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        else:
            self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        self._drawn()

    def screenshot(self, path: Path, whole: bool = True) -> None:
        """Write a PNG of the whole page, or of what is in the window."""
        shot = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of Chromium's DevTools protocol to the page and return the answer."""
        return self._ask(method, self._session, **parameters)

    def _ask(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        content = {"id": self._number, "method": method, "params": parameters} | (
            {"sessionId": session} if session else {}
        )
        os.write(self._to, json.dumps(content).encode() + b"\0")
        while (message := self._next()).get("id") != self._number:
            self._note(message)
        assert "error" not in message, (method, message["error"])
        answer: dict[str, Any] = message["result"]
        return answer

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._from, 1 << 20)
            assert part, "the browser is gone"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def _note(self, message: dict[str, Any]) -> None:
        method, what = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.errors.append(str(what["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and what["type"] in ("error", "warning", "assert"):
            self.errors.append(str(what["args"]))
        elif method == "Log.entryAdded" and what["entry"]["level"] in ("error", "warning"):
            self.errors.append(str(what["entry"]))
        elif method == "Network.requestWillBeSent":
            self.requests.append(what["request"]["url"])
