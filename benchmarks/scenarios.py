"""What is asked of every proxy: a body size over an upstream transport, with 32 kept connections."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

CONNECTIONS: Final = 32


class Upstream(enum.Enum):
    """How the proxy reaches the origin; the client's side is always plain HTTP on loopback."""

    PLAIN = "plain"
    TLS = "tls"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One column of the table.

    Attributes:
        name: stable key of the results file.
        title: the column's heading.
        path: file at the origin, with a leading slash.
        size: its bytes.
    """

    name: str
    title: str
    path: str
    size: int
    upstream: Upstream


SCENARIOS: Final = (
    Scenario("1k-plain", "1 KiB, plain upstream", "/1k", 1024, Upstream.PLAIN),
    Scenario("1k-tls", "1 KiB, TLS upstream", "/1k", 1024, Upstream.TLS),
    Scenario("1m-plain", "1 MiB, plain upstream", "/1m", 1024 * 1024, Upstream.PLAIN),
    Scenario("1m-tls", "1 MiB, TLS upstream", "/1m", 1024 * 1024, Upstream.TLS),
)
