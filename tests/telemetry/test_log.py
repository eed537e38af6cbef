"""The event log: the form of its lines, and that nothing reaches standard error past its chain."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.errors import Fault
from sidecar.secrets import Secret, SecretReference
from sidecar.telemetry.log import (
    KEPT_LINES,
    borrowed,
    configure,
    get_logger,
    handle_loop_error,
    keep_lines,
    kept_lines,
)
from sidecar.telemetry.redaction import LONGEST_LINE, MASK

if TYPE_CHECKING:
    from collections.abc import Iterator

CANARY = "cn4ry-log-secret"


@pytest.fixture(autouse=True)
def configured() -> Iterator[None]:
    """Configure at info, and give everything back afterwards."""
    root = logging.getLogger()
    before = (sys.excepthook, threading.excepthook, sys.unraisablehook, root.level, list(root.handlers))
    raising = logging.raiseExceptions
    configure("info")
    yield
    configure("info")
    logging.captureWarnings(False)
    logging.raiseExceptions = raising
    sys.excepthook, threading.excepthook, sys.unraisablehook = before[:3]
    root.setLevel(before[3])
    root.handlers[:] = before[4]


class Lines:
    """What was logged since it was last looked at."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def take(self) -> list[dict[str, Any]]:
        captured = self._capture.readouterr()
        assert captured.out == ""
        assert CANARY not in captured.err
        return [json.loads(line) for line in captured.err.splitlines()]

    def one(self) -> dict[str, Any]:
        (line,) = self.take()
        return line


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    capsys.readouterr()
    return Lines(capsys)


def test_a_line_begins_with_when_how_grave_what_and_who(lines: Lines) -> None:
    get_logger("broker").info("token_refreshed", credential="orders", generation=3)
    line = lines.one()
    assert list(line) == ["timestamp", "level", "event", "component", "credential", "generation"]
    assert line["timestamp"].endswith("Z")
    assert (line["level"], line["event"], line["component"]) == ("info", "token_refreshed", "broker")
    assert line["generation"] == 3


def test_a_key_of_the_event_cannot_take_the_place_of_the_line_s_own(lines: Lines) -> None:
    get_logger("x").warning("e", level="debug", timestamp="never")
    line = lines.one()
    assert line["level"] == "warning"
    assert line["timestamp"].startswith("20")


def test_the_level_holds_for_loggers_made_before_it_was_set(lines: Lines) -> None:
    log = get_logger("x")
    log.debug("hidden")
    configure("debug")
    log.debug("shown")
    configure("error")
    log.warning("hidden")
    log.error("shown_too")
    assert [line["event"] for line in lines.take()] == ["shown", "shown_too"]


def test_a_secret_is_removed_wherever_it_stands(lines: Lines) -> None:
    secret = Secret(CANARY)
    log = get_logger("x")
    log.info("e", detail=f"got {secret.reveal()}", nested={"deep": [secret.reveal()]}, raw=secret.reveal().encode())
    log.info(secret.reveal())
    log.info("e", **{secret.reveal(): 1})
    log.info("e", body=json.dumps({"x": secret.reveal()}), exception=ValueError(secret.reveal()))
    log.info("e", it=secret)
    assert all(MASK in str(line) or line.get("it") == "Secret(…)" for line in lines.take())


def test_a_key_that_names_a_secret_shows_whether_there_is_one_and_where_it_is_read_from(lines: Lines) -> None:
    get_logger("x").info(
        "e",
        authorization="anything",
        Client_Secret="anything",
        headers={"Set-Cookie": "anything", "Accept": "json"},
        refresh_token=None,
        access_token=True,
        secret=SecretReference.parse("file:/run/secrets/x"),
    )
    line = lines.one()
    assert line["authorization"] == line["Client_Secret"] == line["headers"]["Set-Cookie"] == MASK
    assert line["headers"]["Accept"] == "json"
    assert line["refresh_token"] is None
    assert line["access_token"] is True
    assert line["secret"] == "file:/run/secrets/x"


