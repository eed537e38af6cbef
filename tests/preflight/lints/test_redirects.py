"""Details of redirect URIs."""

from __future__ import annotations

import pytest

from sidecar.preflight.kinds import Kind
from sidecar.preflight.lints.redirects import lint
from tests.preflight.kit import told

TEXT = """\
listeners: [{name: egress, bind: 127.0.0.1:6180}]
store: {path: /var/lib/sidecar/tokens, key: env:KEY}
credentials:
  person:
    grant: refresh_token
    token_url: https://git.example.com/token
    client_id: worker
    refresh_token: env:SEED
    redirect_uri: URI
"""


@pytest.mark.parametrize(
    ("uri", "kinds"),
    [
        ("http://127.0.0.1:7171/callback", []),
        ("https://app.example.com/callback", []),
        ("https://app.example.com/*", [Kind.REDIRECT_WILDCARD]),
        ("http://127.0.0.1:7171/callback/", [Kind.REDIRECT_TRAILING_SLASH]),
        ("http://127.0.0.1:7171/", [Kind.REDIRECT_TRAILING_SLASH]),
        ("http://127.0.0.1:7171/CallBack", [Kind.REDIRECT_UPPER_CASE]),
        ("https://App.example.com/callback", [Kind.REDIRECT_UPPER_CASE]),
        ("http://localhost:7171/callback", [Kind.REDIRECT_LOCALHOST]),
        ("https://app.example.com:443/callback", [Kind.REDIRECT_DEFAULT_PORT]),
        ("http://127.0.0.1:80/callback", [Kind.REDIRECT_DEFAULT_PORT]),
        ("https://app.example.com/callback?state=A", []),
    ],
)
def test_a_form_that_is_known_to_go_wrong_is_mentioned(uri: str, kinds: list[Kind]) -> None:
    assert told(lint, TEXT.replace("URI", uri)) == [(kind, "credentials.person.redirect_uri") for kind in kinds]


def test_a_login_without_a_port_of_its_own_is_a_note() -> None:
    text = TEXT.replace("grant: refresh_token", "grant: authorization_code").replace(
        "refresh_token: env:SEED", "authorization_url: https://git.example.com/authorize"
    )

    assert told(lint, text.replace("URI", "http://127.0.0.1/callback")) == [
        (Kind.REDIRECT_WITHOUT_PORT, "credentials.person.redirect_uri")
    ]
    assert told(lint, text.replace("URI", "http://127.0.0.1:7171/callback")) == []
