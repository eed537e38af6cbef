"""Where a credential's token comes from, as a type; and the simplest source, a token that somebody else keeps fresh.

``credential`` knows of a source only what stands in ``Source``. The other sources are ``idp``, ``command`` and
``renewal``.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from sidecar.errors import SecretMissing, TokenRequestError
from sidecar.oauth.endpoint import FileStamp, stamp_of
from sidecar.oauth.token import Token, bare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.config.model import Limits
    from sidecar.runtime import Clock
    from sidecar.secrets import Secret, SecretReference
    from sidecar.telemetry.metrics import CredentialMeters


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

    def close(self) -> None:
        """Give up what it owns; no request is under way any more."""


def read_counted(reference: SecretReference, meters: CredentialMeters) -> Secret:
    """The secret as it stands now; that it cannot be read is counted.

    Raises:
        SecretMissing: it cannot be read.
    """
    try:
        return reference.read()
    except SecretMissing:
        meters.secret_read_errors.value += 1
        raise


@contextmanager
def counted(meters: CredentialMeters) -> Iterator[None]:
    """Count what becomes of the token request inside: a success, or the reason and the IdP's own code."""
    try:
        yield
    except TokenRequestError as exc:
        meters.requests[exc.reason].value += 1
        if exc.oauth_error is not None:
            meters.oauth_error(exc.oauth_error).value += 1
        raise
    meters.requests["success"].value += 1


@contextmanager
def timed(meters: CredentialMeters, clock: Clock) -> Iterator[float]:
    """Observe how long the request inside takes, however it ends; gives the instant at which it began."""
    started_at = clock.now()
    try:
        yield started_at
    finally:
        meters.request_duration.observe(clock.now() - started_at)


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
        return [stamp_or_none(path) for path in self._paths]


def stamp_or_none(path: str) -> FileStamp | None:
    """A file's stamp; None while it is not there."""
    try:
        return stamp_of(path)
    except OSError:
        return None


class GivenToken:
    """A token that another process writes to a file, or that the platform put into the environment."""

    watches = True

    def __init__(self, reference: SecretReference, *, clock: Clock, meters: CredentialMeters, limits: Limits) -> None:
        self._reference = reference
        self._clock = clock
        self._meters = meters
        self._files = WatchedFiles([str(reference.path)] if reference.path is not None else [])
        self.limits = limits
        self.requests_sent = 0

    def inputs_changed(self) -> bool:
        return self._files.changed()

    def close(self) -> None:
        pass

    async def fetch(self) -> Token:
        self._files.note()
        secret = read_counted(self._reference, self._meters)
        with counted(self._meters):
            return bare(secret, sent_at=self._clock.now(), wall=self._clock.wall())
