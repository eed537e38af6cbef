"""Tokens that are asked for, and what is said of them; never the token."""

from __future__ import annotations

import json
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.errors import SecretMissing, TokenRequestError, leaves
from sidecar.preflight.kinds import Kind, Stage
from sidecar.preflight.live import KINDS
from sidecar.simulation.idp import MockIdP, Step
from tests.broker.store_kit import grant, open_store
from tests.preflight.kit import Bench, credential, found

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.broker.store import TokenStore
    from sidecar.preflight.findings import Report

LIVE = Stage.LIVE
ORDERS = "credentials.orders"
JSON = {"Content-Type": "application/json"}


async def live(bench: Bench, idp: MockIdP, **changes: Any) -> Report:
    token_url = None if "issuer" in changes else idp.token_url
    return await bench.check(LIVE, credentials={"orders": credential(token_url, **changes)})


def refusal(code: str, status: int = 400) -> Step:
    return Step(status=status, body=json.dumps({"error": code}).encode(), headers=JSON)


# --- what comes ---


async def test_a_token_is_described_and_not_shown(bench: Bench, idp: MockIdP) -> None:
    report = await live(bench, idp, scopes=["orders.read"])

    assert found(report, LIVE) == []
    (check,) = report.of(LIVE)
    assert check.said == "a token that lives 3600 s, scope orders.read"
    assert len(idp.issued) == 1
    assert report.exit_code == 0


@pytest.mark.parametrize(
    ("step", "kind", "code"),
    [
        (refusal("invalid_client", 401), Kind.INVALID_CLIENT, 6),
        (refusal("invalid_grant"), Kind.INVALID_GRANT, 6),
        (refusal("invalid_scope"), Kind.INVALID_SCOPE, 6),
        (refusal("unauthorized_client"), Kind.UNAUTHORIZED_CLIENT, 6),
        (refusal("unsupported_grant_type"), Kind.TOKEN_REFUSED, 6),
        (Step(status=429), Kind.IDP_RATE_LIMITED, 5),
        (Step(status=503), Kind.IDP_SERVER_ERROR, 5),
        (Step(body=b"<html>hello</html>"), Kind.TOKEN_MALFORMED, 5),
        (Step(fault="close"), Kind.IDP_CONNECT, 5),
        (Step(fault="hang"), Kind.IDP_TIMEOUT, 5),
    ],
)
async def test_each_failure_has_its_kind_and_exit_code(
    bench: Bench, idp: MockIdP, step: Step, kind: Kind, code: int
) -> None:
    bench.limits["token_request"] = "500ms" if step.fault == "hang" else "10s"
    idp.always(step)
    report = await live(bench, idp)

    assert found(report, LIVE) == [(kind, ORDERS)]
    assert report.exit_code == code


async def test_names_are_looked_up_by_the_same_resolver_in_every_stage(bench: Bench, idp: MockIdP) -> None:
    url = idp.token_url.replace("127.0.0.1", "localhost")
    report = await bench.check(LIVE, credentials={"orders": credential(url)})

    assert found(report, LIVE) == []


def test_every_reason_of_a_token_request_has_a_kind() -> None:
    assert set(KINDS) == {leaf.reason for leaf in leaves(TokenRequestError)} | {SecretMissing.reason}


async def test_what_failed_before_is_not_asked_for(bench: Bench) -> None:
    report = await bench.check(LIVE, credentials={"orders": credential("https://idp.test/token")})

    (check,) = report.of(LIVE)
    assert check.skipped == "not asked for, because of idp-dns"
    assert report.exit_code == 5


async def test_a_missing_secret_decides_before_anything_is_asked(bench: Bench, idp: MockIdP) -> None:
    report = await live(bench, idp, client_secret="file:/nowhere/at/all")

    assert report.of(LIVE)[0].skipped == "not asked for, because of secret-missing"
    assert not idp.received
    assert report.exit_code == 4


# --- the token ---


async def test_a_token_that_hardly_lives_is_a_warning(bench: Bench, idp: MockIdP) -> None:
    idp.ttl = 59
    assert found(await live(bench, idp), LIVE) == [(Kind.TOKEN_SHORT_LIVED, ORDERS)]
    idp.ttl = 60
    assert found(await live(bench, idp), LIVE) == []


