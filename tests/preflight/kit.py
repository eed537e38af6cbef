"""Configurations to be checked, and what is found in them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sidecar.config import load
from sidecar.preflight import checkup
from sidecar.preflight.checkup import Options
from sidecar.preflight.subject import Machine, Subject, Surroundings
from sidecar.runtime import SystemClock
from tests.config.conftest import VALID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from sidecar.preflight.findings import Finding, Report
    from sidecar.preflight.kinds import Kind, Stage
    from sidecar.runtime import Clock

    Lint = Callable[[Subject], Iterator[Finding]]

NOW: Final = SystemClock().wall()
FILE: Final = "config.yaml"


def subject(text: str = VALID, *, mounts: Iterable[str] = (), wall: float = NOW, **more: Any) -> Subject:
    """What is checked, on a machine with these mounts."""
    loaded = load.parse_with_places(text, FILE)
    machine = Machine(wall, frozenset(mounts))
    return Subject.loaded(loaded.configuration, loaded.found, machine=machine, **more)


def told(lint: Lint, text: str, **more: Any) -> list[tuple[Kind, str]]:
    """What a lint says of a text: each kind and the key it is about."""
    return [(finding.kind, finding.key) for finding in lint(subject(text, **more))]


def sentences(lint: Lint, text: str, **more: Any) -> list[str]:
    """The same in words."""
    return [finding.sentence for finding in lint(subject(text, **more))]


def with_credential(lines: str, text: str = VALID) -> str:
    """The valid configuration with further keys of its credential."""
    added = "".join(f"    {line}\n" for line in lines.splitlines())
    return text.replace("    client_secret", f"{added}    client_secret")


@dataclass
class Bench:
    """A configuration by its sections, and the surroundings of a check.

    Attributes:
        names: what the resolver answers.
    """

    folder: Path
    names: dict[str, list[str]] = field(default_factory=dict)
    clock: Clock = field(default_factory=SystemClock)
    limits: dict[str, str] = field(default_factory=lambda: {"connect": "5s", "token_request": "5s"})

    async def check(self, depth: Stage, *, strict: bool = False, timeout: float = 60.0, **sections: Any) -> Report:
        """The report on a configuration with these sections."""
        loaded = load.parse_with_places(self.text(**sections), FILE)
        options = Options(depth, strict, timeout=timeout)
        return await checkup.check(loaded, FILE, options, around=self.around())

    def text(self, **sections: Any) -> str:
        """The file."""
        whole = {
            "listeners": [{"name": "egress", "bind": "127.0.0.1:6180"}],
            "limits": self.limits,
            "allow_inline_secrets": True,
            **sections,
        }
        return json.dumps(whole, indent=1)

    def around(self) -> Surroundings:
        machine = Machine(self.clock.wall())
        return Surroundings(self.clock, lambda low, high: low, machine, self._look_up)

    async def _look_up(self, host: str) -> list[str]:
        if host == "localhost":
            return ["127.0.0.1"]
        if host not in self.names:
            raise OSError(f"no address for {host}")
        return self.names[host]


def credential(token_url: str | None, **changes: Any) -> dict[str, Any]:
    """A credential of the mock provider's client."""
    plain = {
        "grant": "client_credentials",
        "token_url": token_url,
        "client_id": "client",
        "client_secret": "client-secret",
    }
    return {key: value for key, value in (plain | changes).items() if value is not None}


def found(report: Report, stage: Stage) -> list[tuple[Kind, str]]:
    """What one stage found: each kind and the key it is about."""
    return [(finding.kind, finding.key) for at, finding in report.findings if at is stage]


def kinds(report: Report, stage: Stage) -> set[Kind]:
    """The kinds alone."""
    return {kind for kind, _ in found(report, stage)}
