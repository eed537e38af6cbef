"""IdPs and upstreams that can be reached, and what issuers say of themselves."""

from __future__ import annotations

from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.preflight.kinds import Kind, Stage
from sidecar.preflight.network import skewed
from sidecar.simulation.idp import MockIdP, Step
from tests.preflight.kit import Bench, credential, found, kinds
from tests.preflight.servers import Authority, closed, listening

if TYPE_CHECKING:
    from pathlib import Path

ISSUER = "credentials.orders.issuer"
NET = Stage.NETWORK


def discovered(idp: MockIdP, **changes: Any) -> dict[str, Any]:
    """A credential whose token endpoint is found by the issuer."""
    return {"orders": credential(changes.pop("token_url", None), issuer=idp.issuer, **changes)}


def route(**changes: Any) -> dict[str, Any]:
    return {"host": "api.test", "credential": "orders"} | changes


# --- reaching ---


async def test_what_can_be_reached_is_well(bench: Bench, idp: MockIdP) -> None:
    report = await bench.check(NET, credentials={"orders": credential(idp.token_url)})

    assert found(report, NET) == []
    (check,) = report.of(NET)
    assert (check.name, check.said) == (f"127.0.0.1:{idp.port} (credentials.orders.token_url)", "reachable")
    assert not idp.received, "nothing is asked of a token endpoint"


async def test_a_host_is_called_once_and_told_at_each_of_its_keys(bench: Bench) -> None:
    url = f"http://127.0.0.1:{closed()}/token"
    report = await bench.check(NET, credentials={"orders": credential(url), "billing": credential(url)})

    assert len(report.of(NET)) == 1
    assert found(report, NET) == [
        (Kind.IDP_CONNECT, "credentials.orders.token_url"),
        (Kind.IDP_CONNECT, "credentials.billing.token_url"),
    ]
    assert report.exit_code == 5


async def test_names_that_do_not_resolve_are_told_for_both_sides(bench: Bench) -> None:
    report = await bench.check(NET, credentials={"orders": credential("https://idp.test/token")}, routes=[route()])

    assert found(report, NET) == [
        (Kind.IDP_DNS, "credentials.orders.token_url"),
        (Kind.UPSTREAM_DNS, "routes[0].host"),
    ]
    assert report.exit_code == 7


async def test_a_wildcard_names_no_host(bench: Bench, idp: MockIdP) -> None:
    report = await bench.check(
        NET, credentials={"orders": credential(idp.token_url)}, routes=[route(host="*.api.test")]
    )
    assert len(report.of(NET)) == 1


async def test_the_upstream_of_a_reverse_listener_is_called_where_no_route_names_it(bench: Bench) -> None:
    sections: dict[str, Any] = {
        "credentials": {"orders": {"grant": "static", "token": "something"}},
        "listeners": [{"name": "a", "mode": "reverse", "bind": "127.0.0.1:6190", "upstream": "https://a.api.test"}],
    }
    by_wildcard = await bench.check(NET, routes=[route(host="*.api.test")], **sections)
    by_name = await bench.check(NET, routes=[route(host="a.api.test")], **sections)

    assert found(by_wildcard, NET) == [(Kind.UPSTREAM_DNS, "listeners[0].upstream")]
    assert found(by_name, NET) == [(Kind.UPSTREAM_DNS, "routes[0].host")]


