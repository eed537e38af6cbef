"""What is there and serves nobody: credentials without a route, stored grants without a credential."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from sidecar.broker.store import file_name
from sidecar.preflight.findings import Finding
from sidecar.preflight.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.preflight.subject import Subject

_MOST_NAMED: Final = 20


def credentials(subject: Subject) -> Iterator[Finding]:
    """Credentials without a route."""
    used = {route.credential for route in subject.configuration.routes}
    for path, name, _ in subject.credentials():
        if name not in used:
            yield Finding(Kind.UNUSED_CREDENTIAL, path, "no route uses it", at_key=True)


def grants(subject: Subject) -> Iterator[Finding]:
    """Grants in the store that no credential of the configuration rests on."""
    store = subject.configuration.store
    if store is None:
        return
    known = {file_name(name) for name in subject.configuration.credentials}
    try:
        there = sorted(path.name for path in Path(store.path).glob("*.grant"))
    except OSError:
        return  # the live stage says so, where a credential needs it
    for name in [each for each in there if each not in known][:_MOST_NAMED]:
        message = f"there is a grant of {unquote(name.removesuffix('.grant'))}, and no credential of this name"
        yield Finding(Kind.UNUSED_GRANT, ("store", "path"), message)