async def test_an_answer_without_an_expiry_is_a_warning(bench: Bench, idp: MockIdP) -> None:
    idp.always(Step(fields={"expires_in": None}))
    assert found(await live(bench, idp), LIVE) == [(Kind.TOKEN_WITHOUT_EXPIRY, f"{ORDERS}.default_ttl")]


async def test_a_jwt_tells_its_own_expiry(bench: Bench) -> None:
    async with MockIdP(jwt="ES256") as idp:
        idp.always(Step(fields={"expires_in": None}))
        assert found(await live(bench, idp), LIVE) == []


async def test_a_grace_that_is_longer_than_the_life_is_a_warning(bench: Bench, idp: MockIdP) -> None:
    idp.ttl = 300
    assert found(await live(bench, idp, stale_for="10m"), LIVE) == [
        (Kind.STALE_LONGER_THAN_LIFE, f"{ORDERS}.stale_for")
    ]
    assert found(await live(bench, idp, stale_for="5m"), LIVE) == []


async def test_an_answer_without_a_type_is_a_note(bench: Bench, idp: MockIdP) -> None:
    idp.always(Step(fields={"token_type": None}))
    assert found(await live(bench, idp), LIVE) == [(Kind.TOKEN_TYPE_MISSING, ORDERS)]


async def test_scopes_that_were_not_granted_are_told(bench: Bench, idp: MockIdP) -> None:
    idp.always(Step(fields={"scope": "a"}))
    report = await live(bench, idp, scopes=["a", "b", "c"])
    assert found(report, LIVE) == [(Kind.SCOPE_NOT_GRANTED, f"{ORDERS}.scopes")]
    assert report.findings[-1][1].message == "not granted: b c"

    changes = {"scopes": ["a", "b", "c"], "required_scopes": ["b"]}
    assert found(await live(bench, idp, **changes), LIVE) == [(Kind.INVALID_SCOPE, ORDERS)]
    assert found(await live(bench, idp, on_scope_missing="degraded", **changes), LIVE) == [
        (Kind.SCOPE_NOT_GRANTED, f"{ORDERS}.scopes"),
        (Kind.SCOPE_MISSING, f"{ORDERS}.required_scopes"),
    ]


async def test_a_jwt_for_another_audience_or_of_another_issuer_is_a_note(bench: Bench) -> None:
    async with MockIdP(jwt="ES256") as idp:
        audience = "https://api.example.com"
        assert found(await live(bench, idp, audience=audience), LIVE) == []
        idp.always(Step(fields={"access_token": other_jwt()}))
        changes = {"audience": audience, "issuer": idp.issuer}
        assert found(await live(bench, idp, **changes), LIVE) == [
            (Kind.AUDIENCE_DIFFERS, f"{ORDERS}.audience"),
            (Kind.ISSUER_DIFFERS, f"{ORDERS}.issuer"),
        ]


def other_jwt() -> str:
    """``{"aud":["other"],"iss":"https://other.example.com"}``, unsigned in all but form."""
    return "eyJhbGciOiJFUzI1NiJ9.eyJhdWQiOlsib3RoZXIiXSwiaXNzIjoiaHR0cHM6Ly9vdGhlci5leGFtcGxlLmNvbSJ9.c2ln"


async def test_the_idp_s_clock_is_looked_at(bench: Bench, idp: MockIdP) -> None:
    idp.always(Step(headers={"Date": formatdate(bench.clock.wall() + 100, usegmt=True)}))
    assert found(await live(bench, idp), LIVE) == [(Kind.CLOCK_SKEW, ORDERS)]
    idp.always(refusal("invalid_client", 401))
    late = Step(status=401, body=b'{"error": "invalid_client"}', headers={"Date": formatdate(1.0, usegmt=True)} | JSON)
    idp.always(late)
    assert set(found(await live(bench, idp), LIVE)) == {(Kind.INVALID_CLIENT, ORDERS), (Kind.CLOCK_SKEW_LARGE, ORDERS)}


# --- other sources ---


