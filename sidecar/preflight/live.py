"""The third stage: each credential's token is asked for, as a running sidecar would, and looked at without being shown.

Decides what a token has to be like. A grant that rests on the store is not spent: presenting its refresh token would
take it from the sidecar that owns it. What lies in the store is looked at instead.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sidecar.broker.command import Command
from sidecar.broker.idp import IdP, party
from sidecar.broker.report import NEXT_STEPS
from sidecar.broker.source import GivenToken
from sidecar.broker.store import TokenStore
from sidecar.config.files import given_token
from sidecar.config.model import NEEDS_LOGIN
from sidecar.errors import SecretMissing, StoreUnusable, TokenRequestError
from sidecar.oauth.answer import json_object
from sidecar.oauth.endpoint import Endpoint
from sidecar.oauth.token import ABSOLUTE_EXPIRY, jwt_claims
from sidecar.preflight.dialling import Resolving
from sidecar.preflight.findings import Finding
from sidecar.preflight.jobs import Job, Outcome
from sidecar.preflight.kinds import Kind, Stage
from sidecar.preflight.network import skewed
from sidecar.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sidecar.broker.source import Source
    from sidecar.broker.store import Grant
    from sidecar.config.found import Path as KeyPath
    from sidecar.config.model import Credential, Store
    from sidecar.oauth.answer import Answer
    from sidecar.oauth.client_auth import TokenRequest
    from sidecar.oauth.endpoint import Wire
    from sidecar.oauth.token import Token
    from sidecar.preflight.subject import Subject
    from sidecar.proxy.resolver import Lookup
    from sidecar.runtime import Clock

SHORT_SECONDS: Final = 60.0
"""Between 0.65 and 0.85 of this there are 12 s for a renewal, and 9 s for its repetition."""
REFRESH_TOKEN_SOON_SECONDS: Final = 7 * 86400.0
KINDS: Final = {
    "invalid_client": Kind.INVALID_CLIENT,
    "invalid_grant": Kind.INVALID_GRANT,
    "invalid_scope": Kind.INVALID_SCOPE,
    "unauthorized_client": Kind.UNAUTHORIZED_CLIENT,
    "refused": Kind.TOKEN_REFUSED,
    "rate_limited": Kind.IDP_RATE_LIMITED,
    "server_error": Kind.IDP_SERVER_ERROR,
    "timeout": Kind.IDP_TIMEOUT,
    "dns": Kind.IDP_DNS,
    "connect": Kind.IDP_CONNECT,
    "tls": Kind.IDP_TLS,
    "malformed": Kind.TOKEN_MALFORMED,
    "secret_missing": Kind.SECRET_MISSING,
}
"""Reasons of token requests to kinds."""


class WatchedEndpoint(Endpoint):
    """An endpoint that keeps the last answer, for what a token does not tell of it."""

    last: Answer | None = None

    async def send(self, request: TokenRequest, wire: Wire) -> Answer:
        self.last = await super().send(request, wire)
        return self.last


@dataclass(frozen=True, slots=True)
class Obtained:
    """A token, and the answer that it came in; None for one that came by itself."""

    token: Token
    answer: Answer | None

    @property
    def fields(self) -> Mapping[str, object]:
        """The answer's JSON."""
        return (json_object(self.answer.body) if self.answer is not None else None) or {}

    @property
    def claims(self) -> Mapping[str, object]:
        """What the token says of itself, if it is a JWT; unverified."""
        return jwt_claims(self.token.value.reveal()) or {}


