"""Who can reach tokens and keys."""

from __future__ import annotations

import pytest

from sidecar.preflight.kinds import Kind
from sidecar.preflight.lints.exposure import lint
from tests.config.conftest import VALID
from tests.preflight.kit import sentences, told

AUTH = "\n    auth: {proxy_password: env:PASSWORD}"


def test_a_sound_configuration_is_not_mentioned() -> None:
    assert told(lint, VALID) == []


def test_a_listener_that_is_open_to_the_network_is_mentioned() -> None:
    text = VALID.replace("127.0.0.1:6180", "0.0.0.0:6180\n    beyond_loopback: true")

    assert told(lint, text) == [(Kind.LISTENER_BEYOND_LOOPBACK, "listeners[0].bind")]


def test_a_key_that_crosses_the_network_is_mentioned() -> None:
    assert told(lint, VALID.replace("127.0.0.1:6180", f"0.0.0.0:6180{AUTH}")) == [
        (Kind.KEY_OVER_PLAIN_HTTP, "listeners[0].auth")
    ]
    assert told(lint, VALID.replace("127.0.0.1:6180", f"127.0.0.1:6180{AUTH}")) == []


def test_an_admin_token_that_crosses_the_network_is_mentioned() -> None:
    admin = "admin: {bind: 0.0.0.0:6182, token: env:ADMIN}\n"

    assert sentences(lint, VALID + admin) == [
        "admin.token: beyond loopback it and the tokens travel over http, readable by all on the way"
    ]
    assert told(lint, VALID + admin.replace("0.0.0.0", "127.0.0.1")) == []


def test_an_idp_over_plain_http_is_a_note_on_this_machine_and_natural_for_a_platform() -> None:
    local = VALID.replace("https://idp.example.com", "http://127.0.0.1:8080")
    platform = VALID.replace("https://idp.example.com", "http://169.254.169.254")

    assert told(lint, local) == [(Kind.IDP_OVER_PLAIN_HTTP, "credentials.orders.token_url")]
    assert told(lint, platform) == []
    workload = local.replace("client_credentials", "workload")
    workload = "".join(line for line in workload.splitlines(keepends=True) if "    client_" not in line)
    assert told(lint, workload) == []


@pytest.mark.parametrize(
    ("host", "count"), [("api.example.com", 1), ("10.1.2.3", 1), ("localhost", 0), ("127.0.0.1", 0)]
)
def test_a_token_that_leaves_the_machine_over_plain_http_is_mentioned(host: str, count: int) -> None:
    text = VALID.replace("api.example.com", host) + "    upstream_tls: plain\n"

    assert told(lint, text) == [(Kind.TOKEN_OVER_PLAIN_HTTP, "routes[0].upstream_tls")] * count


def test_a_route_that_fails_open_is_mentioned() -> None:
    assert sentences(lint, VALID + "    on_failure: open\n") == [
        "routes[0].on_failure: api.example.com:443 forwards requests without a token when there is none"
    ]
    assert told(lint, VALID + "    on_failure: open\n")[0][0] is Kind.ROUTE_FAILS_OPEN


def test_inline_secrets_are_mentioned() -> None:
    assert told(lint, "allow_inline_secrets: true\n" + VALID) == [(Kind.INLINE_SECRETS, "allow_inline_secrets")]


def test_tokens_that_end_on_command_are_mentioned() -> None:
    enabled = VALID + "simulation: {enabled: true}\n"

    assert told(lint, enabled) == [(Kind.SIMULATION_ENABLED, "simulation.enabled")]
    assert sentences(lint, enabled) == ["simulation.enabled: without admin.token it is of no use"]
    assert sentences(lint, enabled + "admin: {token: env:ADMIN}\n") == [
        "simulation.enabled: whoever has the admin token can expire tokens at will"
    ]