def test_values_of_any_kind_become_json(lines: Lines) -> None:
    class Rude:
        def __str__(self) -> str:
            raise RuntimeError(CANARY)

    loop: list[Any] = []
    loop.append(loop)
    get_logger("x").info(
        "e",
        fault=Fault.IDP,
        path=Path("/etc/x"),
        things=(1, {"a"}),
        raw=b"\xff\x00",
        rude=Rude(),
        loop=loop,
        nan=float("nan"),
        many=list(range(1000)),
    )
    line = lines.one()
    assert line["fault"] == "idp"
    assert line["path"] == "/etc/x"
    assert line["things"] == [1, ["a"]]
    assert line["raw"] == "\\xff\x00"
    assert line["rude"] == "<Rude: RuntimeError>"
    assert line["nan"] is None
    assert len(line["many"]) < 100


@pytest.mark.parametrize("value", ["\udcff", 2**70])
def test_what_json_cannot_hold_is_written_all_the_same(lines: Lines, value: object) -> None:
    get_logger("x").info("e", value=value)
    line = lines.one()
    assert line["value"]


def test_nobody_can_forge_a_line(lines: Lines) -> None:
    get_logger("x").info("e", detail='a\n{"event":"forged"}\r\x1b[2J\u202e')
    line = lines.one()
    assert line["event"] == "e"


def test_a_line_has_a_longest_length(lines: Lines, capsys: pytest.CaptureFixture[str]) -> None:
    get_logger("x").info("e", detail="x" * 100_000)
    captured = capsys.readouterr().err
    assert len(captured) <= LONGEST_LINE + 1
    assert json.loads(captured)["event"] == "log_line_cut"


def test_a_traceback_has_no_locals_and_no_secret_of_its_message(lines: Lines) -> None:
    hidden = Secret(CANARY)

    def fail() -> None:
        local = hidden.reveal()
        raise ValueError(f"cannot use {local!r}") from KeyError(local)

    try:
        fail()
    except ValueError:
        get_logger("x").exception("failed", credential="orders")
    line = lines.one()
    assert line["level"] == "error"
    assert "in fail" in line["exception"]
    assert f"ValueError: cannot use '{MASK}'" in line["exception"]
    assert "direct cause" in line["exception"]


def test_a_deep_traceback_shows_its_innermost_frames(lines: Lines) -> None:
    def dive(depth: int) -> None:
        if depth == 0:
            raise ValueError("the bottom")
        dive(depth - 1)

    try:
        dive(200)
    except ValueError as exc:
        get_logger("x").error("failed", exc_info=exc)
    line = lines.one()
    assert "the bottom" in line["exception"]
    assert len(line["exception"].splitlines()) < 100


def test_an_exception_whose_text_cannot_be_made_is_still_told(lines: Lines) -> None:
    class Rude(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    get_logger("x").error("failed", exc_info=Rude())
    assert "Rude" in lines.one()["exception"]


def test_libraries_log_through_the_same_chain(lines: Lines) -> None:
    secret = Secret(CANARY)
    library = logging.getLogger("some.library")
    library.warning("sent %s", secret.reveal())
    library.error("wrong %d format", "x")
    library.info("hidden below warning")
    try:
        raise OSError(secret.reveal())
    except OSError:
        library.critical("failed", exc_info=True)
    first, second, third = lines.take()
    assert (first["event"], first["component"], first["message"]) == ("library_log", "some.library", f"sent {MASK}")
    assert second["message"] == "wrong %d format"
    assert third["level"] == "error"
    assert MASK in third["exception"]


def test_warnings_go_through_the_same_chain(lines: Lines) -> None:
    secret = Secret(CANARY)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn(f"deprecated: {secret.reveal()}", DeprecationWarning, stacklevel=1)
    line = lines.one()
    assert line["component"] == "py.warnings"
    assert MASK in line["message"]


def test_what_nobody_caught_goes_through_the_same_chain(lines: Lines) -> None:
    secret = Secret(CANARY)
    error = ValueError(secret.reveal())
    sys.excepthook(ValueError, error, None)
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)

    def fail() -> None:
        raise ValueError(secret.reveal())

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    assert [(line["event"], MASK in line["exception"]) for line in lines.take()] == [
        ("crashed", True),
        ("thread_crashed", True),
    ]