async def test_a_certificate_that_ends_soon_is_a_warning(bench: Bench, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    bench.names["api.test"] = ["127.0.0.1"]
    tokens = {"orders": {"grant": "static", "token": "something"}}
    for days, expected in ((6.0, [(Kind.SERVER_CERTIFICATE_ENDS_SOON, "routes[0].host")]), (8.0, [])):
        async with listening(authority.server("api.test", days=days)) as port:
            report = await bench.check(NET, credentials=tokens, routes=[route(port=port, ca_file=authority.file)])
        assert found(report, NET) == expected
        assert report.exit_code == 0


async def test_a_platform_that_is_not_here_is_a_warning(bench: Bench) -> None:
    url = "http://metadata.google.internal/token"
    report = await bench.check(NET, credentials={"vm": {"grant": "workload", "token_url": url}})

    assert found(report, NET) == [(Kind.PLATFORM_UNREACHABLE, "credentials.vm.token_url")]
    assert report.exit_code == 0


# --- discovery ---


async def test_the_metadata_of_an_issuer_is_asked_for_once(bench: Bench, idp: MockIdP) -> None:
    credentials = discovered(idp) | {"billing": discovered(idp)["orders"]}
    report = await bench.check(NET, credentials=credentials)

    assert found(report, NET) == []
    assert len(idp.received) == 1
    assert {check.said for check in report.of(NET)} == {"the metadata is this issuer's"}


async def test_the_second_address_of_metadata_will_do(bench: Bench, idp: MockIdP) -> None:
    idp.metadata_forms = {"oauth-authorization-server"}

    assert found(await bench.check(NET, credentials=discovered(idp)), NET) == []


@pytest.mark.parametrize(
    "step", [Step(status=404), Step(status=503), Step(body=b"<html>"), Step(body=b"[]"), Step(fault="close")]
)
async def test_metadata_that_cannot_be_had_is_told(bench: Bench, idp: MockIdP, step: Step) -> None:
    idp.always(step, endpoint="metadata")
    report = await bench.check(NET, credentials=discovered(idp))

    ((kind, key),) = found(report, NET)
    assert kind is (Kind.IDP_CONNECT if step.fault else Kind.DISCOVERY_FAILED)
    assert key == ISSUER
    assert report.exit_code == 5


async def test_an_issuer_that_is_down_is_told_once(bench: Bench, idp: MockIdP) -> None:
    credentials = discovered(idp)
    await idp.stop()

    assert found(await bench.check(NET, credentials=credentials), NET) == [(Kind.IDP_CONNECT, ISSUER)]


async def test_a_slash_too_many_is_another_issuer(bench: Bench, idp: MockIdP) -> None:
    idp.metadata = {"issuer": idp.issuer + "/"}
    report = await bench.check(NET, credentials=discovered(idp))

    assert found(report, NET) == [(Kind.ISSUER_MISMATCH, ISSUER)]
    assert report.findings[-1][1].message == f"the metadata names {idp.issuer}/"
    assert report.exit_code == 3


@pytest.mark.parametrize("issuer", [None, 7, "not a URL \x1b[2J", "x" * 600])
async def test_what_a_document_says_is_only_repeated_if_it_is_a_url(bench: Bench, idp: MockIdP, issuer: object) -> None:
    idp.metadata = {"issuer": issuer}
    report = await bench.check(NET, credentials=discovered(idp))

    assert report.findings[-1][1].message == "the metadata names something that is no URL"


async def test_an_endpoint_that_is_not_https_is_told(bench: Bench, idp: MockIdP) -> None:
    idp.metadata = {"revocation_endpoint": "http://idp.example.com/revoke"}
    report = await bench.check(NET, credentials=discovered(idp))

    assert found(report, NET) == [(Kind.ENDPOINT_INSECURE, ISSUER)]
    assert "revocation_endpoint is http://idp.example.com/revoke" in report.findings[-1][1].message


async def test_an_endpoint_that_the_grant_needs_and_nobody_names_is_told(
    bench: Bench, idp: MockIdP, tmp_path: Path
) -> None:
    idp.metadata = {"token_endpoint": None, "device_authorization_endpoint": None}
    store = {"path": str(tmp_path / "tokens"), "key": "env:KEY"}
    report = await bench.check(NET, credentials=discovered(idp, grant="device_code"), store=store)

    assert found(report, NET) == [(Kind.ENDPOINT_MISSING, ISSUER)] * 2
    changes = {"token_url": idp.token_url, "device_authorization_url": f"{idp.issuer}/device_authorization"}
    report = await bench.check(NET, credentials=discovered(idp, grant="device_code", **changes), store=store)
    assert found(report, NET) == []


async def test_a_token_endpoint_on_another_host_is_called_as_well(bench: Bench, idp: MockIdP) -> None:
    idp.metadata = {"token_endpoint": f"http://127.0.0.1:{closed()}/token"}
    report = await bench.check(NET, credentials=discovered(idp))

    assert found(report, NET) == [(Kind.IDP_CONNECT, ISSUER)]
    assert report.findings[-1][1].message.startswith("token_endpoint: ")


async def test_what_the_metadata_does_not_list_is_a_note(bench: Bench, idp: MockIdP) -> None:
    idp.metadata = {
        "grant_types_supported": ["authorization_code"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
    }
    report = await bench.check(NET, strict=True, credentials=discovered(idp))

    assert found(report, NET) == [(Kind.GRANT_NOT_ADVERTISED, ISSUER), (Kind.CLIENT_AUTH_NOT_ADVERTISED, ISSUER)]


# --- clocks ---


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, []),
        (59.0, []),
        (-59.0, []),
        (61.0, [Kind.CLOCK_SKEW]),
        (-299.0, [Kind.CLOCK_SKEW]),
        (-301.0, [Kind.CLOCK_SKEW_LARGE]),
    ],
)
def test_clocks_may_differ_by_a_minute(seconds: float | None, expected: list[Kind]) -> None:
    assert [finding.kind for finding in skewed((), seconds)] == expected


async def test_the_date_of_an_answer_tells_the_idp_s_clock(bench: Bench, idp: MockIdP) -> None:
    late = formatdate(bench.clock.wall() - 400, usegmt=True)
    idp.always(Step(headers={"Date": late}), endpoint="metadata")
    report = await bench.check(NET, credentials=discovered(idp))

    assert kinds(report, NET) == {Kind.CLOCK_SKEW_LARGE}
    assert "behind this machine's" in report.findings[-1][1].message
    assert report.exit_code == 3
