"""Who may use a listener: every way to be wrong is refused in the same words, and what was right goes no further."""

from __future__ import annotations

import os
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final, cast

import pytest

from sidecar.config.model import ListenerAuth
from sidecar.errors import KeyRefused, PeerRefused, ProxyAuthRequired, SecretMissing, SidecarError
from sidecar.http.hygiene import read_request
from sidecar.proxy.admission import Admission, ListenerKey, PeerUsers, ProxyPassword, admission, basic_password
from sidecar.secrets import Secret, SecretReference
from tests.end_to_end.waiting import until
from tests.proxy.raw_client import RawClient, get, path, post
from tests.proxy.rig import API

if TYPE_CHECKING:
    from pathlib import Path

    from tests.proxy.conftest import Logs
    from tests.proxy.rig import Rig

URL: Final = f"http://{API}"
PASSWORD: Final = "correct:horse battery/staple"
KEY: Final = "the-key-of-the-listener"
NOBODY: Final = cast("Any", None)
"""The connection, for forms that do not look at it."""


def basic(credentials: str, scheme: str = "Basic") -> str:
    return f"{scheme} {b64encode(credentials.encode()).decode()}"


def raw(*fields: str) -> bytes:
    return "\r\n".join(("GET / HTTP/1.1", "Host: a", *fields, "", "")).encode()


def outcome(form: Admission, *fields: str) -> str | list[bytes]:
    """The lines that go on, or the reason why none do."""
    received = raw(*fields)
    head = read_request(received, max_fields=100, max_target=100)
    try:
        form.check(head, received, NOBODY)
    except SidecarError as error:
        return error.reason
    return head.lines


# --- a proxy password -------------------------------------------------------------------------------------------------

RIGHT: Final = {
    "any user": basic(f"any:{PASSWORD}"),
    "no user": basic(f":{PASSWORD}"),
    "another case of the scheme": basic(f"any:{PASSWORD}", "bAsIc"),
    "more space": basic(f"any:{PASSWORD}", "Basic  ") + " ",
}
WRONG: Final = {
    # Of the scheme, of the secret, of both: proxy.py took one of them for the other (CVE-2021-3116).
    "another scheme with the right password": basic(f"any:{PASSWORD}", "Bearer"),
    "the right scheme with another password": basic("any:wrong"),
    "another scheme with another password": basic("any:wrong", "Bearer"),
    "a scheme that begins like it": basic(f"any:{PASSWORD}", "Basics"),
    "no scheme": b64encode(f"any:{PASSWORD}".encode()).decode(),
    "the scheme alone": "Basic",
    "the scheme and space": "Basic ",
    "nothing": "",
    "the bare password": f"Basic {PASSWORD}",
    "the password for a user name": basic(PASSWORD.replace(":", "")),
    "no colon": basic("any"),
    "an empty password": basic("any:"),
    "the beginning of the password": basic(f"any:{PASSWORD[:-1]}"),
    "more than the password": basic(f"any:{PASSWORD}x"),
    "a line break after it": basic(f"any:{PASSWORD}\n"),
    "no base64": "Basic a:b",
    "base64 that was cut off": basic(f"any:{PASSWORD}")[:-1],
    "base64 with junk in it": basic(f"any:{PASSWORD}").replace("Basic ", "Basic !"),
    "base64 with more after it": basic(f"any:{PASSWORD}") + ", Basic eA==",
    "bytes that are no text": f"Basic {b64encode(b'any:' + bytes(range(128, 256))).decode()}",
    "very much": basic("any:" + "x" * 100_000),
}


@pytest.mark.parametrize("value", RIGHT.values(), ids=RIGHT)
def test_the_password_is_enough_whoever_brings_it(value: str) -> None:
    assert outcome(ProxyPassword(Secret(PASSWORD)), f"Proxy-Authorization: {value}") == []


