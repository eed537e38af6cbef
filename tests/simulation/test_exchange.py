"""A request is read, and a refusal told, as RFC 6749 has it."""

from __future__ import annotations

import pytest

from sidecar.simulation.exchange import Received, Refused

RECEIVED = Received(0.0, "POST", "/token", {}, [("scope", "a"), ("scope", "b"), ("empty", "")], 1)


def test_the_first_field_of_a_name_counts() -> None:
    assert RECEIVED.field("scope") == "a"
    assert RECEIVED.field("absent") is None


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_a_required_field_has_a_value(name: str) -> None:
    with pytest.raises(Refused, match="invalid_request"):
        RECEIVED.required(name)


def test_a_refusal_tells_its_error_and_what_goes_with_it() -> None:
    reply = Refused("slow_down", fields={"interval": 10}, headers={"X-Seen": "1"}).reply
    assert (reply.status, reply.headers) == (400, {"X-Seen": "1"})
    assert (reply.fields["error"], reply.fields["interval"]) == ("slow_down", 10)
