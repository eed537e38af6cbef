"""The event log: JSON lines on standard error, one chain for everybody, redaction as its last step.

Decides the form of a line (``timestamp``, ``level``, ``event``, ``component``, then the event's own keys) and that
nothing goes round the chain: the standard library's logging, warnings, uncaught exceptions of the process, its threads
and the event loop all pass through it. An event is a short snake_case word, what is particular to it stands in keys::

    log = get_logger("broker")
    log.info("token_refreshed", credential="orders", generation=3)

Leaves what a secret looks like to ``redaction``, and requests to ``access_log``.

A log that cannot be written is not a reason to stop serving: a closed or full standard error loses the line.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import sys
import threading
import time
import traceback
import warnings
from collections import deque
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from sidecar.secrets import Secret, SecretReference
from sidecar.telemetry.access_log import AccessLog
from sidecar.telemetry.redaction import MASK, Redactor

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator, Mapping, MutableMapping
    from types import TracebackType

    from structlog.typing import FilteringBoundLogger

# structlog imports these for its coloured console whenever they are installed; that is 6 MiB for nothing here.
_UNWANTED: Final = [name for name in ("rich", "better_exceptions") if name not in sys.modules]
sys.modules.update(dict.fromkeys(_UNWANTED))  # type: ignore[arg-type]  # None is how an import is made to fail
import structlog  # noqa: E402

for _name in _UNWANTED:
    del sys.modules[_name]

__all__ = ["AccessLog", "configure", "get_logger", "handle_loop_error", "keep_lines", "kept_lines"]

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
FRAMES: Final = 30
"""A traceback shows its innermost frames; a recursion would fill the line otherwise."""
DEPTH: Final = 4
ITEMS: Final = 64
SECRET_KEYS: Final = frozenset(
    (
        *("authorization", "proxy_authorization", "cookie", "set_cookie", "secret", "password", "token"),
        *("client_secret", "private_key", "code_verifier", "device_code", "assertion", "client_assertion"),
        *("access_token", "refresh_token", "id_token", "subject_token", "proxy_password", "api_key"),
    )
)
"""Keys whose value is not shown: only whether there is one, or the reference it is read from."""

KEPT_LINES: Final = 200
"""For a support bundle: what a quiet sidecar says in days, and a troubled one in minutes."""

_redactor: Final = Redactor()
_kept: Final[deque[str]] = deque(maxlen=KEPT_LINES)
_keeping = False


def configure(level: str) -> None:
    """Send everything that is logged, by whatever way, through the chain; call again to change the level.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``; ``critical``, which nothing here is, for a command that
            speaks to a person. Other libraries speak from warning on, below debug.
    """
    number = LEVELS[level]
    _set_level(number)
    root = logging.getLogger()
    if _bridge not in root.handlers:
        root.addHandler(_bridge)
    root.setLevel(max(number, logging.INFO if number == logging.DEBUG else logging.WARNING))
    logging.raiseExceptions = False
    logging.captureWarnings(True)
    sys.excepthook = _log_crash
    threading.excepthook = _log_thread_crash
    sys.unraisablehook = _log_unraisable
    _unraisable.clear()


def _set_level(number: int) -> None:
    # No caching of bound loggers: a reload may change the level, and lines are rare.
    structlog.configure(
        processors=_CHAIN,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=_lines,
        cache_logger_on_first_use=False,
    )


@contextlib.contextmanager
def borrowed(level: str) -> Iterator[None]:
    """``configure`` for a while, in a process that is somebody else's: what it had before is given back.

    A test suite has hooks, handlers and perhaps structlog of its own.
    """
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    root, raises, shows = logging.getLogger(), logging.raiseExceptions, warnings.showwarning
    had, level_before = _bridge in root.handlers, root.level
    ours = structlog.get_config()["logger_factory"] is _lines
    events = _found if ours and _found is not None else structlog.get_config()
    configure(level)
    try:
        yield
    finally:
        sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
        logging.raiseExceptions = raises
        root.setLevel(level_before)
        if not had:
            root.removeHandler(_bridge)
        if warnings.showwarning is not shows:
            logging.captureWarnings(False)
        structlog.configure(**events)


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger whose lines carry ``component: name``; it follows every later ``configure``."""
    return cast("FilteringBoundLogger", structlog.get_logger(component=name))


def keep_lines(wanted: bool) -> None:
    """Keep the last lines in memory as well, or no longer."""
    global _keeping
    _keeping = wanted
    if not wanted:
        _kept.clear()


def kept_lines() -> list[str]:
    """The last lines, the oldest first, without what has become a secret since."""
    return [_redactor.redact_json_line(line) for line in _kept]