@pytest.mark.parametrize("value", WRONG.values(), ids=WRONG)
def test_anything_else_is_refused_with_407(value: str) -> None:
    assert outcome(ProxyPassword(Secret(PASSWORD)), f"Proxy-Authorization: {value}") == "proxy_auth_required"


def test_no_password_at_all_is_refused_with_407() -> None:
    assert outcome(ProxyPassword(Secret(PASSWORD))) == "proxy_auth_required"
    assert outcome(ProxyPassword(Secret(PASSWORD)), f"Authorization: {RIGHT['any user']}") == "proxy_auth_required"
    assert ProxyAuthRequired.status == 407


def test_a_connection_field_that_names_the_password_changes_nothing() -> None:
    fields = "Connection: proxy-authorization", f"Proxy-Authorization: {RIGHT['any user']}"

    assert outcome(ProxyPassword(Secret(PASSWORD)), *fields) == []


def test_two_passwords_are_no_request() -> None:
    two = [f"Proxy-Authorization: {RIGHT['any user']}"] * 2

    with pytest.raises(SidecarError, match="more than one Proxy-Authorization"):
        read_request(raw(*two), max_fields=100, max_target=100)


def test_a_password_in_any_language_is_utf_8() -> None:
    assert basic_password(basic("üser:pässwörd").encode()) == "pässwörd".encode()
    assert outcome(ProxyPassword(Secret("pässwörd")), f"Proxy-Authorization: {basic('a:pässwörd')}") == []


# --- a key ------------------------------------------------------------------------------------------------------------


def key(name: str = "X-Sidecar-Key") -> ListenerKey:
    return ListenerKey(name, Secret(KEY))


@pytest.mark.parametrize("field", [f"X-Sidecar-Key: {KEY}", f"x-sidecar-key:{KEY}", f"X-SIDECAR-KEY: \t{KEY} "])
def test_the_key_opens_and_is_taken_off(field: str) -> None:
    assert outcome(key(), "Accept: a", field, "X-Sidecar-Key-Id: 7") == [b"Accept: a", b"X-Sidecar-Key-Id: 7"]
    assert outcome(key("x-SIDECAR-key"), field) == []


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ("X-Sidecar-Key:",),
        ("X-Sidecar-Key: wrong",),
        (f"X-Sidecar-Key: {KEY}x",),
        (f"X-Sidecar-Key: {KEY[:-1]}",),
        (f"X-Sidecar-Key: {KEY.upper()}",),
        (f"X-Sidecar-Key: {KEY}, {KEY}",),
        (f"X-Sidecar-Key: {KEY}", f"X-Sidecar-Key: {KEY}"),
        (f"X-Sidecar-Key: {KEY}", "x-sidecar-key: wrong"),
        (f"X-Sidecar-Keys: {KEY}",),
        (f"Authorization: {KEY}",),
        ("Connection: x-sidecar-key", "X-Sidecar-Key: wrong"),
        ("Connection: x-sidecar-key", f"X-Sidecar-Key: {KEY}", f"X-Sidecar-Key: {KEY}"),
    ],
)
def test_no_key_another_key_and_two_keys_are_refused(fields: tuple[str, ...]) -> None:
    assert outcome(key(), *fields) == "key_refused"
    assert KeyRefused.status == 403


def test_a_connection_field_that_names_the_key_changes_nothing() -> None:
    fields = f"X-Sidecar-Key: {KEY}", "Accept: a", "Connection: close, X-Sidecar-Key"

    assert outcome(key(), *fields) == [b"Accept: a"]


@pytest.mark.parametrize("value", [" key", "key\t", "two\nlines", "nul\x01", "\x7f"])
def test_a_key_that_no_field_can_carry_is_an_error_at_start(value: str) -> None:
    with pytest.raises(SecretMissing, match="no header field can carry it") as caught:
        ListenerKey("X-Sidecar-Key", Secret(value))
    assert value not in caught.value.detail


