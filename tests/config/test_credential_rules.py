"""What each grant needs and uses, and where its secrets may travel."""

from __future__ import annotations

import typing

import pytest

from sidecar.config import credential_rules
from sidecar.config.model import NEEDS_LOGIN, ClientAuth, Credential, Grant
from sidecar.config.problems import listed

if typing.TYPE_CHECKING:
    from tests.config.conftest import Messages


def credential(*lines: str) -> str:
    """A configuration whose credential starts in line 3."""
    return "listeners: [{name: a, bind: 127.0.0.1:6180}]\ncredentials:\n  orders:\n" + "".join(
        f"    {line}\n" for line in lines
    )


IDP = ("grant: client_credentials", "client_id: id", "client_secret: env:SECRET")
COMPLETE = (*IDP, "token_url: https://idp.example.com/token")


def test_a_complete_credential_is_no_error(messages: Messages) -> None:
    assert messages(credential(*COMPLETE)) == []
    assert messages(credential(*IDP, "issuer: https://idp.example.com/realm")) == []
    assert messages(credential("grant: static", "token_file: /run/token", "stale_for: 1m")) == []


TOKEN_URL = "token_url: https://idp.example.com/token"
STORE = "store: {path: /var/lib/sidecar, key: env:KEY}\n"
WHOLE = {
    "refresh_token": ("client_id: a", TOKEN_URL, "refresh_token: env:R"),
    "authorization_code": ("client_id: a", TOKEN_URL, "authorization_url: https://idp.example.com/authorize"),
    "device_code": ("client_id: a", TOKEN_URL, "device_authorization_url: https://idp.example.com/device"),
    "jwt_bearer": ("client_id: a", TOKEN_URL, "private_key: env:K", "assertion_subject: robot"),
    "token_exchange": (TOKEN_URL, "subject_token: env:S"),
    "workload": ("token_url: http://169.254.169.254/token", "dialect: {method: GET, headers: {Metadata: 'true'}}"),
    "exec": ("command: [get-token]",),
    "static": ("token: env:T",),
}
METHODS = {
    "client_secret_basic": ("client_secret: env:S", "basic_encoding: raw"),
    "client_secret_post": ("client_secret: env:S",),
    "client_secret_jwt": ("client_secret: env:S", "assertion_algorithm: HS512"),
    "private_key_jwt": ("private_key: env:K", "key_id: k", "assertion_audience: https://idp.example.com"),
    "tls_client_auth": ("certificate: /c.pem", "certificate_key: file:/k.pem"),
    "self_signed_tls_client_auth": ("certificate: /c.pem", "certificate_key: file:/k.pem"),
    "federated": ("assertion: env:A",),
    "none": (),
}


@pytest.mark.parametrize("grant", WHOLE)
def test_every_grant_is_whole_with_what_it_needs(grant: str, messages: Messages) -> None:
    assert messages(credential(f"grant: {grant}", *WHOLE[grant]) + STORE) == []


@pytest.mark.parametrize("grant", WHOLE)
def test_every_grant_misses_what_it_needs(grant: str, messages: Messages) -> None:
    needed = credential_rules.GRANTS[grant]
    found = messages(credential(f"grant: {grant}") + STORE)
    assert len(found) == len(needed.needed) + len(needed.one_of)
    assert all("needs" in message for message in found)


@pytest.mark.parametrize("method", METHODS)
def test_every_client_authentication_is_whole_with_what_it_needs(method: str, messages: Messages) -> None:
    lines = ("grant: client_credentials", "client_id: a", TOKEN_URL, f"client_auth: {method}", *METHODS[method])
    assert messages(credential(*lines)) == []


@pytest.mark.parametrize("method", [method for method, keys in METHODS.items() if keys])
def test_every_client_authentication_misses_what_it_needs(method: str, messages: Messages) -> None:
    found = messages(credential("grant: client_credentials", "client_id: a", TOKEN_URL, f"client_auth: {method}"))
    keys = credential_rules.CLIENT_AUTHS[method]
    assert len(found) == len(set(keys.needed) - {"client_id"}) + len(keys.one_of)
    assert all(message.startswith(f"3: client_auth: {method} needs") for message in found)


@pytest.mark.parametrize("grant", sorted(NEEDS_LOGIN))
def test_a_refresh_token_needs_somewhere_to_survive(grant: str, messages: Messages) -> None:
    (found,) = messages(credential(f"grant: {grant}", *WHOLE[grant]))
    assert found.endswith("needs the section 'store': a refresh token has to survive a restart")


