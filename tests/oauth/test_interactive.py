"""A consent is what the right answer of the right server says, once; all else changes nothing or ends the login."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from sidecar.config.model import Credential, Dialect
from sidecar.errors import (
    BadRequest,
    ConfigurationInvalid,
    InvalidClient,
    InvalidScope,
    LoginNeeded,
    RateLimited,
    ServerError,
    SidecarError,
    TokenConnect,
    TokenMalformed,
    TokenRefused,
    TokenTimeout,
    UnauthorizedClient,
)
from sidecar.oauth import interactive
from sidecar.oauth.answer import Answer
from sidecar.oauth.interactive import (
    DeviceCode,
    Login,
    Polling,
    after_poll,
    authorization_url,
    check_callback,
    parse_device_answer,
)
from sidecar.secrets import Secret

REDIRECT = "http://127.0.0.1:8400/callback"
ISSUER = "https://idp.test"


def login(**changes: Any) -> Login:
    # The verifier of RFC 7636 appendix B.
    whole: dict[str, Any] = {
        "redirect_uri": REDIRECT,
        "verifier": Secret("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
        "state": Secret("the-state"),
    }
    return Login(**(whole | changes))


def answer(fields: object = None, *, status: int = 200, body: bytes | None = None, **headers: str) -> Answer:
    raw = json.dumps(fields).encode() if body is None else body
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, named, raw, sent_at=0.0, wall=1_800_000_000.0)


# --- the authorization request ----------------------------------------------------------------------------------------


def asked(url: str) -> list[tuple[str, str]]:
    return parse_qsl(urlsplit(url).query, keep_blank_values=True)


def test_the_request_is_for_a_code_with_the_challenge_of_its_verifier() -> None:
    credential = Credential(client_id="app one", scopes=("a", "b"))
    url = authorization_url("https://idp.test/authorize", login(), credential)
    assert url.startswith("https://idp.test/authorize?")
    assert asked(url) == [
        ("response_type", "code"),
        ("client_id", "app one"),
        ("redirect_uri", REDIRECT),
        ("scope", "a b"),
        ("state", "the-state"),
        ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
        ("code_challenge_method", "S256"),
    ]
    assert "dBjftJeZ4CVP" not in url


def test_the_endpoints_own_query_is_kept_and_a_list_repeats_its_field() -> None:
    credential = Credential(
        client_id="app",
        audience="https://api.test/?a=1&b=2",
        token_params={"resource": ("https://one.test", "https://two.test"), "private": "p"},
    )
    url = authorization_url("https://idp.test/authorize?access_type=offline&empty=", login(), credential)
    pairs = asked(url)
    assert pairs[:2] == [("access_type", "offline"), ("empty", "")]
    assert ("audience", "https://api.test/?a=1&b=2") in pairs
    assert [value for name, value in pairs if name == "resource"] == ["https://one.test", "https://two.test"]
    assert not {"scope", "private"} & set(dict(pairs))


def test_scopes_are_joined_as_the_provider_has_them() -> None:
    credential = Credential(client_id="app", scopes=("a", "b"), dialect=Dialect(scope_separator="comma"))
    assert dict(asked(authorization_url("https://idp.test/authorize", login(), credential)))["scope"] == "a,b"
    assert interactive.device_fields(credential) == [("scope", "a,b")]


@pytest.mark.parametrize("name", ["state", "code_challenge", "redirect_uri", "client_id", "scope"])
def test_an_endpoint_that_sets_what_the_login_sets_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationInvalid, match=name):
        authorization_url(f"https://idp.test/authorize?{name}=x", login(), Credential(client_id="app"))


def test_every_login_has_a_verifier_and_a_state_of_its_own_of_256_bits() -> None:
    logins = [Login.begin(REDIRECT) for _ in range(20)]
    values = {secret.reveal() for each in logins for secret in (each.verifier, each.state)}
    assert len(values) == 40
    assert all(43 <= len(value) <= 128 for value in values)  # RFC 7636 section 4.1
    assert not any(value in repr(logins) for value in values)


def test_the_token_request_repeats_the_redirect_uri_byte_for_byte() -> None:
    odd = login(redirect_uri="http://127.0.0.1:8400/call%2Fback?x=%c3")
    credential = Credential(client_id="app", token_params={"more": ("one", "two")})
    assert interactive.code_fields(odd, Secret("the-code"), credential) == [
        ("grant_type", "authorization_code"),
        ("code", "the-code"),
        ("redirect_uri", "http://127.0.0.1:8400/call%2Fback?x=%c3"),
        ("code_verifier", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
        ("more", "one"),
        ("more", "two"),
    ]


# --- the answer of the browser ----------------------------------------------------------------------------------------


def callback(query: str, attempt: Login | None = None, *, issuer: str | None = ISSUER, required: bool = False) -> str:
    return check_callback(query, attempt or login(), issuer=issuer, iss_required=required).reveal()


def test_the_code_comes_back_as_it_was_sent() -> None:
    assert callback("code=4%2F0Abc%2Bd&state=the-state&iss=https%3A%2F%2Fidp.test", required=True) == "4/0Abc+d"
    assert callback("code=c&state=the-state&scope=a%20b&session_state=1") == "c"


@pytest.mark.parametrize(
    "query",
    [
        "",
        "code=c",
        "code=c&state=",
        "code=c&state=the-stat",
        "code=c&state=the-state%20",
        "code=c&state=THE-STATE",
        "code=c&state=%ff%fe",
        "code=c&state=the-state&state=the-state",
        "code=c&state=the-state&state=other",
        "error=access_denied",
        "error=access_denied&state=other",
        "&".join(f"a{number}=1" for number in range(100)) + "&state=the-state",
        "code=c;state=the-state",
    ],
)
def test_what_does_not_hold_the_state_once_is_refused_and_the_login_goes_on(query: str) -> None:
    attempt = login()
    with pytest.raises(BadRequest):
        callback(query, attempt)
    assert not attempt.answered
    assert callback("code=c&state=the-state", attempt) == "c"


def test_the_state_serves_once() -> None:
    attempt = login()
    callback("code=c&state=the-state", attempt)
    for query in ("code=c&state=the-state", "code=another&state=the-state"):
        with pytest.raises(BadRequest, match="already"):
            callback(query, attempt)


@pytest.mark.parametrize(
    "query",
    [
        "code=c&code=c&state=the-state",
        "code=c&state=the-state&error=x&error=y",
        "code=c&state=the-state&iss=https://idp.test&iss=https://idp.test",
        "state=the-state",
        "code=&state=the-state",
        "code=a+b&state=the-state",
        "code=a%0D%0Ab&state=the-state",
        "code=%C3%A9&state=the-state",
        "code=" + "c" * 4097 + "&state=the-state",
    ],
)
def test_an_answer_with_the_state_and_without_a_code_that_can_be_used_ends_the_login(query: str) -> None:
    attempt = login()
    with pytest.raises(TokenRefused):
        callback(query, attempt)
    assert attempt.answered


@pytest.mark.parametrize(
    ("iss", "required"),
    [
        ("https://evil.test", False),
        ("https://idp.test/", True),
        ("HTTPS://idp.test", True),
        ("https://idp.test:443", True),
        ("", True),
        (None, True),
    ],
)
def test_the_issuer_is_compared_as_it_stands_and_missed_where_it_is_promised(iss: str | None, required: bool) -> None:
    query = {"code": "c", "state": "the-state"} | ({} if iss is None else {"iss": iss})
    with pytest.raises(TokenRefused, match="issuer"):
        callback(urlencode(query), required=required)


def test_an_issuer_that_is_not_known_or_not_promised_is_not_missed() -> None:
    assert callback("code=c&state=the-state") == "c"
    assert callback("code=c&state=the-state&iss=https%3A%2F%2Fidp.test", issuer=None) == "c"


@pytest.mark.parametrize(
    ("code", "leaf"),
    [
        ("access_denied", TokenRefused),
        ("invalid_scope", InvalidScope),
        ("unauthorized_client", UnauthorizedClient),
        ("server_error", ServerError),
        ("temporarily_unavailable", ServerError),
        ("interaction_required", TokenRefused),
    ],
)
def test_an_error_is_told_by_its_code_and_never_by_its_description(code: str, leaf: type[SidecarError]) -> None:
    with pytest.raises(leaf) as caught:
        callback(f"error={code}&error_description=SECRET+words&error_uri=https://evil.test&state=the-state&code=c")
    assert code in caught.value.detail
    assert "SECRET" not in caught.value.detail
    assert "evil" not in caught.value.detail


@pytest.mark.parametrize("code", ["", "x", "Bad One", "a\x1b[2J", "a" * 65, "<b>"])
def test_an_error_code_that_is_none_is_not_shown(code: str) -> None:
    with pytest.raises(TokenRefused) as caught:
        callback(urlencode({"error": code, "state": "the-state"}))
    assert caught.value.detail == "the authorization server answered with an error"


# --- the device's code ------------------------------------------------------------------------------------------------

DEVICE: dict[str, object] = {
    "device_code": "device-secret",
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://idp.test/device",
    "expires_in": 1800,
}


def test_the_request_for_codes_names_scopes_and_resources() -> None:
    assert interactive.device_fields(Credential()) == []
    params: dict[str, Any] = {"resource": ("r", "s"), "more": "m"}
    credential = Credential(scopes=("a", "b"), audience="x", token_params=params)
    assert interactive.device_fields(credential) == [
        ("scope", "a b"),
        ("audience", "x"),
        ("resource", "r"),
        ("resource", "s"),
        ("more", "m"),
    ]


def test_codes_are_read_with_the_standards_defaults() -> None:
    device = parse_device_answer(answer(DEVICE))
    assert (device.device_code.reveal(), device.user_code) == ("device-secret", "WDJB-MJHT")
    assert (device.verification_uri, device.complete_uri) == ("https://idp.test/device", None)
    assert (device.expires_in, device.interval) == (1800.0, 5.0)
    assert "device-secret" not in repr(device)


def test_googles_spelling_strings_for_numbers_and_a_complete_address_are_understood() -> None:
    fields = {name: value for name, value in DEVICE.items() if name != "verification_uri"} | {
        "verification_url": "https://www.google.com/device",
        "verification_uri_complete": "https://idp.test/device?user_code=WDJB-MJHT",
        "interval": "7",
        "expires_in": "900",
    }
    device = parse_device_answer(answer(fields))
    assert device.verification_uri == "https://www.google.com/device"
    assert device.complete_uri == "https://idp.test/device?user_code=WDJB-MJHT"
    assert (device.interval, device.expires_in) == (7.0, 900.0)


@pytest.mark.parametrize("value", [None, 0, -1, "x", True, [], 10**400, "inf", "9" * 5000, "nan"])
def test_a_number_that_is_none_is_the_default(value: object) -> None:
    device = parse_device_answer(answer(DEVICE | {"interval": value, "expires_in": value}))
    assert (device.interval, device.expires_in) == (5.0, 900.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("device_code", value) for value in (None, "", 5, "a b", "a\n", "é", "c" * 4097)),
        *(("user_code", value) for value in (None, "", 5, " A", "A\x1b[2J", "A\nB", "A" * 65, "Ä")),
        *(("verification_uri", value) for value in (None, "", 5, "http://idp.test/device", "javascript:alert(1)")),
        *(("verification_uri", value) for value in ("https://", "https://a@idp.test/", "https://idp.test/\x1b]0;x")),
        *(("verification_uri", value) for value in ("https://[", "file:///etc/passwd", "https://idp.test/ x")),
    ],
)
def test_what_cannot_be_shown_or_sent_is_malformed(name: str, value: object) -> None:
    with pytest.raises(TokenMalformed, match=name):
        parse_device_answer(answer(DEVICE | {name: value}))


@pytest.mark.parametrize("value", ["http://idp.test/device?c", "javascript:x", 7])
def test_a_complete_address_that_cannot_be_shown_is_left_out(value: object) -> None:
    assert parse_device_answer(answer(DEVICE | {"verification_uri_complete": value})).complete_uri is None


def test_a_person_may_be_sent_to_this_machine_over_http() -> None:
    fields = DEVICE | {"verification_uri": "http://127.0.0.1:9000/device"}
    assert parse_device_answer(answer(fields)).verification_uri == "http://127.0.0.1:9000/device"


@pytest.mark.parametrize(
    ("told", "leaf"),
    [
        (answer({"error": "invalid_client"}, status=401), InvalidClient),
        (answer({"error": "device_flow_disabled", "error_description": "SECRET"}), TokenRefused),
        (answer({"error": {"odd": 1}, "access_token": "x"}), TokenMalformed),
        (answer(body=b"<html>", status=404), TokenMalformed),
        (answer(body=b"<html>"), TokenMalformed),
        (answer(body=b"", status=502), ServerError),
        (answer({"error": "slow_down"}, status=429), RateLimited),
    ],
)
def test_a_refusal_instead_of_codes_is_one_of_our_leaves(told: Answer, leaf: type[SidecarError]) -> None:
    with pytest.raises(leaf) as caught:
        parse_device_answer(told)
    assert "SECRET" not in str(caught.value)


# --- polling ----------------------------------------------------------------------------------------------------------


def polling(**changes: Any) -> Polling:
    whole: dict[str, Any] = {"interval": 5.0, "next_at": 100.0, "ends_at": 1000.0}
    return Polling(**(whole | changes))


def device(**changes: Any) -> DeviceCode:
    whole: dict[str, Any] = {
        "device_code": Secret("device-secret"),
        "user_code": "A",
        "verification_uri": "https://idp.test/device",
        "complete_uri": None,
        "expires_in": 900.0,
        "interval": 5.0,
    }
    return DeviceCode(**(whole | changes))


def error(code: str, *, status: int = 400, **fields: object) -> Answer:
    return answer({"error": code, **fields}, status=status)


def test_the_first_poll_waits_for_the_interval_and_the_last_one_comes_before_the_end() -> None:
    assert Polling.begin(device(), now=10.0) == Polling(interval=5.0, next_at=15.0, ends_at=910.0)
    assert Polling.begin(device(), now=10.0, patience=50.0).ends_at == 60.0
    with pytest.raises(LoginNeeded):
        Polling.begin(device(expires_in=5.0), now=10.0)


@pytest.mark.parametrize("status", [400, 200, 428, 403])
def test_while_the_person_has_not_decided_the_next_poll_is_one_interval_later(status: int) -> None:
    after = after_poll(polling(), error("authorization_pending", status=status), now=107.0)
    assert after == polling(next_at=112.0)


@pytest.mark.parametrize("status", [400, 200, 403, 429])
def test_slow_down_adds_five_seconds_for_good(status: int) -> None:
    once = after_poll(polling(), error("slow_down", status=status), now=100.0)
    assert once == polling(interval=10.0, next_at=110.0)
    assert once is not None
    assert after_poll(once, error("slow_down", status=status), now=110.0) == polling(interval=15.0, next_at=125.0)
    assert after_poll(once, error("authorization_pending"), now=110.0) == polling(interval=10.0, next_at=120.0)


@pytest.mark.parametrize(
    ("told", "interval"), [(12, 12.0), ("12", 12.0), (1, 5.0), (0, 10.0), ("x", 10.0), (None, 10.0)]
)
def test_slow_down_takes_an_interval_it_is_given_unless_that_is_faster(told: object, interval: float) -> None:
    after = after_poll(polling(), error("slow_down", status=200, interval=told), now=100.0)
    assert after == polling(interval=interval, next_at=100.0 + interval)


def test_a_connection_that_times_out_doubles_the_interval_up_to_a_minute() -> None:
    state: Polling | None = polling()
    intervals = []
    for _ in range(5):
        assert state is not None
        state = after_poll(state, TokenTimeout("too long"), now=state.next_at)
        intervals.append(state.interval if state else None)
    assert intervals == [10.0, 20.0, 40.0, 60.0, 60.0]
    assert after_poll(polling(interval=90.0), TokenConnect("no"), now=100.0) == polling(interval=90.0, next_at=190.0)


def test_an_overloaded_server_is_asked_later_and_when_it_says() -> None:
    busy = answer(body=b"<html>", status=503, retry_after="30")
    assert after_poll(polling(), busy, now=100.0) == polling(interval=10.0, next_at=130.0)
    for_hours = answer(body=b"", status=429, retry_after="7200")
    assert after_poll(polling(), for_hours, now=100.0) == polling(interval=10.0, next_at=160.0)


def test_an_expired_code_ends_the_login_whoever_notices() -> None:
    with pytest.raises(LoginNeeded, match="in time"):
        after_poll(polling(), error("expired_token"), now=100.0)
    for outcome in (error("authorization_pending"), error("slow_down"), TokenTimeout("too long")):
        with pytest.raises(LoginNeeded, match="in time"):
            after_poll(polling(), outcome, now=996.0)


@pytest.mark.parametrize("code", ["access_denied", "authorization_declined"])
def test_a_person_who_says_no_ends_the_login(code: str) -> None:
    with pytest.raises(TokenRefused, match=code) as caught:
        after_poll(polling(), error(code, status=403, error_description="SECRET"), now=100.0)
    assert caught.value.oauth_error == code
    assert "SECRET" not in caught.value.detail


@pytest.mark.parametrize(
    "final",
    [
        answer({"access_token": "t"}),
        error("invalid_client", status=401),
        error("incorrect_device_code", status=200),
        answer(body=b"<html>", status=404),
        answer(body=b"[]"),
        answer({"error": ["authorization_pending"]}),
    ],
)
def test_every_other_answer_is_the_last_one(final: Answer) -> None:
    assert after_poll(polling(), final, now=100.0) is None


def test_the_token_is_asked_for_with_the_devices_code() -> None:
    assert interactive.device_token_fields(device(), Credential(token_params={"more": "m"})) == [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("device_code", "device-secret"),
        ("more", "m"),
    ]


# --- revocation -------------------------------------------------------------------------------------------------------


def test_the_refresh_token_is_what_is_revoked() -> None:
    assert interactive.revocation_fields(Secret("r")) == [("token", "r"), ("token_type_hint", "refresh_token")]


@pytest.mark.parametrize("told", [answer(body=b""), answer({}), answer(body=b"OK"), answer(body=b"", status=204)])
def test_any_2xx_without_an_error_says_that_the_token_is_of_no_use(told: Answer) -> None:
    interactive.check_revoked(told)


@pytest.mark.parametrize(
    ("told", "leaf"),
    [
        (error("unsupported_token_type"), TokenRefused),
        (error("invalid_client", status=401), InvalidClient),
        (answer(body=b"", status=503), ServerError),
        (answer(body=b"", status=404), TokenMalformed),
        (answer(body=b"", status=302), TokenMalformed),
    ],
)
def test_everything_else_says_that_it_may_still_be(told: Answer, leaf: type[SidecarError]) -> None:
    with pytest.raises(leaf):
        interactive.check_revoked(told)
