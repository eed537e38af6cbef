"""A small valid configuration, and the report that a text gives."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.config import load

VALID = """\
listeners:
  - name: egress
    bind: 127.0.0.1:6180
credentials:
  orders:
    grant: client_credentials
    token_url: https://idp.example.com/oauth2/token
    client_id: orders-worker
    client_secret: file:/run/secrets/orders
routes:
  - host: api.example.com
    credential: orders
"""

Report = Callable[[str], str]
Messages = Callable[[str], list[str]]


@pytest.fixture
def valid() -> str:
    """A configuration without errors: one forward listener, one credential, one route."""
    return VALID


@pytest.fixture
def report() -> Report:
    """The whole report on a text that has errors."""

    def of(text: str) -> str:
        with pytest.raises(load.ConfigurationErrors) as caught:
            load.parse(text, "config.yaml")
        return str(caught.value)

    return of


@pytest.fixture
def messages() -> Messages:
    """The errors in a text, each as ``line: message``; none if it loads."""

    def of(text: str) -> list[str]:
        try:
            load.parse(text, "config.yaml")
        except load.ConfigurationErrors as exc:
            return [f"{problem.span.line + 1 if problem.span else 0}: {problem.message}" for problem in exc.problems]
        return []

    return of