def test_an_issuer_with_more_to_tell_may_stand_beside_the_address_it_pins(messages: Messages) -> None:
    lines = ("grant: device_code", "client_id: a", TOKEN_URL, "issuer: https://idp.example.com")
    assert messages(credential(*lines) + STORE) == []


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("http://localhost:7171/cb", "write 127.0.0.1 or [::1]"),
        ("http://10.0.0.1/cb", "listens on this machine"),
        ("https://app.example.com/cb", "listens on this machine"),
    ],
)
def test_the_answer_to_a_login_comes_to_this_machine(uri: str, says: str, messages: Messages) -> None:
    lines = ("grant: authorization_code", *WHOLE["authorization_code"], f"redirect_uri: {uri}")
    (found,) = messages(credential(*lines) + STORE)
    assert says in found
    lines = (*lines[:-1], "redirect_uri: http://127.0.0.1:7171/cb")
    assert messages(credential(*lines) + STORE) == []


def test_the_key_of_a_certificate_is_a_file(messages: Messages) -> None:
    lines = ("grant: client_credentials", "client_id: a", TOKEN_URL, "client_auth: tls_client_auth")
    (found,) = messages(credential(*lines, "certificate: /c.pem", "certificate_key: env:K"))
    assert found == "9: 'certificate_key': OpenSSL reads it from a file, so it is file:PATH or cred:NAME"


@pytest.mark.parametrize("key", ["impersonation_url", "revocation_url"])
def test_no_other_endpoint_speaks_http_either(key: str, messages: Messages) -> None:
    lines = ("grant: authorization_code", *WHOLE["authorization_code"], f"{key}: http://idp.example.com/x")
    found = [each for each in messages(credential(*lines) + STORE) if "http would send" in each]
    assert len(found) == 1


@pytest.mark.parametrize("host", ["169.254.129.3:8081", "metadata.google.internal", "127.0.0.1:41741"])
def test_a_platforms_own_service_may_speak_http(host: str, messages: Messages) -> None:
    assert messages(credential("grant: workload", f"token_url: http://{host}/token")) == []
    assert len(messages(credential("grant: workload", "token_url: http://10.0.0.1/token"))) == 1


def test_a_credential_needs_its_grant(messages: Messages) -> None:
    assert messages(credential("client_id: id")) == [
        f"3: a credential needs its 'grant' or a 'provider': {listed(credential_rules.GRANTS)}"
    ]


def test_every_key_that_a_grant_needs_is_named(messages: Messages) -> None:
    assert sorted(messages(credential("grant: client_credentials"))) == [
        "3: grant: client_credentials needs one of the keys token_url or issuer",
        "3: grant: client_credentials needs the key 'client_id'",
        "3: grant: client_credentials needs the key 'client_secret'",
    ]
    assert messages(credential("grant: static")) == ["3: grant: static needs one of the keys token_file or token"]


def test_null_is_not_enough_where_a_key_is_needed(messages: Messages) -> None:
    assert messages(credential(*COMPLETE, "issuer: null")) == []
    assert messages(credential("grant: static", "token_file: null")) == [
        "5: grant: static needs one of the keys token_file or token"
    ]


def test_the_token_endpoint_is_given_once(messages: Messages) -> None:
    assert messages(credential(*COMPLETE, "issuer: https://idp.example.com")) == [
        "8: 'token_url' stands here already: only one of token_url or issuer"
    ]


@pytest.mark.parametrize("key", ["client_id: id", "scopes: [a]", "default_ttl: 1m", "token_url: https://idp.example"])
def test_a_key_that_the_grant_does_not_use_is_an_error(key: str, messages: Messages) -> None:
    assert messages(credential("grant: static", "token_file: /run/token", key)) == [
        f"6: grant: static has no use for '{key.partition(':')[0]}'"
    ]


def test_a_token_file_is_of_no_use_to_an_idp(messages: Messages) -> None:
    assert messages(credential(*COMPLETE, "token_file: /run/token")) == [
        "8: grant: client_credentials has no use for 'token_file'"
    ]


