"""A configuration that others may see: what was written is there, and no secret is."""

from __future__ import annotations

import json

from sidecar.config.model import Admin, Bind, Configuration, Credential, Dialect, Listener, ListenerAuth, Route
from sidecar.config.shown import shown
from sidecar.secrets import SecretReference

CANARY = "canary-of-the-configuration"


def inline(text: str = CANARY) -> SecretReference:
    return SecretReference.parse(text, allow_inline=True)


def test_what_was_written_is_there_and_defaults_are_not() -> None:
    configuration = Configuration(
        listeners=(Listener(name="egress", bind=Bind(host="127.0.0.1", port=6180)),),
        credentials={"orders": Credential(grant="static", token=SecretReference.parse("file:/run/token"))},
        routes=(Route(host="api.example.com", credential="orders"),),
    )
    assert shown(configuration) == {
        "listeners": [{"name": "egress", "bind": "127.0.0.1:6180"}],
        "credentials": {"orders": {"grant": "static", "token": "file:/run/token"}},
        "routes": [{"host": "api.example.com", "credential": "orders"}],
    }


def test_no_secret_is_shown_wherever_it_stands() -> None:
    orders = Credential(
        grant="exec",
        client_secret=inline(),
        token_params={"key": CANARY, "keys": (CANARY,)},
        assertion_claims={"secret": CANARY},
        command=("/usr/bin/tool", "--password", CANARY),
        token_url=f"https://idp.example.com/token?key={CANARY}",
        dialect=Dialect(headers={"X-Key": CANARY}),
    )
    configuration = Configuration(
        listeners=(Listener(name="egress", bind=Bind(path="/run/s"), auth=ListenerAuth(proxy_password=inline())),),
        credentials={"orders": orders},
        routes=(Route(host="api.example.com", credential="orders", probe=f"/health?key={CANARY}"),),
        admin=Admin(token=inline()),
    )
    text = json.dumps(shown(configuration))
    assert CANARY not in text
    assert "inline secret" in text
    assert '["/usr/bin/tool", "[redacted]", "[redacted]"]' in text
    assert "https://idp.example.com/token?[redacted]" in text
