"""``sidecar schema``: the JSON Schema of the configuration file, for editors and pipelines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from sidecar.config.schema import json_schema

if TYPE_CHECKING:
    import argparse

HELP: Final = "Print the JSON Schema (draft 2020-12) of the configuration file."
EXAMPLE: Final = "example: sidecar schema > config.schema.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""
    del parser


def execute(arguments: argparse.Namespace) -> int:
    """Print it; always succeeds."""
    del arguments
    print(json.dumps(json_schema(), indent=2))
    return 0
