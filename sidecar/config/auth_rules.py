"""The rules of a listener's ``auth``: one form, that one whole, and on a listener where it can be asked for.

A password belongs to a proxy, because only there clients have a field of their own for it; a field with a key to a base
URL; the user of a process to a Unix socket. What a form means to a request is for the data path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.config.model import ListenerAuth

if TYPE_CHECKING:
    from sidecar.config.found import Found, Path
    from sidecar.config.model import Listener

_FORMS: Final = {"proxy_password": "proxy_password", "header": "header", "value": "header", "peer_uids": "peer_uids"}
"""Each key, and the form that it belongs to."""
_OTHER_HALF: Final = {"header": "value", "value": "header"}

DECISIVE: Final = frozenset(
    (
        *("authorization", "connection", "content-length", "cookie", "expect", "forwarded", "host", "keep-alive"),
        *("max-forwards", "origin", "sec-fetch-site", "te", "trailer", "transfer-encoding", "upgrade", "via"),
    )
)
"""Fields that say something else already, to the sidecar or to the upstream."""
_DECISIVE_PREFIXES: Final = ("proxy-", "x-forwarded")


def check(found: Found, path: Path, listener: Listener) -> None:
    """Apply the rules to one listener."""
    place = (*path, "auth")
    if not isinstance(listener.auth, ListenerAuth):
        return
    given = [key for key in _FORMS if found.given((*place, key))]
    if not given:
        if found.is_sound(place):
            found.note(place, "'auth' needs proxy_password, or header and value, or peer_uids", at_key=True)
        return
    first, form = given[0], _FORMS[given[0]]
    for key in given:
        if _FORMS[key] != form:
            line = found.line((*place, first))
            found.note((*place, key), f"'auth' has one form only: '{first}' stands in line {line}", at_key=True)
            return
    if wrong := _misplaced(found, path, listener, form):
        found.note((*place, first), f"'{first}' belongs to {wrong}", at_key=True)
    elif form == "peer_uids":
        _peers(found, (*place, form), listener.auth)
    elif form == "header":
        _key(found, place, listener.auth, given)


def _misplaced(found: Found, path: Path, listener: Listener, form: str) -> str:
    """Where a form would belong, if not here."""
    if form == "peer_uids":
        is_right = listener.bind.is_unix or not found.is_sound((*path, "bind"))
        return "" if is_right else "a Unix socket: bind: unix:PATH"
    wanted = "forward" if form == "proxy_password" else "reverse"
    is_right = listener.mode == wanted or not found.is_sound((*path, "mode"))
    return "" if is_right else f"a listener with mode: {wanted}"


def _peers(found: Found, path: Path, auth: ListenerAuth) -> None:
    if not auth.peer_uids and found.is_sound(path):
        found.note(path, "an empty list lets nobody in: name the users, or leave 'auth' out", at_key=True)


def _key(found: Found, path: Path, auth: ListenerAuth, given: list[str]) -> None:
    if len(given) == 1:
        found.note((*path, given[0]), f"'{given[0]}' needs its '{_OTHER_HALF[given[0]]}'", at_key=True)
    name = (auth.header or "").lower().replace("_", "-").replace(".", "-")
    if name in DECISIVE or name.startswith(_DECISIVE_PREFIXES):
        found.note((*path, "header"), "this field has a meaning of its own: take another, such as X-Sidecar-Key")
