"""Writes the tables of the documentation from the code: ``python -m docs.generate``.

Each page is written by hand, but for what stands between ``<!-- generated:NAME:start -->`` and its end mark. What is
not in the code and still belongs beside it, what to do about a reason, stands here. ``tests/test_docs.py`` fails when
a table is not what the code says.
"""

from __future__ import annotations

import argparse
import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prometheus_client.parser import text_string_to_metric_families

from docs import alerts, providers, rehearsals
from docs.providers import table
from sidecar.broker.report import NEXT_STEPS
from sidecar.cli import COMMANDS, parser_of
from sidecar.cli.client_settings import CLIENTS, Client
from sidecar.config.model import NOT_YET
from sidecar.errors import (
    AdminError,
    ClientError,
    Denied,
    InternalError,
    Overloaded,
    SidecarError,
    StartupError,
    TokenRequestError,
    TokenUnavailable,
    UpstreamError,
    leaves,
)
from sidecar.preflight.kinds import Kind, Stage
from sidecar.telemetry.metrics import PREFIX, Metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import Metric

ROOT: Final = Path(__file__).resolve().parent.parent
EXAMPLE: Final = ROOT / "config.example.yaml"

REMEDIES: Final = {
    # What the reader of an answer or a log line can do. Token requests have theirs in broker/report.py.
    "bad_request": "correct the request; `detail` says what is wrong with it",
    "head_timeout": "send the head in one go, or raise `limits.head_timeout`",
    "body_timeout": "keep the body flowing, or raise `limits.body_idle`",
    "content_too_large": "send less at once, or raise `limits.body`",
    "target_too_long": "shorten the URL, or raise `limits.target` and `limits.head`",
    "expectation_failed": "send `Expect: 100-continue` or none",
    "head_too_large": "send fewer or shorter fields, or raise `limits.head` and `limits.fields`",
    "method_unknown": "use a method that is registered; extension methods are not forwarded",
    "coding_unknown": "send the body by `Content-Length` or `chunked`",
    "version_unsupported": "speak HTTP/1.1 to the sidecar",
    "target_unmatched": "add a route for this host and port, or set `unmatched: forward`",
    "route_mismatch": "add the path or the method to the route; `TRACE` is never sent with a token",
    "authorization_refused": "leave `Authorization` out, or change the route's `if_present`",
    "host_unknown": "call the listener by its address, or add the name to its `hosts`",
    "origin_foreign": "web pages of other sites may not use a base URL; name the page's host under `hosts` if it may",
    "handshake": "let the client trust the CA of `interception`, and speak TLS 1.2 or later; or leave `intercept` off",
    "sni_mismatch": "let the client name the same host in the CONNECT and in TLS (SNI)",
    "proxy_auth_required": "put the password into the proxy's URL, `HTTP_PROXY=http://any:PASSWORD@host:port`; after a "
    "rotation, restart what still has the old one",
    "key_refused": "send the listener's `auth` header once, with the value that its secret holds now",
    "peer_refused": "run the app as one of the listener's `peer_uids`, or add its user there",
    "address_denied": "check what the name resolves to: metadata and link-local addresses, and the sidecar's own "
    "sockets, are never upstreams; loopback only with a route",
    "tunnel_denied": "tunnels without a route go to ports 443 and 80 only; add a route for another port",
    "admin_token_refused": "send `Authorization: Bearer TOKEN` once, with the value that `admin.token` holds now",
    "admin_read_only": "set `admin.token`; if it is set, the log's `admin_token_unusable` says what is wrong with it",
    "token_bound": "send the requests through the sidecar, which proves each of them, or leave `dpop` out",
    "login_failed": "the detail says what the provider or the store answered; correct that and begin the login again",
    "not_found": "see the list of addresses above; names are percent-encoded",
    "method_not_allowed": "take a method that `Allow` names",
    "loop_detected": "an upstream leads back here: check the routes, and the proxies behind them",
    "token_unavailable": "wait as long as `Retry-After` says; the log's `token_refresh_failed` has the cause",
    "overloaded": "ask again later; raise `limits.connections` if it is ordinary load",
    "internal": "a bug: please report it with the log's line",
    "dns": "check the route's `host`, and the resolver",
    "connect": "check that the upstream is up, and the way to it: firewall, egress policy",
    "tls": "check the upstream's certificate, and the route's `ca_file` where its CA is not a public one",
    "timeout": "look at the upstream; `limits.connect` and `limits.first_byte` say how long is waited",
    "reset": "look at the upstream, and at what stands before it; nothing half-sent is repeated",
    "protocol": "look at what the upstream sends: it is refused, not repaired",
    "usage": "see `sidecar COMMAND --help`",
    "configuration_invalid": "correct what the message shows; it shows every error at once",
    "secret_missing": "put the secret where the configuration says, readable for the sidecar's user",
    "store_unusable": "correct the store's path, key or permissions, as the message says",
    "store_locked": "end the other process, or give each sidecar a login of its own",
    "login_needed": "run `sidecar login` for the credential; with `grant: refresh_token`, put a new one where it says",
    "cannot_bind": "free the address, or choose another",
}
FAULTS: Final = {"client": "app", "operator": "operator", "idp": "IdP", "upstream": "upstream", "sidecar": "sidecar"}