def test_an_error_in_a_finalizer_goes_through_the_same_chain(lines: Lines) -> None:
    secret = Secret(CANARY)

    class Finalized:
        def __del__(self) -> None:
            raise ValueError(secret.reveal())

    configure("info")
    Finalized()
    gc.collect()
    line = lines.one()
    assert line["event"] == "unraisable"
    assert MASK in line["exception"]


def test_errors_that_cannot_be_raised_are_no_flood(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    class Finalized:
        def __del__(self) -> None:
            raise LookupError

    for _ in range(5):
        Finalized()
    gc.collect()
    assert lines.one()["left_out"] == 0
    monkeypatch.setattr("sidecar.telemetry.log.UNRAISABLE_INTERVAL_SECONDS", 0.0)
    Finalized()
    gc.collect()
    assert lines.one()["left_out"] == 4


async def test_what_the_event_loop_caught_goes_through_the_same_chain(lines: Lines) -> None:
    secret = Secret(CANARY)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(handle_loop_error)

    def fail() -> None:
        raise ValueError(secret.reveal())

    loop.call_soon(fail)
    loop.call_exception_handler({"message": "odd", "transport": secret.reveal()})
    await asyncio.sleep(0)
    first, second = lines.take()
    assert (first["event"], first["message"]) == ("loop_error", "odd")
    assert "transport" not in first
    assert MASK in second["exception"]


@pytest.mark.parametrize("closed", [True, False])
def test_a_standard_error_that_is_gone_stops_nobody(monkeypatch: pytest.MonkeyPatch, closed: bool) -> None:
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream if closed else None)
    get_logger("x").info("e")


def test_a_foreign_logger_of_structlog_goes_through_the_same_chain(lines: Lines) -> None:
    import structlog

    secret = Secret(CANARY)
    structlog.get_logger().warning("e", detail=secret.reveal())
    assert lines.one()["detail"] == MASK


def test_logging_imports_no_console_library_though_it_is_installed(tmp_path: Path) -> None:
    for name in ("rich", "better_exceptions"):
        tmp_path.joinpath(f"{name}.py").write_text(f"print('{name} imported')\n")
    code = "import sidecar.telemetry.log, structlog.dev; print('logging ready'); import rich"
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": path},
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == ["logging ready", "rich imported"]


def test_what_is_borrowed_is_given_back() -> None:
    root = logging.getLogger()
    root.handlers.clear()

    def state() -> list[Any]:
        hooks = [sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning]
        return [*hooks, root.level, list(root.handlers), logging.raiseExceptions]

    logging.captureWarnings(False)
    sys.excepthook, logging.raiseExceptions = sys.__excepthook__, True
    before = state()
    with borrowed("error"):
        assert state() != before
    assert state() == before
    with borrowed("error"), borrowed("info"):
        pass
    assert state() == before


# --- lines that are kept ----------------------------------------------------------------------------------------------


def test_lines_are_kept_while_they_are_wanted_and_without_what_became_a_secret() -> None:
    configure("info")
    keep_lines(False)
    get_logger("test").info("before")
    keep_lines(True)
    get_logger("test").info("during", detail="canary-not-yet-a-secret")
    secret = Secret("canary-not-yet-a-secret")
    [line] = kept_lines()
    assert json.loads(line)["event"] == "during"
    assert secret.reveal() not in line
    keep_lines(False)
    assert kept_lines() == []


def test_only_the_last_lines_are_kept() -> None:
    configure("info")
    keep_lines(False)
    keep_lines(True)
    for number in range(KEPT_LINES + 5):
        get_logger("test").info("counted", number=number)
    numbers = [json.loads(line)["number"] for line in kept_lines()]
    assert numbers == list(range(5, KEPT_LINES + 5))
    keep_lines(False)
