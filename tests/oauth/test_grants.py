"""The form fields of each grant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import pytest

from sidecar.config.model import Credential
from sidecar.errors import TokenRefused
from sidecar.oauth.grants import expected, token_request
from sidecar.secrets import Secret

if TYPE_CHECKING:
    from sidecar.oauth.client_auth import TokenRequest


def request(**fields: Any) -> TokenRequest:
    credential = Credential(
        **{"grant": "client_credentials", "client_id": "me", "client_auth": "client_secret_basic", **fields}
    )
    return token_request(credential, token_url="https://idp.test/token", secret=Secret("s"))


def form(**fields: Any) -> list[tuple[str, str]]:
    return parse_qsl(request(**fields).body.decode(), keep_blank_values=True)


def test_client_credentials_alone_is_one_field() -> None:
    assert form() == [("grant_type", "client_credentials")]


def test_scopes_are_one_field_and_the_audience_another() -> None:
    assert sorted(form(scopes=("a", "b c"), audience="https://api.test/ä")) == [
        ("audience", "https://api.test/ä"),
        ("grant_type", "client_credentials"),
        ("scope", "a b c"),
    ]


def test_a_list_repeats_the_field_and_an_empty_value_is_sent() -> None:
    sent = form(token_params={"resource": ("https://a.test", "https://b.test/?x=1&y"), "empty": "", "k": "v"})
    assert [pair for pair in sent if pair[0] != "grant_type"] == [
        ("resource", "https://a.test"),
        ("resource", "https://b.test/?x=1&y"),
        ("empty", ""),
        ("k", "v"),
    ]


def test_it_asks_for_json() -> None:
    headers = request().headers
    assert headers["Accept"] == "application/json"
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"


def test_requests_do_not_share_their_headers() -> None:
    request().headers["X"] = "y"
    assert "X" not in request().headers


def test_a_grant_without_its_feature_is_an_error_and_not_a_guess() -> None:
    with pytest.raises(TokenRefused, match="not supported by this version"):
        request(grant="jwt_bearer")


def test_what_is_expected_comes_from_the_credential() -> None:
    wanted = expected(Credential(scopes=("a",), required_scopes=("b",), on_scope_missing="degraded", default_ttl=7.0))
    assert (wanted.scopes, wanted.required_scopes, wanted.degraded, wanted.default_ttl) == (("a",), ("b",), True, 7.0)