class Live:
    """The jobs of this stage.

    Attributes:
        tokens: what was obtained, by the credential's name; for the probes.
    """

    def __init__(self, subject: Subject, *, clock: Clock, lookup: Lookup) -> None:
        self._subject = subject
        self._clock = clock
        self._lookup = lookup
        self._metrics = Metrics()
        self.tokens: dict[str, Token] = {}

    def jobs(self, failed: Mapping[str, str]) -> list[Job]:
        """One for each credential.

        Args:
            failed: why a credential is not asked for, by its name.
        """
        return [self._job(*each, failed.get(each[1], "")) for each in self._subject.credentials()]

    def _job(self, path: KeyPath, name: str, credential: Credential, failed: str) -> Job:
        async def work() -> Outcome:
            if failed:
                return Outcome(skipped=failed)
            if credential.grant in NEEDS_LOGIN:
                return await self._stored(path, name, credential)
            return await self._fetched(path, name, credential)

        return Job(Stage.LIVE, f"credentials.{name}", path, work)

    # --- asked for --------------------------------------------------------------------------------------------------

    async def _fetched(self, path: KeyPath, name: str, credential: Credential) -> Outcome:
        endpoint = WatchedEndpoint(self._clock, resolver=Resolving(self._lookup))
        try:
            token = await self._source(name, credential, endpoint).fetch()
        except (TokenRequestError, SecretMissing) as exc:
            clocks = tuple(skewed(path, endpoint.last.clock_skew)) if endpoint.last is not None else ()
            return Outcome((Finding(KINDS[exc.reason], path, exc.detail, NEXT_STEPS[exc.reason], at_key=True), *clocks))
        finally:
            await endpoint.close()
        self.tokens[name] = token
        obtained = Obtained(token, endpoint.last)
        return Outcome(tuple(_looked_at(path, credential, obtained)), said=_described(token))

    def _source(self, name: str, credential: Credential, endpoint: Endpoint) -> Source:
        meters, limits = self._metrics.credential(name), self._subject.configuration.limits
        match credential.grant:
            case "static":
                return GivenToken(given_token(credential), clock=self._clock, meters=meters, limits=limits)
            case "exec":
                return Command(credential, clock=self._clock, meters=meters, limits=limits)
        return IdP(credential, name=name, clock=self._clock, endpoint=endpoint, meters=meters, limits=limits)

    # --- stored -----------------------------------------------------------------------------------------------------

    async def _stored(self, path: KeyPath, name: str, credential: Credential) -> Outcome:
        section = self._subject.configuration.store
        assert section is not None  # noqa: S101 - the rules want one
        try:
            grant, is_owned = await asyncio.to_thread(_read, section, name)
        except StoreUnusable as exc:
            return Outcome((Finding(Kind.STORE_UNUSABLE, path, exc.detail, at_key=True),))
        found = [Finding(Kind.GRANT_OWNED, path, "a process owns the stored grant", at_key=True)] if is_owned else []
        if grant is None:
            if credential.refresh_token is not None:
                said = "nothing is stored yet: it begins with refresh_token, which is not spent here"
                return Outcome(tuple(found), said)
            message = "nobody has logged in: the store has no grant"
            return Outcome((*found, Finding(Kind.LOGIN_NEEDED, path, message, f"sidecar login {name}", at_key=True)))
        if grant.party not in (None, party(credential)) and credential.refresh_token is None:
            message = f"the stored grant is of {grant.party}, and goes to no other"
            return Outcome((*found, Finding(Kind.LOGIN_NEEDED, path, message, f"sidecar login {name}", at_key=True)))
        wall = self._clock.wall()
        found += _grant_looked_at(path, name, grant, wall=wall, is_owned=is_owned)
        owner = "a process owns it" if is_owned else "nobody owns it now"
        return Outcome(tuple(found), said=f"a grant is stored and can be read, {owner}; {_ends(grant, wall)}")


def _read(section: Store, name: str) -> tuple[Grant | None, bool]:
    store = TokenStore(Path(section.path), section.key)
    return store.read(name), store.is_owned(name)


def _grant_looked_at(path: KeyPath, name: str, grant: Grant, *, wall: float, is_owned: bool) -> Iterator[Finding]:
    left = math.inf if grant.expires_at is None else grant.expires_at - wall
    remedy = f"sidecar login {name}"
    if left <= 0:
        message = f"the stored refresh token expired {_days(-left)} ago"
        yield Finding(Kind.REFRESH_TOKEN_EXPIRED, path, message, remedy, at_key=True)
    elif left < REFRESH_TOKEN_SOON_SECONDS:
        message = f"the stored refresh token expires in {_days(left)}"
        yield Finding(Kind.REFRESH_TOKEN_ENDS_SOON, path, message, at_key=True)
    if grant.spent_at is not None and not is_owned:
        message = "the stored refresh token was sent, and no answer is known to have come"
        yield Finding(Kind.REFRESH_TOKEN_IN_DOUBT, path, message, at_key=True)


