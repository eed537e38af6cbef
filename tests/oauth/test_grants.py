"""What a token request of each grant says, and the form it travels in."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sidecar.config.model import Credential, Dialect
from sidecar.errors import TokenRefused
from sidecar.oauth import grants
from sidecar.oauth.dpop import new_key
from sidecar.oauth.grants import expected, of_fields, token_request
from sidecar.oauth.inputs import Inputs
from sidecar.secrets import Secret, SecretReference

if TYPE_CHECKING:
    from sidecar.oauth.client_auth import TokenRequest

URL = "https://idp.test/token"
KEY = Secret(
    ec.generate_private_key(ec.SECP256R1())
    .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    .decode()
)
REFERENCE = SecretReference.parse("env:KEY")
INPUTS = Inputs(
    token_url=URL,
    wall=1_800_000_000.0,
    secret=Secret("s"),
    private_key=KEY,
    subject_token=Secret("canary-subject"),
    actor_token=Secret("canary-actor"),
    refresh_token=Secret("canary-refresh"),
)


def credential(**fields: Any) -> Credential:
    plain = {"grant": "client_credentials", "client_id": "me", "client_auth": "client_secret_basic"}
    return Credential(**(plain | fields))


def request(inputs: Inputs = INPUTS, **fields: Any) -> TokenRequest:
    return token_request(credential(**fields), inputs)


def form(**fields: Any) -> list[tuple[str, str]]:
    return parse_qsl(request(**fields).body.decode(), keep_blank_values=True)


def claims(jwt: str) -> dict[str, Any]:
    part = jwt.split(".")[1]
    read: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return read


# --- client_credentials ----------------------------------------------------------------------------------------------


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


# --- the other grants ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grant", ["refresh_token", "authorization_code", "device_code"])
def test_what_rests_on_consent_is_a_refresh(grant: str) -> None:
    assert sorted(form(grant=grant, scopes=("a",))) == [
        ("grant_type", "refresh_token"),
        ("refresh_token", "canary-refresh"),
        ("scope", "a"),
    ]


def test_a_refresh_sends_besides_the_token_what_the_dialect_says() -> None:
    asked = {"grant": "authorization_code", "scopes": ("a",), "audience": "b", "redirect_uri": "http://127.0.0.1:1/cb"}
    assert form(**asked)[2:] == [("scope", "a"), ("audience", "b")]
    assert form(**asked, dialect=Dialect(refresh_with=()))[2:] == []
    with_uri = form(**asked, dialect=Dialect(refresh_with=("redirect_uri",)))
    assert with_uri[2:] == [("redirect_uri", "http://127.0.0.1:1/cb")]


def test_a_refresh_token_from_elsewhere_may_need_the_redirect_uri_it_was_made_with() -> None:
    assert ("redirect_uri", "https://a.test/cb") in form(grant="refresh_token", redirect_uri="https://a.test/cb")


def test_without_a_refresh_token_there_is_no_request() -> None:
    with pytest.raises(TokenRefused, match="there is no refresh token"):
        request(Inputs(token_url=URL, wall=0.0, secret=Secret("s")), grant="refresh_token")


def test_a_signed_statement_is_for_the_token_endpoint_and_says_nothing_of_the_client() -> None:
    sent = dict(form(grant="jwt_bearer", client_auth="none", private_key=REFERENCE, assertion_subject="robot"))
    assert sent.keys() == {"grant_type", "assertion"}
    said = claims(sent["assertion"])
    assert (said["iss"], said["sub"], said["aud"]) == ("me", "robot", URL)


def test_scopes_may_stand_in_the_statement() -> None:
    dialect = Dialect(scope_in="assertion")
    fields = {"grant": "jwt_bearer", "client_auth": "none", "private_key": REFERENCE, "dialect": dialect}
    sent = dict(form(scopes=("a", "b"), **fields))
    assert "scope" not in sent
    assert claims(sent["assertion"])["scope"] == "a b"
    assert "scope" not in claims(dict(form(**fields))["assertion"])


@pytest.mark.parametrize(("own", "subject"), [(True, "me"), (False, None)])
def test_without_a_subject_the_client_speaks_for_itself_where_that_is_understood(
    own: bool, subject: str | None
) -> None:
    dialect = Dialect(own_subject=own)
    sent = dict(form(grant="jwt_bearer", client_auth="none", private_key=REFERENCE, dialect=dialect))
    assert claims(sent["assertion"]).get("sub") == subject


def test_a_token_is_exchanged_for_the_client_or_for_somebody() -> None:
    sent = form(grant="token_exchange", audience="there", token_params={"resource": "https://a.test"})
    assert sorted(sent) == sorted(
        [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token", "canary-subject"),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
            ("actor_token", "canary-actor"),
            ("actor_token_type", "urn:ietf:params:oauth:token-type:jwt"),
            ("audience", "there"),
            ("resource", "https://a.test"),
        ]
    )


def test_a_platform_is_asked_with_what_it_gave() -> None:
    asked = request(
        grant="workload",
        client_id=None,
        client_auth="none",
        audience="https://a b.test",
        dialect=Dialect(method="GET", headers={"M": "t"}),
    )
    assert asked.method == "GET"
    assert asked.body == b""
    assert parse_qsl(urlsplit(asked.url).query) == [("audience", "https://a b.test")]
    assert asked.headers == {"Accept": "application/json", "M": "t", "Authorization": "Bearer canary-subject"}


def test_a_query_of_the_address_is_kept() -> None:
    inputs = Inputs(token_url=f"{URL}?v=1", wall=0.0)
    workload = {"grant": "workload", "client_id": None, "client_auth": "none", "dialect": Dialect(method="GET")}
    assert request(inputs, **workload).url == f"{URL}?v=1"
    assert request(inputs, audience="a", **workload).url == f"{URL}?v=1&audience=a"


def test_a_platform_is_told_for_which_identity_it_is_asked() -> None:
    asked = request(grant="workload", client_id="id", client_auth="none", dialect=Dialect(method="GET"))
    assert asked.url == f"{URL}?client_id=id"


def test_what_a_platform_gave_may_go_into_a_field_of_its_own() -> None:
    asked = request(grant="workload", client_auth="none", dialect=Dialect(subject_field="X-IDENTITY-HEADER"))
    assert asked.headers["X-IDENTITY-HEADER"] == "canary-subject"
    assert "Authorization" not in asked.headers


def test_an_app_signs_for_itself_where_it_has_a_key() -> None:
    asked = request(grant="workload", client_auth="none", private_key=REFERENCE, dialect=Dialect(body="json"))
    said = claims(asked.headers["Authorization"].removeprefix("Bearer "))
    assert said["iss"] == "me"
    assert "aud" not in said
    assert "sub" not in said


def test_a_grant_without_an_endpoint_has_no_request() -> None:
    with pytest.raises(TokenRefused, match="has no token endpoint"):
        request(grant="static")


# --- forms -----------------------------------------------------------------------------------------------------------


def test_a_json_body_has_fields_within_fields_lists_and_numbers() -> None:
    dialect = Dialect(body="json", integers=("spec.expirationSeconds", "ids"))
    params = {
        "kind": "TokenRequest",
        "spec.audiences": ("a",),
        "spec.expirationSeconds": "3600",
        "ids": ("1", "2"),
        "lifetime": "3600",
    }
    asked = request(grant="workload", client_id=None, client_auth="none", dialect=dialect, token_params=params)
    assert asked.headers["Content-Type"] == "application/json"
    assert json.loads(asked.body) == {
        "kind": "TokenRequest",
        "spec": {"audiences": ["a"], "expirationSeconds": 3600},
        "ids": [1, 2],
        "lifetime": "3600",
    }


def test_a_grant_may_travel_as_json_with_its_client() -> None:
    asked = request(client_auth="client_secret_post", dialect=Dialect(body="json"), audience="api")
    assert json.loads(asked.body) == {
        "grant_type": "client_credentials",
        "client_id": "me",
        "client_secret": "s",
        "audience": "api",
    }


def test_scopes_may_be_separated_by_commas() -> None:
    assert ("scope", "a,b") in form(scopes=("a", "b"), dialect=Dialect(scope_separator="comma"))


def test_a_bound_token_is_asked_for_with_a_proof_of_this_very_request() -> None:
    asked = request(
        Inputs(token_url=f"{URL}?x=1", wall=1_800_000_000.0, secret=Secret("s"), dpop=new_key(), dpop_nonce="n"),
        dpop=True,
    )
    said = claims(asked.headers["DPoP"])
    assert (said["htm"], said["htu"], said["nonce"]) == ("POST", URL, "n")
    assert "DPoP" not in request().headers


def test_fields_of_a_login_go_with_the_same_proof_of_the_client() -> None:
    asked = of_fields([("grant_type", "authorization_code"), ("code", "c")], credential(), INPUTS)
    assert asked.headers["Authorization"].startswith("Basic ")
    assert sorted(parse_qsl(asked.body.decode())) == [("code", "c"), ("grant_type", "authorization_code")]
    device = of_fields([("scope", "a")], credential(client_auth="none"), INPUTS)
    assert parse_qsl(device.body.decode()) == [("scope", "a"), ("client_id", "me")]


def test_impersonation_asks_with_the_first_token() -> None:
    google = credential(impersonation_url="https://iam.test/a:generateAccessToken", scopes=("a", "b"))
    asked = grants.impersonation_request(google, Secret("first"))
    assert asked.url == "https://iam.test/a:generateAccessToken"
    assert asked.headers["Authorization"] == "Bearer first"
    assert json.loads(asked.body) == {"scope": ["a", "b"], "lifetime": "3600s"}
    assert grants.impersonation_expected(google).token_field == "accessToken"


def test_the_token_that_asks_for_another_one_has_scopes_of_its_own() -> None:
    fields = {"grant": "token_exchange", "client_auth": "none", "scopes": ("a",), "required_scopes": ("a",)}
    dialect = Dialect(first_scopes=("cloud",))
    impersonating = {**fields, "impersonation_url": "https://iam.test/a:generateAccessToken"}
    assert ("scope", "cloud") in form(**impersonating, dialect=dialect)
    assert ("scope", "a") in form(**impersonating)
    assert ("scope", "a") in form(**fields, dialect=dialect)
    assert expected(credential(**impersonating)).required_scopes == ()
    assert grants.impersonation_expected(credential(**impersonating)).required_scopes == ("a",)


# --- what is expected ------------------------------------------------------------------------------------------------


def test_what_is_expected_comes_from_the_credential() -> None:
    wanted = expected(Credential(scopes=("a",), required_scopes=("b",), on_scope_missing="degraded", default_ttl=7.0))
    assert (wanted.scopes, wanted.required_scopes, wanted.degraded, wanted.default_ttl) == (("a",), ("b",), True, 7.0)


def test_what_is_expected_comes_from_the_dialect_too() -> None:
    dialect = Dialect(token_field="a.b", token_types=("bot",), scope_separator="comma", errors={"x": "refused"})
    wanted = expected(Credential(dialect=dialect, dpop=True, token_issuer="https://idp.test"))
    assert (wanted.token_field, wanted.token_types, wanted.scope_separator) == ("a.b", ("bot",), "comma")
    assert (wanted.errors, wanted.dpop, wanted.issuer) == ({"x": "refused"}, True, "https://idp.test")
