"""The admin listener in the running sidecar: when it opens, moves and ends, and that it is an own socket."""

# ruff: noqa: F811 - fixtures are imported, and tests name them

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.errors import CannotBind, SecretMissing
from tests.end_to_end.waiting import until
from tests.proxy.conftest import logs, rig, trust  # noqa: F401 - fixtures
from tests.proxy.raw_client import RawClient, get
from tests.proxy.rig import API
from tests.test_app import FORWARD, refused, reload, status

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.admin.facts import Reload
    from tests.proxy.conftest import Logs
    from tests.proxy.rig import Rig

ADMIN: Final = "cn4ry-admin-token-of-the-test"
OTHER: Final = "another-admin-token-of-the-test"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "admin-token"
    path.write_text(ADMIN)
    return path


def put(path: Path, content: str | None) -> None:
    """Make this the content; None: no file."""
    path.unlink()
    if content is not None:
        path.write_text(content)


def admin(rig: Rig, secret: Path | None = None, name: str = "admin") -> dict[str, Any]:
    """The section, at a port of its own."""
    section = {"bind": f"127.0.0.1:{rig.port(name)}"}
    return section if secret is None else section | {"token": f"file:{secret}"}


async def ask(rig: Rig, token: str = ADMIN, name: str = "admin") -> int:
    """The status of a request for a token."""
    lines = ["POST /v1/credentials/orders/token HTTP/1.1", "Host: localhost", f"Authorization: Bearer {token}"]
    async with await RawClient.to(rig.port(name)) as client:
        return (await client.ask("\r\n".join([*lines, "Connection: close", "", ""]).encode())).status


async def test_without_its_section_there_is_no_admin_listener(rig: Rig) -> None:
    sidecar = await rig.start()
    assert sidecar.admin is None


async def test_it_is_served_from_the_start_and_gone_at_the_end(rig: Rig, secret: Path, logs: Logs) -> None:
    await rig.start(admin=admin(rig, secret))
    assert await ask(rig) == 200
    assert await ask(rig, "wrong-admin-token-of-the-test") == 401
    [line] = logs("started")
    assert line["admin"] == f"127.0.0.1:{rig.port('admin')}"
    await rig.stop()
    assert await refused(rig.port("admin"))


