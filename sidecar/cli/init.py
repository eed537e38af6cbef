"""``sidecar init``: a first configuration, for a provider or for a grant, with a comment at everything to fill in.

Decides the text. What a provider wants comes from its preset, so a new preset needs nothing here. The text is loaded
before anybody is told that it is there, as ``run`` would load it; what that finds is what is left to do.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sidecar.cli import default_config
from sidecar.config import files, hosts, load
from sidecar.config.model import NEEDS_LOGIN
from sidecar.config.presets import FAMILIES, PRESETS
from sidecar.config.problems import did_you_mean, listed, nearest
from sidecar.config.scalars import Plain, plain_kind
from sidecar.errors import ConfigurationInvalid, SecretMissing, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sidecar.config.presets import Param, Preset

HELP: Final = """Write a first configuration: for a provider, or for a grant of any provider.
Every value to fill in is marked "yours". --list names the providers."""
EXAMPLE: Final = """example: sidecar init --provider github_app -o config.yaml
         sidecar init --grant jwt_bearer --host api.example.com -o -
exit codes: 0 written, 2 usage, or the file is there or cannot be written"""

STDOUT: Final = "-"
YOURS: Final = "yours: "
EXAMPLE_HOST: Final = "api.example.com"
_TOKEN_URL: Final = "https://idp.example.com/oauth2/token"
_SECRET: Final = "file:/run/secrets/api/client-secret"

GRANTS: Final[Mapping[str, Mapping[str, str]]] = {
    "client_credentials": {
        "token_url": _TOKEN_URL,
        "client_id": "orders-worker",
        "client_secret": _SECRET,
        "scopes": "[orders.read]",
    },
    "authorization_code": {
        "authorization_url": "https://idp.example.com/oauth2/authorize",
        "token_url": _TOKEN_URL,
        "client_id": "orders-worker",
        "redirect_uri": "http://127.0.0.1:7171/callback",
        "scopes": "[orders.read]",
    },
    "device_code": {
        "device_authorization_url": "https://idp.example.com/oauth2/device",
        "token_url": _TOKEN_URL,
        "client_id": "orders-worker",
        "scopes": "[orders.read]",
    },
    "refresh_token": {
        "token_url": _TOKEN_URL,
        "client_id": "orders-worker",
        "client_secret": _SECRET,
        "refresh_token": "file:/run/secrets/api/refresh-token",
    },
    "jwt_bearer": {
        "token_url": _TOKEN_URL,
        "client_id": "orders-worker",
        "private_key": "file:/run/secrets/api/key.pem",
        "scopes": "[orders.read]",
    },
    "token_exchange": {"token_url": _TOKEN_URL, "subject_token": "file:/var/run/secrets/tokens/sts"},
    "exec": {"command": "[/usr/local/bin/get-token, --json]"},
    "static": {"token_file": "/run/secrets/api/token"},
}
"""By grant, the keys that are needed, each with a value as it stands in the file."""

MEANINGS: Final[Mapping[str, str]] = {
    "token_url": "the token endpoint; or issuer: https://idp.example.com, where it is found by discovery",
    "authorization_url": "the page where a person consents",
    "device_authorization_url": "where a device code is asked for",
    "client_id": "the client's id at the provider",
    "client_secret": "where the secret stands: file:PATH, env:NAME or cred:NAME",
    "private_key": "where the private key stands, PEM, JWK or a service account's JSON: file:PATH or cred:NAME",
    "key_id": "by which the provider finds the public key",
    "certificate": "the certificate that is registered for the client",
    "refresh_token": "the first one; its successors are kept in the store",
    "subject_token": "the token that is exchanged: where the platform writes it",
    "redirect_uri": "a free port of 127.0.0.1, registered for the client",
    "scopes": "what the token is for",
    "audience": "the API that the token is for",
    "assertion_subject": "whom the client acts for",
    "command": "prints a token, or JSON with token and expiry",
    "token_file": "the file with the token, read again when it changes",
}
"""What a key holds, for the comment beside it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The provider or the grant, and the file."""
    parser.add_argument("--provider", metavar="NAME", help="a preset; see --list")
    parser.add_argument(
        "--grant",
        choices=GRANTS,
        metavar="GRANT",
        help=f"default: the provider's, else client_credentials; one of: {' '.join(GRANTS)}",
    )
    parser.add_argument("--host", type=_host, default=EXAMPLE_HOST, help="of the API (default: one to replace)")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="default: $SIDECAR_CONFIG, then config.yaml; - prints it"
    )
    parser.add_argument("--force", action="store_true", help="write over the file that is there")
    parser.add_argument("--list", action="store_true", help="print the providers, and end")


def _host(text: str) -> str:
    try:
        return hosts.host_pattern(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"not a host: {exc}") from exc


def execute(arguments: argparse.Namespace) -> int:
    """Write it.

    Raises:
        UsageError: nothing was written.
    """
    if arguments.list:
        _print_list()
        return 0
    preset = _preset(arguments.provider, arguments.grant)
    draft = _of_grant(arguments.grant or "client_credentials") if preset is None else _of_preset(preset)
    text = render(draft, arguments.host)
    output = arguments.output or default_config()
    if output == STDOUT:
        print(text, end="")
    else:
        _write(Path(output), text, force=arguments.force)
    _tell(draft, text, output, host=arguments.host)
    return 0


def _preset(name: str | None, grant: str | None) -> Preset | None:
    """The preset of that name; None without one.

    Raises:
        UsageError: there is none, or it is of another grant.
    """
    if name is None:
        return None
    preset = PRESETS.get(name.replace("-", "_"))
    if preset is None:
        raise UsageError(f"there is no preset '{name[:40]}'{did_you_mean(nearest(name, PRESETS))}; --list has them all")
    if grant not in (None, preset.keys["grant"]):
        family = next(rows for rows in FAMILIES.values() if preset in rows)
        fitting = [row.name for row in family if row.keys["grant"] == grant]
        hint = f"; {grant} has {listed(fitting)}" if fitting else ""
        raise UsageError(f"{preset.name} is for the grant {preset.keys['grant']}{hint}")
    return preset


# --- the text --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Draft:
    """What a configuration is made of.

    Args:
        title: what the credential is.
        about: further lines for the head of the file.
        lines: of the credential.
        yours: what is to be filled in, as paths below it, with what that is.
        has_login: a person's consent comes first, and what remains of it is stored.
        keeps: there is a refresh token to keep.
    """

    title: str
    about: tuple[str, ...]
    lines: tuple[str, ...]
    yours: Mapping[str, str]
    has_login: bool
    keeps: bool


def _draft(
    title: str, about: tuple[str, ...], grant: str, lines: list[tuple[str, str]], yours: Mapping[str, str]
) -> Draft:
    keeps = grant in NEEDS_LOGIN
    shown = tuple(f"{line:<50} # {comment}" if comment else line for line, comment in lines)
    return Draft(title, about, shown, yours, keeps and grant != "refresh_token", keeps)


def _of_grant(grant: str) -> Draft:
    keys = GRANTS[grant]
    lines = [(f"grant: {grant}", ""), *_own_lines(keys)]
    return _draft(f"A credential by the grant {grant}.", (), grant, lines, {key: MEANINGS[key] for key in keys})


def _of_preset(preset: Preset) -> Draft:
    lines = [(f"provider: {preset.name}", "fills in the rest; what you write beside it wins")]
    if preset.params:
        chosen = [name for name, param in preset.params.items() if _is_asked_for(param)]
        lines.append(("provider_params:" if chosen else "#provider_params:", ""))
        lines += [_param_line(name, param, "" if chosen else "#") for name, param in preset.params.items()]
    lines += _own_lines(preset.yours)
    yours = {f"provider_params.{name}": each.meaning for name, each in preset.params.items() if _is_asked_for(each)}
    yours |= {key: MEANINGS.get(key, "") for key in preset.yours}
    about = tuple(line for line in (preset.page, *textwrap.wrap(preset.note, 100)) if line)
    return _draft(f"{preset.title}.", about, str(preset.keys["grant"]), lines, yours)


def _is_asked_for(param: Param) -> bool:
    return param.default is None and param.env is None


def _param_line(name: str, param: Param, mark: str) -> tuple[str, str]:
    value = _written(param.default or param.example)
    if _is_asked_for(param):
        return f"  {name}: {value}", f"{YOURS}{param.meaning}"
    by = [*([f"${param.env}"] if param.env else []), *(["this"] if param.default else [])]
    return f"{mark or '  #'}{'  ' if mark else ''}{name}: {value}", f"{param.meaning}; by default {', else '.join(by)}"


def _own_lines(keys: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(f"{key}: {value}", f"{YOURS}{MEANINGS.get(key, 'see the page above')}") for key, value in keys.items()]


def _written(value: str) -> str:
    """As a YAML scalar that is text."""
    is_plain = plain_kind(value) is Plain.TEXT and ": " not in value and not value.startswith("*")
    return value if is_plain else json.dumps(value)


def render(draft: Draft, host: str) -> str:
    """The file."""
    head = "\n".join(f"# {line}" for line in (draft.title, *draft.about))
    credential = "\n".join(f"    {line}" for line in draft.lines)
    store = _STORE if draft.keeps else ""
    called = host.replace("*", "any-name", 1)
    mark = f"{YOURS}the API's host; " if host == EXAMPLE_HOST else ""
    return f"""\
{head}
#
# What is marked "yours" is to be filled in. `sidecar schema` has every key, and `sidecar env --for LANGUAGE` what the
# app needs to find the sidecar.

