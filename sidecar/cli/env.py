"""``sidecar env``: the variables by which an app in some language finds the sidecar, in the form they are wanted in.

Decides what is printed for whom: values from the configuration, facts about the client from ``client_settings``. What
does not depend on the language is said once. No secret is read: a proxy password is named by a variable.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sidecar.cli import client_settings, configuration_file, default_config
from sidecar.cli.arguments import add_config
from sidecar.cli.client_settings import ALIASES, CLIENTS
from sidecar.config import load
from sidecar.config.model import Bind, Configuration, Listener
from sidecar.config.problems import did_you_mean, nearest
from sidecar.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.cli.client_settings import Client

HELP: Final = f"""Print the variables by which a client finds the sidecar, and what to know about that client.
Languages: {" ".join(CLIENTS)}."""
EXAMPLE: Final = """example: sidecar env --for python-requests -c config.yaml
         eval "$(sidecar env --for curl)"
         sidecar env --for node --format kubernetes
exit codes: 0 printed, 2 usage, 3 configuration"""

FORMATS: Final = ("shell", "dotenv", "kubernetes", "json")
PASSWORD: Final = "SIDECAR_PROXY_PASSWORD"
_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where a wildcard is reached, nothing is bound
_UNWRITTEN: Final = Configuration(listeners=(Listener(name="egress", bind=Bind(host="127.0.0.1", port=6180)),))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The language, the configuration, and the form."""
    parser.add_argument("--for", dest="language", required=True, type=_language, metavar="LANGUAGE")
    add_config(parser)
    parser.add_argument("--format", choices=FORMATS, default="shell", help="default: shell")
    parser.add_argument("--listener", metavar="NAME", help="the forward listener, where there are several")


def _language(text: str) -> str:
    name = ALIASES.get(text.lower(), text.lower())
    if name not in CLIENTS:
        near = did_you_mean(nearest(name, [*CLIENTS, *ALIASES])) or f"; there are {' '.join(CLIENTS)}"
        raise argparse.ArgumentTypeError(f"nothing is known about '{text[:40]}'{near}")
    return name


@dataclass(slots=True)
class Settings:
    """What is printed.

    Args:
        variables: by name.
        notes: sentences for the person who puts them somewhere.
    """

    variables: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def execute(arguments: argparse.Namespace) -> int:
    """Print them.

    Raises:
        UsageError, ConfigurationInvalid
    """
    configuration, written = _configuration(arguments.config)
    client = CLIENTS[arguments.language]
    in_pod = arguments.format == "kubernetes"
    settings = _settings(configuration, client, listener=arguments.listener, in_pod=in_pod)
    if not written:
        settings.notes.insert(0, f"there is no {default_config()}: this is for the usual address, without interception")
    _WRITERS[arguments.format](arguments.language, settings)
    return 0


def _configuration(named: str | None) -> tuple[Configuration, bool]:
    """The configuration, and whether there is one: who asks may have it elsewhere, so its files need not be here."""
    if named is None and not Path(default_config()).exists() and not os.environ.get("SIDECAR_CONFIG"):
        return _UNWRITTEN, False
    return load.load(configuration_file(named), check_files=False), True


# --- what to say -----------------------------------------------------------------------------------------------------


def _settings(configuration: Configuration, client: Client, *, listener: str | None, in_pod: bool) -> Settings:
    settings = Settings()
    settings.notes += [f"{client.title}: {client.reads}", f"trap: {client.trap}", f"NO_PROXY: {client.no_proxy}"]
    forward = _forward(configuration, listener)
    if forward is not None:
        environment = {"KUBERNETES_SERVICE_HOST": "$(KUBERNETES_SERVICE_HOST)"} if in_pod else os.environ
        _add_proxy(settings, configuration, client, forward, environment)
    _add_trust(settings, configuration, client, proxied=forward is not None)
    for each in configuration.listeners:
        if each.mode == "reverse":
            _add_base_url(settings, each)
    return settings


def _forward(configuration: Configuration, name: str | None) -> Listener | None:
    """The forward listener: the one of that name, else the first; None where there is none.

    Raises:
        UsageError: no forward listener has this name, or HTTP_PROXY cannot lead to it.
    """
    there = [each for each in configuration.listeners if each.mode == "forward"]
    if name is not None and name not in {each.name for each in there}:
        raise UsageError(
            f"no forward listener is called '{name[:40]}'{did_you_mean(nearest(name, [each.name for each in there]))}"
        )
    chosen = next((each for each in there if name in (None, each.name)), None)
    if chosen is not None and chosen.bind.is_unix:
        raise UsageError(f"listener {chosen.name} is a Unix socket, which HTTP_PROXY cannot name: give it a port")
    return chosen