async def test_a_start_whose_admin_address_is_taken_leaves_nothing_open(rig: Rig, secret: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        section = {"bind": f"127.0.0.1:{taken.getsockname()[1]}", "token": f"file:{secret}"}
        with pytest.raises(CannotBind, match="admin cannot listen"):
            await rig.start_cold(admin=section)
    assert await refused(rig.port("egress"))
    assert await refused(rig.port("telemetry"))
    assert not rig.idp.received


@pytest.mark.parametrize("content", [None, "", "short"])
async def test_a_start_without_a_sound_admin_token_names_it(rig: Rig, secret: Path, content: str | None) -> None:
    put(secret, content)
    with pytest.raises(SecretMissing, match=r"^admin\.token: ") as caught:
        await rig.start_cold(admin=admin(rig, secret))
    assert caught.value.exit_code == 4
    assert await refused(rig.port("egress"))


async def test_it_comes_moves_and_goes_with_the_configuration(rig: Rig, secret: Path) -> None:
    await rig.start()
    assert await reload(rig, admin=admin(rig, secret))
    first = rig.port("admin")
    assert await ask(rig) == 200
    rig.ports.pop("admin")
    assert await reload(rig, admin=admin(rig, secret))
    assert await refused(first)
    assert await ask(rig) == 200
    assert await status(rig, "/livez") == 200
    assert await reload(rig)
    assert await refused(rig.port("admin"))
    assert rig.sidecar.admin is None


async def test_an_unchanged_address_keeps_its_socket_and_takes_over_the_token(rig: Rig, secret: Path) -> None:
    await rig.start(admin=admin(rig, secret))
    server = rig.sidecar.admin
    other = secret.with_name("other")
    other.write_text(OTHER)
    assert await reload(rig, admin=admin(rig, other))
    assert rig.sidecar.admin is server
    assert (await ask(rig), await ask(rig, OTHER)) == (401, 200)
    assert await reload(rig, admin=admin(rig))
    assert (await ask(rig), await ask(rig, OTHER)) == (403, 403)


async def test_a_reload_that_cannot_have_it_leaves_everything_as_it_is(rig: Rig, secret: Path) -> None:
    await rig.start(admin=admin(rig, secret))
    short = secret.with_name("short")
    short.write_text("short")
    assert not await reload(rig, admin=admin(rig, short))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        section = {"bind": f"127.0.0.1:{taken.getsockname()[1]}"}
        second = {"name": "second", "mode": "forward"}
        assert not await reload(rig, admin=section, listeners=[FORWARD, second])
    assert await refused(rig.port("second"))
    assert await ask(rig) == 200
    assert rig.value("config_last_reload_successful") == 0


async def test_it_is_never_an_upstream(rig: Rig, secret: Path) -> None:
    rig.names["self.test"] = ["127.0.0.1"]
    port = rig.port("admin")
    route = rig.plain_route(name="self", host="self.test", port=port)
    await rig.start(routes=[route], admin=admin(rig, secret))
    client = await rig.client()
    assert (await client.ask(get(f"http://self.test:{port}/v1/credentials"))).reason == "address_denied"


async def simulated(rig: Rig) -> int:
    """The status of a request to end a token."""
    lines = ["POST /v1/simulation/orders/expire HTTP/1.1", "Host: localhost", f"Authorization: Bearer {ADMIN}"]
    async with await RawClient.to(rig.port("admin")) as client:
        return (await client.ask("\r\n".join([*lines, "Connection: close", "", ""]).encode())).status


async def test_tokens_end_on_command_only_while_the_configuration_says_so(rig: Rig, secret: Path, logs: Logs) -> None:
    await rig.start(admin=admin(rig, secret))
    assert await simulated(rig) == 404
    assert not logs("simulation_enabled")
    assert await reload(rig, admin=admin(rig, secret), simulation={"enabled": True})
    assert await simulated(rig) == 202
    [line] = logs("simulation_enabled")
    assert line["level"] == "warning"
    assert await reload(rig, admin=admin(rig, secret))
    assert await simulated(rig) == 404


async def test_they_do_from_the_start_where_it_says_so_at_the_start(rig: Rig, secret: Path, logs: Logs) -> None:
    await rig.start(admin=admin(rig, secret), simulation={"enabled": True})
    assert await simulated(rig) == 202
    assert len(logs("simulation_enabled")) == 1
    rig.ports.pop("admin")
    assert await reload(rig, admin=admin(rig, secret), simulation={"enabled": True})
    assert await simulated(rig) == 202


# --- what it can tell -------------------------------------------------------------------------------------------------


async def test_the_last_requests_are_kept_only_while_somebody_could_look(rig: Rig, secret: Path) -> None:
    sidecar = await rig.start()
    client = await rig.client()
    await client.ask(get(f"http://{API}/unseen"))
    assert sidecar.facts.recent.entries(wall=0.0) == []
    assert await reload(rig, admin=admin(rig, secret))
    await client.ask(get(f"http://{API}/seen?key=x"))
    await client.ask(get("http://elsewhere.example.test/refused?key=x"))
    await until(lambda: len(sidecar.facts.recent.entries(wall=0.0)) == 2, "both are over")
    refused, served = sidecar.facts.recent.entries(wall=0.0)
    assert (served["path"], served["status"], served["injection"], served["route"]) == ("/seen", 200, "injected", "api")
    assert served["duration_ms"] > 0
    assert (refused["path"], refused["status"], refused["reason"]) == ("/refused", 403, "target_unmatched")
    assert refused["host"] == "elsewhere.example.test"
    assert await reload(rig)
    assert sidecar.gateway.recent is None


async def test_a_reload_leaves_what_it_changed_and_why_it_was_not_to_be(rig: Rig, secret: Path) -> None:
    sidecar = await rig.start(admin=admin(rig, secret))

    def last() -> Reload | None:
        return sidecar.facts.reload

    assert last() is None
    assert await reload(rig, admin=admin(rig, secret), unmatched="forward", routes=[rig.route(methods=["GET"])])
    assert (applied := last()) is not None
    assert applied.problem is None
    assert [(each.path, each.kind) for each in applied.changes] == [
        ("routes.api.methods", "changed"),
        ("routes.plain", "removed"),
        ("unmatched", "changed"),
    ]
    assert not await reload(rig, admin=admin(rig, secret), unmatched="perhaps")
    assert (rejected := last()) is not None
    assert "unmatched" in (rejected.problem or "")
    assert sidecar.facts.configuration.unmatched == "forward"


async def test_thirty_credentials_and_routes_stay_within_the_series_of_the_contract(rig: Rig, secret: Path) -> None:
    sidecar = await rig.start(
        admin=admin(rig, secret),
        credentials={f"team-{number}": rig.credential() for number in range(30)},
        routes=[
            rig.route(name=f"api-{number}", credential=f"team-{number}", paths=[f"/{number}/"]) for number in range(30)
        ],
    )
    assert sidecar.admin is not None
    client = await rig.client()
    for number in range(30):
        await client.ask(get(f"http://{API}/{number}/"))
    for _ in range(3):
        sidecar.admin.snapshot()
    assert len(sidecar.metrics) <= 100 + 50 * 30 + 80 * 30
