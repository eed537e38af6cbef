"""A configuration to rehearse, and scenarios of a second or two."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from sidecar.config import load
from sidecar.rehearsal import reading
from sidecar.rehearsal.timeline import Outcome, Timeline

if TYPE_CHECKING:
    from sidecar.config.model import Configuration
    from sidecar.rehearsal.scenario import Scenario

ORDERS: Final[dict[str, Any]] = {
    "grant": "client_credentials",
    "issuer": "https://idp.example.com",
    "client_id": "orders-worker",
    "client_secret": "file:/run/secrets/absent/client-secret",
    "scopes": ["orders.read"],
}
ROUTE: Final[dict[str, Any]] = {"name": "api", "host": "api.example.com", "paths": ["/v1/"], "credential": "orders"}
STORE: Final = {"path": "/var/lib/sidecar/tokens", "key": "file:/run/secrets/absent/store-key"}


def written(**changes: Any) -> str:
    """A configuration file of somebody whose secrets and IdP are elsewhere."""
    complete: dict[str, Any] = {
        "listeners": [{"name": "egress", "bind": "127.0.0.1:6180"}],
        "credentials": {"orders": ORDERS},
        "routes": [ROUTE],
    }
    return json.dumps(complete | changes)


def configuration(**changes: Any) -> Configuration:
    return load.parse(written(**changes), "config.yaml", check_files=False)


def scenario(*steps: dict[str, Any], **changes: Any) -> Scenario:
    """A short one; tokens outlive it, so that only what is ordered happens."""
    complete: dict[str, Any] = {
        "description": "a test",
        "duration": "1s",
        "ttl": "1h",
        "traffic": {"rate": 20},
        "steps": list(steps),
    }
    return reading.parse(json.dumps(complete | changes), "test.yaml")


def timeline(*outcomes: Outcome, quiet_since: float = 0.0, refreshes: dict[str, int] | None = None) -> Timeline:
    """A record as a run leaves it."""
    kept = Timeline(lambda: 0.0, quiet_since=quiet_since)
    for outcome in outcomes:
        kept.came_to(outcome)
    kept.refreshes.update(refreshes or {})
    return kept


def good(at: float) -> Outcome:
    return Outcome(at, "api", 200)


def bad(at: float, reason: str = "token_unavailable", status: int = 503) -> Outcome:
    return Outcome(at, "api", status, reason)