async def test_a_command_is_run_and_a_given_token_read(bench: Bench, tmp_path: Path) -> None:
    given = tmp_path / "token"
    given.touch(0o600)
    given.write_text("c4n4ry-of-the-test\n")
    report = await bench.check(
        LIVE,
        credentials={
            "command": {"grant": "exec", "command": ["/bin/echo", "c4n4ry-of-the-test"]},
            "given": {"grant": "static", "token_file": str(given)},
        },
    )

    assert [check.said for check in report.of(LIVE)] == ["a token that lives 300 s", "a token that never expires"]
    assert "c4n4ry" not in repr(report)


# --- grants in the store ---


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    return open_store(tmp_path)


async def resting(bench: Bench, idp: MockIdP, store: TokenStore, **changes: Any) -> Report:
    """What is said of a credential that rests on the store."""
    key = store.path.parent / "store-key"
    login = {"grant": "device_code", "device_authorization_url": f"{idp.issuer}/device_authorization"} | changes
    report = await bench.check(
        LIVE,
        credentials={"orders": credential(idp.token_url, **login)},
        store={"path": str(store.path), "key": f"file:{key}"},
    )
    assert not idp.received, "a refresh token is never spent"
    return report


async def test_a_grant_that_can_be_read_is_well(bench: Bench, idp: MockIdP, store: TokenStore) -> None:
    store.write("orders", grant(expires_at=bench.clock.wall() + 30 * 86400))
    report = await resting(bench, idp, store)

    assert found(report, LIVE) == []
    assert report.of(LIVE)[0].said == (
        "a grant is stored and can be read, nobody owns it now; its refresh token ends in 30 days"
    )


async def test_without_a_grant_somebody_has_to_log_in(bench: Bench, idp: MockIdP, store: TokenStore) -> None:
    report = await resting(bench, idp, store)

    assert found(report, LIVE) == [(Kind.LOGIN_NEEDED, ORDERS)]
    assert report.findings[-1][1].next_step == "sidecar login orders"
    assert report.exit_code == 6


async def test_a_grant_of_another_client_is_as_good_as_none(bench: Bench, idp: MockIdP, store: TokenStore) -> None:
    store.write("orders", grant(party=f"client other at http://127.0.0.1:{idp.port}"))
    report = await resting(bench, idp, store)

    assert found(report, LIVE) == [(Kind.LOGIN_NEEDED, ORDERS)]
    assert "client other" in report.findings[-1][1].message


async def test_a_seed_is_as_good_as_a_login(bench: Bench, idp: MockIdP, store: TokenStore) -> None:
    seeded = {"grant": "refresh_token", "refresh_token": "seed", "device_authorization_url": None}
    report = await resting(bench, idp, store, **seeded)

    assert found(report, LIVE) == []
    assert "is not spent here" in report.of(LIVE)[0].said


@pytest.mark.parametrize(
    ("seconds", "kind"),
    [(-3600.0, Kind.REFRESH_TOKEN_EXPIRED), (6 * 86400.0, Kind.REFRESH_TOKEN_ENDS_SOON)],
)
async def test_the_end_of_a_refresh_token_is_told(
    bench: Bench, idp: MockIdP, store: TokenStore, seconds: float, kind: Kind
) -> None:
    store.write("orders", grant(expires_at=bench.clock.wall() + seconds))

    assert found(await resting(bench, idp, store), LIVE) == [(kind, ORDERS)]


async def test_a_grant_in_use_is_left_to_its_owner(bench: Bench, idp: MockIdP, store: TokenStore) -> None:
    store.write("orders", grant(spent_at=bench.clock.wall()))
    with store.own("orders"):
        assert found(await resting(bench, idp, store), LIVE) == [(Kind.GRANT_OWNED, ORDERS)]
    assert found(await resting(bench, idp, store), LIVE) == [(Kind.REFRESH_TOKEN_IN_DOUBT, ORDERS)]


async def test_a_store_that_cannot_be_opened_is_an_error(bench: Bench, idp: MockIdP, store: TokenStore) -> None:
    store.write("orders", grant())
    (store.path / "orders.grant").write_bytes(b"damaged")
    report = await resting(bench, idp, store)

    assert found(report, LIVE) == [(Kind.STORE_UNUSABLE, ORDERS)]
    assert report.exit_code == 3


async def test_looking_leaves_nothing_behind(bench: Bench, idp: MockIdP, store: TokenStore) -> None:
    await resting(bench, idp, store)
    assert not store.path.exists()
