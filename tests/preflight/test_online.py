"""Stages on what the one before left standing."""

from __future__ import annotations

from sidecar.preflight.kinds import Kind, Stage
from sidecar.simulation.idp import MockIdP, Step
from tests.preflight.kit import Bench, credential, kinds


async def test_one_credential_s_failure_leaves_the_others_alone(bench: Bench, idp: MockIdP) -> None:
    report = await bench.check(
        Stage.LIVE,
        credentials={"dead": credential("https://idp.test/token"), "orders": credential(idp.token_url)},
    )
    outcomes = {check.name: bool(check.skipped) for check in report.of(Stage.LIVE)}

    assert outcomes == {"credentials.dead": True, "credentials.orders": False}
    assert report.exit_code == 5


async def test_a_clock_that_is_off_is_told_and_the_rest_is_tried(bench: Bench, idp: MockIdP) -> None:
    idp.always(Step(headers={"Date": "Thu, 01 Jan 2026 00:00:00 GMT"}), endpoint="metadata")
    report = await bench.check(Stage.LIVE, credentials={"orders": credential(None, issuer=idp.issuer)})

    assert kinds(report, Stage.NETWORK) == {Kind.CLOCK_SKEW_LARGE}
    assert len(idp.issued) == 1


async def test_the_time_for_everything_is_bounded(bench: Bench, idp: MockIdP) -> None:
    idp.always(Step(fault="hang"))
    report = await bench.check(Stage.PROBE, timeout=0.5, credentials={"orders": credential(idp.token_url)})

    out_of_time = [finding.kind for _, finding in report.findings if finding.kind is Kind.OUT_OF_TIME]
    assert len(out_of_time) == 1, "in whatever stage a busy machine was"
    assert report.exit_code == 5
