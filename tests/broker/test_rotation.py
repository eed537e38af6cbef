"""A rotating secret's age; which of two values is presented is tested with what asks, in ``test_idp``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.broker.test_idp import refresh, rewrite

if TYPE_CHECKING:
    from tests.broker.conftest import House, LogLines

DAY = 86400.0


async def test_a_secret_past_its_age_is_warned_of_once_a_day(house: House, log_lines: LogLines) -> None:
    stamp = house.clock.wall() - 91 * DAY
    os.utime(house.secret_file, (stamp, stamp))
    credential = await house.run_one(secret_max_age=90 * DAY)
    await refresh(house, credential)
    assert len(log_lines("secret_old")) == 1
    assert log_lines("secret_old")[0]["age_seconds"] == 91 * DAY
    await house.clock.advance(DAY)
    assert len(log_lines("secret_old")) == 2


async def test_a_fresh_secret_ends_the_warning(house: House, log_lines: LogLines) -> None:
    stamp = house.clock.wall() - 91 * DAY
    os.utime(house.secret_file, (stamp, stamp))
    credential = await house.run_one(secret_max_age=90 * DAY)
    rewrite(house.secret_file, "client-secret-2")
    os.utime(house.secret_file, (house.clock.wall(), house.clock.wall()))
    house.idp.secrets["client"] = {"client-secret-2"}
    await house.clock.advance(2 * DAY)
    await refresh(house, credential)
    assert len(log_lines("secret_old")) == 1


async def test_without_an_age_limit_nothing_is_said(house: House, log_lines: LogLines) -> None:
    os.utime(house.secret_file, (0, 0))
    await house.run_one()
    assert log_lines("secret_old") == []
