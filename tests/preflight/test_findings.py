"""What a report comes to."""

from __future__ import annotations

import pytest

from sidecar.config.problems import Span
from sidecar.preflight.findings import Check, Finding, Report, placed, stages_to
from sidecar.preflight.kinds import Kind, Severity, Stage

ORDERS = ("credentials", "orders")


def report(*found: tuple[Stage, Kind], strict: bool = False) -> Report:
    checks = tuple(Check(stage, kind.id, (Finding(kind, ORDERS, "why"),)) for stage, kind in found)
    return Report("config.yaml", Stage.PROBE, checks, strict)


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ([], 0),
        ([(Stage.OFFLINE, Kind.UNUSED_CREDENTIAL)], 0),
        ([(Stage.OFFLINE, Kind.CONFIGURATION_INVALID)], 3),
        ([(Stage.OFFLINE, Kind.SECRET_MISSING)], 4),
        ([(Stage.NETWORK, Kind.IDP_CONNECT)], 5),
        ([(Stage.LIVE, Kind.INVALID_CLIENT)], 6),
        ([(Stage.PROBE, Kind.PROBE_REFUSED)], 7),
        # the first stage decides
        ([(Stage.PROBE, Kind.PROBE_REFUSED), (Stage.OFFLINE, Kind.SECRET_MISSING)], 4),
        ([(Stage.LIVE, Kind.INVALID_CLIENT), (Stage.NETWORK, Kind.IDP_DNS)], 5),
        # and within it the worst
        ([(Stage.LIVE, Kind.IDP_SERVER_ERROR), (Stage.LIVE, Kind.INVALID_CLIENT)], 6),
        ([(Stage.OFFLINE, Kind.SECRET_MISSING), (Stage.OFFLINE, Kind.CLIENT_CERTIFICATE_EXPIRED)], 4),
        # a stage with warnings alone has not failed
        ([(Stage.OFFLINE, Kind.UNUSED_CREDENTIAL), (Stage.LIVE, Kind.INVALID_GRANT)], 6),
    ],
)
def test_the_first_stage_that_fails_decides_and_the_worst_in_it(found: list[tuple[Stage, Kind]], code: int) -> None:
    assert report(*found).exit_code == code


def test_warnings_count_when_the_check_is_strict_and_notes_never_do() -> None:
    assert report((Stage.OFFLINE, Kind.UNUSED_CREDENTIAL), strict=True).exit_code == 1
    assert report((Stage.OFFLINE, Kind.UNUSED_GRANT), strict=True).exit_code == 0
    assert (
        report((Stage.LIVE, Kind.INVALID_CLIENT), (Stage.OFFLINE, Kind.UNUSED_CREDENTIAL), strict=True).exit_code == 6
    )


def test_findings_come_by_stage() -> None:
    whole = report((Stage.LIVE, Kind.INVALID_CLIENT), (Stage.OFFLINE, Kind.UNUSED_CREDENTIAL))

    assert [stage for stage, _ in whole.findings] == [Stage.OFFLINE, Stage.LIVE]
    assert [whole.count(severity) for severity in Severity] == [1, 1, 0]


def test_a_stage_includes_those_before_it() -> None:
    assert stages_to(Stage.OFFLINE) == [Stage.OFFLINE]
    assert stages_to(Stage.LIVE) == [Stage.OFFLINE, Stage.NETWORK, Stage.LIVE]
    assert report().stages == list(Stage)


def test_findings_get_their_places_and_the_order_of_the_file() -> None:
    lines = {("b",): 2, ("a",): 1}
    findings = [Finding(Kind.UNUSED_CREDENTIAL, (name,), "why", at_key=True) for name in ("b", "a", "nowhere")]
    own = Finding(Kind.UNUSED_CREDENTIAL, (), "why", span=Span.point(0, 0))

    def places(path: tuple[str | int, ...], at_key: bool) -> Span | None:
        assert at_key
        return Span.point(lines[path], 0) if path in lines else None

    (check,) = placed([Check(Stage.OFFLINE, "x", (*findings, own))], places)
    assert [each.path for each in check.findings] == [("nowhere",), (), ("a",), ("b",)]
    assert [each.span and each.span.line for each in check.findings] == [None, 0, 1, 2]


def test_a_check_is_as_bad_as_its_worst_finding() -> None:
    both = tuple(Finding(kind, (), "why") for kind in (Kind.UNUSED_GRANT, Kind.UNUSED_CREDENTIAL))
    assert Check(Stage.OFFLINE, "x", both).worst is Severity.WARNING
    assert Check(Stage.OFFLINE, "x").worst is None


def test_a_finding_says_its_key_and_what_to_do() -> None:
    plain = Finding(Kind.UNUSED_CREDENTIAL, ("routes", 0, "host"), "why")
    assert plain.sentence == "routes[0].host: why"
    assert plain.next_step == Kind.UNUSED_CREDENTIAL.facts.remedy
    assert Finding(Kind.UNUSED_CREDENTIAL, (), "why", remedy="do this").next_step == "do this"
    assert Finding(Kind.UNUSED_CREDENTIAL, (), "why").sentence == "why"
