"""The sidecar's side of a provider: configuration text, broker and clock, with the provider's address in place of the
preset's.

What the provider said never gets into the log: that is looked through after every test.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from sidecar.broker.broker import Broker
from sidecar.config import load, model
from sidecar.config.model import NEEDS_LOGIN
from sidecar.runtime import Tasks
from sidecar.secrets import SecretReference
from sidecar.telemetry.metrics import CredentialMeters, Metrics
from tests.broker.store_kit import grant, key_file, open_store
from tests.fake_clock import FakeClock
from tests.providers.provider import Asked, Provider, Reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sidecar.broker.credential import Credential
    from sidecar.broker.store import Grant

HEAD = """\
listeners: [{name: a, bind: 127.0.0.1:6180}]
store: {path: /var/lib/sidecar/tokens, key: env:STORE_KEY}
credentials:
  api:
"""
LIMITS = load.parse("listeners: [{name: a, bind: 127.0.0.1:6180}]", "config.yaml").limits
SPENT = "spent-refresh-token"
"""What a login left."""
WORD = re.compile(r"[a-z_]*")
HIDDEN = ("access_token", "refresh_token", "token", "value", "error_description", "message", "errorSummary")


def parsed(*lines: str) -> model.Credential:
    """The credential that these lines say."""
    text = HEAD + "".join(f"    {line}\n" for line in lines)
    return load.parse(text, "config.yaml").credentials["api"]


@dataclass
class Rig:
    """One credential, its provider, and what became of it."""

    clock: FakeClock
    provider: Provider
    folder: Path
    metrics: Metrics = field(default_factory=Metrics)
    said: list[str] = field(default_factory=list)
    crashes: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tasks = Tasks(lambda name, error: self.crashes.append(error))
        middle = lambda low, high: (low + high) / 2  # noqa: E731 - a draw without chance
        self.broker = Broker(clock=self.clock, uniform=middle, metrics=self.metrics, tasks=self.tasks)
        self.clock.idle = lambda: not any(one.status().fetching for one in self.broker.credentials())

    @property
    def meters(self) -> CredentialMeters:
        return self.metrics.credential("api")

    @property
    def asked(self) -> Asked:
        """The one request there was."""
        (asked,) = self.provider.asked
        return asked

    def file(self, name: str, text: str) -> str:
        """A file with this text; its path."""
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def answers(self, *replies: Reply) -> None:
        """What the provider will say."""
        self.provider.replies.extend(replies)
        for reply in replies:
            self.said += hidden(reply.body)

    def here(self, *lines: str) -> model.Credential:
        """The credential of these lines, its addresses leading to the provider of the test, paths kept."""
        config = parsed(*lines)
        moved = []
        for key in ("token_url", "impersonation_url"):
            url = getattr(config, key)
            if url is not None and not url.startswith(self.provider.origin):
                parts = urlsplit(url)
                moved.append(f"{key}: {parts._replace(scheme='', netloc='').geturl()}")
        return parsed(*lines, *(line.replace(": ", f": {self.provider.origin}", 1) for line in moved))

    async def run(self, *lines: str) -> Credential:
        """The credential of these lines after its first request; a person has logged in, where that is needed."""
        config = self.here(*lines)
        key = key_file(self.folder)
        if config.grant in NEEDS_LOGIN and config.refresh_token is None:
            open_store(self.folder).write("api", grant(SPENT))
        store = model.Store(path=str(self.folder / "tokens"), key=SecretReference("file", str(key)))
        await self.broker.apply({"api": config}, LIMITS, store)
        await self.clock.settle()
        return self.broker.credential("api")

    @property
    def kept(self) -> Grant:
        """What the store holds now."""
        kept = open_store(self.folder).read("api")
        assert kept is not None
        return kept

    async def obtains(self, *lines: str) -> tuple[str, float]:
        """The token that was published, and its lifetime."""
        credential = await self.run(*lines)
        assert credential.published is not None, credential.status().last_error
        assert self.meters.requests["success"].value == 1
        return credential.published.secret.reveal(), self.meters.lifetime.value

    async def fails(self, reply: Reply, *lines: str) -> tuple[str, float]:
        """The reason why there is no token, as it is counted, and in how many seconds the next request will be."""
        self.answers(reply)
        status = (await self.run(*lines)).status()
        assert status.last_error is not None
        assert {reason: meter.value for reason, meter in self.meters.requests.items() if meter.value} == {
            status.last_error: 1
        }
        return status.last_error, status.next_attempt_at - self.clock.now()


def hidden(body: str) -> list[str]:
    """What of an answer must not get into a log."""
    try:
        fields: Any = json.loads(body)
    except ValueError:
        return []
    found = []
    # A word is a code, which the log may have; what is written for people is not.
    places = [fields, *(inner for inner in fields.values() if isinstance(inner, dict))]
    for place in places:
        found += [
            place[name] for name in HIDDEN if isinstance(place.get(name), str) and not WORD.fullmatch(place[name])
        ]
    return found


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def provider(clock: FakeClock) -> AsyncIterator[Provider]:
    async with Provider(wall=clock.wall) as provider:
        yield provider


@pytest.fixture
async def rig(
    clock: FakeClock, provider: Provider, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Rig]:
    rig = Rig(clock, provider, tmp_path)
    yield rig
    await rig.broker.close()
    await rig.tasks.close()
    assert rig.crashes == []
    assert provider.unscripted == 0
    written = capsys.readouterr().err
    assert not [text for text in rig.said if text in written]
