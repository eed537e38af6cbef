"""What is made from the alert rules and the tree of errors: the operator's copy of the rules, and the runbooks' index
and reasons.

What to do about a reason stands where the product says it too (``broker/report.py``, ``generate.REMEDIES``); here are
the causes that are looked for first, which only a runbook has.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import yaml

from docs.providers import table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.errors import SidecarError

ROOT: Final = Path(__file__).resolve().parent.parent
RULES: Final = ROOT / "deploy" / "prometheus" / "token-sidecar.rules.yaml"

HEADER: Final = """\
# The rules of token-sidecar.rules.yaml for the Prometheus operator, written by `python -m docs.generate`. The operator
# takes what its ruleSelector matches: add the label that yours wants, with Kustomize for example.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: token-sidecar
spec:
"""


class Family(NamedTuple):
    """Reasons that are seen and mended in the same way.

    Attributes:
        word: what stands before the reason in a heading.
        log: the event that has the reason.
        metric: the series that counts it; ``{}`` is the reason.
        mended: how to know.
    """

    word: str
    log: str
    metric: str
    mended: str


ANSWERS: Final = Family(
    "Answer",
    "request_failed",
    "(denied_requests|http_requests)_total",
    "the app's request gets the upstream's answer, and no new `request_failed` with this reason is logged",
)
UPSTREAMS: Final = Family(
    "Upstream",
    "request_failed",
    'upstream_errors_total.*reason="{}"',
    "the counter stands still, and requests on the route are answered by the upstream",
)
TOKEN_REQUESTS: Final = Family(
    "Token request",
    "token_refresh_failed",
    'token_requests_total.*result="{}"|consecutive_failures',
    "the log says `token_recovered`, and `consecutive_failures` is 0",
)
STARTUP: Final = Family(
    "Start",
    "reload_rejected|token_refresh_failed|configuration",
    "config_last_reload_successful|credential_state",
    "the process stays up (`/startupz` answers 200), or the log says `reload_applied`",
)
ADMIN: Final = Family("Admin", "admin_|login_", "suspected_abuse_total", "the request is answered with 200 or 202")

CAUSES: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "Answer": {
        "handshake": ("the client does not trust the local CA", "it pins the upstream's certificate", "it is too old"),
        "target_unmatched": ("a route is missing after a release", "a redirect leads the app there", "a scan"),
        "route_mismatch": ("the app calls a new path or method", "the route is narrower than was meant"),
        "authorization_refused": ("a library adds credentials of its own, from .netrc or the URL",),
        "host_unknown": ("the app calls the listener by another name", "DNS rebinding in a browser"),
        "origin_foreign": ("a page of another site was opened in a browser on this machine",),
        "sni_mismatch": ("the client names another host in TLS than in CONNECT", "domain fronting"),
        "proxy_auth_required": ("the app was not given the password", "it missed a rotation", "somebody guesses"),
        "key_refused": ("the app was not given the key", "it missed a rotation", "somebody guesses"),
        "peer_refused": ("the app runs as another user since its last image", "another process uses the socket"),
        "address_denied": ("a name of an internal service resolves to loopback", "somebody asks for metadata"),
        "tunnel_denied": ("the app opens tunnels to databases or mail servers", "a scan"),
        "loop_detected": ("the upstream's address is this sidecar, or a proxy that comes back here",),
        "token_unavailable": ("the token request fails: go on with its own reason, in `token_refresh_failed`",),
        "overloaded": ("an app opens connections and does not close them", "more traffic than ever"),
        "internal": ("a bug",),
    },
    "Upstream": {
        "dns": ("the host is misspelt in the route", "the resolver is down", "egress to port 53 is closed"),
        "connect": ("the upstream is down", "egress policy or firewall", "the wrong port"),
        "tls": ("the certificate has expired", "a private CA: the route needs `ca_file`", "something intercepts TLS"),
        "timeout": ("the upstream is slow or overloaded", "packets are dropped on the way by a firewall"),
        "reset": ("the upstream restarts", "its idle timeout is shorter than it says", "a load balancer in between"),
        "protocol": ("the port does not speak HTTP/1.1", "a broken upstream or middlebox"),
    },
    "Token request": {
        "invalid_client": ("a rotation on one side only", "an expired secret or certificate", "a client that is gone"),
        "invalid_grant": ("the refresh token or assertion is expired, revoked or used twice", "clocks differ"),
        "invalid_scope": ("a scope was taken away at the IdP", "a scope is misspelt in a new configuration"),
        "unauthorized_client": ("the grant was switched off for this client", "the wrong client_id"),
        "refused": ("another final error code: `oauth_error` in the log line has it",),
        "rate_limited": ("many sidecars started together", "other programs use the same client_id", "a quota"),
        "server_error": ("the IdP has an incident", "a gateway before it"),
        "timeout": ("the IdP is overloaded", "packets to it are dropped: egress policy, firewall"),
        "dns": ("the resolver is down", "egress to port 53 is closed", "the host is misspelt"),
        "connect": ("the IdP is down", "egress policy or firewall"),
        "tls": ("a private CA: `ca_file`", "something intercepts TLS", "the IdP's certificate has expired"),
        "malformed": ("a login or block page instead of an answer", "the wrong URL", "a token of a wrong type"),
    },
    "Start": {
        "usage": ("a misspelt option in the pod's args",),
        "configuration_invalid": ("the last change of the configuration", "a key of another version"),
        "store_unusable": ("the volume's owner or mode", "another key than the store was written with"),
        "secret_missing": ("the Secret, or its key in it, is not there", "its mode or owner", "a misspelt path"),
        "store_locked": ("the pod before has not ended yet", "two replicas share a volume"),
        "login_needed": ("nobody has logged in yet", "the consent was withdrawn or has expired"),
        "cannot_bind": ("another process has the port", "a socket's folder that cannot be written"),
    },
    "Admin": {
        "login_failed": ("the IdP refuses the client or its scopes, or is down", "the store has no good key"),
    },
}  # fmt: skip
"""The likeliest first. Where a reason has none here, whoever sent the request has to correct it."""
SENDER: Final = ("the app, or its library, sends it: `detail` in the answer and in the log says what",)


def entries(family: Family, reasons: Iterable[tuple[type[SidecarError], str]]) -> str:
    """One entry for each reason, with what mends it."""
    return "\n\n".join(_entry(family, kind, remedy) for kind, remedy in reasons)


def _entry(family: Family, kind: type[SidecarError], remedy: str) -> str:
    reason = kind.reason
    causes = CAUSES.get(family.word, {}).get(reason, SENDER)
    metric = family.metric.replace("{}", reason)
    return f"""\
### {family.word}: `{reason}`

- **What it means**: {kind.title}.
- **See it**: `curl -s http://127.0.0.1:6181/metrics | grep -E '{metric}'`;
  `kubectl -n NAMESPACE logs POD -c token-sidecar | grep -E '{family.log}' | grep {reason}`
- **Likely causes**: {"; then ".join(causes)}.
- **Mend it**: {remedy}.
- **It is mended when** {family.mended}."""


def index() -> str:
    """Every alert with its runbook."""
    rows = [
        [f"[{rule['alert']}]({rule['alert']}.md)", rule["labels"]["severity"], rule.get("for", "at once"), _words(rule)]
        for group in yaml.safe_load(RULES.read_text())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    return table(["alert", "severity", "after", "what it says"], rows)


def _words(rule: dict[str, dict[str, str]]) -> str:
    return rule["annotations"]["summary"].replace("{{ $labels.", "*").replace(" }}", "*")


def prometheus_rule() -> str:
    """The rules, in the form of the operator."""
    _, _, groups = RULES.read_text().partition("\ngroups:\n")
    lines = f"groups:\n{groups}".splitlines()
    return HEADER + "".join(f"  {line}\n" if line else "\n" for line in lines)