# --- text ------------------------------------------------------------------------------------------------------------


def code(text: str) -> str:
    """As code, where there is any."""
    return f"`{text}`" if text else ""


def between_marks(page: str, name: str, text: str) -> str:
    """The page with ``text`` between the marks of ``name``.

    Raises:
        ValueError: the page does not have the marks exactly once.
    """
    start, end = f"<!-- generated:{name}:start -->", f"<!-- generated:{name}:end -->"
    if page.count(start) != 1 or page.count(end) != 1:
        raise ValueError(f"the page needs one {start} and one {end}")
    head, _, rest = page.partition(start)
    return f"{head}{start}\n{text}\n{end}{rest.partition(end)[2]}"


# --- metrics ---------------------------------------------------------------------------------------------------------

_NAMES: Final = ("route", "credential", "listener")
_BY_CONFIGURATION: Final = {"method": "`GET` ... or `other`", "code": "the status", "version": "", "python": ""}


def metrics() -> str:
    """Every metric: one of each label is made, and what is then shown is what there is."""
    made = Metrics()
    made.route("ROUTE", "CREDENTIAL").answered(b"GET", 200)
    made.credential("CREDENTIAL")
    made.listener("LISTENER")
    families = text_string_to_metric_families(made.render()[0].decode())
    rows = [_metric(family) for family in families if family.name.startswith(PREFIX)]
    return table(["metric", "type", "labels", "meaning"], rows)


def _metric(family: Metric) -> list[str]:
    kind = "info" if family.name.endswith("_info") else family.type
    name = f"{family.name}_total" if family.type == "counter" else family.name
    labels = dict.fromkeys(label for sample in family.samples for label in sample.labels if label != "le")
    return [code(name), kind, "<br>".join(_label(family, label) for label in labels), family.documentation]


def _label(family: Metric, label: str) -> str:
    if label in _NAMES:
        return code(label)
    if label in _BY_CONFIGURATION:
        values = _BY_CONFIGURATION[label]
    else:
        values = " ".join(code(value) for value in dict.fromkeys(sample.labels[label] for sample in family.samples))
    return f"{code(label)}: {values}" if values else code(label)


# --- reasons ---------------------------------------------------------------------------------------------------------


def answers() -> str:
    """The reasons that an app can be answered with, by status."""
    return _answers(ClientError, Denied, TokenUnavailable, Overloaded, InternalError, UpstreamError)


def admin_answers() -> str:
    """The reasons that the admin API has beside those."""
    return _answers(AdminError)


def _answers(*roots: type[SidecarError]) -> str:
    kinds = [leaf for root in roots for leaf in leaves(root)]
    rows = [
        (*_who(kind), str(kind.status), "yes" if kind.retryable else "no", kind.title, REMEDIES[kind.reason])
        for kind in sorted(kinds, key=lambda kind: kind.status)
    ]
    return table(["reason", "fault", "status", "try again", "what it says", "what to do"], rows)


def token_requests() -> str:
    """The reasons of ``token_requests_total`` and of ``token_refresh_failed``."""
    rows = [
        (*_who(kind), "seconds to half a minute" if kind.retryable else "minutes", kind.title, NEXT_STEPS[kind.reason])
        for kind in leaves(TokenRequestError)
    ]
    return table(["reason", "fault", "asked again after", "what it says", "what to do"], rows)


def exit_codes() -> str:
    """What ends a command."""
    kinds = [*leaves(StartupError), *leaves(TokenRequestError)]
    rows = [
        (str(kind.exit_code), code(kind.reason), kind.title, _remedy(kind))
        for kind in sorted(kinds, key=lambda kind: kind.exit_code)
    ]
    return table(["exit code", "reason", "what it says", "what to do"], rows)


def _remedy(kind: type[SidecarError]) -> str:
    """Token requests share words with upstreams, and have advice of their own."""
    return NEXT_STEPS[kind.reason] if issubclass(kind, TokenRequestError) else REMEDIES[kind.reason]


def _who(kind: type[SidecarError]) -> tuple[str, str]:
    """The reason, and who has to act."""
    return code(kind.reason), FAULTS[kind.fault.value]


def runbook(family: alerts.Family, *roots: type[SidecarError]) -> str:
    """What to do about each of these reasons at night."""
    return alerts.entries(family, [(leaf, _remedy(leaf)) for root in roots for leaf in leaves(root)])


# --- checks ----------------------------------------------------------------------------------------------------------


def checks(stage: Stage) -> str:
    """Everything that a stage of ``sidecar check`` can find."""
    rows = [
        (code(kind.id), facts.severity.value, str(facts.exit_code or ""), facts.meaning, facts.remedy)
        for kind in Kind
        if (facts := kind.facts).stage is stage
    ]
    return table(["id", "severity", "exit code", "what it says", "what to do"], rows)


# --- configuration ---------------------------------------------------------------------------------------------------

