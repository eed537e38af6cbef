"""Two browsers with a person before them, who consents to whatever is asked: one that only fills forms, and Chromium.

Both follow an address until a page without a form is reached. The one fills forms over HTTP and runs no script. The
other is driven over a websocket by the Chrome DevTools protocol (https://chromedevtools.github.io/devtools-protocol/).
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import shutil
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, Final, Protocol, Self
from urllib.parse import urljoin

import aiohttp
import websockets
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.end_to_end.programs import Program
from tests.end_to_end.waiting import until

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

PERSON: Final = "ada"
MOST_PAGES: Final = 8
CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser")


class Browser(Protocol):
    """Somebody who says yes."""

    async def consent(self, url: str) -> str:
        """Open the address, and fill every form there is; the text of the last page."""


# --- forms only ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Form:
    """The first form of a page, as it would be sent without a touch, and the page's links."""

    action: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)


class _FormReader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: Form = Form()
        self._inside = False
        self._link: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form" and not self.found.action:
            self.found.action, self._inside = given["action"], True
        elif tag == "input" and self._inside:
            self.found.fields[given["name"]] = given.get("value", "")
        elif tag == "a":
            self._link = given.get("href")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "form"

    def handle_data(self, data: str) -> None:
        if self._link is not None:
            self.found.links[data.strip()] = self._link
            self._link = None


def form_of(page: str) -> Form:
    """The first form of a page; without one its ``action`` is empty."""
    reader = _FormReader()
    reader.feed(page)
    return reader.found


class FormBrowser:
    """Keeps cookies, follows redirects, and sends forms.

    Args:
        trusted: TLS that believes the provider.
    """

    def __init__(self, trusted: ssl.SSLContext) -> None:
        self._trusted = trusted

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20))
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._session.close()

    async def consent(self, url: str) -> str:
        return await self._walk(url, leave_at=MOST_PAGES)

    async def refuse(self, url: str) -> str:
        """Open the address, and press Cancel on the first page."""
        where, page = await self._load("GET", url)
        _, page = await self._load("GET", urljoin(where, form_of(page).links["[ Cancel ]"]))
        return page

    async def _walk(self, url: str, *, leave_at: int) -> str:
        where, page = await self._load("GET", url)
        for _ in range(leave_at):
            form = form_of(page)
            if not form.action:
                return page
            fields = {name: value or PERSON for name, value in form.fields.items()}
            where, page = await self._load("POST", urljoin(where, form.action), fields)
        raise AssertionError(f"still a form after {leave_at} pages: {page}")

    async def _load(self, method: str, url: str, fields: dict[str, str] | None = None) -> tuple[str, str]:
        async with self._session.request(method, url, data=fields, ssl=self._trusted) as answer:
            text = await answer.text()
            assert answer.status == 200, f"{answer.url}: {answer.status}\n{text}"
            return str(answer.url), text


# --- Chromium --------------------------------------------------------------------------------------------------------

FILL_AND_SEND: Final = """
(() => {
  if (document.readyState !== 'complete' || !location.protocol.startsWith('http')) return 'loading';
  const form = document.forms[0];
  if (!form) return document.body ? 'done' : 'loading';
  if (form.dataset.sent) return 'loading';
  form.dataset.sent = 'yes';
  for (const input of form.elements) if (input.name && !input.value) input.value = PERSON;
  form.requestSubmit();
  return 'sent';
})()
"""
"""Sends the form of a page once; a page that is on its way out or in says so, and so does the blank one before."""


class Chromium(Program):
    """A headless Chromium with a new profile.

    Args:
        certificate: the one certificate that it takes besides those of public CAs, if there is one.
    """

    def __init__(self, folder: Path, certificate: Path | None = None) -> None:
        assert CHROMIUM is not None
        self._profile = folder / "chromium"
        as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
        command = [
            *(CHROMIUM, "--headless=new", "--remote-debugging-port=0", f"--user-data-dir={self._profile}"),
            *(*as_root, "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server"),
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
            *([f"--ignore-certificate-errors-spki-list={_key_digest(certificate)}"] if certificate else []),
            "about:blank",
        ]
        super().__init__("chromium", command, folder=folder)
        self._numbers = itertools.count(1)

    async def consent(self, url: str) -> str:
        async with websockets.connect(await self.wire(), max_size=None, proxy=None) as self._wire:
            page = await self._call("Target.createTarget", url=url)
            attached = await self._call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
            self._page = attached["sessionId"]
            await until(self._through, "Chromium gets to a page without a form", seconds=40)
            text = await self._evaluate("document.body.innerText")
            await self._call("Browser.close")
        return str(text)

    async def wire(self) -> str:
        """The address of its DevTools, once it listens there."""
        await until(self._listening, "Chromium starts", seconds=40)
        port, path = self._address()
        return f"ws://127.0.0.1:{port}{path}"

    async def _through(self) -> bool:
        return bool(await self._evaluate(FILL_AND_SEND.replace("PERSON", json.dumps(PERSON))) == "done")

    def _listening(self) -> bool:
        assert self.running, f"Chromium ended:\n{self.stderr[-4000:]}"
        return len(self._address()) == 2

    def _address(self) -> list[str]:
        file = self._profile / "DevToolsActivePort"
        return file.read_text().split() if file.exists() else []

    async def _evaluate(self, script: str) -> Any:
        """The value of a script on the page; None while one page makes way for the next."""
        answer = await self._call("Runtime.evaluate", session=self._page, expression=script)
        return answer.get("result", {}).get("value")

    async def _call(self, method: str, *, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        call = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        await self._wire.send(json.dumps(call))
        while (answer := json.loads(await self._wire.recv())).get("id") != number:
            pass  # an event
        result: dict[str, Any] = answer.get("result", {})
        return result


def _key_digest(certificate: Path) -> str:
    read = x509.load_pem_x509_certificate(certificate.read_bytes())
    key = read.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()
