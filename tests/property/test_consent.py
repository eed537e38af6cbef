"""Whatever browsers bring and servers answer to a login: what is shown is harmless, what is raised is ours."""

from __future__ import annotations

import contextlib
import json
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import BadRequest, LoginNeeded, TokenRefused, TokenRequestError
from sidecar.oauth.answer import Answer
from sidecar.oauth.interactive import (
    Login,
    Polling,
    after_poll,
    check_callback,
    check_revoked,
    parse_device_answer,
)

DEVICE: Final[dict[str, object]] = {
    "device_code": "device-secret",
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://idp.test/device",
    "expires_in": 1800,
}
queries = st.text() | st.binary().map(lambda raw: raw.decode("latin-1"))
values = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()) | st.just("slow_down")
)
names = st.sampled_from([*DEVICE, "error", "interval", "verification_uri_complete", "verification_url"])
bodies = st.binary() | st.dictionaries(names, values).map(lambda fields: json.dumps(DEVICE | fields).encode())
statuses = st.sampled_from([200, 200, 201, 302, 400, 401, 403, 404, 428, 429, 500])
answers = st.builds(
    Answer, status=statuses, headers=st.just({}), body=bodies, sent_at=st.just(0.0), wall=st.just(1_800_000_000.0)
)


@given(queries)
def test_a_browser_without_the_state_changes_nothing(query: str) -> None:
    login = Login.begin("http://127.0.0.1:8400/callback")
    with pytest.raises(BadRequest):
        check_callback(query, login, issuer="https://idp.test", iss_required=False)
    assert not login.answered


@given(queries)
def test_a_browser_with_the_state_brings_a_code_or_ends_the_login(query: str) -> None:
    login = Login.begin("http://127.0.0.1:8400/callback")
    with contextlib.suppress(BadRequest, TokenRequestError):
        code = check_callback(f"state={login.state.reveal()}&code={query}", login, issuer=None, iss_required=False)
        assert code.reveal().isprintable()
        assert code.reveal().isascii()
        with pytest.raises(BadRequest):
            check_callback(f"state={login.state.reveal()}&code=c", login, issuer=None, iss_required=False)


@given(answers)
def test_what_a_person_is_shown_is_harmless(answer: Answer) -> None:
    with contextlib.suppress(TokenRequestError):
        device = parse_device_answer(answer)
        shown = device.user_code + device.verification_uri + (device.complete_uri or "")
        assert shown.isascii()
        assert shown.isprintable()
        assert device.interval > 0
        assert device.expires_in > 0


@given(answers)
def test_a_device_never_asks_faster(answer: Answer) -> None:
    polling = Polling(interval=5.0, next_at=100.0, ends_at=1000.0)
    with contextlib.suppress(LoginNeeded, TokenRefused):
        after = after_poll(polling, answer, now=100.0)
        assert after is None or after.next_at >= 105.0


@given(answers)
def test_a_revocation_is_one_or_an_error_of_ours(answer: Answer) -> None:
    with contextlib.suppress(TokenRequestError):
        check_revoked(answer)
        assert 200 <= answer.status <= 299
