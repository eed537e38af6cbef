"""The command line of the soaks."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

from benchmarks.report import between_markers
from benchmarks.soaks import __main__ as command
from benchmarks.soaks.stage import SoakFailed

if TYPE_CHECKING:
    from benchmarks.soaks.report import Outcome


def test_every_soak_has_a_name_of_its_own() -> None:
    assert len(command.SOAKS) == 10
    assert command.arguments([]).names == []


def test_the_page_tells_of_every_soak_and_has_a_place_for_its_figures() -> None:
    page = command.PAGE.read_text()
    assert re.findall(r"(?m)^\| `(\w+)` \|", page) == list(command.SOAKS)
    assert between_markers(page, "figures", section="soaks") != page


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["no_such"], "there is no no_such; there are: stalled, "),
        (["--write", "--quick"], "--write takes a whole run"),
        (["--write", "drain"], "--write takes a whole run"),
    ],
)
def test_a_command_that_makes_no_sense_is_refused(
    argv: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.arguments(argv)
    assert says in capsys.readouterr().err


def test_a_group_of_errors_is_told_by_its_parts_once() -> None:
    group = ExceptionGroup(
        "unhandled", [SoakFailed("sank"), ExceptionGroup("again", [SoakFailed("sank"), ValueError("no")])]
    )
    assert command.why(group) == "SoakFailed: sank; ValueError: no"


async def test_a_soak_that_fails_has_an_outcome_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sinks(quick: bool) -> Outcome:
        await asyncio.sleep(0)
        raise SoakFailed("it sank")

    monkeypatch.setitem(command.SOAKS, "drain", sinks)
    outcome = await command.carry_out("drain", quick=True)
    assert (outcome.name, outcome.failure, outcome.succeeded) == ("drain", "SoakFailed: it sank", False)