def _days(seconds: float) -> str:
    return f"{seconds / 86400:.0f} days" if seconds >= 2 * 86400 else f"{seconds / 3600:.0f} hours"


def _ends(grant: Grant, wall: float) -> str:
    if grant.expires_at is None:
        return "the provider did not say when its refresh token ends"
    return f"its refresh token ends in {_days(max(0.0, grant.expires_at - wall))}"


# --- the token -------------------------------------------------------------------------------------------------------


def _described(token: Token) -> str:
    life = "never expires" if math.isinf(token.lifetime) else f"lives {token.lifetime:.0f} s"
    return f"a token that {life}{f', scope {token.scope}' if token.scope else ''}"


def _looked_at(path: KeyPath, credential: Credential, obtained: Obtained) -> Iterator[Finding]:
    if obtained.answer is not None:
        yield from skewed(path, obtained.answer.clock_skew)
        yield from _answer(path, credential, obtained)
    yield from _lifetime(path, credential, obtained.token)
    yield from _scopes(path, credential, obtained.token)
    yield from _audience_and_issuer(path, credential, obtained.claims)


def _lifetime(path: KeyPath, credential: Credential, token: Token) -> Iterator[Finding]:
    if token.lifetime < SHORT_SECONDS:
        yield Finding(Kind.TOKEN_SHORT_LIVED, path, f"the token lives {token.lifetime:.0f} s", at_key=True)
    if credential.stale_for > token.lifetime:
        message = f"stale_for is {credential.stale_for:g} s, and the token lives {token.lifetime:.0f} s"
        yield Finding(Kind.STALE_LONGER_THAN_LIFE, (*path, "stale_for"), message)


def _answer(path: KeyPath, credential: Credential, obtained: Obtained) -> Iterator[Finding]:
    """What the answer leaves out. Fields within fields and second requests have forms of their own."""
    fields = obtained.fields
    is_usual = credential.impersonation_url is None and credential.dialect.token_field == "access_token"
    if not is_usual or not fields:
        return
    stated = [name for name in ("expires_in", *ABSOLUTE_EXPIRY) if fields.get(name) not in (None, "")]
    if not stated and "exp" not in obtained.claims:
        message = f"the answer names no expiry; default_ttl, {credential.default_ttl:g} s, stands in"
        yield Finding(Kind.TOKEN_WITHOUT_EXPIRY, (*path, "default_ttl"), message)
    if not fields.get("token_type"):
        yield Finding(Kind.TOKEN_TYPE_MISSING, path, "the answer names no token_type", at_key=True)


def _scopes(path: KeyPath, credential: Credential, token: Token) -> Iterator[Finding]:
    if token.missing_scopes:
        message = f"not granted, and required: {' '.join(token.missing_scopes)}"
        yield Finding(Kind.SCOPE_MISSING, (*path, "required_scopes"), message)
    if token.scope is None:
        return
    separator = "," if credential.dialect.scope_separator == "comma" else " "
    granted = set(token.scope.replace(separator, " ").split())
    absent = [each for each in credential.scopes if each not in granted and not each.endswith("/.default")]
    if lacking := [each for each in absent if each not in token.missing_scopes]:
        yield Finding(Kind.SCOPE_NOT_GRANTED, (*path, "scopes"), f"not granted: {' '.join(lacking)}")


def _audience_and_issuer(path: KeyPath, credential: Credential, claims: Mapping[str, object]) -> Iterator[Finding]:
    """Hints: a JWT that is meant for others may say what it likes."""
    audience = claims.get("aud")
    meant = audience if isinstance(audience, list) else [audience]
    if credential.audience is not None and audience is not None and credential.audience not in meant:
        yield Finding(Kind.AUDIENCE_DIFFERS, (*path, "audience"), "the token's `aud` does not name it")
    issuer = claims.get("iss")
    if credential.issuer is not None and issuer is not None and issuer != credential.issuer:
        yield Finding(Kind.ISSUER_DIFFERS, (*path, "issuer"), "the token's `iss` is another one")
