"""A process that is killed at any step of a rotation leaves a usable grant, or says that a login is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.rotation_kills import page, trial
from benchmarks.rotation_kills.__main__ import arguments
from benchmarks.rotation_kills.steps import BETWEEN, Outcome, Step, judged
from benchmarks.rotation_kills.trial import GRACES, Figures

if TYPE_CHECKING:
    from pathlib import Path


async def test_no_kill_at_any_step_loses_a_grant_in_silence(tmp_path: Path) -> None:
    figures = Figures()
    without_grace = [(1, step) for step in Step]
    with_grace = [(0, step) for step in Step if step in BETWEEN]
    await trial.run(tmp_path, without_grace + with_grace, figures)
    assert figures.lost == 0
    assert {step: figures.count(Outcome.LOGIN_NEEDED, step=step, grace=0.0) for step in Step} == {
        step: int(step in BETWEEN) for step in Step
    }
    assert figures.count(Outcome.USABLE, grace=30.0) == len(BETWEEN)
    assert figures.count() == len(Step) + len(BETWEEN)


@pytest.mark.parametrize("step", list(Step))
@pytest.mark.parametrize("grace", [True, False])
def test_a_login_that_could_be_spared_counts_as_lost(step: Step, grace: bool) -> None:
    spared = grace or step not in BETWEEN
    assert judged(step, Outcome.LOGIN_NEEDED, grace=grace) is (Outcome.LOST if spared else Outcome.LOGIN_NEEDED)
    assert judged(step, Outcome.USABLE, grace=grace) is Outcome.USABLE
    assert judged(step, Outcome.LOST, grace=grace) is Outcome.LOST


def test_every_step_has_its_turn_with_every_grace() -> None:
    assert set(trial.plan(len(Step) * len(GRACES))) == {(which, step) for which in (0, 1) for step in Step}


def test_the_page_says_what_came_of_each_step() -> None:
    figures = Figures(seconds=12.0)
    figures.outcomes[Step.COMMITTED, 0.0, Outcome.LOGIN_NEEDED] = 3
    figures.outcomes[Step.COMMITTED, 30.0, Outcome.USABLE] = 2
    figures.outcomes[Step.KEPT, 30.0, Outcome.LOST] = 1
    text = page.text(figures, where="Here.", graces=GRACES)
    assert "6 kills in 12 s: after 2 the next start had a token, after 3" in text
    assert "Lost in silence: **1**." in text
    assert f"| {Step.COMMITTED.value} | 2 usable | 3 login needed | 0 |" in text
    assert f"| {Step.KEPT.value} | - | - | 1 |" in text


def test_the_command_kills_200_times_by_itself() -> None:
    assert arguments([]).kills == 200
