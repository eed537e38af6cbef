"""Who may use a listener: from a request head and the process behind the connection to a yes, or a refusal.

Three forms, one for each ``auth`` of the configuration; a listener without one has no admission at all, so that nobody
pays for it. It is asked after the syntax is checked and before anything is routed, so a stranger learns nothing about
routes. What is compared is compared in constant time; what was sent is never told, and neither is the user name of a
proxy password, which says nothing here. Requests inside a CONNECT tunnel are not asked again: their CONNECT was.
"""

from __future__ import annotations

import abc
import binascii
import hmac
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from sidecar.errors import KeyRefused, PeerRefused, ProxyAuthRequired, SecretMissing
from sidecar.http.message import CRLF

if TYPE_CHECKING:
    from sidecar.config.model import ListenerAuth
    from sidecar.http.message import RequestHead
    from sidecar.secrets import Secret, SecretReference

_UNSENDABLE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|\A[ \t]|[ \t]\Z")
"""What no field value holds: control characters, and white space at its ends (RFC 9110 section 5.5)."""


class Connection(Protocol):
    """The transport that a request came by, as the event loop has it."""

    def get_extra_info(self, name: str, default: object = None) -> Any:
        """What is known of it."""


PeerUid = Callable[[Connection], int | None]


class Admission(abc.ABC):
    """Who may use a listener."""

    __slots__ = ()

    def meet(self, connection: Connection) -> None:  # noqa: B027 - most forms look at requests alone
        """Look at a connection that was just made, before anything of it is read.

        Raises:
            PeerRefused
        """

    @abc.abstractmethod
    def is_as(self, other: Admission | None) -> bool:
        """Whether the other one lets in just whom this one does."""

    def check_tunnel(self, connection: Connection) -> None:  # noqa: ARG002 - one form asks the kernel
        """Look at a request inside a tunnel whose CONNECT another admission let in.

        Raises:
            ProxyAuthRequired, PeerRefused
        """
        raise ProxyAuthRequired("who may use this listener has changed since the tunnel was opened: open a new one")

    @abc.abstractmethod
    def check(self, head: RequestHead, raw: bytes, connection: Connection) -> None:
        """Look at a request.

        Args:
            head: checked; what is meant for the listener alone is taken out of it.
            raw: the same as it was received.
            connection: what it came by.

        Raises:
            ProxyAuthRequired, KeyRefused, PeerRefused
        """


class ProxyPassword(Admission):
    """``Proxy-Authorization: Basic`` with any user name and this password (RFC 7617); the head never holds the field's
    line, so it is not passed on."""

    __slots__ = ("password",)

    def __init__(self, password: Secret) -> None:
        self.password = password

    def is_as(self, other: Admission | None) -> bool:
        return isinstance(other, ProxyPassword) and other.password == self.password

    def check(self, head: RequestHead, raw: bytes, connection: Connection) -> None:  # noqa: ARG002 - as all forms have it
        if head.proxy_authorization is None:
            raise ProxyAuthRequired("this proxy wants a password: HTTP_PROXY=http://any:PASSWORD@host:port")
        password = basic_password(head.proxy_authorization)
        if password is None:
            raise ProxyAuthRequired("Proxy-Authorization is not Basic with a user name and a password", is_attempt=True)
        if not hmac.compare_digest(password, self.password.reveal().encode()):
            raise ProxyAuthRequired("the proxy password is not the right one", is_attempt=True)


def basic_password(value: bytes) -> bytes | None:
    """The password of Basic credentials; None for any other scheme and for what is not well-formed."""
    scheme, _, token = value.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        credentials = binascii.a2b_base64(token.strip(b" "), strict_mode=True)
    except binascii.Error:
        return None
    _, colon, password = credentials.partition(b":")  # a user name holds no colon, a password may (RFC 7617 section 2)
    return password if colon else None


class ListenerKey(Admission):
    """A field of the app's requests that is for the listener alone: there once, with this value, and never passed on.

    Args:
        header: the field's name.
        key: its value.

    Raises:
        SecretMissing: no request could carry the value.
    """

    __slots__ = ("key", "start")

    def __init__(self, header: str, key: Secret) -> None:
        if _UNSENDABLE.search(key.reveal()):
            raise SecretMissing(
                "the value holds a control character or outer white space, so no header field can carry it"
            )
        self.start = header.lower().encode() + b":"
        self.key = key

    def is_as(self, other: Admission | None) -> bool:
        return isinstance(other, ListenerKey) and (other.start, other.key) == (self.start, self.key)

    def check(self, head: RequestHead, raw: bytes, connection: Connection) -> None:  # noqa: ARG002 - as all forms have it
        values, rest = self._apart(head.lines)
        # Nominated by a Connection field it is gone from the head; it is for us all the same (RFC 9110 section 7.6.1).
        values = values or self._apart(raw[:-4].split(CRLF))[0]
        head.lines = rest
        if not values:
            raise KeyRefused("this listener wants its key in a header field: see auth in its configuration")
        if len(values) > 1:
            raise KeyRefused("the field with the listener's key stands there more than once")
        if not hmac.compare_digest(values[0], self.key.reveal().encode()):
            raise KeyRefused("the listener's key is not the right one")

    def _apart(self, lines: list[bytes]) -> tuple[list[bytes], list[bytes]]:
        """The values of the field, and the lines without it."""
        start, length = self.start, len(self.start)
        values, rest = [], []
        for line in lines:
            if line[:length].lower() == start:
                values.append(line[length:].strip(b" \t"))
            else:
                rest.append(line)
        return values, rest


class PeerUsers(Admission):
    """Processes of these users, on a Unix socket. Asked again at each request, because a reload may have removed one.

    Args:
        uids: the users.
        peer_uid: whose process is at the other end of a connection; None if the kernel does not say.
    """

    __slots__ = ("_peer_uid", "uids")

    def __init__(self, uids: frozenset[int], peer_uid: PeerUid) -> None:
        self.uids = uids
        self._peer_uid = peer_uid

    def is_as(self, other: Admission | None) -> bool:
        return isinstance(other, PeerUsers) and other.uids == self.uids

    def check_tunnel(self, connection: Connection) -> None:
        self.meet(connection)

    def meet(self, connection: Connection) -> None:
        if self._peer_uid(connection) not in self.uids:
            raise PeerRefused("processes of this user may not use the socket: see peer_uids in its configuration")

    def check(self, head: RequestHead, raw: bytes, connection: Connection) -> None:  # noqa: ARG002 - as all forms have it
        self.meet(connection)


def admission(
    auth: ListenerAuth | Literal["none"], read: Callable[[SecretReference], Secret], peer_uid: PeerUid
) -> Admission | None:
    """Who may use a listener by its configuration; None where everybody may.

    Args:
        auth: checked by the configuration: one form, and that one whole.
        read: reads a secret, or raises SecretMissing.
        peer_uid: see ``PeerUsers``.

    Raises:
        SecretMissing
    """
    if auth == "none":
        return None
    if auth.proxy_password is not None:
        return ProxyPassword(read(auth.proxy_password))
    if auth.header is not None and auth.value is not None:
        return ListenerKey(auth.header, read(auth.value))
    return PeerUsers(frozenset(auth.peer_uids), peer_uid)
