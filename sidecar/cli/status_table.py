"""How the state of a running sidecar looks in a terminal, and as JSON. Plain functions of what was seen.

Whatever the sidecar said is shown as printable text: what listens at an address may be anybody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from sidecar.telemetry.metrics import PREFIX, UNMATCHED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_SAMPLE: Final = re.compile(rf"^{PREFIX}(http_requests_total|injections_total){{([^}}]*)}} (\S+)", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_COLOURS: Final = {"fresh": 32, "due": 32, "stale": 33, "empty": 33, "failing": 31, "login_needed": 31}
"""Of states: green, yellow, red (ECMA-48, SGR)."""
_BOLD, _DIM, _RED = 1, 2, 31


@dataclass(slots=True)
class Counts:
    """What one route has counted since the sidecar started."""

    requests: int = 0
    client_errors: int = 0
    server_errors: int = 0
    with_token: int = 0
    without_token: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at one moment.

    Args:
        sidecar: its address.
        at: Unix time.
        credentials: as the admin API lists them.
        routes: counts by label, where telemetry answers.
        trouble: why nothing was seen; empty if all is well.
    """

    sidecar: str
    at: float
    credentials: tuple[Mapping[str, Any], ...] = ()
    routes: Mapping[str, Counts] = field(default_factory=dict)
    trouble: str = ""


def counted(metrics: str) -> dict[str, Counts]:
    """Counts by route, from the text of ``/metrics``."""
    found: dict[str, Counts] = {}
    for name, labels, value in _SAMPLE.findall(metrics):
        named = dict(_LABEL.findall(labels))
        counts = found.setdefault(named.get("route", ""), Counts())
        count = int(float(value))
        if name == "http_requests_total":
            counts.requests += count
            counts.client_errors += count if named.get("code", "").startswith("4") else 0
            counts.server_errors += count if named.get("code", "").startswith("5") else 0
        elif named.get("result") in ("injected", "stale_token"):
            counts.with_token += count
        elif named.get("result") in ("no_token", "bypassed_connect"):
            counts.without_token += count
    return found


# --- for programs ----------------------------------------------------------------------------------------------------


def for_programs(look: Look) -> dict[str, object]:
    """The API's own words, with times from now on beside them."""
    return {
        "sidecar": look.sidecar,
        "reachable": not look.trouble,
        **({"trouble": look.trouble} if look.trouble else {}),
        "credentials": [
            {
                **each,
                "expires_in_seconds": _seconds_to(each.get("expires_at"), look.at),
                "next_attempt_in_seconds": _seconds_to(each.get("next_attempt_at"), look.at),
            }
            for each in look.credentials
        ],
        "routes": [
            {"route": label, **{name: getattr(counts, name) for name in Counts.__slots__}}
            for label, counts in look.routes.items()
        ],
    }


def _seconds_to(instant: object, now: float) -> int | None:
    if not isinstance(instant, str):
        return None
    try:
        return round(datetime.fromisoformat(instant).timestamp() - now)
    except ValueError:
        return None


# --- for people ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Cell:
    text: str
    colour: int | None = None
    is_number: bool = False


def lines(look: Look, *, coloured: bool, width: int | None) -> list[str]:
    """The whole of it.

    Args:
        look: what was seen.
        coloured: with colours.
        width: of the terminal; None if nothing has to fit anywhere.
    """
    shown = [_painted(f"sidecar at {_printable(look.sidecar)}", _BOLD, coloured)]
    if look.trouble:
        shown.append(_painted(_cut(_printable(look.trouble), width), _RED, coloured))
        if look.credentials:
            shown.append(_painted("what was seen last:", _DIM, coloured))
    if look.credentials:
        shown += ["", *_table(_CREDENTIALS, [_credential(each, look.at) for each in look.credentials], coloured)]
        shown += _failures(look, coloured, width)
    elif not look.trouble:
        shown += ["", "no credentials"]
    if look.routes:
        shown += ["", *_table(_ROUTES, [_route(*each) for each in _in_order(look.routes)], coloured)]
    return shown