# --- users ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("uid", "welcome"), [(1000, True), (0, True), (1001, False), (None, False)])
def test_a_process_of_another_user_is_refused_at_once_and_at_each_request(uid: int | None, welcome: bool) -> None:
    users = PeerUsers(frozenset((0, 1000)), lambda _: uid)
    if welcome:
        users.meet(NOBODY)
        assert outcome(users, "Accept: a") == [b"Accept: a"]
    else:
        with pytest.raises(PeerRefused):
            users.meet(NOBODY)
        assert outcome(users) == "peer_refused"


# --- from the configuration -------------------------------------------------------------------------------------------


def read(reference: SecretReference) -> Secret:
    return Secret(reference.name)


def test_the_configuration_says_which_form_it_is() -> None:
    secret = SecretReference("env", "A")

    assert admission("none", read, lambda _: 0) is None
    assert isinstance(admission(ListenerAuth(proxy_password=secret), read, lambda _: 0), ProxyPassword)
    assert isinstance(admission(ListenerAuth(header="X-Key", value=secret), read, lambda _: 0), ListenerKey)
    users = admission(ListenerAuth(peer_uids=(1,)), read, lambda _: 1)
    assert isinstance(users, PeerUsers)
    users.meet(NOBODY)


def test_a_form_that_says_nothing_lets_nobody_in() -> None:
    nobody = admission(ListenerAuth(), read, lambda _: 0)

    assert nobody is not None
    with pytest.raises(PeerRefused):
        nobody.meet(NOBODY)


@pytest.mark.parametrize("form", [ProxyPassword(Secret(PASSWORD)), key()], ids=["password", "key"])
def test_a_refusal_quotes_nothing_that_was_sent(form: Admission) -> None:
    for value in (basic("canary:canary"), "Basic canary", "canary"):
        received = raw(f"Proxy-Authorization: {value}", f"X-Sidecar-Key: {value}")
        with pytest.raises(SidecarError) as caught:
            form.check(read_request(received, max_fields=100, max_target=100), received, NOBODY)
        assert "canary" not in caught.value.detail
        assert value not in caught.value.detail


def test_no_form_shows_its_secret() -> None:
    for form in (ProxyPassword(Secret(PASSWORD)), key()):
        assert PASSWORD not in repr(form)
        assert KEY not in repr(form)
        assert not hasattr(form, "__dict__")


# --- over sockets: a password -----------------------------------------------------------------------------------------

GUARDED: Final = {"name": "egress", "mode": "forward", "auth": {"proxy_password": PASSWORD}}
WITH: Final = f"Proxy-Authorization: {RIGHT['any user']}"


def connect(authority: str, *fields: str) -> bytes:
    return "\r\n".join((f"CONNECT {authority} HTTP/1.1", f"Host: {authority}", *fields, "", "")).encode()


async def test_a_challenge_is_answered_on_the_same_connection(rig: Rig, logs: Logs) -> None:
    await rig.start(listeners=[GUARDED])
    client = await rig.client()
    refused = await client.ask(get(f"{URL}/"))
    assert (refused.status, refused.reason) == (407, "proxy_auth_required")
    assert refused.value("Proxy-Authenticate") == 'Basic realm="token-sidecar"'
    assert refused.value("Connection") is None
    for number in range(3):
        assert (await client.ask(get(f"{URL}/{number}", WITH))).body == f"GET /{number} 0".encode()
    assert (await client.ask(get(f"{URL}/"))).status == 407
    assert (await client.ask(get(f"{URL}/", WITH))).status == 200
    assert [request.values("Proxy-Authorization") for request in rig.secure.requests] == [[]] * 4
    assert all(request.token for request in rig.secure.requests)
    assert rig.value("denied_requests_total", reason="proxy_auth_required") == 2
    assert rig.value("http_requests_total", route="_unmatched", method="GET", code="407") == 2
    [line] = logs("request_failed")
    assert (line["reason"], line["status"], line["fault"]) == ("proxy_auth_required", 407, "client")


