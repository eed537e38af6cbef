"""Every kind of credential is pointed at a provider that knows it; what it cannot be is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sidecar.rehearsal.credentials import endpoint_of, rehearsed
from sidecar.rehearsal.made_up import MadeUp
from sidecar.simulation.idp import MockIdP
from tests.rehearsal.plays import ORDERS, ROUTE, STORE, configuration

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.config.model import Credential
    from sidecar.rehearsal.credentials import Rehearsed


def loaded(**keys: Any) -> Credential:
    return configuration(credentials={"orders": keys}, routes=[ROUTE], store=STORE).credentials["orders"]


def pointed(folder: Path, original: Credential) -> tuple[Rehearsed, MockIdP]:
    idp = MockIdP()
    idp.port = 8080
    return rehearsed("orders", original, idp=idp, made_up=MadeUp(folder)), idp


def test_what_decides_the_life_of_a_token_is_kept(tmp_path: Path) -> None:
    original = loaded(**ORDERS, refresh={"at": 0.5, "jitter": 0.05}, stale_for="7s", audience="https://api.example.com")
    result, idp = pointed(tmp_path, original)
    kept = result.credential
    assert (kept.refresh, kept.stale_for, kept.audience, kept.scopes) == (
        original.refresh,
        7.0,
        "https://api.example.com",
        ("orders.read",),
    )
    assert (kept.issuer, kept.token_url, result.notes) == (idp.issuer, None, [])


def test_no_address_and_no_secret_of_the_user_is_left(tmp_path: Path) -> None:
    original = loaded(
        **ORDERS,
        ca_file="/etc/ssl/corp.pem",
        token_issuer="https://idp.example.com",
        token_params={"resource": "https://x.example.com"},
    )
    kept = pointed(tmp_path, original)[0].credential
    assert "example.com" not in repr(kept)
    assert "absent" not in repr(kept)
    assert kept.ca_file is None


def test_client_authentication_stays_what_it_is(tmp_path: Path) -> None:
    original = loaded(
        **{**ORDERS, "client_secret": None, "client_auth": "private_key_jwt", "private_key": "file:/absent"}
    )
    result, idp = pointed(tmp_path, original)
    assert result.credential.client_auth == "private_key_jwt"
    assert idp.clients["orders-worker"].auth == {"private_key_jwt"}
    assert len(idp.clients["orders-worker"].keys) == 1


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        (
            {
                "client_secret": None,
                "client_auth": "tls_client_auth",
                "certificate": "/a",
                "certificate_key": "file:/b",
            },
            "client_auth tls_client_auth: rehearsed as client_secret_basic",
        ),
        ({"grant": "exec", "command": ["/bin/true"]}, "grant exec: its command is not run: rehearsed as"),
    ],
)
def test_what_the_mock_cannot_be_is_said(tmp_path: Path, changes: dict[str, Any], note: str) -> None:
    own = {"grant", "command"} if "command" in changes else set(ORDERS) | set(changes)
    keys = {key: value for key, value in (ORDERS | changes).items() if key in own and value is not None}
    result, _ = pointed(tmp_path, loaded(**keys))
    assert result.notes[0].startswith(note)
    assert result.credential.client_auth == "client_secret_basic"
    assert not result.credential.command


def test_a_static_token_is_kept_and_never_renewed(tmp_path: Path) -> None:
    result, _ = pointed(tmp_path, loaded(grant="static", token_file="/absent/token"))
    assert result.credential.grant == "static"
    assert result.credential.token_file is not None
    assert str(tmp_path) in result.credential.token_file
    assert "never renewed" in result.notes[0]


def test_a_login_becomes_its_refreshes(tmp_path: Path) -> None:
    keys = {key: value for key, value in ORDERS.items() if key != "client_secret"}
    result, idp = pointed(tmp_path, loaded(**keys | {"grant": "authorization_code"}))
    assert result.credential.grant == "refresh_token"
    assert result.credential.refresh_token is not None
    assert idp.tokens.owner(result.credential.refresh_token.read().reveal()) == "orders-worker"


def test_credentials_of_one_client_share_it(tmp_path: Path) -> None:
    idp, made_up = MockIdP(), MadeUp(tmp_path)
    rehearsed("a", loaded(**ORDERS), idp=idp, made_up=made_up)
    rehearsed("b", loaded(**ORDERS, client_auth="client_secret_post"), idp=idp, made_up=made_up)
    assert idp.clients["orders-worker"].auth == {"client_secret_basic", "client_secret_post"}


def test_credentials_share_a_provider_if_they_ask_at_one_place_in_one_dialect() -> None:
    first = endpoint_of(loaded(**ORDERS))
    assert first == endpoint_of(loaded(**ORDERS, audience="https://other.example.com"))
    assert first != endpoint_of(loaded(**ORDERS, basic_encoding="raw"))
    assert first != endpoint_of(loaded(**ORDERS | {"issuer": "https://other.example.com"}))
