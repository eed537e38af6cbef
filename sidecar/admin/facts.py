"""What the admin listener knows of the process beside its credentials and metrics; the composition root keeps it up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sidecar.config.model import Configuration
from sidecar.proxy.routing import RoutingTable
from sidecar.telemetry.recent import RecentRequests

if TYPE_CHECKING:
    from sidecar.config.difference import Change


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload:
    """How the last reload went.

    Args:
        at: Unix time.
        problem: why it was rejected; None if it was applied.
        changes: the keys that it changed.
    """

    at: float
    problem: str | None = None
    changes: tuple[Change, ...] = ()


@dataclass(slots=True, kw_only=True)
class Facts:
    """The process as it runs now.

    Args:
        started_at: Unix time.
        configuration: the one that runs.
        table: its routes.
        recent: the last requests.
        reload: the last one; None before the first.
    """

    started_at: float = 0.0
    configuration: Configuration = field(default_factory=lambda: Configuration(listeners=()))
    table: RoutingTable = field(default_factory=lambda: RoutingTable(()))
    recent: RecentRequests = field(default_factory=RecentRequests)
    reload: Reload | None = None
