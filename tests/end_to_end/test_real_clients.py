"""Clients and an identity provider that nobody here wrote: no app sees a 401, no token arrives expired.

curl, Python requests and urllib, and Node's undici each ask ``http://localhost/`` through HTTP_PROXY; the origin speaks
https only, with a certificate of a test CA, and verifies signature, audience and expiry of every token as it arrives.
The provider is the certified npm package oidc-provider with tokens of 6 s.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from tests.end_to_end.node_packages import CURL, IN_CI, NODE, missing, needs_node
from tests.end_to_end.origin import VALID, Authority, Origin
from tests.end_to_end.programs import Program, clean_environment
from tests.end_to_end.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.end_to_end.sidecar_process import Configuration, SidecarProcess

HERE: Final = Path(__file__).parent
TRAFFIC_SECONDS: Final = float(os.environ.get("END_TO_END_SECONDS", "60" if IN_CI else "15"))
RATE: Final = 20
LIFETIME_SECONDS: Final = 6
SECRET: Final = "s3cret/with:odd chars&+%"
"""RFC 6749 section 2.3.1 form-encodes it inside Basic; a client that does not is refused."""

pytestmark = needs_node(curl=True)


# --- the provider ----------------------------------------------------------------------------------------------------


class Provider(Program):
    """oidc-provider in a Node process; its standard output is its issue log."""

    def __init__(self, folder: Path) -> None:
        options = {
            "clientId": "orders-worker",
            "clientSecret": SECRET,
            "resource": "urn:orders",
            "scope": "orders.read",
            "lifetimeSeconds": LIFETIME_SECONDS,
        }
        command = [str(NODE), str(HERE / "node" / "provider.mjs"), json.dumps(options)]
        super().__init__("provider", command, folder=folder)

    def _lines(self, key: str) -> list[Any]:
        lines = [json.loads(line) for line in self.stdout.splitlines(keepends=True) if line.endswith("\n")]
        return [line[key] for line in lines if key in line]

    @property
    def issuer(self) -> str:
        issuer: str = self._lines("issuer")[0]
        return issuer

    @property
    def listening(self) -> bool:
        return bool(self._lines("issuer"))

    @property
    def issued(self) -> list[dict[str, Any]]:
        """``jti``, ``iat`` and ``exp`` of every token, in the order of issue."""
        return self._lines("issued")

    @property
    def refused(self) -> list[str]:
        return self._lines("refused")

    async def keys(self) -> KeySet:
        """The provider's public keys."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.issuer}/jwks") as answer:
            return KeySet.import_key_set(await answer.json())


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[Provider]:
    assert missing(curl=True) is None, missing(curl=True)
    async with Provider(tmp_path) as provider:
        await until(lambda: provider.listening, "oidc-provider starts")
        yield provider


def verifier(provider: Provider, keys: KeySet) -> Callable[[str], str]:
    """Judges a token as a resource server does, without any leeway for its expiry."""

    def judge(token: str) -> str:
        try:
            claims = jwt.decode(token, keys, algorithms=["RS256"]).claims
        except (JoseError, ValueError) as exc:
            return f"not a token of the provider: {exc}"
        if time.time() >= claims["exp"]:
            return f"expired {time.time() - claims['exp']:.3f} s ago"
        expected = {"iss": provider.issuer, "aud": "urn:orders", "scope": "orders.read", "client_id": "orders-worker"}
        wrong = [name for name, value in expected.items() if claims.get(name) != value]
        return f"wrong {wrong}" if wrong else VALID

    return judge


@pytest.fixture
async def origin(provider: Provider, authority: Authority) -> AsyncIterator[Origin]:
    async with Origin(verifier(provider, await provider.keys()), authority.server) as origin:
        yield origin


# --- the clients -----------------------------------------------------------------------------------------------------


def configuration(provider: Provider, origin: Origin, authority: Authority, folder: Path) -> Configuration:
    """One route to the origin, reached by HTTP_PROXY and by a base URL; the provider found by its issuer."""
    (folder / "client-secret").write_text(f"{SECRET}\n")
    return {
        "listeners": [
            {"name": "egress", "mode": "forward"},
            {"name": "orders", "mode": "reverse", "upstream": f"https://localhost:{origin.port}"},
        ],
        "credentials": {
            "orders": {
                "grant": "client_credentials",
                "issuer": provider.issuer,
                "client_id": "orders-worker",
                "client_secret": f"file:{folder / 'client-secret'}",
                "scopes": ["orders.read"],
                "token_params": {"resource": "urn:orders"},
                # iat and exp are whole seconds, rounded down: a token of 6 s may live 5.
                "refresh": {"at": 0.6, "jitter": 0.1},
                "required_for_ready": True,
            }
        },
        "routes": [
            {
                "name": "orders",
                "host": "localhost",
                "port": origin.port,
                "credential": "orders",
                "ca_file": str(authority.ca_file),
            }
        ],
    }


@pytest.fixture
async def sidecar(
    provider: Provider,
    origin: Origin,
    authority: Authority,
    tmp_path: Path,
    start_sidecar: Callable[[Configuration], Awaitable[SidecarProcess]],
) -> SidecarProcess:
    sidecar = await start_sidecar(configuration(provider, origin, authority, tmp_path))
    await until(lambda: is_ready(sidecar), "the first token arrives")
    return sidecar


