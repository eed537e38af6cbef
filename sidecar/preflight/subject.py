"""What is checked: a configuration, what of it was asked for, and the machine it is checked on.

Decides what belongs to the credentials of ``--only``, and what is a mount of its own. Reads the machine once, so that
the lints are functions of what they are given and of the files that the configuration names.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from sidecar.runtime import Clock, SystemClock, Uniform, uniform

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.config.found import Found
    from sidecar.config.found import Path as KeyPath
    from sidecar.config.model import Configuration, Credential, Route
    from sidecar.proxy.resolver import Lookup

MOUNTS: Final = Path("/proc/self/mountinfo")
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the check runs.

    Args:
        wall: Unix time now.
        mounts: the mount points (proc_pid_mountinfo(5)).
    """

    wall: float
    mounts: frozenset[str] = frozenset()

    @classmethod
    def here(cls) -> Self:
        """This machine, now."""
        try:
            text = MOUNTS.read_text(errors="surrogateescape")
        except OSError:
            text = ""  # another system than Linux; there is nothing to see then
        return cls(SystemClock().wall(), mount_points(text))

    def is_mount(self, path: Path) -> bool:
        """Whether a file itself is a mount, not a folder above it. Links to it count, links on the way do not."""
        return os.path.realpath(path) in self.mounts and path.is_file()


def mount_points(mountinfo: str) -> frozenset[str]:
    """The fifth field of each line, without its octal escapes."""
    fields = (line.split() for line in mountinfo.splitlines())
    return frozenset(_ESCAPED.sub(lambda match: chr(int(match[1], 8)), each[4]) for each in fields if len(each) > 4)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a check asks of where it runs.

    Args:
        lookup: how names become addresses; None: as the system has it.
    """

    clock: Clock
    draw: Uniform
    machine: Machine
    lookup: Lookup | None = None

    @classmethod
    def real(cls) -> Self:
        """The machine's own."""
        return cls(SystemClock(), uniform, Machine.here())


@dataclass(frozen=True, slots=True)
class Subject:
    """A configuration to be checked.

    Args:
        file: where it stands; None if it has no file.
        supplied: paths of the values that a preset gave.
        only: names of the credentials that were asked for; empty for everything.
    """

    configuration: Configuration
    machine: Machine
    file: Path | None = None
    supplied: frozenset[KeyPath] = frozenset()
    only: frozenset[str] = frozenset()
    _routes: tuple[tuple[KeyPath, Route], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        routes = enumerate(self.configuration.routes)
        chosen = tuple((("routes", at), each) for at, each in routes if self._is_asked(each.credential))
        object.__setattr__(self, "_routes", chosen)

    @classmethod
    def loaded(
        cls,
        configuration: Configuration,
        found: Found,
        *,
        machine: Machine,
        file: Path | None = None,
        only: frozenset[str] = frozenset(),
    ) -> Self:
        """What a file holds."""
        return cls(configuration, machine, file, frozenset(found.supplied), only)

    def credentials(self) -> Iterator[tuple[KeyPath, str, Credential]]:
        """Those that were asked for: path, name and credential."""
        for name, credential in self.configuration.credentials.items():
            if self._is_asked(name):
                yield ("credentials", name), name, credential

    def routes(self) -> tuple[tuple[KeyPath, Route], ...]:
        """Those of the credentials that were asked for."""
        return self._routes

    def covers(self, path: KeyPath) -> bool:
        """Whether what stands at a path was asked for."""
        match path:
            case ("credentials", str(name), *_):
                return self._is_asked(name)
            case ("routes", int(at), *_):
                return self._is_asked(self.configuration.routes[at].credential)
        return not self.only

    def _is_asked(self, credential: str) -> bool:
        return not self.only or credential in self.only