async def test_a_head_without_a_password_gets_the_challenge_without_a_body(rig: Rig) -> None:
    await rig.start(listeners=[GUARDED])
    client = await rig.client()
    refused = await client.ask(get(f"{URL}/", method="HEAD"))
    assert (refused.status, refused.body) == (407, b"")
    assert (await client.ask(get(f"{URL}/", WITH))).status == 200


async def test_requests_in_a_pipeline_are_looked_at_one_by_one(rig: Rig) -> None:
    await rig.start(listeners=[GUARDED])
    client = await rig.client()
    await client.send(get(f"{URL}/1", WITH) + get(f"{URL}/2") + get(f"{URL}/3", WITH))
    assert [(await client.answer()).status for _ in range(3)] == [200, 407, 200]
    assert [request.target for request in rig.secure.requests] == ["/1", "/3"]


async def test_a_body_without_a_password_is_not_read_as_a_request(rig: Rig) -> None:
    await rig.start(listeners=[GUARDED])
    client = await rig.client()
    refused = await client.ask(post(f"{URL}/", get(f"{URL}/smuggled", WITH)))
    assert (refused.status, refused.value("Connection")) == (407, "close")
    assert await client.closed_cleanly()
    assert rig.secure.requests == []


async def test_a_stranger_learns_nothing_about_routes(rig: Rig) -> None:
    await rig.start(listeners=[GUARDED], routes=[rig.route(paths=["/v1/"])])
    client = await rig.client()
    for url in (f"{URL}/v1/", f"{URL}/v2/", "http://elsewhere.example/", "http://169.254.169.254/", "ftp://a/"):
        assert (await client.ask(get(url))).reason == "proxy_auth_required", url
    assert (await client.ask(path("/", host="a"))).reason == "proxy_auth_required"
    assert (await client.ask(get(f"{URL}/v2/", WITH))).reason == "route_mismatch"
    assert (await client.ask(get("http://elsewhere.example/", WITH))).reason == "target_unmatched"


async def test_what_is_no_request_is_told_before_a_password_is_asked_for(rig: Rig) -> None:
    await rig.start(listeners=[GUARDED])
    client = await rig.client()
    assert (await client.ask(get(f"{URL}/", "Host: again"))).reason == "bad_request"


async def test_a_loop_is_told_as_a_loop(rig: Rig) -> None:
    """The password does not go round with the request, and a 407 would lead its reader astray."""
    await rig.start(listeners=[GUARDED])
    client = await rig.client()
    await client.ask(get(f"{URL}/", WITH))
    via = rig.secure.requests[0].values("Via")[0]
    assert (await client.ask(get(f"{URL}/", f"Via: {via}"))).reason == "loop_detected"


@pytest.mark.parametrize("field", [(), (f"Proxy-Authorization: {WRONG['the right scheme with another password']}",)])
async def test_no_tunnel_is_opened_without_the_password(rig: Rig, field: tuple[str, ...]) -> None:
    await rig.start(listeners=[GUARDED])
    for authority in (f"{API}:{rig.secure.port}", f"localhost:{rig.plain.port}", "elsewhere.example:443"):
        client = await rig.client()
        refused = await client.ask(connect(authority, *field))
        assert (refused.status, refused.reason) == (407, "proxy_auth_required")
        assert refused.value("Proxy-Authenticate") == 'Basic realm="token-sidecar"'
        assert refused.value("Connection") == "close"
        assert await client.closed_cleanly()
    assert rig.value("denied_requests_total", reason="proxy_auth_required") == 3
    assert rig.total("injections_total", result="bypassed_connect") == 0