async def is_ready(sidecar: SidecarProcess) -> bool:
    return await sidecar.status("/readyz") == 200


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an app saw."""

    statuses: dict[str, int]
    errors: list[str]


class Client(Program):
    """One app under way, with the sidecar as its HTTP_PROXY."""

    def __init__(self, name: str, command: list[str], folder: Path, proxy: str | None) -> None:
        # no_proxy is set and empty: some of them would never send localhost through a proxy by themselves.
        proxied = {} if proxy is None else {"http_proxy": proxy, "HTTP_PROXY": proxy, "no_proxy": "", "NO_PROXY": ""}
        super().__init__(name, command, folder=folder, environment=clean_environment(**proxied))

    async def outcome(self) -> Outcome:
        """What it saw, once it has ended by itself."""
        code = await self.ended(seconds=TRAFFIC_SECONDS + 60)
        assert code == 0, f"{self.name} ended with {code}:\n{self.stderr}"
        return Outcome(**json.loads(self.stdout))


class Curl(Client):
    """One curl that sends every request of the run, on kept connections, at a fixed rate."""

    def __init__(self, url: str, folder: Path, proxy: str) -> None:
        count = max(1, round(TRAFFIC_SECONDS * RATE))
        every = ["--rate", f"{RATE * 60}/m", "--output", "/dev/null", "--write-out", "%{http_code}\\n"]
        command = [str(CURL), "--silent", "--show-error", *every, f"{url}?request=[1-{count}]"]
        super().__init__("curl", command, folder, proxy)

    async def outcome(self) -> Outcome:
        code = await self.ended(seconds=TRAFFIC_SECONDS * 2 + 60)
        lines = self.stdout.split()
        statuses = {status: lines.count(status) for status in set(lines)}
        return Outcome(statuses, [f"exit code {code}: {self.stderr}"] if code else [])


def clients(sidecar: SidecarProcess, folder: Path) -> list[Client]:
    """The apps, none of which knows of tokens; all but the last by HTTP_PROXY."""
    proxy, proxied, based = sidecar.url("egress"), "http://localhost/orders", f"{sidecar.url('orders')}/orders"
    much = [str(TRAFFIC_SECONDS), str(RATE)]
    python = [sys.executable, "-I"]
    return [
        Curl(proxied, folder, proxy),
        Client("urllib", [*python, str(HERE / "clients" / "urllib_client.py"), proxied, *much], folder, proxy),
        Client("requests", [*python, str(HERE / "clients" / "requests_client.py"), proxied, *much], folder, proxy),
        Client("undici", [str(NODE), str(HERE / "node" / "client.mjs"), proxied, *much], folder, proxy),
        Client("base-url", [*python, str(HERE / "clients" / "requests_client.py"), based, *much], folder, None),
    ]


# --- what they must see ----------------------------------------------------------------------------------------------


async def test_steady_traffic_of_real_clients_meets_no_401_and_no_expired_token(
    provider: Provider, origin: Origin, sidecar: SidecarProcess, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        started = [await stack.enter_async_context(client) for client in clients(sidecar, tmp_path)]
        outcomes = {client.name: await client.outcome() for client in started}

    for name, outcome in outcomes.items():
        assert outcome.errors == [], name
        assert set(outcome.statuses) == {"200"}, name
        assert outcome.statuses["200"] >= TRAFFIC_SECONDS, name
    assert origin.invalid() == []
    assert len(origin.arrivals) == sum(outcome.statuses["200"] for outcome in outcomes.values())

    await assert_refreshed_before_each_expiry(provider, sidecar)
    assert await sidecar.stop() == 0
    assert SECRET not in sidecar.stderr


async def assert_refreshed_before_each_expiry(provider: Provider, sidecar: SidecarProcess) -> None:
    """By the provider's own log, and by the metrics of the sidecar."""
    issued = provider.issued
    assert provider.refused == []
    assert len(issued) >= TRAFFIC_SECONDS / LIFETIME_SECONDS
    assert all(later["iat"] < earlier["exp"] for earlier, later in itertools.pairwise(issued))

    metrics = await sidecar.metrics()
    assert metrics.total("token_requests_total", credential="orders") == pytest.approx(len(issued), abs=1)
    assert metrics.value("token_requests_total", credential="orders", result="success") > 1
    assert metrics.value("token_request_triggers_total", credential="orders", trigger="scheduled") >= len(issued) - 2
    assert metrics.value("token_up", credential="orders") == 1
    assert metrics.value("token_lifetime_seconds", credential="orders") == LIFETIME_SECONDS
    assert metrics.total("injections_total", route="orders", result="injected") > TRAFFIC_SECONDS
    assert metrics.total("upstream_unauthorized_total") == 0


async def test_the_origin_refuses_who_comes_without_the_sidecar(origin: Origin, authority: Authority) -> None:
    """The proof that the other test's 200s were the token's doing."""
    url = f"https://localhost:{origin.port}/orders"
    async with Program(
        "direct",
        [str(CURL), "--silent", "--cacert", str(authority.ca_file), "--write-out", "%{http_code}", url],
        folder=authority.ca_file.parent,
    ) as direct:
        await direct.ended(seconds=30)
    assert direct.stdout.endswith("401")
    assert [arrival.verdict for arrival in origin.arrivals] == ["missing"]
