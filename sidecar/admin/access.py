"""Who may use the admin listener: from a request head to a yes, or a refusal. Pure decisions.

The app shares the pod's loopback with this listener, and any page that a browser on the same machine shows may send
requests there. So a request has to name the listener's own address (DNS rebinding brings a foreign Host), may not come
from a page of another origin, and needs the admin token for whatever is more than looking. The token is compared in
constant time; what was sent is never told.
"""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING, Final

from sidecar.errors import AdminTokenRefused, BadRequest, HostUnknown, OriginForeign, SecretMissing
from sidecar.proxy.authority import DEFAULT_PORTS, Authority, parse_authority
from sidecar.proxy.entrance import canonical_host

if TYPE_CHECKING:
    from sidecar.http.message import RequestHead
    from sidecar.secrets import Secret

SHORTEST_TOKEN: Final = 16
"""Characters: nobody guesses 16 random ones, however fast he asks."""
_SENDABLE: Final = re.compile(r"[!-~]+\Z")
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_WILDCARDS: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - they are told apart here, not bound
_OWN_SITE: Final = frozenset((b"same-origin", b"none"))


def own_hosts(bound: str, local: str) -> frozenset[str] | None:
    """The Host names that are the listener's own address; None for a Unix socket, which no browser reaches.

    Args:
        bound: the host it is bound to.
        local: the address that this client connected to; empty for a Unix socket.
    """
    if not local:
        return None
    return _LOOPBACK | {canonical_host(host) for host in (bound, local) if host not in _WILDCARDS}


def check_source(head: RequestHead, known: frozenset[str] | None, *, linked: bool = False) -> None:
    """Refuse what another name or a page of another origin led here.

    Args:
        linked: a link from elsewhere may lead here, so what the browser says of the way (Sec-Fetch-Site) does not
            count. Only for what is no secret and changes nothing.

    Raises:
        BadRequest, HostUnknown, OriginForeign
    """
    if head.host is None:
        raise HostUnknown("the admin listener answers only to requests with a Host")
    authority = parse_authority(head.host)
    if known is not None and authority.host not in known:
        raise HostUnknown("the admin listener answers to its own address and to localhost, not to that Host")
    for name, value in head.browser:
        is_own = _is_own_origin(value, authority) if name == b"origin" else linked or value in _OWN_SITE
        if not is_own:
            raise OriginForeign("a page of another origin made this request: only the admin listener's own may")


def _is_own_origin(value: bytes, authority: Authority) -> bool:
    """Whether an Origin (RFC 6454 section 7) is the one that the request's Host makes."""
    scheme, separator, netloc = value.partition(b"://")
    if scheme != b"http" or not separator:
        return False
    try:
        origin = parse_authority(netloc)
    except BadRequest:
        return False
    default = DEFAULT_PORTS["http"]
    return (origin.host, origin.port or default) == (authority.host, authority.port or default)


def checked_token(token: Secret) -> Secret:
    """The admin token, if it can serve as one.

    Raises:
        SecretMissing: it is too short, or no header field could carry it.
    """
    value = token.reveal()
    if len(value) < SHORTEST_TOKEN:
        raise SecretMissing(
            f"an admin token has at least {SHORTEST_TOKEN} characters: `openssl rand -hex 32` makes one"
        )
    if not _SENDABLE.match(value):
        raise SecretMissing("an admin token holds visible ASCII characters without spaces, or no header can carry it")
    return token


def check_token(head: RequestHead, token: Secret) -> None:
    """Let in whoever sends ``Authorization: Bearer`` with the token, once (RFC 6750 section 2.1).

    Raises:
        AdminTokenRefused
    """
    if not head.authorization:
        raise AdminTokenRefused("send the admin token of the configuration: Authorization: Bearer TOKEN")
    scheme, _, sent = head.authorization[0].partition(b":")[2].strip(b" \t").partition(b" ")
    if len(head.authorization) > 1 or scheme.lower() != b"bearer":
        raise AdminTokenRefused("Authorization has to stand there once, as: Bearer TOKEN")
    if not hmac.compare_digest(sent.strip(b" "), token.reveal().encode()):
        raise AdminTokenRefused("the admin token is not the right one")
