"""An upstream that believes nobody: it checks tokens as RFC 9068 has it, and proofs as RFC 9449 has it.

Written for the tests on its own, with another library than the sidecar signs with, so that the two agree only if both
read the RFC alike. Every request is kept with what was wrong with it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from aiohttp import web
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet

from tests.end_to_end.openid_provider import RESOURCE
from tests.end_to_end.origin import VALID

if TYPE_CHECKING:
    import ssl

PROOF_AGE_SECONDS: Final = 60
LEEWAY_SECONDS: Final = 1
"""RFC 7519 section 4.1.4: ``exp`` is a whole second, so a token may end up to one before its ``expires_in``."""


class NotValid(Exception):
    """What is wrong with a request."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One request: whose token it carried, and what was wrong with it."""

    path: str
    verdict: str
    client: str | None
    claims: dict[str, Any] = field(repr=False)


@dataclass(slots=True)
class ResourceServer:
    """An https server on loopback that serves whoever has a token of the provider.

    Args:
        nonce: what proofs have to hold (RFC 9449 section 9); None asks for none.
        next_nonce: the nonce from the next good answer on, which tells it (section 8.2).
        audience: what the tokens have to be for.
    """

    issuer: str
    keys: KeySet
    tls: ssl.SSLContext
    nonce: str | None = None
    next_nonce: str | None = None
    audience: str = RESOURCE
    visits: list[Visit] = field(default_factory=list)
    port: int = 0
    _proofs_seen: set[str] = field(default_factory=set)
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self.tls)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def served(self) -> list[Visit]:
        return [visit for visit in self.visits if visit.verdict == VALID]

    async def _answer(self, request: web.Request) -> web.Response:
        claims: dict[str, Any] = {}
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            claims = self._claims(token)
            self._check_presentation(request, scheme, token, claims)
            verdict = VALID
        except NotValid as exc:
            verdict = str(exc)
        self.visits.append(Visit(request.path, verdict, claims.get("client_id"), claims))
        return self._response(verdict, claims)

    def _response(self, verdict: str, claims: dict[str, Any]) -> web.Response:
        if verdict == VALID:
            return web.Response(text="served\n", headers=self._announced())
        scheme = "DPoP" if "jkt" in claims.get("cnf", {}) else "Bearer"
        headers = {
            "WWW-Authenticate": f'{scheme} error="{"use_dpop_nonce" if verdict == "nonce" else "invalid_token"}"'
        }
        if self.nonce is not None:
            headers["DPoP-Nonce"] = self.nonce
        return web.Response(status=401, text=f"{verdict}\n", headers=headers)

    def _announced(self) -> dict[str, str]:
        if self.next_nonce is None:
            return {}
        self.nonce, self.next_nonce = self.next_nonce, None
        return {"DPoP-Nonce": self.nonce}

    def _claims(self, token: str) -> dict[str, Any]:
        """RFC 9068 section 4."""
        try:
            claims = jwt.decode(token, self.keys, algorithms=["ES256"]).claims
        except (JoseError, ValueError) as exc:
            raise NotValid(f"not a token of the provider: {type(exc).__name__}") from exc
        if claims["iss"] != self.issuer or claims["aud"] != self.audience:
            raise NotValid(f"for {claims['aud']} from {claims['iss']}")
        if time.time() >= claims["exp"] + LEEWAY_SECONDS:
            raise NotValid("expired")
        return claims

    def _check_presentation(self, request: web.Request, scheme: str, token: str, claims: dict[str, Any]) -> None:
        """A bound token comes with its proof, any other without (RFC 9449 section 7.2)."""
        thumbprint = claims.get("cnf", {}).get("jkt")
        proofs = request.headers.getall("DPoP", [])
        if thumbprint is None:
            if scheme != "Bearer" or proofs:
                raise NotValid(f"a bearer token with {scheme} and {len(proofs)} proofs")
        elif scheme != "DPoP" or len(proofs) != 1:
            raise NotValid(f"a bound token with {scheme} and {len(proofs)} proofs")
        else:
            self._check_proof(proofs[0], request, token, thumbprint)

    def _check_proof(self, proof: str, request: web.Request, token: str, thumbprint: str) -> None:
        """RFC 9449 section 4.3, steps 2 to 12."""
        key, claims = self._signed(proof)
        expected = {
            "htm": request.method,
            "htu": f"https://{request.host}{request.rel_url.raw_path}",
            "ath": _base64url(hashlib.sha256(token.encode()).digest()),
        }
        if wrong := [name for name, value in expected.items() if claims.get(name) != value]:
            raise NotValid(f"the proof's {wrong}")
        if abs(time.time() - claims["iat"]) > PROOF_AGE_SECONDS:
            raise NotValid("the proof's iat")
        if key.thumbprint() != thumbprint:
            raise NotValid("the proof's key")
        if claims["jti"] in self._proofs_seen:
            raise NotValid("a proof that was used before")
        self._proofs_seen.add(claims["jti"])
        if claims.get("nonce") != self.nonce:
            raise NotValid("nonce")

    def _signed(self, proof: str) -> tuple[ECKey, dict[str, Any]]:
        header = json.loads(base64.urlsafe_b64decode(proof.partition(".")[0] + "=="))
        if header.get("typ") != "dpop+jwt" or header.get("alg") != "ES256" or "d" in header.get("jwk", {"d": ""}):
            raise NotValid("the proof's header")
        key = ECKey.import_key(header["jwk"])
        try:
            return key, json.loads(jws.deserialize_compact(proof, key, algorithms=["ES256"]).payload)
        except (JoseError, ValueError) as exc:
            raise NotValid("the proof's signature") from exc


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
