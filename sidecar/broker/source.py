"""Where a credential's token comes from: an IdP's token endpoint, or a file that somebody else keeps fresh.

Decides which secret is presented and what each request counts. Leaves to ``credential`` when to ask, and everything
that a failure leads to.

Secrets are read again for every request, because platforms rotate them by changing files. A secret that changed is
tried first, and the last one that worked is kept until the new one works: a rotation in which the file is ahead of the
IdP, or the IdP ahead of the file, costs one extra request and no token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sidecar.errors import InvalidClient, SecretMissing, TokenMalformed, TokenRequestError
from sidecar.oauth import grants
from sidecar.oauth.endpoint import FileStamp, Wire, stamp_of
from sidecar.oauth.token import Token, from_file, parse
from sidecar.secrets import SecretReference
from sidecar.telemetry.log import get_logger

if TYPE_CHECKING:
    from sidecar.config.model import Credential as CredentialConfig
    from sidecar.config.model import Limits
    from sidecar.oauth.endpoint import Endpoint
    from sidecar.runtime import Clock
    from sidecar.secrets import Secret
    from sidecar.telemetry.metrics import CredentialMeters

log = get_logger("broker")


class Source(Protocol):
    """Gets tokens for one credential."""

    watches: bool
    """A changed input is by itself a reason to ask; otherwise only while requests fail."""
    requests_sent: int
    """HTTP requests so far, for the endpoint's budget."""
    limits: Limits

    async def fetch(self) -> Token:
        """A token.

        Raises:
            TokenRequestError: there is none, for the leaf's reason.
            SecretMissing: a secret cannot be read and there is no earlier value.
        """

    def inputs_changed(self) -> bool:
        """Whether a file that requests depend on is another one than at the last request."""


class WatchedFiles:
    """Notices that files changed, by their stamp; a file that is gone has a stamp too."""

    __slots__ = ("_paths", "_seen")

    def __init__(self, paths: list[str]) -> None:
        self._paths = paths
        self._seen: list[FileStamp | None] = []

    def note(self) -> None:
        """Remember the files as they are now."""
        self._seen = self._stamps()

    def changed(self) -> bool:
        return self._seen != self._stamps()

    def _stamps(self) -> list[FileStamp | None]:
        return [_stamp_or_none(path) for path in self._paths]


def _stamp_or_none(path: str) -> FileStamp | None:
    try:
        return stamp_of(path)
    except OSError:
        return None


class RotatingSecret:
    """One secret and its last value that worked."""

    __slots__ = ("_clock", "_meters", "_name", "_reference", "_seen", "working")

    def __init__(self, reference: SecretReference, *, name: str, clock: Clock, meters: CredentialMeters) -> None:
        self._reference = reference
        self._name = name
        self._clock = clock
        self._meters = meters
        self._seen: Secret | None = None
        self.working: Secret | None = None

    def read(self) -> Secret:
        """The secret as it stands now; the last one seen, if it cannot be read.

        Raises:
            SecretMissing: it cannot be read and never could be.
        """
        try:
            secret = self._reference.read()
        except SecretMissing as exc:
            self._meters.secret_read_errors.value += 1
            if self._seen is None:
                raise
            log.warning("secret_unreadable", credential=self._name, detail=exc.detail, next="using its last value")
            return self.working or self._seen
        if self._seen is None or secret != self._seen:
            self._note_change(secret)
        return secret

    def _note_change(self, secret: Secret) -> None:
        if self._seen is not None:
            log.info("secret_changed", credential=self._name, reference=str(self._reference))
        self._seen = secret
        self._meters.secret_last_change_timestamp.value = self._changed_at()

    def _changed_at(self) -> float:
        path = self._reference.path
        stamp = _stamp_or_none(str(path)) if path else None
        return stamp[0] / 1e9 if stamp else self._clock.wall()


class IdP:
    """Tokens from a token endpoint."""

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
        reference = config.client_secret
        assert reference is not None  # noqa: S101 - the configuration requires it for every grant there is
        self._config = config
        self._name = name
        self._clock = clock
        self._endpoint = endpoint
        self._meters = meters
        self._expected = grants.expected(config)
        self._secret = RotatingSecret(reference, name=name, clock=clock, meters=meters)
        self._files = WatchedFiles([str(path) for path in (reference.path, config.ca_file) if path])
        self.limits = limits
        self.requests_sent = 0

    def inputs_changed(self) -> bool:
        return self._files.changed()

    async def fetch(self) -> Token:
        self._files.note()
        secret = self._secret.read()
        try:
            token = await self._request(secret)
        except TokenRequestError as exc:
            working = self._secret.working
            if working is None or working == secret or not _blames_secret(exc):
                raise
            return await self._with_working(working, exc)
        self._secret.working = secret
        return token

    async def _with_working(self, working: Secret, refusal: TokenRequestError) -> Token:
        token = await self._request(working)
        log.warning(
            "secret_refused",
            credential=self._name,
            reason=refusal.reason,
            http_status=refusal.http_status,
            next="using the previous secret; the new one is tried again at the next refresh",
        )
        return token

    async def _request(self, secret: Secret) -> Token:
        """One token request, counted."""
        started_at = self._clock.now()
        try:
            token = await self._exchange(secret)
        except TokenRequestError as exc:
            self._meters.requests[exc.reason].value += 1
            if exc.oauth_error is not None:
                self._meters.oauth_error(exc.oauth_error).value += 1
            raise
        else:
            self._meters.requests["success"].value += 1
            return token
        finally:
            self._meters.request_duration.observe(self._clock.now() - started_at)

    async def _exchange(self, secret: Secret) -> Token:
        wire = Wire(self._config.ca_file, self.limits.connect, self.limits.token_request, self._count_request)
        url = self._config.token_url or await self._endpoint.discover(self._config.issuer or "", wire)
        request = grants.token_request(self._config, token_url=url, secret=secret)
        answer = await self._endpoint.post(request, wire)
        if (skew := answer.clock_skew) is not None:
            self._meters.clock_skew.value = skew
        try:
            return parse(answer, self._expected)
        except TokenMalformed:
            if self._config.issuer and answer.status >= 400:
                self._endpoint.forget_discovered(self._config.issuer, self._config.ca_file)
            raise

    def _count_request(self) -> None:
        self.requests_sent += 1


def _blames_secret(error: TokenRequestError) -> bool:
    # Auth0 says access_denied for a wrong secret; some servers send a bare 401 (allowed by RFC 6749 section 5.2).
    return isinstance(error, InvalidClient) or error.http_status == 401 or error.oauth_error == "access_denied"


class TokenFile:
    """A token that another process writes to a file."""

    watches = True

    def __init__(self, path: str, *, clock: Clock, meters: CredentialMeters, limits: Limits) -> None:
        self._reference = SecretReference("file", path)
        self._clock = clock
        self._meters = meters
        self._files = WatchedFiles([path])
        self.limits = limits
        self.requests_sent = 0

    def inputs_changed(self) -> bool:
        return self._files.changed()

    async def fetch(self) -> Token:
        self._files.note()
        try:
            secret = self._reference.read()
        except SecretMissing:
            self._meters.secret_read_errors.value += 1
            raise
        try:
            token = from_file(secret, sent_at=self._clock.now(), wall=self._clock.wall())
        except TokenRequestError as exc:
            self._meters.requests[exc.reason].value += 1
            raise
        self._meters.requests["success"].value += 1
        return token