def _address(bind: Bind) -> str:
    return str(Bind(host=_WILDCARDS.get(bind.host, bind.host), port=bind.port))


def _add_proxy(
    settings: Settings, configuration: Configuration, client: Client, forward: Listener, environment: Mapping[str, str]
) -> None:
    locked = forward.auth != "none"
    proxy = f"http://{f'sidecar:${{{PASSWORD}}}@' if locked else ''}{_address(forward.bind)}"
    around = client_settings.no_proxy(configuration, environment)
    if client is CLIENTS["java"]:
        settings.variables["JAVA_TOOL_OPTIONS"] = _java_options(
            forward, around, both=configuration.interception is not None
        )
    else:
        settings.variables |= dict(zip(client.variables, (proxy, around), strict=True))
        if configuration.interception is not None:
            settings.variables[client.variables[0].replace("http", "https").replace("HTTP", "HTTPS")] = proxy
        settings.variables |= {name: value.format(proxy=proxy) for name, value in client.more.items()}
    if locked:
        settings.notes.append(f"{PASSWORD} holds what auth.proxy_password names, percent-encoded")
    if configuration.interception is None:
        settings.notes.append(
            "call http://, not https://: https is tunnelled and gets no token; the sidecar adds TLS. So HTTPS_PROXY is "
            "left alone"
        )


def _java_options(forward: Listener, around: str, *, both: bool) -> str:
    host, port = _WILDCARDS.get(forward.bind.host, forward.bind.host), forward.bind.port
    options = [
        f"-D{scheme}.proxy{key}={value}"
        for scheme in (("http", "https") if both else ("http",))
        for key, value in (("Host", host), ("Port", port))
    ]
    return " ".join([*options, f"-Dhttp.nonProxyHosts={client_settings.as_java_patterns(around)}"])


def _add_trust(settings: Settings, configuration: Configuration, client: Client, *, proxied: bool) -> None:
    if configuration.interception is None or not proxied:
        return
    if client.trust:
        settings.variables[client.trust] = configuration.interception.certificate
    settings.notes.append(
        f"https:// gets a token on routes with intercept: true, if the client trusts the CA "
        f"{configuration.interception.certificate}: {client.trust_note}"
    )


def _add_base_url(settings: Settings, listener: Listener) -> None:
    name, unix = client_settings.listener_variable(listener.name), listener.bind.is_unix
    name += "_SOCKET" if unix else "_URL"
    settings.variables[name] = listener.bind.path if unix else f"http://{_address(listener.bind)}"
    settings.notes.append(f"{name}: base URL of {listener.upstream}, which every client can use, without a proxy")


# --- forms -----------------------------------------------------------------------------------------------------------


def _write_shell(language: str, settings: Settings) -> None:
    _comment(language, settings)
    for name, value in settings.variables.items():
        print(f"export {name}={_quoted(value)}")


def _quoted(value: str) -> str:
    """For a POSIX shell; the password's variable is left for the shell to fill in."""
    place = f"${{{PASSWORD}}}"
    return f'"{place}"'.join(shlex.quote(part) for part in value.split(place)) if place in value else shlex.quote(value)


def _write_dotenv(language: str, settings: Settings) -> None:
    _comment(language, settings)
    for name, value in settings.variables.items():
        print(f'{name}="{value}"')


def _write_kubernetes(language: str, settings: Settings) -> None:
    """For ``env:`` of a container, where ``$(NAME)`` stands for an earlier variable."""
    _comment(language, settings)
    for name, value in settings.variables.items():
        text = value.replace(f"${{{PASSWORD}}}", f"$({PASSWORD})")
        print(f"- name: {name}\n  value: {json.dumps(text)}")


def _write_json(language: str, settings: Settings) -> None:
    print(json.dumps({"for": language, "environment": settings.variables, "notes": settings.notes}, indent=2))


def _comment(language: str, settings: Settings) -> None:
    print(f"# {language}")
    for note in settings.notes:
        print(f"# {note}")


_WRITERS: Final = {
    "shell": _write_shell,
    "dotenv": _write_dotenv,
    "kubernetes": _write_kubernetes,
    "json": _write_json,
}