def test_the_encoding_of_basic_is_of_no_use_without_it(messages: Messages) -> None:
    assert messages(credential(*COMPLETE, "client_auth: client_secret_post", "basic_encoding: raw")) == [
        "9: client_auth: client_secret_post has no use for 'basic_encoding'"
    ]
    assert messages(credential(*COMPLETE, "basic_encoding: raw")) == []


@pytest.mark.parametrize("key", ["token_url", "issuer"])
@pytest.mark.parametrize("host", ["idp.example.com", "10.0.0.1", "169.254.1.1"])
def test_a_secret_never_travels_in_the_clear(key: str, host: str, messages: Messages) -> None:
    assert messages(credential(*IDP, f"{key}: http://{host}/token")) == [
        f"7: '{key}': http would send the client's secret in the clear: use https"
    ]


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8080", "[::1]", "localhost", "169.254.169.254", "metadata.google.internal"]
)
def test_loopback_and_metadata_services_may_speak_http(host: str, messages: Messages) -> None:
    assert messages(credential(*IDP, f"token_url: http://{host}/token")) == []


def test_a_secret_never_stands_in_an_address(messages: Messages) -> None:
    assert messages(credential(*COMPLETE, "dialect: {method: GET}")) == [
        "8: 'method': GET would write the request's secrets into its address: only grant: workload has none there"
    ]
    workload = ("grant: workload", "token_url: https://platform.example.com/token", "subject_token: env:TOKEN")
    assert messages(credential(*workload, "dialect: {method: GET}")) == []


def test_a_token_that_another_one_asks_for_is_bound_to_no_key(messages: Messages) -> None:
    second = "impersonation_url: https://iam.example.com/a:generateAccessToken"
    assert messages(credential(*COMPLETE, second, "dpop: true")) == [
        "9: 'dpop': the token of 'impersonation_url' is bound to no key, and the one it is asked for with would be"
    ]
    assert messages(credential(*COMPLETE, second)) == []


def test_an_issuer_has_no_query(messages: Messages) -> None:
    assert messages(credential(*IDP, "issuer: https://idp.example.com/?tenant=a")) == [
        "7: an issuer has no query (RFC 8414 section 2)"
    ]
    assert messages(credential(*IDP, "token_url: https://idp.example.com/token?tenant=a")) == []


@pytest.mark.parametrize("name", sorted(credential_rules.RESERVED_PARAMS))
def test_a_field_that_another_key_sets_cannot_be_set_twice(name: str, messages: Messages) -> None:
    found = messages(credential(*COMPLETE, f"token_params: {{{name}: x}}"))

    assert len(found) == 1
    assert found[0].startswith(f"8: '{name}' cannot be set here: ")


def test_the_audience_is_given_once(messages: Messages) -> None:
    assert messages(credential(*COMPLETE, "audience: a", "token_params: {audience: b}")) == [
        "9: the audience is given in line 8 already: leave one of them out"
    ]
    assert messages(credential(*COMPLETE, "token_params: {audience: b, resource: [c, d]}")) == []


@pytest.mark.parametrize("refresh", ["{at: 0.95}", "{at: 0.1}", "{at: 0.5, jitter: 0.5}", "{jitter: 0.3}"])
def test_a_refresh_lies_within_the_tokens_life(refresh: str, messages: Messages) -> None:
    found = messages(credential(*COMPLETE, f"refresh: {refresh}"))

    assert len(found) == 1
    assert "must lie between 0 and 1" in found[0]


def test_every_key_of_the_model_is_used_by_a_grant_or_a_client_authentication() -> None:
    used = set(credential_rules.EVERY_GRANT)
    for keys in (*credential_rules.GRANTS.values(), *credential_rules.CLIENT_AUTHS.values()):
        used |= keys.all
    assert used == set(Credential.__struct_fields__)


def test_every_grant_and_every_client_authentication_has_its_keys() -> None:
    assert set(typing.get_args(Grant)) == set(credential_rules.GRANTS)
    assert set(typing.get_args(ClientAuth)) == set(credential_rules.CLIENT_AUTHS)


def test_a_colon_in_an_id_needs_its_encoding(messages: Messages) -> None:
    lines = ("grant: client_credentials", "client_id: a:b", TOKEN_URL, "client_secret: env:S")
    assert messages(credential(*lines)) == []
    assert messages(credential(*lines, "basic_encoding: raw")) == [
        "5: 'client_id': with basic_encoding: raw it has no colon (RFC 7617 section 2)"
    ]
