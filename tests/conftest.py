"""What holds for the whole suite: properties are tried on the same examples in whatever time they take, first tokens
are asked for at once, and a canary: nothing that any test makes the sidecar say may hold a token.

Every token of the mock provider has a shape of its own. What a test prints, the sidecar's log lines among it, is looked
through when the test is over; a token in it fails the test, whatever else it asserted.
"""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Generator

# A busy machine is no reason to fail, and what fails here has to fail everywhere.
settings.register_profile("suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

# What a shell starts in the background ignores Ctrl-C, and what nohup starts the end of the terminal. Programs that
# tests start would inherit that and be deaf; a handler is not inherited.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)

TOKEN: Final = re.compile(r"[\w.]+-[\w.]+-\d+-[0-9a-f]{32}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "teardown" and report.passed:
        said = "\n".join(content for _, content in report.sections)
        if TOKEN.search(said):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid}: a token stands in what this test made the sidecar say"
    return report


@pytest.fixture(autouse=True)
def first_tokens_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sidecars in this process do not spread their start over seconds; ``tests/broker`` has tests of that."""
    monkeypatch.setattr("sidecar.broker.broker.START_SPREAD_SECONDS", 0.0)
