"""Scopes that nobody asks for, and those that ask for too much."""

from __future__ import annotations

import pytest

from sidecar.config.presets import PRESETS
from sidecar.preflight.kinds import Kind
from sidecar.preflight.lints.scopes import BROAD, lint
from tests.preflight.kit import sentences, told, with_credential

BROAD_SCOPE = (Kind.SCOPE_TOO_BROAD, "credentials.orders.scopes[0]")


def test_a_required_scope_that_is_not_asked_for_is_mentioned() -> None:
    text = with_credential("scopes: [a]\nrequired_scopes: [a, b]")

    assert told(lint, text) == [(Kind.REQUIRED_SCOPE_NOT_REQUESTED, "credentials.orders.required_scopes")]
    assert sentences(lint, text) == ["credentials.orders.required_scopes: not in scopes: b"]


def test_a_default_scope_stands_alone() -> None:
    alone = "scopes: [https://graph.microsoft.com/.default]"

    assert told(lint, with_credential(alone)) == []
    assert told(lint, with_credential(alone.replace("]", ", a]"))) == [
        (Kind.SCOPE_DEFAULT_MIXED, "credentials.orders.scopes")
    ]


@pytest.mark.parametrize("scope", ["'*'", "admin", "https://www.googleapis.com/auth/cloud-platform"])
def test_a_scope_that_is_broad_anywhere_is_mentioned(scope: str) -> None:
    assert told(lint, with_credential(f"scopes: [{scope}]")) == [BROAD_SCOPE]


@pytest.mark.parametrize(
    ("host", "scope", "expected"),
    [
        ("github.com", "repo", [BROAD_SCOPE]),
        ("gitlab.com", "api", [BROAD_SCOPE]),
        ("login.salesforce.com", "full", [BROAD_SCOPE]),
        ("idp.example.com", "repo", []),
        ("notgithub.com", "repo", []),
        ("idp.example.com", "administer-nothing", []),
        ("gitlab.com", "read_api", []),
    ],
)
def test_a_word_is_broad_only_where_its_provider_means_it(
    host: str, scope: str, expected: list[tuple[Kind, str]]
) -> None:
    text = with_credential(f"scopes: [{scope}]").replace("idp.example.com", host)

    assert told(lint, text) == expected


def test_what_a_preset_asks_for_is_the_provider_s_own_advice() -> None:
    text = """\
listeners: [{name: egress, bind: 127.0.0.1:6180}]
credentials:
  cloud: {provider: gcp_metadata}
"""
    assert "gcp_metadata" in PRESETS
    assert told(lint, text) == []


def test_every_row_has_its_reason() -> None:
    assert all(row.reason for row in BROAD)
    assert len({row.scope for row in BROAD}) == len(BROAD)
