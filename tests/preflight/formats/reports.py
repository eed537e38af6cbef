"""A report with one of each, for the formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.config import load
from sidecar.preflight.findings import Check, Finding, Report, placed
from sidecar.preflight.kinds import Kind, Stage
from tests.config.conftest import VALID

if TYPE_CHECKING:
    from sidecar.config.found import Path
    from sidecar.config.problems import Span

ORDERS = ("credentials", "orders")


def report(
    *, strict: bool = False, filename: str = "deploy/config.yaml", message: str = "it does not resolve"
) -> Report:
    """An error, a warning and a note, one that is well and one that was left out."""
    loaded = load.parse_with_places(VALID, filename)

    def places(path: Path, at_key: bool) -> Span | None:
        return loaded.found.span(path, at_key=at_key)

    checks = [
        Check(Stage.OFFLINE, "configuration", said="it can be used"),
        Check(
            Stage.OFFLINE,
            "exposure",
            (
                Finding(Kind.MOUNTED_ALONE, (), "the file is a mount of its own"),
                Finding(Kind.IDP_OVER_PLAIN_HTTP, (*ORDERS, "token_url"), "over http"),
            ),
        ),
        Check(
            Stage.NETWORK,
            "idp.example.com:443",
            (Finding(Kind.IDP_DNS, (*ORDERS, "token_url"), message, remedy="look"),),
            seconds=0.25,
        ),
        Check(Stage.LIVE, "credentials.orders", skipped="not asked for, because of idp-dns"),
    ]
    return Report(filename, Stage.LIVE, placed(checks, places), strict, loaded.frame)