async def test_requests_inside_a_tunnel_need_no_password_of_their_own(rig: Rig) -> None:
    await rig.start(listeners=[GUARDED])
    client = await rig.client()
    await client.send(connect(f"localhost:{rig.plain.port}", WITH))
    assert await client.head() == b"HTTP/1.1 200 Connection established\r\n\r\n"
    for number in range(2):
        assert (await client.ask(path(f"/{number}", host=f"localhost:{rig.plain.port}"))).status == 200
    assert all(request.token for request in rig.plain.requests)


async def test_an_opaque_tunnel_is_opened_with_the_password(rig: Rig) -> None:
    await rig.start(listeners=[GUARDED])
    client = await rig.client()
    await client.send(connect(f"{API}:{rig.secure.port}", WITH))
    assert await client.head() == b"HTTP/1.1 200 Connection established\r\n\r\n"


# --- over sockets: a key ----------------------------------------------------------------------------------------------


async def test_a_base_url_with_a_key_takes_it_off_and_injects_the_token(rig: Rig, logs: Logs) -> None:
    auth = {"header": "X-Sidecar-Key", "value": KEY}
    upstream = f"https://{API}:{rig.secure.port}"
    await rig.start(listeners=[{"name": "orders", "mode": "reverse", "upstream": upstream, "auth": auth}])
    client = await rig.client("orders")
    refused = await client.ask(path("/"))
    assert (refused.status, refused.reason) == (403, "key_refused")
    assert refused.values("Proxy-Authenticate") == []
    assert (await client.ask(path("/", f"X-Sidecar-Key: {KEY}", host="rebound.example"))).reason == "host_unknown"
    assert (await client.ask(path("/", "X-Sidecar-Key: wrong", host="rebound.example"))).reason == "key_refused"
    assert (await client.ask(path("/1", f"X-Sidecar-Key: {KEY}", "X-Other: 1"))).status == 200
    nominated = path("/2", f"x-sidecar-key: {KEY}", "Connection: X-Sidecar-Key, keep-alive")
    assert (await client.ask(nominated)).status == 200
    assert [request.values("X-Sidecar-Key") for request in rig.secure.requests] == [[], []]
    assert all(KEY.encode() not in request.raw and request.token for request in rig.secure.requests)
    assert rig.secure.requests[0].values("X-Other") == ["1"]
    assert rig.value("denied_requests_total", reason="key_refused") == 2
    assert [line["reason"] for line in logs("request_failed")] == ["key_refused", "host_unknown"]


# --- over sockets: users ----------------------------------------------------------------------------------------------


def for_users(file: Path, *uids: int) -> dict[str, Any]:
    return {"name": "egress", "mode": "forward", "bind": f"unix:{file}", "auth": {"peer_uids": list(uids)}}


async def test_a_process_of_a_named_user_is_served(rig: Rig, tmp_path: Path) -> None:
    file = tmp_path / "proxy.sock"
    await rig.start(listeners=[for_users(file, os.getuid() + 1, os.getuid())])
    async with await RawClient.to_path(str(file)) as client:
        assert (await client.ask(get(f"{URL}/1"))).status == 200
        assert (await client.ask(get(f"{URL}/2"))).status == 200


async def test_a_process_of_another_user_is_told_so_and_disconnected_before_anything_is_read(
    rig: Rig, tmp_path: Path
) -> None:
    file = tmp_path / "proxy.sock"
    await rig.start(listeners=[for_users(file, os.getuid() + 1)])
    async with await RawClient.to_path(str(file)) as client:
        refused = await client.answer()
        assert (refused.status, refused.reason, refused.value("Connection")) == (403, "peer_refused", "close")
        assert await client.closed_cleanly()
    async with await RawClient.to_path(str(file)) as client:
        client.send_later(get(f"{URL}/"))
        assert (await client.answer()).reason == "peer_refused"
        assert await client.closed_cleanly()
    assert rig.secure.requests == []
    assert rig.value("denied_requests_total", reason="peer_refused") == 2
    await until(lambda: not rig.value("connections_open", listener="egress"), "it is gone")


