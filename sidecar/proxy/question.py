"""A request that is to be explained: from a method and a URL to the listener it is for, and to the line of curl.

Decides which listener a URL means, and how an app's request by it is written. Leaves what becomes of the request to
``explaining``. Secrets are variables of the shell.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sidecar.config.model import Bind
from sidecar.errors import BadRequest
from sidecar.proxy.authority import DEFAULT_PORTS, parse_authority

if TYPE_CHECKING:
    from sidecar.config import model
    from sidecar.config.model import Configuration

_UNSENDABLE: Final = re.compile(r"[^!-~]")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and the listener it is for."""

    method: str
    url: str
    scheme: str
    netloc: str
    target: str
    listener: model.Listener


def ask(configuration: Configuration, method: str, url: str, listener: str | None = None) -> Asked:
    """A question to ``explain``.

    Args:
        configuration: complete.
        method: as the app sends it.
        url: absolute; on a reverse listener the path alone is enough.
        listener: its name. By default the reverse listener whose address the URL has, else the first forward listener.

    Raises:
        ValueError: nothing is asked that an app could send; the text says why.
    """
    if _UNSENDABLE.search(url) or _UNSENDABLE.search(method) or not method:
        raise ValueError("a URL and a method are printable ASCII: percent-encode the rest")
    scheme, separator, rest = url.partition("#")[0].partition("://")
    if not separator:
        scheme, rest = "", url.partition("#")[0]
    if separator and scheme.lower() not in DEFAULT_PORTS:
        raise ValueError("a URL begins with http:// or https://")
    if not separator and not rest.startswith("/"):
        raise ValueError("write the whole URL, http://host/path, or a path for a reverse listener")
    cut = min((at for mark in "/?" if (at := rest.find(mark)) >= 0), default=len(rest))
    netloc, target = rest[:cut], rest[cut:]
    chosen = _listener(configuration, listener, netloc)
    return Asked(method, url, scheme.lower(), netloc, target if target.startswith("/") else f"/{target}", chosen)


def _listener(configuration: Configuration, name: str | None, netloc: str) -> model.Listener:
    """Raises: ValueError."""
    if name is not None:
        for each in configuration.listeners:
            if each.name == name:
                return _fitting(each, netloc)
        raise ValueError(f"no listener is called {name}")
    for each in configuration.listeners:
        if each.mode == "reverse" and _is_at(each, netloc):
            return each
    wanted = "forward" if netloc else "reverse"
    there = [each for each in configuration.listeners if each.mode == wanted]
    if not there or (len(there) > 1 and not netloc):
        raise ValueError(f"name the reverse listener that the {'request' if netloc else 'path'} is for")
    return there[0]


def _fitting(listener: model.Listener, netloc: str) -> model.Listener:
    if listener.mode == "forward" and not netloc:
        raise ValueError(f"listener {listener.name} is a forward proxy: write the whole URL")
    return listener


def _is_at(listener: model.Listener, netloc: str) -> bool:
    """Whether a URL with this authority leads to the listener itself."""
    try:
        host, port = parse_authority(netloc.encode())
    except BadRequest:
        return False
    return (
        not listener.bind.is_unix
        and port == listener.bind.port
        and host in ("127.0.0.1", "::1", "localhost", listener.bind.host)
    )


# --- curl ------------------------------------------------------------------------------------------------------------


def curl_by(asked: Asked, configuration: Configuration) -> str:
    """The request as an app makes it by this listener; secrets are variables."""
    listener = asked.listener
    auth = None if listener.auth == "none" else listener.auth
    if listener.mode == "reverse":
        key = (f"{auth.header}: $SIDECAR_KEY",) if auth is not None and auth.header is not None else ()
        base = f"http://{'localhost' if listener.bind.is_unix else _address(listener.bind)}"
        socket = ("--unix-socket", listener.bind.path) if listener.bind.is_unix else ()
        return curl(asked.method, f"{base}{asked.target}", *socket, fields=key)
    if listener.bind.is_unix:
        return ""  # curl knows no proxy on a Unix socket
    locked = "any:$SIDECAR_PROXY_PASSWORD@" if auth is not None else ""
    proxy = ("-x", f"http://{locked}{_address(listener.bind)}")
    section = configuration.interception
    trusted = ("--cacert", section.certificate) if asked.scheme == "https" and section is not None else ()
    return curl(asked.method, asked.url, *proxy, *trusted)


def _address(bind: Bind) -> str:
    """Where a listener is reached from beside it: a wildcard by loopback."""
    wildcards = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here
    return str(Bind(host=wildcards.get(bind.host, bind.host), port=bind.port))


def curl(method: str, url: str, *options: str, fields: tuple[str, ...] = ()) -> str:
    """A line for a shell.

    Args:
        method: as it is sent.
        url: as it is asked for.
        options: further words; variables of the shell stand in them as they are.
        fields: likewise.
    """
    how = {"GET": (), "HEAD": ("-I",)}.get(method, ("-X", method))
    as_it_is = ("--path-as-is",) if "/." in url else ()
    words = [*how, *as_it_is, *options, *(word for each in fields for word in ("-H", each))]
    return " ".join(("curl", *map(_quoted, words), shlex.quote(url)))


def _quoted(word: str) -> str:
    """For a shell, which is to fill in the variables."""
    return f'"{word}"' if "$" in word and not set(word) & set('"`\\!') else shlex.quote(word)
