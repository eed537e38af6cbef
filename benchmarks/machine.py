"""The machine that figures were taken on, as it describes itself."""

from __future__ import annotations

import datetime
import os
import platform
import ssl
import sys
from typing import TYPE_CHECKING

from benchmarks.measure import cpu_model
from benchmarks.report import Machine

if TYPE_CHECKING:
    from collections.abc import Sequence


def this_machine(peers: Sequence[str], *, load: str) -> Machine:
    """Where this runs, today.

    Args:
        peers: what was measured, each with its version.
        load: what made the load.
    """
    return Machine(
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        cpu=cpu_model(),
        cores=os.cpu_count() or 1,
        kernel=platform.release().partition("-")[0],
        # A distribution's build (profile-guided, link-time optimised) takes a third less than a plain one of one's own.
        python=platform.python_version() + (" as Debian builds it" if sys.base_prefix == "/usr" else ""),
        openssl=" ".join(ssl.OPENSSL_VERSION.split()[:2]),
        peers=tuple(peers),
        load=load,
    )