listeners:
  - name: egress            # HTTP_PROXY=http://127.0.0.1:6180
    bind: 127.0.0.1:6180

telemetry:
  bind: 127.0.0.1:6181      # /metrics, /readyz; in a pod "0.0.0.0:6181"

credentials:
  api:
{credential}
{store}
routes:
  - name: api
    host: {_written(host):<21} # {mark}the app calls http://{called}, and it leaves as https
    #paths: [/v1/]          # less than the whole host
    credential: api
"""


_STORE: Final = """
store:                      # where the refresh token survives a restart, encrypted
  path: /var/lib/sidecar/tokens
  key: file:/run/secrets/store-key    # made by: openssl rand -base64 32
"""


# --- the file --------------------------------------------------------------------------------------------------------


def _write(path: Path, text: str, *, force: bool) -> None:
    """Raises: UsageError."""
    try:
        with path.open("w" if force else "x") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path} is there already: name another file with -o, or write over it with --force") from None
    except OSError as exc:
        raise UsageError(f"{path} cannot be written: {exc.strerror or 'unknown reason'}") from exc


def _tell(draft: Draft, text: str, output: str, *, host: str) -> None:
    """What is left to do, on standard error: standard output may be the file."""
    lines = ["To fill in:" if output == STDOUT else f"{output} is written. To fill in:"]
    lines += [f"  credentials.api.{key}: {meaning}" for key, meaning in draft.yours.items()]
    if host == EXAMPLE_HOST:
        lines.append("  routes.api.host: the API's host")
    lines += [f"  {problem}" for problem in _problems(text, output)]
    file = "" if output == STDOUT else f" -c {output}"
    lines.append(f"Then: {f'sidecar login api{file}, and ' if draft.has_login else ''}sidecar run{file}")
    print("\n".join(lines), file=sys.stderr)


def _problems(text: str, output: str) -> Iterator[str]:
    """What a start would end with now."""
    try:
        configuration = load.parse(text, output)
    except ConfigurationInvalid as exc:
        yield from (line.strip() for line in exc.detail.splitlines() if line.startswith(f"{output}:"))
        return
    for key, reference in files.references(configuration):
        try:
            reference.read()
        except SecretMissing as exc:
            yield f"{key}: {exc.detail}"


def _print_list() -> None:
    width = max(map(len, PRESETS))
    for family, rows in FAMILIES.items():
        print(family)
        for row in rows:
            print(f"  {row.name:<{width}}  {row.title} ({row.keys['grant']})")
