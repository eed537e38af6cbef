"""One page in Chromium: opened, clicked and typed into, watched for errors, measured and pictured, over DevTools."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
from typing import TYPE_CHECKING, Any, Self

import websockets

from tests.end_to_end.waiting import until

if TYPE_CHECKING:
    from tests.end_to_end.browsers import Chromium

KEYS = {"Tab": 9, "Enter": 13, " ": 32}


class Page:
    """A tab; use it as a context.

    Attributes:
        complaints: what the console said of it: errors, warnings, and what its policy refused.
    """

    def __init__(self, chromium: Chromium) -> None:
        self._chromium = chromium
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._session: str | None = None
        self.complaints: list[str] = []

    async def __aenter__(self) -> Self:
        self._wire = await websockets.connect(await self._chromium.wire(), max_size=None, proxy=None)
        self._reading = asyncio.create_task(self._read())
        page = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            await self.call(f"{domain}.enable")
        await self.call("Performance.enable", timeDomain="threadTicks")  # what others do to the machine does not count
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading
        await self._wire.close()

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the protocol, and its result."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._wire.send(json.dumps(message))
        async with asyncio.timeout(30):
            said = await answer
        assert "error" not in said, f"{method}: {said['error']}"
        result: dict[str, Any] = said["result"]
        return result

    async def _read(self) -> None:
        async for raw in self._wire:
            said = json.loads(raw)
            if (waiting := self._answers.pop(said.get("id", 0), None)) is not None:
                waiting.set_result(said)
            else:
                self._note(said.get("method"), said.get("params", {}))

    def _note(self, event: str, said: dict[str, Any]) -> None:
        match event:
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(said["exceptionDetails"]))
            case "Log.entryAdded" if said["entry"]["level"] in ("error", "warning"):
                self.complaints.append(f"{said['entry'].get('url')}: {said['entry']['text']}")
            case "Runtime.consoleAPICalled" if said["type"] in ("error", "warning", "assert"):
                self.complaints.append(json.dumps(said["args"]))

    # --- doing ------------------------------------------------------------------------------------------------------

    async def open(self, url: str) -> None:
        await self.call("Page.navigate", url=url)
        await self.until("document.readyState === 'complete' && location.protocol.startsWith('http')")

    async def evaluate(self, script: str) -> Any:
        """The value of an expression; promises are waited for."""
        answer = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, script: str, *, seconds: float = 15.0) -> None:
        """Wait until a script is true; while one page makes way for the next, none is."""

        async def holds() -> bool:
            try:
                return bool(await self.evaluate(script))
            except AssertionError:
                return False

        await until(holds, script, seconds=seconds)

    async def press(self, key: str) -> None:
        named = {"key": key, "windowsVirtualKeyCode": KEYS[key], "code": "Space" if key == " " else key}
        text = {"Enter": "\r", " ": " "}.get(key)
        await self.call("Input.dispatchKeyEvent", type="keyDown", **named, **({"text": text} if text else {}))
        await self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    async def type(self, text: str) -> None:
        await self.call("Input.insertText", text=text)

    # --- looking ----------------------------------------------------------------------------------------------------

    async def text(self, selector: str) -> str:
        return str(await self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    async def focused(self) -> str:
        """What the keyboard is at: its text, or its id where it has none."""
        words = "e.getAttribute('aria-label') || (e.innerText || '').trim() || e.id || e.tagName"
        return str(await self.evaluate(f"(e => {words})(document.activeElement)"))

    async def prefers(self, **features: str) -> None:
        """``color_scheme="dark"``, ``reduced_motion="reduce"``."""
        media = [{"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in features.items()]
        await self.call("Emulation.setEmulatedMedia", features=media)

    async def size(self, width: int, height: int) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    async def picture(self) -> bytes:
        """A PNG of what is in view."""
        shot = await self.call("Page.captureScreenshot", format="png")
        return base64.b64decode(shot["data"])

    async def busy_seconds(self) -> float:
        """How long the main thread has worked so far."""
        metrics = (await self.call("Performance.getMetrics"))["metrics"]
        return next(float(each["value"]) for each in metrics if each["name"] == "TaskDuration")
