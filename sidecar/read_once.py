"""What is read once with the configuration, at start and at each reload, and has to stand before anything is served.

Decides what is made of it: who may use each listener, the CA for intercepted hosts. The admin token is only looked at,
because it is read again for each use. Leaves to ``app`` when, and to ``config.files`` which of these files are watched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from sidecar.admin.access import checked_token
from sidecar.config import load
from sidecar.errors import ConfigurationInvalid, SecretMissing
from sidecar.proxy.admission import Admission, admission
from sidecar.proxy.peer import peer_uid
from sidecar.secrets import SecretReference

if TYPE_CHECKING:
    from sidecar.config import model
    from sidecar.config.model import Configuration
    from sidecar.proxy.minting import LocalCA
    from sidecar.runtime import Clock


@dataclass(frozen=True, slots=True)
class ReadOnce:
    """Who may use each listener, by its name, and the CA for intercepted hosts."""

    admissions: dict[str, Admission | None]
    local_ca: LocalCA | None

    @classmethod
    def of(cls, configuration: Configuration, clock: Clock) -> Self:
        """Read it.

        Raises:
            SecretMissing, ConfigurationInvalid: what could be read a moment ago cannot be now, or cannot be used.
        """
        admissions = {each.name: _admission(each) for each in configuration.listeners}
        if configuration.admin is not None and configuration.admin.token is not None:
            _see_admin_token(configuration.admin.token)
        section = configuration.interception
        return cls(admissions, None if section is None else _local_ca(section, clock))


def see_secrets(configuration: Configuration, clock: Clock) -> ReadOnce:
    """See whether every secret is there, and read those that are read with the configuration.

    Raises:
        SecretMissing, ConfigurationInvalid
    """
    load.missing_secrets(configuration)
    return ReadOnce.of(configuration, clock)


def _admission(config: model.Listener) -> Admission | None:
    try:
        return admission(config.auth, SecretReference.read, peer_uid)
    except SecretMissing as exc:
        raise SecretMissing(f"listeners.{config.name}.auth: {exc.detail}") from exc


def _see_admin_token(reference: SecretReference) -> None:
    try:
        checked_token(reference.read())
    except SecretMissing as exc:
        raise SecretMissing(f"admin.token: {exc.detail}") from exc


def _local_ca(section: model.Interception, clock: Clock) -> LocalCA:
    from sidecar.proxy.minting import LocalCA  # only where there is a CA: it brings cryptography with it

    try:
        return LocalCA.load(section, clock)
    except ValueError as exc:
        raise ConfigurationInvalid(f"interception: {exc}") from exc
