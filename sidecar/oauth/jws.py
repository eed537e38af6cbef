"""Signed compact JSON (RFC 7515 section 3.1), and the keys that sign it in the forms that operators have.

Decides which text is a usable private key and which algorithm it signs with. What is signed is for ``assertion`` and
``dpop``. No refusal shows anything of a key.

joserfc reads JWKs. It does not sign: its EdDSA, and HMAC with a short client secret, are warnings at run time, and for
a proof per request it takes twice as long as the primitives of cryptography. Both libraries take tens of milliseconds
to import, so they are imported by whoever needs them first.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec

from sidecar.errors import TokenRefused

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

    from sidecar.secrets import Secret

    PrivateKey = EllipticCurvePrivateKey | Ed25519PrivateKey | RSAPrivateKey

Sign = Callable[[bytes], bytes]

SMALLEST_RSA_BITS: Final = 2048
"""RFC 7518 section 3.3."""

KEYS_KEPT: Final = 256
"""More than configurations have: where one goes to make room for another, each is read anew for each request, and the
one that went between its reading in a thread and its use is read on the loop."""

_HASHES: Final = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final = {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",)}
_EDWARDS: Final = ("EdDSA", "Ed25519")
"""The old name (RFC 8037), which servers know, and the exact one (RFC 9864)."""

_PRIVATE_PEM: Final = re.compile(r"-----BEGIN ((?:RSA |EC )?PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)
_PEM_LABEL: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,40})-----")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """What signs, and what the header says of it.

    Args:
        algorithm: the ``alg`` of RFC 7518 section 3.1.
        key_id: the ``kid``, if it has one.
        sign: the signature of some bytes, as JWS has it.
        public_key: SubjectPublicKeyInfo (DER), to know the key's own certificate; empty for HMAC.
    """

    algorithm: str
    key_id: str | None
    sign: Sign = field(repr=False)
    public_key: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class _Parsed:
    """A private key with what its file says of it; the configuration may say otherwise."""

    key: PrivateKey = field(repr=False)
    key_id: str | None = None
    algorithm: str | None = None


_kept: dict[tuple[bytes, str | None, str | None], SigningKey] = {}
"""The keys used last, by a digest of their text. Checking the primes of an RSA key takes 50 ms for 2048 bits and 350 ms
for 4096, without holding the interpreter: whoever reads a new key in a thread does not stop the loop."""
_keeping: Final = Lock()


def base64url(raw: bytes) -> str:
    """RFC 7515 section 2: without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def encoded(value: dict[str, Any]) -> str:
    """A header or claims as one part of a compact JWS."""
    return base64url(msgspec.json.encode(value))


def compact(header: str, claims: dict[str, Any], sign: Sign) -> str:
    """The JWS of a header that is encoded already."""
    signed = f"{header}.{encoded(claims)}"
    return f"{signed}.{base64url(sign(signed.encode()))}"


# --- keys ------------------------------------------------------------------------------------------------------------


def signing_key(text: Secret, *, key_id: str | None, algorithm: str | None) -> SigningKey:
    """The key of ``private_key``: PEM (PKCS#8, PKCS#1, SEC1), a private JWK, or the JSON of a Google service account.

    Args:
        text: what the reference holds.
        key_id: the ``kid`` as configured; else the file's own.
        algorithm: as configured; else the JWK's own, else the usual one of that kind of key.

    Raises:
        TokenRefused: not a private key that can be used, or not with this algorithm.
    """
    name = (hashlib.sha256(text.reveal().encode()).digest(), key_id, algorithm)
    if (known := _kept.get(name)) is not None:
        return known
    parsed = _parsed(text.reveal())
    key = SigningKey(
        fitting := _fitting(parsed, algorithm),
        key_id or parsed.key_id,
        _signer(parsed.key, fitting),
        _public_der(parsed.key),
    )
    with _keeping:
        if len(_kept) >= KEYS_KEPT:
            del _kept[next(iter(_kept))]
        _kept[name] = key
    return key


def secret_key(secret: Secret, *, key_id: str | None, algorithm: str | None) -> SigningKey:
    """A client secret as a key for HMAC (OpenID Connect Core section 10.1), HS256 unless another is asked for.

    RFC 7518 section 3.2 wants it as long as the hash; how long a secret is, is the IdP's doing, so that is not checked.

    Raises:
        TokenRefused: the algorithm is none of HMAC.
    """
    name = algorithm or "HS256"
    if name not in ("HS256", "HS384", "HS512"):
        raise TokenRefused(f"client_auth client_secret_jwt signs with HS256, HS384 or HS512, not {name}")
    key, digest = secret.reveal().encode(), _HASHES[name[2:]]
    return SigningKey(name, key_id, lambda message: hmac.digest(key, message, digest))


def _refuse(why: str) -> NoReturn:
    # "from None": what a parser says of a key may quote it.
    raise TokenRefused(f"private_key: {why}") from None


# --- reading ---------------------------------------------------------------------------------------------------------


def _parsed(text: str) -> _Parsed:
    if text.lstrip().startswith("{"):
        return _from_json(text)
    return _Parsed(_from_pem(text))


def _from_json(text: str) -> _Parsed:
    try:
        members = msgspec.json.decode(text, type=dict[str, Any])
    except (ValueError, RecursionError):
        _refuse("it begins as JSON and is none")
    if "keys" in members:
        _refuse("it is a set of keys: give one JWK of it")
    if "kty" in members:
        return _from_jwk(members)
    if isinstance(pem := members.get("private_key"), str):
        return _Parsed(_from_pem(pem), _text(members, "private_key_id"))
    _refuse("the JSON is neither a JWK nor a Google service account's key")


