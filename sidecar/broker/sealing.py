"""A grant as the bytes of a file: encrypted, and bound to the credential it belongs to.

Decides the form of a record and which keys open it. Leaves files and locks to ``store``.

A record is a line that says what it is, the short id of its key, a nonce, and AES-256-GCM over the grant as JSON (NIST
SP 800-38D). The line, the key's id and the credential's name are associated data: a record that is cut short, changed,
or put under another name does not open. Nonces are random; 2^32 writes with one key are the bound (section 8.3), and
a refresh a second reaches it in a century.

The key file holds one key a line. The first encrypts, all decrypt: to change the key, put the new one above the old
one, and take the old one out when every record has been written again, which each refresh does.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from sidecar.errors import SecretMissing, StoreUnusable
from sidecar.secrets import Secret

if TYPE_CHECKING:
    from sidecar.secrets import SecretReference

FORM: Final = b"token-sidecar grant, form 1\n"
KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 8
NONCE_BYTES: Final = 12
HOW_TO_MAKE_A_KEY: Final = "make one with `openssl rand -base64 32`"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a login left: one lineage of refresh tokens. Instants are Unix time in seconds.

    Args:
        lineage: the random id of the login or seed it descends from; a rotation keeps it.
        expires_at: when the refresh token ends, if the IdP said so (``refresh_token_expires_in`` and its like).
        rotates: an answer has brought another refresh token before.
        spent_at: it was sent then, and no answer is known to have come.
        seed: the fingerprint of the configuration's ``refresh_token`` when the lineage began; None without one.
        dpop_key: the JWK of the key that the grant is bound to (RFC 9449 section 5).
        party: the client and the provider that it is between; None where that is not known.
    """

    refresh_token: Secret
    lineage: str
    obtained_at: float
    expires_at: float | None = None
    scope: str | None = None
    rotates: bool = False
    spent_at: float | None = None
    seed: str | None = None
    dpop_key: Secret | None = field(default=None, repr=False)
    party: str | None = None


class _Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A grant in clear, as it is encrypted."""

    refresh_token: str
    lineage: str
    obtained_at: float
    expires_at: float | None
    scope: str | None
    rotates: bool
    spent_at: float | None
    seed: str | None
    dpop_key: str | None
    party: str | None


def new_lineage() -> str:
    """An id that no other login has."""
    return secrets.token_hex(16)


def fingerprint(secret: Secret) -> str:
    """What tells one seed from another, and nothing else about it."""
    return hashlib.sha256(secret.reveal().encode()).hexdigest()[:32]


# --- keys ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a store by their ids; the first one encrypts."""

    by_id: dict[bytes, bytes] = field(repr=False)

    @property
    def first(self) -> tuple[bytes, bytes]:
        return next(iter(self.by_id.items()))


def read_keys(reference: SecretReference) -> Keys:
    """The keys as they stand in the file now.

    Raises:
        StoreUnusable: it cannot be read, others may read it too, or a line of it is no key.
    """
    try:
        text = reference.read().reveal()
        mode = reference.loose_mode(mounted_for_a_group=True)
    except (SecretMissing, OSError) as exc:
        why = exc.detail if isinstance(exc, SecretMissing) else exc.strerror
        raise StoreUnusable(f"the store's key: {why}; {HOW_TO_MAKE_A_KEY}") from exc
    if mode is not None:
        path = reference.path
        raise StoreUnusable(f"{path} has mode {mode:04o}, but a store's key is for its owner alone: chmod 600 {path}")
    keys = [_key(line, f"line {number} of {reference}") for number, line in _lines(text)]
    if not keys:
        raise StoreUnusable(f"the store's key: {reference} is empty; {HOW_TO_MAKE_A_KEY}")
    return Keys({_id_of(key): key for key in keys})


def _lines(text: str) -> list[tuple[int, str]]:
    return [(number, stripped) for number, line in enumerate(text.splitlines(), 1) if (stripped := line.strip())]


def _key(line: str, where: str) -> bytes:
    try:
        key = base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:  # the cause is left out: it might quote the line
        raise StoreUnusable(f"the store's key: {where} is not {KEY_BYTES} bytes in base64; {HOW_TO_MAKE_A_KEY}")
    return key


def _id_of(key: bytes) -> bytes:
    return hashlib.sha256(b"token-sidecar key id\n" + key).digest()[:KEY_ID_BYTES]


# --- records ---------------------------------------------------------------------------------------------------------


def seal(name: str, grant: Grant, keys: Keys) -> bytes:
    """The grant of this credential as a record."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # 9 MiB that only a store needs

    record = _Record(
        refresh_token=grant.refresh_token.reveal(),
        lineage=grant.lineage,
        obtained_at=grant.obtained_at,
        expires_at=grant.expires_at,
        scope=grant.scope,
        rotates=grant.rotates,
        spent_at=grant.spent_at,
        seed=grant.seed,
        dpop_key=grant.dpop_key.reveal() if grant.dpop_key else None,
        party=grant.party,
    )
    key_id, key = keys.first
    nonce = os.urandom(NONCE_BYTES)
    return FORM + key_id + nonce + AESGCM(key).encrypt(nonce, msgspec.json.encode(record), _bound_to(key_id, name))


def unseal(name: str, raw: bytes, keys: Keys) -> Grant:
    """The grant in a record of this credential.

    Raises:
        StoreUnusable: it is no such record, or no key opens it; the message ends with the reason.
    """
    if not raw.startswith(FORM):
        raise StoreUnusable("it is damaged, or another version wrote it")
    key_id, nonce, sealed = _parts(raw)
    key = keys.by_id.get(key_id)
    if key is None:
        raise StoreUnusable("none of the store's keys has encrypted it: put the one that did back, below the others")
    return _grant(_opened(key, nonce, sealed, _bound_to(key_id, name)))


def _parts(raw: bytes) -> tuple[bytes, bytes, bytes]:
    body = raw[len(FORM) :]
    rest = body[KEY_ID_BYTES:]
    return body[:KEY_ID_BYTES], rest[:NONCE_BYTES], rest[NONCE_BYTES:]


def _bound_to(key_id: bytes, name: str) -> bytes:
    return FORM + key_id + name.encode()


def _opened(key: bytes, nonce: bytes, sealed: bytes, bound_to: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(key).decrypt(nonce, sealed, bound_to)
    except (InvalidTag, ValueError) as exc:  # ValueError: not even a nonce is left of it
        raise StoreUnusable("it is damaged, or it was written for another credential") from exc


def _grant(clear: bytes) -> Grant:
    try:
        record = msgspec.json.decode(clear, type=_Record)
    except msgspec.DecodeError:
        raise StoreUnusable("another version wrote it") from None  # the cause might quote it
    return Grant(
        refresh_token=Secret(record.refresh_token),
        lineage=record.lineage,
        obtained_at=record.obtained_at,
        expires_at=record.expires_at,
        scope=record.scope,
        rotates=record.rotates,
        spent_at=record.spent_at,
        seed=record.seed,
        dpop_key=Secret(record.dpop_key) if record.dpop_key else None,
        party=record.party,
    )