async def test_a_user_whom_a_reload_removes_is_refused_at_the_next_request(rig: Rig, tmp_path: Path) -> None:
    file = tmp_path / "proxy.sock"
    await rig.start(listeners=[for_users(file, os.getuid())])
    async with await RawClient.to_path(str(file)) as kept:
        assert (await kept.ask(get(f"{URL}/"))).status == 200
        rig.file.write_text(rig.text(rig.configuration(listeners=[for_users(file, os.getuid() + 1)])))
        assert await rig.sidecar.reload(rig.file)
        assert (await kept.ask(get(f"{URL}/"))).reason == "peer_refused"
        rig.file.write_text(rig.text(rig.configuration(listeners=[for_users(file, os.getuid())])))
        assert await rig.sidecar.reload(rig.file)
        assert (await kept.ask(get(f"{URL}/"))).status == 200


async def test_a_user_whom_a_reload_removes_is_refused_inside_a_tunnel_too(rig: Rig, tmp_path: Path) -> None:
    file = tmp_path / "proxy.sock"
    await rig.start(listeners=[for_users(file, os.getuid())])
    async with await RawClient.to_path(str(file)) as kept:
        await kept.tunnel(f"{API}:80")
        assert (await kept.ask(path("/", host=API))).status == 200
        rig.file.write_text(rig.text(rig.configuration(listeners=[for_users(file, os.getuid() + 1)])))
        assert await rig.sidecar.reload(rig.file)
        assert (await kept.ask(path("/", host=API))).reason == "peer_refused"
    assert len(rig.secure.requests) == 1


AUTHORIZED: Final = f"Proxy-Authorization: {basic('any:' + PASSWORD)}"


@pytest.mark.parametrize("way", ["inside", "intercepted"])
async def test_a_password_that_a_reload_changes_ends_what_an_open_tunnel_may(rig: Rig, way: str) -> None:
    changes = {"listeners": [GUARDED], "routes": [rig.route(intercept=True)], "interception": rig.interception()}
    await rig.start(**changes)
    client = await rig.client()
    await client.tunnel(f"{API}:80" if way == "inside" else f"{API}:{rig.secure.port}", AUTHORIZED)
    if way == "intercepted":
        await client.start_tls(rig.inside(), API)
    request = path("/", host=API if way == "inside" else f"{API}:{rig.secure.port}")
    assert (await client.ask(request)).status == 200

    rig.file.write_text(rig.text(rig.configuration(**changes)))
    assert await rig.sidecar.reload(rig.file)
    assert (await client.ask(request)).status == 200  # the same password: nothing has changed for it

    changed = {**GUARDED, "auth": {"proxy_password": "another-password"}}
    rig.file.write_text(rig.text(rig.configuration(**changes | {"listeners": [changed]})))
    assert await rig.sidecar.reload(rig.file)
    answer = await client.ask(request)
    assert (answer.status, answer.reason, answer.value("Connection")) == (407, "proxy_auth_required", "close")
    assert len(rig.secure.requests) == 2


def test_an_admission_knows_one_that_lets_in_the_same() -> None:
    def read(reference: SecretReference) -> Secret:
        return reference.read()

    def built(**auth: Any) -> Admission | None:
        return admission(ListenerAuth(**auth), read, lambda _: 1)

    def inline(text: str) -> SecretReference:
        return SecretReference.parse(text, allow_inline=True)

    forms: list[dict[str, Any]] = [
        {"proxy_password": inline("one")},
        {"proxy_password": inline("two")},
        {"header": "X-Key", "value": inline("one")},
        {"header": "X-Other", "value": inline("one")},
        {"peer_uids": (1,)},
        {"peer_uids": (1, 2)},
    ]
    for number, form in enumerate(forms):
        one = built(**form)
        assert one is not None
        assert not one.is_as(None)
        assert [one.is_as(built(**other)) for other in forms] == [other == number for other in range(len(forms))]
