"""What is sent along with a question: one archive that says how the sidecar stands, and holds nobody's secret.

Decides what is in it. Everything comes from places that hold no secret, and goes through the log's redaction once more
on its way, line by line: the archive leaves the house.
"""

from __future__ import annotations

import io
import json
import platform
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from sidecar import __version__
from sidecar.config.shown import shown
from sidecar.telemetry import log
from sidecar.telemetry.redaction import Redactor, escape

if TYPE_CHECKING:
    from sidecar.admin.facts import Facts
    from sidecar.admin.status import StatusReport
    from sidecar.telemetry.metrics import Metrics

ZIP: Final = "application/zip"
README: Final = """Token Sidecar support bundle

about.json          version, Python, platform
configuration.json  the keys that were written; secrets by reference, masked where there is none
status.json         credentials, routes, the last reload, the last requests
metrics.txt         /metrics at this moment
log.jsonl           the last lines of the event log

It holds no token and no secret. It does hold host names, paths, client ids and scopes: read it before you send it.
"""


def contents(*, report: StatusReport, metrics: Metrics, facts: Facts, wall: float) -> dict[str, str]:
    """The files by their names.

    Args:
        wall: Unix time now.
    """
    about = {
        "version": __version__,
        "python": sys.version,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "made_at": _instant(wall),
        "started_at": _instant(facts.started_at),
    }
    files = {
        "README.txt": README,
        "about.json": _json(about),
        "configuration.json": _json(shown(facts.configuration)),
        "status.json": _json(report.snapshot()),
        "metrics.txt": metrics.render()[0].decode(),
        "log.jsonl": "".join(f"{line}\n" for line in log.kept_lines()),
    }
    redactor = Redactor()
    return {name: _clean(redactor, text) for name, text in files.items()}


def archive(files: dict[str, str], *, name: str, wall: float) -> bytes:
    """The files as a zip archive, below a folder of this name."""
    import zipfile  # only whoever asks pays for it

    raw = io.BytesIO()
    date = time.gmtime(wall)[:6]
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as file:
        for each, text in files.items():
            entry = zipfile.ZipInfo(f"{name}/{each}", date)
            entry.external_attr = 0o600 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(entry, text)
    return raw.getvalue()


def bundle_name(wall: float) -> str:
    """What the archive is called, without its ending."""
    return time.strftime("token-sidecar-support-%Y%m%dT%H%M%SZ", time.gmtime(wall))


def _clean(redactor: Redactor, text: str) -> str:
    return "\n".join(escape(line) for line in redactor.redact(text).split("\n"))


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"


def _instant(wall: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wall))
