"""The closed set of kinds: each is documented, and a test produces each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from sidecar.preflight.kinds import Kind, Severity, Stage

HERE: Final = Path(__file__).resolve().parent
REFERENCE: Final = HERE.parent.parent / "docs" / "reference" / "checks.md"


PRODUCING: Final = (
    *(HERE / "lints").glob("test_*.py"),
    *(HERE / f"test_{name}.py" for name in ("dialling", "jobs", "network", "live", "probe", "online", "checkup")),
)
"""The tests in which findings come of something that is wrong."""


def named_in_tests() -> set[str]:
    """The kinds that are expected there."""
    texts = (path.read_text() for path in PRODUCING)
    return {name for text in texts for name in re.findall(r"\bKind\.([A-Z_]+)\b", text)}


def test_a_test_produces_every_kind() -> None:
    assert {kind.name for kind in Kind} - named_in_tests() == set()


def test_every_kind_has_its_row_in_the_reference() -> None:
    rows = re.findall(r"(?m)^\| `([a-z-]+)` \| (error|warning|note) \|", REFERENCE.read_text())
    assert rows == [(kind.id, kind.facts.severity.value) for kind in Kind]


def test_ids_are_kebab_case_and_no_two_kinds_are_one() -> None:
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.id) for kind in Kind)
    assert len({kind.id for kind in Kind}) == len(Kind.__members__)


def test_errors_alone_have_an_exit_code_of_the_contract() -> None:
    for kind in Kind:
        is_error = kind.facts.severity is Severity.ERROR
        assert (kind.facts.exit_code in range(3, 8)) if is_error else kind.facts.exit_code == 0, kind


def test_notes_alone_never_count() -> None:
    assert [severity for severity in Severity if not severity.counts] == [Severity.NOTE]


def test_every_kind_says_what_to_do_in_one_clause() -> None:
    for kind in Kind:
        for text in (kind.facts.meaning, kind.facts.remedy):
            assert text
            assert not text.endswith(".")
            assert "|" not in text


def test_the_stages_stand_in_their_order() -> None:
    order = [list(Stage).index(kind.facts.stage) for kind in Kind]
    assert order == sorted(order)
