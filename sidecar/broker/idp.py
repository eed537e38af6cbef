"""Asks an IdP for tokens: reads what a request is made of, sends it, and says what came of it.

Decides which secret is presented, which endpoint is asked, and what each request counts. Leaves to ``credential`` when
to ask and everything that a failure leads to, to ``oauth`` what requests and answers look like.

Secrets are read again for every request, because platforms rotate them by changing files. A secret that changed is
tried first, and the last one that worked is kept until the new one works: a rotation in which the file is ahead of the
IdP, or the IdP ahead of the file, costs one extra request and no token.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from sidecar.broker.rotation import RotatingSecret
from sidecar.broker.source import WatchedFiles, counted, read_counted, timed
from sidecar.config import hosts
from sidecar.config.model import CERTIFICATE_AUTHS
from sidecar.errors import InvalidClient, TerminalTokenError, TokenMalformed, TokenRequestError
from sidecar.oauth import grants
from sidecar.oauth.answer import error_code, json_object
from sidecar.oauth.dpop import new_key, valid_nonce
from sidecar.oauth.endpoint import Wire
from sidecar.oauth.inputs import Inputs
from sidecar.oauth.jws import signing_key
from sidecar.oauth.token import Successor, parse
from sidecar.secrets import SecretReference
from sidecar.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.config.model import Credential as CredentialConfig
    from sidecar.config.model import Limits
    from sidecar.oauth.answer import Answer
    from sidecar.oauth.client_auth import TokenRequest
    from sidecar.oauth.discovery import Metadata
    from sidecar.oauth.dpop import ProofKey
    from sidecar.oauth.endpoint import Endpoint
    from sidecar.oauth.grants import Fields
    from sidecar.oauth.token import Token
    from sidecar.runtime import Clock
    from sidecar.secrets import Secret
    from sidecar.telemetry.metrics import CredentialMeters

log = get_logger("broker")

RESIGN_SECONDS: Final = 30.0
"""An IdP whose clock is this far from ours may have refused the dates of what was signed, and nothing else."""


class IdP:
    """Tokens from a token endpoint, or from a platform's own token service.

    Attributes:
        dpop: the key that tokens are bound to; made with the first request, unless a stored grant brings its own.
    """

    watches = False

    def __init__(
        self,
        config: CredentialConfig,
        *,
        name: str,
        clock: Clock,
        endpoint: Endpoint,
        meters: CredentialMeters,
        limits: Limits,
    ) -> None:
        self._config = config
        self._clock = clock
        self._endpoint = endpoint
        self._meters = meters
        self._name = name
        self._expected = grants.expected(config)
        proof = config.client_secret or config.private_key or config.certificate_key
        self._proof = (
            None
            if proof is None
            else RotatingSecret(proof, name=name, clock=clock, meters=meters, max_age=config.secret_max_age)
        )
        self._files = WatchedFiles(list(_files(config)))
        self.dpop: ProofKey | None = None
        self._nonce: str | None = None
        self._skew = 0.0
        """Seconds by which the IdP's clock was ahead at its last answer."""
        self._dated_by_idp = False
        self._signs = config.dpop or config.private_key is not None or config.client_auth == "client_secret_jwt"
        self.limits = limits
        self.requests_sent = 0

    def inputs_changed(self) -> bool:
        return self._files.changed()

    def close(self) -> None:
        pass

    async def fetch(self) -> Token:
        return await self.ask()

    async def ask(self, refresh_token: Secret | None = None) -> Token:
        """A token; by this refresh token, if the grant rests on one.

        Raises:
            TokenRequestError: there is none, for the leaf's reason.
            SecretMissing: a secret cannot be read and there is no earlier value.
        """
        self._files.note()
        secret = self._proof.read() if self._proof is not None else None
        try:
            return await self._ask(secret, refresh_token)
        except TerminalTokenError as exc:
            if not self._signs or exc.successor is not None or abs(self._skew) < RESIGN_SECONDS:
                raise
        return await self._ask_by_another_clock(secret, refresh_token)

    async def _ask_by_another_clock(self, secret: Secret | None, refresh_token: Secret | None) -> Token:
        """Signed once more, dated by the IdP's clock; or by ours again, should its ``Date`` not be what it goes by."""
        self._dated_by_idp = not self._dated_by_idp
        try:
            token = await self._ask(secret, refresh_token)
        except TokenRequestError:
            self._dated_by_idp = not self._dated_by_idp
            raise
        which = "the IdP's" if self._dated_by_idp else "our"
        log.warning("clock_differs", credential=self._name, skew_seconds=self._skew, next=f"signing by {which} clock")
        return token

    async def _ask(self, secret: Secret | None, refresh_token: Secret | None) -> Token:
        try:
            token = await self._request(secret, refresh_token)
        except TokenRequestError as exc:
            working = self._proof.working if self._proof is not None else None
            if working is None or working == secret or exc.successor is not None or not _blames_secret(exc):
                raise
            return await self._with_working(working, refresh_token, exc)
        if self._proof is not None:
            self._proof.working = secret
        return token

    async def _with_working(self, working: Secret, refresh_token: Secret | None, refusal: TokenRequestError) -> Token:
        token = await self._request(working, refresh_token)
        log.warning(
            "secret_refused",
            credential=self._name,
            reason=refusal.reason,
            http_status=refusal.http_status,
            next="using the previous secret; the new one is tried again at the next refresh",
        )
        return token

    async def _request(self, secret: Secret | None, refresh_token: Secret | None) -> Token:
        """One token request, counted."""
        with timed(self._meters, self._clock), counted(self._meters):
            return await self._exchange(secret, refresh_token)

    async def _exchange(self, secret: Secret | None, refresh_token: Secret | None) -> Token:
        inputs = replace(await self._inputs(secret), refresh_token=refresh_token)
        answer = await self._answer(lambda now: grants.token_request(self._config, now), inputs)
        try:
            token = parse(answer, self._expected)
        except TokenMalformed:
            if self._config.issuer and answer.status >= 400:
                self._endpoint.forget_discovered(self._config.issuer, self._config.ca_file)
            raise
        if self._config.impersonation_url is not None:
            token = await self._impersonated(token, token.refresh_token or refresh_token)
        return replace(token, dpop=self.dpop if self._config.dpop else None)

    async def _impersonated(self, first: Token, refresh_token: Secret | None) -> Token:
        """The token that the first one is good for. The first answer's refresh token is the one now, whatever comes."""
        lifetime = first.refresh_token_lifetime
        try:
            answer = await self._send(grants.impersonation_request(self._config, first.value))
            token = parse(answer, grants.impersonation_expected(self._config))
        except TokenRequestError as exc:
            exc.successor = None if refresh_token is None else Successor(refresh_token, lifetime)
            raise
        return replace(token, refresh_token=refresh_token, refresh_token_lifetime=lifetime)

    async def _answer(self, request: Callable[[Inputs], TokenRequest], inputs: Inputs) -> Answer:
        """The answer to a request; once more with the nonce, if the server wants one (RFC 9449 section 8)."""
        answer = await self._send(request(inputs))
        if self._config.dpop and self._takes_nonce(answer) and error_code(json_object(answer.body)) == "use_dpop_nonce":
            answer = await self._send(request(replace(inputs, dpop_nonce=self._nonce)))
            self._takes_nonce(answer)
        return answer

    def _takes_nonce(self, answer: Answer) -> bool:
        """Remember the nonce of an answer for the next proof; whether it brought one."""
        nonce = valid_nonce(answer.headers.get("dpop-nonce", ""))
        self._nonce = nonce or self._nonce
        return nonce is not None

    # --- for a login, which has requests of its own ------------------------------------------------------------------

    async def metadata(self) -> Metadata | None:
        """What the issuer says of itself; None without ``issuer``.

        Raises:
            TokenRequestError: it cannot be had, or is not this issuer's.
        """
        if self._config.issuer is None:
            return None
        try:
            return await self._endpoint.discover(self._config.issuer, self._wire())
        except TokenRequestError as exc:
            exc.sent = False  # the token request itself was not
            raise

    async def post(self, fields: Fields, url: str | None = None) -> Answer:
        """The answer to these fields, sent with the client's proof to ``url``, by default the token endpoint.

        Raises:
            TokenRequestError: no answer came.
            SecretMissing: a secret cannot be read.
        """
        inputs = await self._inputs(self._proof.read() if self._proof is not None else None)
        where = inputs if url is None else replace(inputs, token_url=url)
        return await self._answer(lambda now: grants.of_fields(fields, self._config, now), where)

    # --- what requests are made of -----------------------------------------------------------------------------------

    async def _inputs(self, secret: Secret | None) -> Inputs:
        config = self._config
        if config.dpop and self.dpop is None:
            self.dpop = new_key()
        key = self._key(secret)
        if key is not None:
            # Reading an RSA key checks its primes, 50 to 350 ms in which requests would wait; what is read is kept.
            await asyncio.to_thread(signing_key, key, key_id=config.key_id, algorithm=config.assertion_algorithm)
        return Inputs(
            token_url=config.token_url or (await self._token_endpoint()),
            issuer=config.issuer,
            wall=self._clock.wall() + (self._skew if self._dated_by_idp else 0.0),
            secret=secret if config.client_secret is not None else None,
            private_key=key,
            certificate=self._read(None if config.certificate is None else SecretReference("file", config.certificate)),
            assertion=self._read(assertion_reference(config)),
            subject_token=self._read(config.subject_token),
            actor_token=self._read(config.actor_token),
            dpop=self.dpop,
            dpop_nonce=self._nonce,
        )

    def _key(self, secret: Secret | None) -> Secret | None:
        if self._config.private_key is None or self._config.client_secret is None:
            return secret if self._config.private_key is not None else None
        return self._read(self._config.private_key)  # beside a secret: the one proves the client, the other the grant

    async def _token_endpoint(self) -> str:
        metadata = await self.metadata()
        if metadata is None:
            raise TokenMalformed("there is no token_url")
        return metadata.endpoint("token_endpoint", mtls=self._config.client_auth in CERTIFICATE_AUTHS)

    def _read(self, reference: SecretReference | None) -> Secret | None:
        return None if reference is None else read_counted(reference, self._meters)

    async def _send(self, request: TokenRequest) -> Answer:
        answer = await self._endpoint.send(request, self._wire())
        if (skew := answer.clock_skew) is not None:
            self._meters.clock_skew.value = self._skew = skew
        return answer

    def _wire(self) -> Wire:
        config = self._config
        certificate = None
        if (
            config.client_auth in CERTIFICATE_AUTHS
            and config.certificate
            and config.certificate_key
            and config.certificate_key.path
        ):
            certificate = config.certificate, str(config.certificate_key.path)
        return Wire(config.ca_file, self.limits.connect, self.limits.token_request, self._count_request, certificate)

    def _count_request(self) -> None:
        self.requests_sent += 1


def assertion_reference(config: CredentialConfig) -> SecretReference | None:
    """Where a platform's own token stands that serves as the client's assertion."""
    return SecretReference("file", config.assertion_file) if config.assertion_file is not None else config.assertion


def party(config: CredentialConfig) -> str:
    """Between whom a grant is: a refresh token goes to no other client and to no other origin than it came from."""
    parts = hosts.url_parts(config.token_url or config.issuer or "")
    return f"client {config.client_id} at {parts.scheme}://{parts.host}:{parts.port}"


def _files(config: CredentialConfig) -> list[str]:
    references = (
        *(config.client_secret, config.private_key, config.certificate_key, assertion_reference(config)),
        *(config.subject_token, config.actor_token),
    )
    paths = [reference.path for reference in references if reference is not None]
    return [str(path) for path in (*paths, config.ca_file, config.certificate) if path is not None]


def _blames_secret(error: TokenRequestError) -> bool:
    # Auth0 says access_denied for a wrong secret; some servers send a bare 401 (allowed by RFC 6749 section 5.2).
    return isinstance(error, InvalidClient) or error.http_status == 401 or error.oauth_error == "access_denied"
