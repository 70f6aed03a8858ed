"""A headless Chromium, driven over its DevTools protocol: what a page says on its console, asks the network for, and shows."""

import asyncio
import base64
import json
import shutil
import subprocess
import time
from pathlib import Path

import aiohttp
import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
WAIT = 60  # seconds, for a browser to start or a page to be drawn


def found() -> str:
    """The browser of this machine; the test is skipped where there is none."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    return path or pytest.skip(f"no browser is on PATH: one of {', '.join(NAMES)}")


class Browser:
    """One page of a browser; `errors`: what its console said beside information, `requests`: addresses it asked for, files it opened aside."""

    def __init__(self, profile: Path):
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._number = 0
        self._profile = profile
        options = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ]
        options += ["--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0"]
        self._process = subprocess.Popen(
            [found(), *options, f"--user-data-dir={profile}", "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )  # fmt: skip
        self._loop = asyncio.new_event_loop()
        try:
            self._loop.run_until_complete(self._connect())
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    async def _connect(self) -> None:
        port = self._profile / "DevToolsActivePort"
        end = time.monotonic() + WAIT
        while not (port.is_file() and port.read_text().strip()):
            assert self._process.poll() is None, "the browser ended at once"
            assert time.monotonic() < end, "the browser has not started"
            await asyncio.sleep(0.05)
        self._session = aiohttp.ClientSession()
        async with self._session.get(f"http://127.0.0.1:{port.read_text().split()[0]}/json/list") as answer:
            pages = [one for one in await answer.json() if one["type"] == "page"]
        self._socket = await self._session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0)

    def call(self, method: str, **params):
        """One command and its answer; what the page says meanwhile is kept."""
        return self._loop.run_until_complete(asyncio.wait_for(self._call(method, params), WAIT))

    async def _call(self, method: str, params: dict):
        self._number += 1
        number = self._number
        await self._socket.send_json({"id": number, "method": method, "params": params})
        while True:
            told = json.loads((await self._socket.receive()).data)
            if told.get("id") == number:
                assert "error" not in told, told
                return told["result"]
            self._heard(told.get("method"), told.get("params", {}))

    def _heard(self, event: str | None, params: dict) -> None:
        if event == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"])[:2000])
        elif event == "Runtime.consoleAPICalled" and params["type"] not in ("log", "info", "debug"):
            self.errors.append(json.dumps(params["args"])[:2000])
        elif event == "Log.entryAdded" and params["entry"]["level"] in ("warning", "error"):
            self.errors.append(params["entry"]["text"])
        elif event == "Network.requestWillBeSent" and not params["request"]["url"].startswith(
            ("file:", "data:", "blob:")
        ):
            self.requests.append(params["request"]["url"])

    def run(self, expression: str):
        """What a JavaScript expression comes to, as JSON has it; a promise is waited for."""
        told = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def wait(self, expression: str):
        """Until a JavaScript expression holds; its value."""
        end = time.monotonic() + WAIT
        while not (value := self.run(expression)):
            assert time.monotonic() < end, f"never came true: {expression}; the console said {self.errors}"
            time.sleep(0.05)
        return value

    def open(self, page: Path, fragment: str = "") -> None:
        """Load a page, and wait until it is drawn."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=page.as_uri() + fragment)
        self.wait("document.readyState === 'complete' && !!document.getElementById('said')?.textContent")

    def size(self, width: int, height: int = 900) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def scheme(self, name: str) -> None:
        """`light` or `dark`."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def press(self, key: str, code: int, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                text=text if kind == "keyDown" else "",
            )

    def picture(self, path: Path) -> None:
        """The whole page as PNG."""
        told = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(told["data"]))

    def printed(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF", printBackground=False)["data"]))

    def close(self) -> None:
        if hasattr(self, "_socket"):
            self._loop.run_until_complete(self._socket.close())
        if hasattr(self, "_session"):
            self._loop.run_until_complete(self._session.close())
        self._loop.close()
        self._process.terminate()
        self._process.wait(timeout=30)
