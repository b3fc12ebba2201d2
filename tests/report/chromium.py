"""A real browser, driven over a pipe by the DevTools protocol, so that nothing has to be added to the page."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
REQUIRED = "INC_LAACIQ_REQUIRE_CHROMIUM"
SECONDS = 60.0


def find_chromium() -> str:
    """Path of the browser; without one the test is skipped, or fails where the environment demands one."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        reason = "no chromium is installed (Debian: apt-get install chromium)"
        if os.environ.get(REQUIRED):
            pytest.fail(f"{reason}, and {REQUIRED} is set", pytrace=False)
        pytest.skip(reason)
    return found


class Browser:
    """One page at a time; `events` are all that the browser told since the page was opened."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._buffer = b""
        self._n = 0
        self._session = ""
        self.events: list[dict[str, Any]] = []

    def open(self, url: str, *, width: int, height: int, dark: bool = False) -> None:
        """Load a page in a window of its own size and wait until it is shown."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.events = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=url)
        self._wait(lambda message: message.get("method") == "Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        """Value of an expression in the page, which its policy on scripts does not concern."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def requests(self) -> list[str]:
        sent = [event for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]

    def complaints(self) -> list[str]:
        """What the console shows: errors, warnings, and what was blocked."""
        told = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        return [json.dumps(event["params"]) for event in self.events if event["method"] in told]

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._n += 1
        message = {"id": self._n, "method": method, "params": params}
        if self._session and not method.startswith("Target."):
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        answer = self._wait(lambda message: message.get("id") == self._n)
        assert "error" not in answer, answer
        return answer["result"]

    def _wait(self, is_it: Any) -> dict[str, Any]:
        end = time.monotonic() + SECONDS
        while True:
            while b"\0" in self._buffer:
                raw, self._buffer = self._buffer.split(b"\0", 1)
                message = json.loads(raw)
                if "method" in message:
                    self.events.append(message)
                if is_it(message):
                    return message
            assert time.monotonic() < end, "the browser does not answer"
            if select.select([self._answers], [], [], 1.0)[0]:
                data = os.read(self._answers, 1 << 16)
                assert data, "the browser has ended"
                self._buffer += data


@contextlib.contextmanager
def running_browser() -> Iterator[Browser]:
    """Start a browser that can reach no network."""
    chromium = find_chromium()
    with tempfile.TemporaryDirectory() as profile, contextlib.ExitStack() as stack:
        to_browser, commands = os.pipe()
        answers, from_browser = os.pipe()
        for end in (commands, answers):
            stack.callback(os.close, end)
        # The browser reads commands from descriptor 3 and answers on 4.
        process = subprocess.Popen(
            [
                "bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{from_browser}', "bash", chromium,
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                "--disable-background-networking", "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND",
                f"--user-data-dir={Path(profile) / 'profile'}", "--remote-debugging-pipe", "about:blank",
            ],
            pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        browser = Browser(commands, answers)
        try:
            yield browser
        finally:
            with contextlib.suppress(AssertionError, OSError):
                browser.call("Target.setDiscoverTargets", discover=False)
                browser._session = ""
                browser.call("Browser.close")
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            time.sleep(0.2)  # its children let go of the profile