def handle_loop_error(_loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    """The event loop's exception handler (``loop.set_exception_handler``): what no task or callback caught.

    Transports and tasks in the context are not shown: their ``repr`` may hold anything.
    """
    _report("loop_error", context.get("exception"), message=context.get("message"))


# --- the chain ---------------------------------------------------------------------------------------------------


def _add_traceback(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    error = event.pop("exc_info", None)
    if error is True or isinstance(error, tuple):
        error = (error if isinstance(error, tuple) else sys.exc_info())[1]
    if isinstance(error, BaseException):
        event["exception"] = _traceback(error)
    return event


def _traceback(error: BaseException) -> str:
    """The traceback without locals: they are where secrets are."""
    try:
        return "".join(traceback.TracebackException.from_exception(error, limit=-FRAMES, compact=True).format())
    except Exception as exc:  # noqa: BLE001 - a foreign __str__ may raise anything, and the event counts more
        return f"{type(error).__name__} (its text cannot be made: {type(exc).__name__})"


def _render(_logger: object, method: str, event: MutableMapping[str, Any]) -> str:
    fields = {"timestamp": event.pop("timestamp"), "level": method, "event": event.pop("event", "")}
    fields |= {key: value for key, value in event.items() if key not in fields}
    try:
        return msgspec.json.encode(_plain(fields)).decode()
    except (UnicodeError, TypeError, ValueError, RecursionError):
        # Lone surrogates, integers beyond 64 bits: rare enough for the slow way.
        return msgspec.json.encode({key: ascii(_plain(value)) for key, value in fields.items()}).decode()


def _plain(value: Any, depth: int = 0) -> Any:
    """What JSON can hold of ``value``, with the values of telling keys masked."""
    match value:
        case None | bool() | int() | float():
            return value
        case enum.Enum():
            return str(value.value)
        case str():
            return str(value)
        case bytes() | bytearray():
            return bytes(value).decode("utf-8", "backslashreplace")
        case Secret() | SecretReference() | PurePath():
            return str(value)
        case _ if depth >= DEPTH:
            return "…"
        case dict():
            items = list(value.items())[:ITEMS]
            return {_shown(key): _member(key, item, depth + 1) for key, item in items}
        case list() | tuple() | set() | frozenset():
            return [_plain(item, depth + 1) for item in list(value)[:ITEMS]]
        case _:
            return _shown(value)


def _shown(value: object) -> str:
    try:
        return str(value)
    except Exception as exc:  # noqa: BLE001 - as in _traceback
        return f"<{type(value).__name__}: {type(exc).__name__}>"


def _member(key: object, value: object, depth: int) -> object:
    telling = isinstance(key, str) and key.lower().replace("-", "_") in SECRET_KEYS
    if telling and not isinstance(value, bool | None | SecretReference):
        return MASK
    return _plain(value, depth)


def _redact(_logger: object, _method: str, line: str) -> str:
    return _redactor.redact_json_line(line)


class _Lines:
    """Where structlog hands finished lines; looked up each time, because standard error may be replaced."""

    def write(self, line: str) -> None:
        if _keeping:
            _kept.append(line)
        try:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):
            return  # closed, full or absent: see the module's docstring

    debug = info = warning = error = critical = msg = write


def _lines(*_args: object) -> _Lines:
    return _Lines()


_CHAIN: Final = cast(
    "list[structlog.typing.Processor]",
    [structlog.processors.TimeStamper(fmt="iso", utc=True), _add_traceback, _render, _redact],
)


# --- what others write -------------------------------------------------------------------------------------------


class _Bridge(logging.Handler):
    """Passes records of the standard library's logging on."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - a library's wrong format string must not cost the caller anything
            message = str(record.msg)
        method = "error" if record.levelno >= logging.ERROR else record.levelname.lower()
        log = get_logger(record.name)
        write = log.error if method == "error" else log.warning if record.levelno >= logging.WARNING else log.info
        write("library_log", message=message, exc_info=record.exc_info)


_bridge: Final = _Bridge()
UNRAISABLE_INTERVAL_SECONDS: Final = 10.0
_unraisable: Final[dict[type[BaseException], tuple[float, int]]] = {}
"""When each kind was told of last, and how many were left out since."""


def _report(event: str, error: BaseException | None, **keys: object) -> None:
    get_logger("process").error(event, exc_info=error, **keys)


def _log_crash(kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    _report("crashed", error)


def _log_thread_crash(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit:
        _report("thread_crashed", args.exc_value)


def _log_unraisable(args: sys.UnraisableHookArgs) -> None:
    """One line per kind of exception in a while: a server name that is not ASCII makes ``ssl`` raise one."""
    now = time.monotonic()
    last, left_out = _unraisable.get(args.exc_type, (-UNRAISABLE_INTERVAL_SECONDS, 0))
    if now - last < UNRAISABLE_INTERVAL_SECONDS:
        _unraisable[args.exc_type] = (last, left_out + 1)
        return
    _unraisable[args.exc_type] = (now, 0)
    _report("unraisable", args.exc_value, message=args.err_msg, left_out=left_out)


_found: Final = structlog.get_config() if structlog.is_configured() else None
"""What somebody else had told structlog before this file was imported."""
# Whoever logs before ``configure``, or only imports this file, goes through the chain as well.
_set_level(logging.INFO)
