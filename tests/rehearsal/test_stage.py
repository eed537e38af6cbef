"""Everything is up, every credential has a token, and events fall on whom they are meant for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sidecar.errors import ConfigurationInvalid
from sidecar.rehearsal import credentials
from sidecar.rehearsal.scenario import EVENTS
from sidecar.rehearsal.stage import stage
from sidecar.runtime import SystemClock
from sidecar.simulation.catalogue import ordered
from sidecar.telemetry import log
from tests.end_to_end.waiting import until
from tests.rehearsal.plays import ORDERS, ROUTE, STORE, configuration

if TYPE_CHECKING:
    from sidecar.rehearsal.stage import Stage

KINDS: dict[str, dict[str, Any]] = {
    "basic": ORDERS,
    "post": ORDERS | {"client_auth": "client_secret_post"},
    "raw": ORDERS | {"basic_encoding": "raw"},
    "secret-jwt": ORDERS | {"client_auth": "client_secret_jwt"},
    "key-jwt": {
        "grant": "client_credentials",
        "token_url": "https://b.example.com/token",
        "client_id": "key",
        "client_auth": "private_key_jwt",
        "private_key": "file:/absent",
    },
    "federated": {
        "grant": "client_credentials",
        "issuer": "https://c.example.com",
        "client_id": "federated",
        "client_auth": "federated",
        "assertion_file": "/absent",
    },
    "login": {"grant": "device_code", "issuer": "https://d.example.com", "client_id": "person", "scopes": ["a", "b"]},
    "bearer": {
        "grant": "jwt_bearer",
        "token_url": "https://e.example.com/token",
        "client_id": "service",
        "private_key": "file:/absent",
    },
    "exchange": {
        "grant": "token_exchange",
        "token_url": "https://f.example.com/token",
        "subject_token": "file:/absent",
    },
    "bound": ORDERS | {"dpop": True},
    "command": {"grant": "exec", "command": ["/absent"]},
    "fixed": {"grant": "static", "token_file": "/absent"},
    "preset": {
        "provider": "entra_id",
        "provider_params": {"tenant": "contoso.example"},
        "client_id": "app",
        "client_secret": "file:/absent",
        "scopes": ["api://x/.default"],
    },
}


def every_kind() -> Any:
    routes = [{"host": f"{name}.example.com", "credential": name} for name in KINDS]
    return configuration(credentials=KINDS, routes=routes, store=STORE)


def generations(set_up: Stage) -> dict[str, int]:
    return {status.name: status.generation for status in set_up.statuses()}


async def test_credentials_of_every_kind_get_tokens() -> None:
    async with stage(every_kind(), ttl=3600, clock=SystemClock(), on_end=lambda _: None) as set_up:
        assert set(set_up.names) == KINDS.keys() - {"fixed"}
        assert all(status.usable for status in set_up.statuses())
        assert {call.route for call in set_up.calls} == {f"{name}.example.com:443" for name in KINDS}
        assert set_up.proxy.startswith("http://127.0.0.1:")


async def test_an_event_falls_on_the_credential_that_is_named() -> None:
    two = configuration(
        credentials={"orders": ORDERS, "other": ORDERS | {"issuer": "https://other.example.com"}},
        routes=[ROUTE, {"host": "other.example.com", "credential": "other"}],
    )
    ended: list[str] = []
    async with stage(two, ttl=3600, clock=SystemClock(), on_end=lambda order: ended.append(str(order))) as set_up:
        for event in ("expire", "refresh"):
            before = generations(set_up)
            await set_up.happen(ordered(event, EVENTS), "other")
            await until(lambda seen=before: generations(set_up)["other"] > seen["other"], "a new token")
            assert generations(set_up)["orders"] == before["orders"]
        await set_up.happen(ordered("outage", EVENTS), "other")
        assert [set_up.providers[name].idp.listening for name in ("orders", "other")] == [True, False]
        await set_up.end("outage", None)
        assert set_up.providers["other"].idp.listening
        assert ended == ["outage"]


async def test_a_secret_rotates_at_the_provider_and_in_the_file() -> None:
    async with stage(configuration(), ttl=3600, clock=SystemClock(), on_end=lambda _: None) as set_up:
        idp = set_up.providers["orders"].idp
        before = set(idp.secrets["orders-worker"])
        await set_up.happen(ordered("rotate_secret", EVENTS), None)
        assert before.isdisjoint(idp.secrets["orders-worker"])
        await set_up.happen(ordered("refresh", EVENTS), None)
        await until(lambda: generations(set_up)["orders"] > 1, "a token by the new secret")


async def test_a_credential_that_gets_no_token_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def register_nobody(*_: object, **__: object) -> None:
        """A provider that has never heard of the client."""

    monkeypatch.setattr(credentials, "_know", register_nobody)
    impossible = configuration(credentials={"orders": {**ORDERS, "client_auth": "client_secret_jwt"}})
    with pytest.raises(ConfigurationInvalid, match=r"credential orders cannot be rehearsed: .* says invalid_client"):
        async with stage(impossible, ttl=3600, clock=SystemClock(), on_end=lambda _: None):
            pass


async def test_the_log_is_as_it_was_when_the_stage_is_gone(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info")
    async with stage(configuration(), ttl=3600, clock=SystemClock(), on_end=lambda _: None):
        log.get_logger("test").error("kept_away")
    log.get_logger("test").info("said_again")
    said = capsys.readouterr().err
    assert "said_again" in said
    assert "kept_away" not in said
