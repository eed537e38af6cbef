"""Arguments that commands share."""

from __future__ import annotations

import argparse

import pytest

from sidecar.cli.arguments import add_config, seconds_within, waiting_time


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30.0), ("30", 30.0), ("500ms", 0.5), ("10m", 600.0)])
def test_a_waiting_time_is_a_duration_or_a_number_of_seconds(text: str, seconds: float) -> None:
    assert waiting_time(text) == seconds


@pytest.mark.parametrize("text", ["0s", "11m", "soon", "", "-1s"])
def test_nothing_else_is_waited_for(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        waiting_time(text)


def test_the_configuration_is_named_or_left_to_the_default() -> None:
    parser = argparse.ArgumentParser()
    add_config(parser)
    assert parser.parse_args(["-c", "a.yaml"]).config == "a.yaml"
    assert parser.parse_args([]).config is None


def test_what_is_beyond_the_bounds_is_refused_with_their_sentence() -> None:
    read = seconds_within(1.0, 60.0, "between a second and a minute")
    assert (read("1s"), read("1m"), read("2")) == (1.0, 60.0, 2.0)
    with pytest.raises(argparse.ArgumentTypeError, match="between a second and a minute"):
        read("61s")