_LIMIT: Final = re.compile(r"^  (\w+): (\S+) # \(default\) (.+)$", re.MULTILINE)


def limits() -> str:
    """Every limit with its default, as the example says it; that one is tested against the model."""
    section = EXAMPLE.read_text().partition("\nlimits:\n")[2].partition("\n\n")[0]
    rows = [[code(name), code(default), words] for name, default, words in _LIMIT.findall(section)]
    return table(["limit", "default", "meaning"], rows)


def not_yet() -> str:
    """Keys that are refused because what they ask for does not exist yet."""
    if not NOT_YET:
        return "At present there are none."
    return "\n".join(
        f"- {code(key)}{': ' if values else ''}{', '.join(code(value) for value in values)}"
        for key, values in NOT_YET.items()
    )


# --- clients ---------------------------------------------------------------------------------------------------------


def clients() -> str:
    """What each language's client reads, and what surprises with it."""
    rows = [
        (code(name), client.reads, client.no_proxy, client.trap, f"{code(client.trust)} {client.trust_note}".strip())
        for name, client in CLIENTS.items()
    ]
    return table(["client", "reads", "NO_PROXY", "trap", "the CA of interception"], rows)


def commands() -> str:
    """Every command with its arguments, as ``--help`` has them."""
    return "\n\n".join(_command(name) for name in COMMANDS)


def _command(name: str) -> str:
    parser, _ = parser_of(name)
    actions = [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]  # noqa: SLF001
    lines = [f"## sidecar {name}", "", parser.description or ""]
    if actions:
        lines += ["", table(["argument", "meaning"], [_argument(action) for action in actions])]
    return "\n".join([*lines, "", f"```\n{parser.epilog or ''}\n```"])


def _argument(action: argparse.Action) -> tuple[str, str]:
    value = action.metavar or ("" if action.nargs == 0 else "|".join(map(str, action.choices or ())) or action.dest)
    value = " ".join(value) if isinstance(value, tuple) else value
    names = ", ".join(action.option_strings)
    return code(f"{names} {value}".strip()), (action.help or "") % {"default": action.default, "prog": "sidecar"}


def languages() -> str:
    """The same, a section for each."""
    return "\n\n".join(_language(name, client) for name, client in CLIENTS.items())


def _language(name: str, client: Client) -> str:
    trust = f"{code(client.trust)} {client.trust_note}".strip() or "see its own settings"
    lines = (
        f"## {client.title}",
        "",
        f"```sh\nsidecar env --for {name} -c config.yaml\n```",
        "",
        f"- Reads: {client.reads}.",
        f"- Trap: {client.trap}.",
        f"- `NO_PROXY`: {client.no_proxy}.",
        f"- To trust the CA of interception: {trust}.",
    )
    return "\n".join(lines)


# --- pages -----------------------------------------------------------------------------------------------------------

PAGES: Final[dict[str, dict[str, Callable[[], str]]]] = {
    "README.md": {"providers": providers.families},
    "docs/reference/commands.md": {"commands": commands},
    "docs/clients.md": {"languages": languages},
    "docs/commands.md": {"clients": clients},
    "docs/providers.md": {"presets": providers.presets, "sections": providers.sections},
    "docs/simulate.md": {
        "scenarios": rehearsals.scenarios,
        "scenario": rehearsals.scenario,
        "events": rehearsals.events,
        "faults": rehearsals.faults,
    },
    "docs/reference/metrics.md": {"metrics": metrics},
    "docs/reference/reasons.md": {
        "answers": answers,
        "admin": admin_answers,
        "token-requests": token_requests,
        "exit-codes": exit_codes,
    },
    "docs/reference/checks.md": {stage.value: partial(checks, stage) for stage in Stage},
    "docs/reference/configuration.md": {"limits": limits, "not-yet": not_yet},
    "docs/runbooks/README.md": {"alerts": alerts.index},
    "docs/runbooks/reasons.md": {
        "token-requests": partial(runbook, alerts.TOKEN_REQUESTS, TokenRequestError),
        "upstreams": partial(runbook, alerts.UPSTREAMS, UpstreamError),
        "answers": partial(runbook, alerts.ANSWERS, TokenUnavailable, Overloaded, InternalError, Denied, ClientError),
        "start": partial(runbook, alerts.STARTUP, StartupError),
        "admin": partial(runbook, alerts.ADMIN, AdminError),
    },
}
WHOLE: Final[dict[str, Callable[[], str]]] = {"deploy/prometheus/prometheusrule.yaml": alerts.prometheus_rule}
"""Files that nobody writes by hand."""


def render(name: str) -> str:
    """A page, or a file, as it should be."""
    if name in WHOLE:
        return WHOLE[name]()
    page = (ROOT / name).read_text()
    for part, generate in PAGES[name].items():
        page = between_marks(page, part, generate())
    return page


def main() -> int:
    """Write what changed."""
    for name in (*PAGES, *WHOLE):
        path = ROOT / name
        page = render(name)
        if not path.exists() or page != path.read_text():
            path.write_text(page)
            print(f"{name}: updated")
    return 0


if __name__ == "__main__":
    sys.exit(main())
