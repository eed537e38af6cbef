"""Whether a client is who it says: exactly one way of authentication, and one that it is registered for.

As strict as RFC 6749 section 2.3 reads. What the client may then ask for is for the grants.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections import Counter
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_plus

from sidecar.simulation.exchange import Refused

if TYPE_CHECKING:
    from sidecar.simulation.exchange import Form, Received
    from sidecar.simulation.provider import Provider

REPEATABLE: Final = frozenset({"resource", "audience"})
"""Fields that may stand more than once (RFC 8707 section 2, RFC 8693 section 2.1); no others (RFC 6749 section 3.2)."""


def authenticated(provider: Provider, received: Received) -> str:
    """The client's id, if it proved it in exactly one way (RFC 6749 section 2.3).

    Raises:
        Refused: with the error that section 5.2 names.
    """
    if received.method != "POST" or _repeats(received.form):
        raise Refused("invalid_request")
    header, in_body = received.headers.get("authorization"), received.field("client_secret")
    if header is not None and in_body is not None:
        raise Refused("invalid_request")
    if header is not None:
        client_id, secret = _basic(header, raw=provider.basic_encoding == "raw")
        _check_secret(provider, client_id, secret, method="client_secret_basic")
    elif in_body is not None:
        client_id = received.field("client_id") or ""
        _check_secret(provider, client_id, in_body, method="client_secret_post")
    else:
        client_id = received.field("client_id") or ""
        _check_registered(provider, client_id, "none")
    return client_id


def _check_secret(provider: Provider, client_id: str, secret: str, *, method: str) -> None:
    _check_registered(provider, client_id, method)
    known = provider.secrets.get(client_id, ())
    if not [one for one in known if hmac.compare_digest(one.encode(), secret.encode())]:
        raise invalid_client(method)


def _check_registered(provider: Provider, client_id: str, method: str) -> None:
    client = provider.clients.get(client_id)
    if client is None or method not in client.auth:
        raise invalid_client(method)


def invalid_client(method: str) -> Refused:
    """The refusal; who used the Authorization header gets a challenge for it (RFC 6749 section 5.2)."""
    headers = {"WWW-Authenticate": 'Basic realm="token"'} if method == "client_secret_basic" else {}
    return Refused("invalid_client", 401, headers=headers)


def _repeats(form: Form) -> bool:
    return any(count > 1 for name, count in Counter(name for name, _ in form).items() if name not in REPEATABLE)


def _basic(header: str, *, raw: bool) -> tuple[str, str]:
    scheme, _, encoded = header.partition(" ")
    try:
        client, colon, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise Refused("invalid_request") from None
    if scheme.lower() != "basic" or not colon:
        raise Refused("invalid_request")
    return (client, secret) if raw else (unquote_plus(client), unquote_plus(secret))
