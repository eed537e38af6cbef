"""What a configuration needs of the machine: CA bundles with certificates, readable secrets, packages for tracing.

A CA bundle that cannot be read is an error of the configuration, at its place. A missing secret is not: platforms mount
secrets late, so ``run`` names all that are missing in one message with an exit code of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sidecar.config.model import Configuration, Credential, Route, Tracing
from sidecar.errors import SecretMissing
from sidecar.secrets import SecretReference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.config.found import Found
    from sidecar.config.found import Path as KeyPath

_LARGEST_BUNDLE: Final = 8 << 20


def read_once(configuration: Configuration) -> list[Path]:
    """The files that are read with the configuration, so that they are watched with it: secrets of listeners, and the
    local CA. What a credential needs is read again for each token request instead."""
    found = [reference.path for _, reference in _references(configuration.listeners, ())]
    if configuration.interception is not None:
        found += (Path(configuration.interception.certificate), configuration.interception.key.path)
    return [path for path in found if path is not None]


def refuse_unreadable(found: Found) -> None:
    """Note every CA bundle that cannot be used, where the configuration names it."""
    sections: list[tuple[KeyPath, Credential | Route]] = [*found.each(Credential), *found.each(Route)]
    for path, struct in sections:
        if struct.ca_file is not None and (reason := unusable_bundle(Path(struct.ca_file))):
            found.note((*path, "ca_file"), f"'ca_file': {reason}")


def refuse_uninstalled(found: Found) -> None:
    """Note what is asked for and comes with an extra that is not installed."""
    for path, section in found.each(Tracing):
        if not section.enabled:
            continue
        from sidecar.telemetry import tracing  # only where it is asked for: it brings asyncio

        if not tracing.is_installed():
            found.note((*path, "enabled"), f"'enabled: true' needs OpenTelemetry's packages: {tracing.INSTALL}")


def unusable_bundle(path: Path) -> str | None:
    """Why a file is no CA bundle in PEM form; None if it is one."""
    import ssl  # only where a bundle is configured: it costs as much as everything else here

    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST_BUNDLE + 1)
    except OSError as exc:
        return f"the file cannot be read: {exc.strerror or 'unknown reason'}"
    if len(raw) > _LARGEST_BUNDLE:
        return f"the file is larger than {_LARGEST_BUNDLE >> 20} MiB"
    if b"-----BEGIN " not in raw or b"CERTIFICATE-----" not in raw:
        return "the file holds no certificates in PEM form"
    text = raw.decode("ascii", "replace").replace("\ufffd", "?")  # names in comments between the certificates
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):
        return "the file holds a certificate that cannot be read"
    return None


def references(configuration: Configuration) -> list[tuple[str, SecretReference]]:
    """Every secret the configuration names, with the path of its key; a ``token_file`` is one too."""
    return [(".".join(map(str, path)), reference) for path, reference in _all_references(configuration, by_name=True)]


def located_references(configuration: Configuration) -> list[tuple[KeyPath, SecretReference]]:
    """The same, each with its path in the file."""
    return _all_references(configuration, by_name=False)


def _all_references(configuration: Configuration, *, by_name: bool) -> list[tuple[KeyPath, SecretReference]]:
    found = list(_references(configuration, (), by_name=by_name))
    for name, credential in configuration.credentials.items():
        named = {key: getattr(credential, key) for key in ("token_file", "assertion_file")}
        found += [(("credentials", name, key), SecretReference("file", path)) for key, path in named.items() if path]
    return found


def given_token(credential: Credential) -> SecretReference:
    """Where the token of a ``static`` credential stands."""
    if credential.token_file is not None:
        return SecretReference("file", credential.token_file)
    assert credential.token is not None  # noqa: S101 - the rules want one of the two
    return credential.token


def _references(value: Any, path: KeyPath, *, by_name: bool = True) -> Iterator[tuple[KeyPath, SecretReference]]:
    match value:
        case SecretReference():
            yield path, value
        case msgspec.Struct():
            for name in value.__struct_fields__:
                yield from _references(getattr(value, name), (*path, name), by_name=by_name)
        case dict():
            for name, element in value.items():
                yield from _references(element, (*path, name), by_name=by_name)
        case tuple():
            for index, element in enumerate(value):
                part = getattr(element, "name", index) if by_name else index
                yield from _references(element, (*path, part), by_name=by_name)


def missing_secrets(configuration: Configuration) -> None:
    """See whether every secret can be read now.

    Raises:
        SecretMissing: names all that cannot, each with its key.
    """
    missing = []
    for key, reference in references(configuration):
        try:
            reference.read()
        except SecretMissing as exc:
            missing.append(f"{key}: {exc.detail}")
    if len(missing) == 1:
        raise SecretMissing(missing[0])
    if missing:
        raise SecretMissing("\n  ".join([f"{len(missing)} secrets cannot be read:", *missing]))
