"""The command line of the fleet."""

from __future__ import annotations

import pytest

from benchmarks.fleet import __main__ as command
from benchmarks.report import between_markers


def test_the_page_has_a_place_for_the_figures() -> None:
    page = command.PAGE.read_text()
    assert between_markers(page, "figures", section=command.SECTION) != page


@pytest.mark.parametrize("argv", [["--write", "--size", "10"], ["--write", "--hours", "1"]])
def test_figures_of_a_part_are_not_written(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.arguments(argv)
    assert "--write takes a whole run" in capsys.readouterr().err
