"""Who talks to the mock provider in its tests: clients with a secret or a key, and a person's browser."""

from __future__ import annotations

import base64
import json
import secrets
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp
from joserfc.jwk import ECKey, OctKey, RSAKey
from joserfc.jws import JWSRegistry

from sidecar.simulation.dpop import hashed

if TYPE_CHECKING:
    from sidecar.simulation.idp import MockIdP

FORM: Final = {"grant_type": "client_credentials"}
Fields = dict[str, str] | list[tuple[str, str]]
Key = ECKey | RSAKey | OctKey
VERIFIER: Final = "v" * 43
CHALLENGE: Final = hashed(VERIFIER)  # base64url of SHA-256, as S256 has it


def basic(client: str = "client", secret: str = "client-secret") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{client}:{secret}".encode()).decode()}


async def ask(
    session: aiohttp.ClientSession, idp: MockIdP, form: Fields = FORM, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """A token request, as the client with its secret unless headers are given."""
    return await post(session, idp.token_url, form, basic() if headers is None else headers)


async def post(
    session: aiohttp.ClientSession, url: str, form: Fields, headers: dict[str, str], **how: Any
) -> tuple[int, dict[str, Any]]:
    data = aiohttp.FormData(list(form.items()) if isinstance(form, dict) else form)
    async with session.post(url, data=data, headers=headers, **how) as response:
        return response.status, await response.json()


async def refresh(
    session: aiohttp.ClientSession, idp: MockIdP, token: str, **fields: str
) -> tuple[int, dict[str, Any]]:
    return await ask(session, idp, {"grant_type": "refresh_token", "refresh_token": token} | fields)


# --- keys ------------------------------------------------------------------------------------------------------------


def new_key() -> ECKey:
    return ECKey.generate_key("P-256")


def public(key: ECKey | RSAKey) -> dict[str, Any]:
    return dict(key.as_dict(private=False))


def signed(claims: dict[str, Any], key: Key, **header: Any) -> str:
    """A JWT, however wrong its header; a claim that is None is left out."""
    header = {"alg": "ES256"} | header
    present = {name: value for name, value in claims.items() if value is not None}
    text = ".".join(urlsafe(json.dumps(part).encode()) for part in (header, present))
    return f"{text}.{urlsafe(JWSRegistry.algorithms[header['alg']].sign(text.encode(), key))}"


def urlsafe(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def claims(idp: MockIdP, issuer: str = "client", **changes: Any) -> dict[str, Any]:
    """What a client says of itself, right but for the changes."""
    now = int(idp.wall())
    right = {"iss": issuer, "sub": issuer, "aud": idp.issuer, "iat": now, "exp": now + 300, "jti": secrets.token_hex(8)}
    return right | changes


def asserting(assertion: str) -> dict[str, str]:
    """The fields of a client assertion (RFC 7523 section 2.2)."""
    kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    return {"client_assertion_type": kind, "client_assertion": assertion}


def proof(idp: MockIdP, key: ECKey, url: str | None = None, *, header: Any = None, **changes: Any) -> str:
    """A DPoP proof, for the token endpoint unless said otherwise."""
    right = {"htm": "POST", "htu": url or idp.token_url, "iat": int(idp.wall()), "jti": secrets.token_hex(8)}
    return signed(right | changes, key, **({"typ": "dpop+jwt", "jwk": public(key)} | (header or {})))


# --- a person's browser ----------------------------------------------------------------------------------------------


def authorization_url(idp: MockIdP, **changes: str | None) -> str:
    asked: dict[str, str | None] = {
        "response_type": "code",
        "client_id": "client",
        "redirect_uri": "http://127.0.0.1/callback",
        "state": "a state & more",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    }
    present = {name: value for name, value in (asked | changes).items() if value is not None}
    return f"{idp.issuer}/authorize?{urlencode(present)}"


def parameters(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))


def redeeming(code: str, /, **changes: str) -> dict[str, str]:
    """The token request for a code."""
    return {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": "http://127.0.0.1/callback",
        "code_verifier": VERIFIER,
    } | changes
