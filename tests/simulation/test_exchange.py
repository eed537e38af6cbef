"""A request is read, and a refusal told, as RFC 6749 has it."""

from __future__ import annotations

import pytest

from sidecar.simulation.exchange import Received, Refused, fields_of

RECEIVED = Received(0.0, "POST", "/token", {}, [("scope", "a"), ("scope", "b"), ("empty", "")], 1)


def test_the_first_field_of_a_name_counts() -> None:
    assert RECEIVED.field("scope") == "a"
    assert RECEIVED.field("absent") is None


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_a_required_field_has_a_value(name: str) -> None:
    with pytest.raises(Refused, match="invalid_request"):
        RECEIVED.required(name)


def test_a_refusal_tells_its_error_and_what_goes_with_it() -> None:
    reply = Refused("use_dpop_nonce", headers={"DPoP-Nonce": "n"}).because("none came along").reply
    assert (reply.status, reply.headers) == (400, {"DPoP-Nonce": "n"})
    assert reply.fields == {"error": "use_dpop_nonce", "error_description": "none came along"}


def test_fields_come_from_a_form_or_from_json() -> None:
    assert fields_of("application/x-www-form-urlencoded", "a=1&b=&a=2") == [("a", "1"), ("b", ""), ("a", "2")]
    assert fields_of("application/json; charset=utf-8", '{"a": "1", "b": 2}') == [("a", "1"), ("b", "2")]


@pytest.mark.parametrize("body", ["", "[]", "1", '{"a"', "[" * 100_000])
def test_what_is_no_object_has_no_fields(body: str) -> None:
    assert fields_of("application/json", body) == []
