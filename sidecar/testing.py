"""A pytest plugin: the mock identity provider and the sidecar for an application's own tests.

    def test_my_app_survives_a_rate_limit(token_sidecar, mock_idp):
        sidecar = token_sidecar()
        mock_idp.fail("429:30s")
        ...

Both run in a thread with an event loop of its own, so that tests may be synchronous. pytest finds this file by an entry
point and imports it in every run, so all that is heavy is imported by the fixtures; and what the sidecar does to
logging and to the hooks of the process is undone when a test is over.
"""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import pytest

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Iterator, Mapping

    from sidecar.app import Sidecar
    from sidecar.broker.credential import Status
    from sidecar.config.model import Configuration
    from sidecar.simulation.echo import Echo
    from sidecar.simulation.idp import MockIdP
    from sidecar.simulation.injection import Injection

T = TypeVar("T")

PATIENCE_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 0.01
CLIENT: Final = "app-under-test"
SECRET: Final = "secret-of-the-app-under-test"
API: Final = "api.test"
"""The host of the API that the default configuration leads to; no DNS has it (RFC 6761 section 6.2)."""


class Background:
    """A thread with an event loop; use it as a context."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = threading.Event()
        self._ended: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="token-sidecar", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait(PATIENCE_SECONDS)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._loop is not None and self._ended is not None:
            self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(PATIENCE_SECONDS)

    def call(self, coro: Coroutine[Any, Any, T]) -> T:
        """What comes of it, run over there."""
        assert self._loop is not None, "it is not entered"  # noqa: S101 - wrong use
        import asyncio

        return asyncio.run_coroutine_threadsafe(coro, self._loop).result(PATIENCE_SECONDS)

    def _run(self) -> None:
        import asyncio

        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        import asyncio

        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        self._started.set()
        await self._ended.wait()


class RunningIdP:
    """A mock identity provider that runs; every method may be called from a test.

    Attributes:
        idp: the provider itself, for what has no method here; it belongs to the thread of ``background``.
    """

    def __init__(self, background: Background, idp: MockIdP, injection: Injection) -> None:
        self.idp = idp
        self._background = background
        self._injection = injection

    @property
    def issuer(self) -> str:
        return self.idp.issuer

    @property
    def token_url(self) -> str:
        return self.idp.token_url

    @property
    def issued(self) -> list[str]:
        """The access tokens, in the order they were issued."""
        return list(self.idp.issued)

    @property
    def token_requests(self) -> int:
        """How often a token was asked for."""
        return len(self.idp.token_requests)

    def is_valid(self, token: str) -> bool:
        """Whether an API should accept the token now."""
        return self.idp.is_valid(token)

    def credential(self, **changes: Any) -> dict[str, Any]:
        """A credential of the configuration that asks here."""
        right = {
            "grant": "client_credentials",
            "token_url": self.token_url,
            "client_id": CLIENT,
            "client_secret": SECRET,
        }
        return right | changes

    def fail(self, fault: str) -> None:
        """Let a fault happen, as ``sidecar mock-idp --fault`` takes it: ``429:30s``, ``500x3``, ``revoke``.

        Raises:
            ValueError: there is no such fault.
        """
        self._background.call(self._injection.inject(fault))

    def recover(self, fault: str | None = None) -> None:
        """End the faults of this name, or all of them."""
        self._background.call(self._injection.end(fault))

    def login(self, *, scope: str = "") -> str:
        """A refresh token, as if somebody had logged in."""
        return self._background.call(_called(lambda: self.idp.login(CLIENT, scope=scope)))


class RunningSidecar:
    """A sidecar that runs; every method may be called from a test.

    Attributes:
        sidecar: itself; it belongs to the thread of ``background``.
        api: the API of the default configuration, which counts what it served and refused; else None.
    """

    def __init__(self, background: Background, sidecar: Sidecar, api: Echo | None) -> None:
        self.sidecar = sidecar
        self.api = api
        self._background = background

    @property
    def urls(self) -> dict[str, str]:
        """Where each listener is, by its name; without those on Unix sockets."""
        found = {}
        for listener in self.sidecar.listeners:
            if listener.address is not None:
                host, port = listener.address
                found[listener.name] = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        return found

    @property
    def proxy_url(self) -> str:
        """Of the first listener with ``mode: forward``: for ``HTTP_PROXY``."""
        return self._first("forward")

    @property
    def base_url(self) -> str:
        """Of the first listener with ``mode: reverse``: the base URL of the API behind it."""
        return self._first("reverse")

    @property
    def api_url(self) -> str:
        """The API of the default configuration, to be called through the proxy."""
        assert self.api is not None, "only the default configuration has an API"  # noqa: S101 - wrong use
        return f"http://{API}:{self.api.port}"

    def _first(self, mode: str) -> str:
        for listener in self.sidecar.configuration.listeners:
            if listener.mode == mode:
                return self.urls[listener.name]
        raise LookupError(f"the configuration has no listener with mode: {mode}")

    def statuses(self) -> dict[str, Status]:
        """How each credential stands."""
        return self._background.call(_called(self._statuses))

    def ask_at_once(self) -> None:
        """Let those that have no token ask for it now; what spreads the starts of a fleet has no use in a test."""
        self._background.call(_called(self._ask_at_once))

    def refresh(self) -> None:
        """Let every credential ask for a new token now."""
        self._background.call(_called(self._refresh))

    def expire(self) -> None:
        """Let every token be at its end now."""
        self._background.call(_called(self._expire))

    def has_tokens(self, *, generation: int = 1, seconds: float = 10.0) -> None:
        """Wait until every credential has a token, of this generation or a later one.

        Raises:
            TimeoutError: one has none in this time.
        """
        self._background.call(self._has_tokens(generation, seconds))

    def _statuses(self) -> dict[str, Status]:
        return {credential.name: credential.status() for credential in self.sidecar.broker.credentials()}

    def _ask_at_once(self) -> None:
        for credential in self.sidecar.broker.credentials():
            status = credential.status()
            if not status.fetching and not status.usable:
                credential.request_refresh()

    def _refresh(self) -> None:
        for credential in self.sidecar.broker.credentials():
            credential.request_refresh()

    def _expire(self) -> None:
        for credential in self.sidecar.broker.credentials():
            credential.expire_now()

    async def _has_tokens(self, generation: int, seconds: float) -> None:
        import asyncio

        deadline = asyncio.get_running_loop().time() + seconds
        while lacking := [
            each for each in self._statuses().values() if not each.usable or each.generation < generation
        ]:
            if asyncio.get_running_loop().time() >= deadline:
                why = lacking[0].last_error or "no attempt has failed"
                raise TimeoutError(f"credential {lacking[0].name} has no such token after {seconds:g} s: {why}")
            await asyncio.sleep(LOOK_SECONDS)


async def _called(function: Callable[[], T]) -> T:
    return function()


# --- fixtures --------------------------------------------------------------------------------------------------------


@pytest.fixture
def token_background() -> Iterator[Background]:
    """The thread that the other fixtures run in; nothing that it does to the process outlives the test."""
    from sidecar.telemetry import log

    with log.borrowed("error"), Background() as background:
        yield background


@pytest.fixture
def mock_idp(token_background: Background) -> Iterator[RunningIdP]:
    """A mock identity provider on loopback, with faults by simple calls."""
    from sidecar.runtime import SystemClock, Tasks
    from sidecar.simulation.idp import Client, MockIdP, Refreshing
    from sidecar.simulation.injection import Injection

    idp = MockIdP(clients={CLIENT: SECRET}, ttl=300.0)
    idp.register(CLIENT, Client(refreshing=Refreshing(rotates=False)))
    tasks = Tasks(lambda *_: None)
    injection = Injection(idp, clock=SystemClock(), tasks=tasks)

    async def end() -> None:
        await tasks.close()
        await idp.stop()

    token_background.call(idp.start())
    try:
        yield RunningIdP(token_background, idp, injection)
    finally:
        token_background.call(end())


StartSidecar = Any
"""``(configuration=None, *, names=None, wait=True) -> RunningSidecar``."""


@pytest.fixture
def token_sidecar(token_background: Background, mock_idp: RunningIdP) -> Iterator[StartSidecar]:
    """Starts a sidecar for this test: ``token_sidecar(configuration, names={host: address}, wait=True)``.

    The configuration is a mapping, YAML as text, or a path; every listener in it gets a free port of this machine.
    Without one there is a sidecar before an API that wants tokens of ``mock_idp``. ``names`` are hosts that lead
    somewhere else than DNS says. It is returned when all credentials have their tokens, unless ``wait`` is False.
    """
    with contextlib.ExitStack() as stack:

        def start(
            configuration: Mapping[str, Any] | str | Path | None = None,
            *,
            names: Mapping[str, str] | None = None,
            wait: bool = True,
        ) -> RunningSidecar:
            api = None
            if configuration is None:
                api = token_background.call(_start_api(mock_idp))
                stack.callback(lambda: token_background.call(api.__aexit__()))
                configuration, names = _default(mock_idp, api), {API: "127.0.0.1"}
            loaded = _loaded(configuration)
            running = token_background.call(_start(loaded, dict(names or {})))
            stack.callback(lambda: token_background.call(running.close()))
            sidecar = RunningSidecar(token_background, running, api)
            sidecar.ask_at_once()
            if wait:
                sidecar.has_tokens()
            return sidecar

        yield start


async def _start_api(mock_idp: RunningIdP) -> Echo:
    from sidecar.simulation.echo import Echo

    return await Echo(is_valid=mock_idp.is_valid).__aenter__()


async def _start(configuration: Configuration, names: dict[str, str]) -> Sidecar:
    from sidecar.app import Sidecar
    from sidecar.proxy.resolver import system_lookup

    async def look_up(host: str) -> list[str]:
        return [names[host]] if host in names else await system_lookup(host)

    sidecar = Sidecar(configuration, lookup=look_up)
    await sidecar.start()
    return sidecar


def _default(mock_idp: RunningIdP, api: Echo) -> dict[str, Any]:
    return {
        "listeners": [
            {"name": "egress"},
            {"name": "api", "mode": "reverse", "upstream": f"http://{API}:{api.port}"},
        ],
        "credentials": {"api": mock_idp.credential()},
        "routes": [{"host": API, "port": api.port, "upstream_tls": "plain", "credential": "api"}],
    }


def _loaded(configuration: Mapping[str, Any] | str | Path) -> Configuration:
    """Read it as every configuration is read, and move its listeners to free ports.

    Raises:
        ConfigurationErrors: it is wrong; the message names every place.
    """
    import msgspec

    from sidecar.config import load
    from sidecar.config.model import Admin, Bind, Log, Telemetry

    if isinstance(configuration, Path):
        loaded = load.load(configuration)
    else:
        text = configuration if isinstance(configuration, str) else json.dumps(_complete(configuration))
        loaded = load.parse(text, "the configuration of the test")
    anywhere = Bind(host="127.0.0.1", port=0)
    admin = None if loaded.admin is None else Admin(bind=anywhere, token=loaded.admin.token)
    moved = tuple(
        each if each.bind.is_unix else msgspec.structs.replace(each, bind=anywhere) for each in loaded.listeners
    )
    return msgspec.structs.replace(
        loaded, listeners=moved, telemetry=Telemetry(bind=anywhere), admin=admin, log=Log(level="error")
    )


def _complete(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """What a test need not write."""
    listeners = [{"bind": "127.0.0.1:0"} | dict(each) for each in configuration.get("listeners", [{"name": "egress"}])]
    return {"allow_inline_secrets": True} | dict(configuration) | {"listeners": listeners}
