"""Arguments that several commands share: which configuration, and how long to wait."""

from __future__ import annotations

import argparse
from typing import Final

from sidecar.config import scalars

LONGEST_WAIT_SECONDS: Final = 600.0


def add_config(parser: argparse.ArgumentParser) -> None:
    """``-c FILE``."""
    parser.add_argument("-c", "--config", metavar="FILE", help="default: $SIDECAR_CONFIG, then config.yaml")


def waiting_time(text: str) -> float:
    """Seconds of ``30s``, ``5m`` or a bare number of seconds.

    Raises:
        ArgumentTypeError: it is no duration, or none to wait.
    """
    try:
        seconds = scalars.duration(f"{text}s" if text.isdigit() else text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc
    if not 0 < seconds <= LONGEST_WAIT_SECONDS:
        raise argparse.ArgumentTypeError("more than nothing and at most 10m is waited")
    return seconds