def _text(members: dict[str, Any], name: str) -> str | None:
    value = members.get(name)
    return value if isinstance(value, str) and value else None


def _from_pem(text: str) -> PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    block = _private_block(text)
    try:
        return _usable(load_pem_private_key(block.encode(), password=None))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        _refuse("the PEM is damaged, or of a kind that is not read here")


def _private_block(text: str) -> str:
    """The one private key among what else the file holds: a certificate, parameters of a curve."""
    labels = set(_PEM_LABEL.findall(text))
    blocks = [match.group() for match in _PRIVATE_PEM.finditer(text)]
    if "ENCRYPTED PRIVATE KEY" in labels or any("Proc-Type: 4,ENCRYPTED" in block for block in blocks):
        _refuse("it is encrypted, and there is no key for the passphrase: decrypt it with openssl pkey")
    if len(blocks) > 1:
        _refuse("it holds more than one private key")
    if blocks:
        return blocks[0]
    if "OPENSSH PRIVATE KEY" in labels:
        _refuse("it is in OpenSSH's own format: convert it with ssh-keygen -p -m PKCS8")
    if labels & {"PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE"}:
        _refuse("it is a public key or a certificate: signing takes the private key")
    if labels:
        _refuse("the PEM is damaged, or of a kind that is not read here")
    _refuse("it is neither PEM nor JSON")


def _from_jwk(jwk: dict[str, Any]) -> _Parsed:
    from joserfc.errors import JoseError, UnsupportedKeyOperationError, UnsupportedKeyUseError
    from joserfc.jwk import JWKRegistry

    _check_jwk(jwk)
    try:
        key = JWKRegistry.import_key(jwk)
        key.check_use("sig")
        key.check_key_op("sign")
    except (UnsupportedKeyUseError, UnsupportedKeyOperationError):
        _refuse("the JWK says that it is not for signatures")
    except (JoseError, ValueError, KeyError, TypeError):
        _refuse("the JWK is damaged")
    return _Parsed(_usable(key.private_key), _text(jwk, "kid"), _text(jwk, "alg"))


def _check_jwk(jwk: dict[str, Any]) -> None:
    if jwk["kty"] not in ("RSA", "EC", "OKP"):
        _refuse("the JWK is not of the kinds RSA, EC or OKP")
    if "d" not in jwk:
        _refuse("it is a public key or a certificate: signing takes the private key")
    if jwk["kty"] == "RSA" and len(str(jwk.get("n"))) * 6 < SMALLEST_RSA_BITS:
        _too_small()  # before joserfc, which only warns


def _usable(key: object) -> PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    match key:
        case RSAPrivateKey():
            if key.key_size < SMALLEST_RSA_BITS:
                _too_small()
            return key
        case EllipticCurvePrivateKey() if key.curve.name in _CURVES:
            return key
        case Ed25519PrivateKey():
            return key
    _refuse("the key is none of RSA, P-256, P-384, P-521 and Ed25519")


def _too_small() -> NoReturn:
    _refuse(f"an RSA key signs from {SMALLEST_RSA_BITS} bits on (RFC 7518 section 3.3)")


# --- signing ---------------------------------------------------------------------------------------------------------


def _fitting(parsed: _Parsed, configured: str | None) -> str:
    if configured and parsed.algorithm and configured != parsed.algorithm:
        _refuse(f"the JWK is for another algorithm than {configured}")
    possible = _algorithms(parsed.key)
    chosen = configured or parsed.algorithm or possible[0]
    if chosen not in possible:
        said = configured or "that of the JWK"
        _refuse(f"the key signs with {' or '.join(possible)}, and the algorithm is to be {said}")
    return chosen


def _algorithms(key: PrivateKey) -> tuple[str, ...]:
    """What the key can sign with, the usual one first."""
    if hasattr(key, "curve"):
        return _CURVES[key.curve.name]
    return _RSA if hasattr(key, "key_size") else _EDWARDS


def _signer(key: PrivateKey, algorithm: str) -> Sign:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    match key:
        case RSAPrivateKey():
            return _rsa(key, algorithm)
        case EllipticCurvePrivateKey():
            return elliptic(key)
        case _:
            return key.sign


def _rsa(key: RSAPrivateKey, algorithm: str) -> Sign:
    from cryptography.hazmat.primitives.asymmetric import padding

    digest = _digest(algorithm[2:])
    if algorithm.startswith("RS"):
        return lambda message: key.sign(message, padding.PKCS1v15(), digest)
    # RFC 7518 section 3.5: the salt is as long as the hash.
    pss = padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size)
    return lambda message: key.sign(message, pss, digest)


def elliptic(key: EllipticCurvePrivateKey) -> Sign:
    """ECDSA as RFC 7518 section 3.4 has it: both numbers in full length, not the DER of other uses."""
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    length = (key.key_size + 7) // 8
    algorithm = ECDSA(_digest({32: "256", 48: "384", 66: "512"}[length]))

    def sign(message: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(message, algorithm))
        return r.to_bytes(length, "big") + s.to_bytes(length, "big")

    return sign


def _digest(bits: str) -> HashAlgorithm:
    from cryptography.hazmat.primitives import hashes

    return {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}[bits]


def _public_der(key: PrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