_CREDENTIALS: Final = ("CREDENTIAL", "STATE", "USABLE", "GENERATION", "EXPIRES IN", "NEXT TRY IN", "FAILURES")


def _credential(said: Mapping[str, Any], now: float) -> list[_Cell]:
    state = _printable(said.get("state"))
    usable = said.get("usable") is True
    return [
        _Cell(_printable(said.get("name"))),
        _Cell(state, _COLOURS.get(state)),
        _Cell("yes" if usable else "no", None if usable else _RED),
        _Cell(_printable(said.get("generation")), is_number=True),
        _Cell(_expiry(said, now), is_number=True),
        _Cell(_attempt(said, now), is_number=True),
        _Cell(_printable(said.get("consecutive_failures")), is_number=True),
    ]


def _expiry(said: Mapping[str, Any], now: float) -> str:
    seconds = _seconds_to(said.get("expires_at"), now)
    if seconds is None:
        return "never" if said.get("generation") else "-"
    return duration(seconds) if seconds > 0 else "expired"


def _attempt(said: Mapping[str, Any], now: float) -> str:
    if said.get("refreshing") is True:
        return "now"
    seconds = _seconds_to(said.get("next_attempt_at"), now)
    if seconds is None:
        return "-"
    return duration(seconds) if seconds > 0 else "now"


def duration(seconds: int) -> str:
    """Its two largest units: ``41m 12s``, ``2d 3h``."""
    parts: list[str] = []
    left = seconds
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"


def _failures(look: Look, coloured: bool, width: int | None) -> Iterator[str]:
    """The last error of each credential that has one, and the step to take."""
    for each in look.credentials:
        if each.get("last_error"):
            name, error = _printable(each.get("name")), _printable(each.get("last_error"))
            yield ""
            detail = f": {_printable(each['last_detail'])}" if each.get("last_detail") else ""
            yield _painted(_cut(f"{name}: {error}{detail}", width), _RED, coloured)
            if each.get("next"):
                yield _cut(f"  next: {_printable(each.get('next'))}", width)


_ROUTES: Final = ("ROUTE", "REQUESTS", "4XX", "5XX", "WITH TOKEN", "WITHOUT")


def _in_order(routes: Mapping[str, Counts]) -> list[tuple[str, Counts]]:
    """As they came; what has no route is last, and only where there was something."""
    known = [(label, counts) for label, counts in routes.items() if label != UNMATCHED]
    rest = routes.get(UNMATCHED)
    return [*known, (UNMATCHED, rest)] if rest is not None and rest.requests else known


def _route(label: str, counts: Counts) -> list[_Cell]:
    numbers = (
        (counts.requests, None),
        (counts.client_errors, None),
        (counts.server_errors, _RED),
        (counts.with_token, None),
        (counts.without_token, 33),
    )
    name = "(no route)" if label == UNMATCHED else _printable(label)
    return [
        _Cell(name),
        *(_Cell(str(number), colour if number else None, is_number=True) for number, colour in numbers),
    ]


def _table(header: Sequence[str], rows: Sequence[Sequence[_Cell]], coloured: bool) -> Iterator[str]:
    heads = [_Cell(text, _DIM, is_number=cell.is_number) for text, cell in zip(header, rows[0], strict=True)]
    columns = range(len(header))
    widths = [max(len(row[column].text) for row in (heads, *rows)) for column in columns]
    for row in (heads, *rows):
        yield "  ".join(_laid_out(cell, width, coloured) for cell, width in zip(row, widths, strict=True)).rstrip()


def _laid_out(cell: _Cell, width: int, coloured: bool) -> str:
    text = cell.text.rjust(width) if cell.is_number else cell.text.ljust(width)
    return text if cell.colour is None else _painted(text, cell.colour, coloured)


def _painted(text: str, colour: int, coloured: bool) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if coloured else text


def _printable(value: object) -> str:
    """As text of one line; nothing in it moves a cursor."""
    return "".join(letter if letter.isprintable() else "?" for letter in str("-" if value is None else value))


def _cut(text: str, width: int | None) -> str:
    return text if width is None or len(text) <= width else f"{text[: width - 1]}…"
