"""Arguments that several commands share: which configuration, and how long to wait."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from sidecar.config import scalars

if TYPE_CHECKING:
    from collections.abc import Callable


def add_config(parser: argparse.ArgumentParser) -> None:
    """``-c FILE``."""
    parser.add_argument("-c", "--config", metavar="FILE", help="default: $SIDECAR_CONFIG, then config.yaml")


def seconds_within(least: float, most: float, otherwise: str) -> Callable[[str], float]:
    """Reads ``30s``, ``5m`` or a bare number of seconds.

    Args:
        least: the shortest that is taken.
        most: the longest.
        otherwise: what is said of any other.
    """

    def read(text: str) -> float:
        try:
            seconds = scalars.duration(f"{text}s" if text.isdigit() else text)
        except ValueError as exc:
            raise argparse.ArgumentTypeError(str(exc)) from exc
        if not least <= seconds <= most:
            raise argparse.ArgumentTypeError(otherwise)
        return seconds

    return read


waiting_time: Final = seconds_within(0.001, 600.0, "more than nothing and at most 10m is waited")
