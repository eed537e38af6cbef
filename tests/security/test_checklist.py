"""The tables are complete, and what they name exists: an obligation without a proof is an error."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import Final

import pytest

from tests.security.checklist import CHECKLIST, LINES, Row
from tests.security.incidents import INCIDENTS

TESTS: Final = Path(__file__).resolve().parents[1]
NAME: Final = re.compile(r"(?P<file>[\w/]+\.py)::(?P<function>test_\w+)(\[(?P<case>.+)\])?")
ROWS: Final[dict[str, Row]] = {f"line {number}": row for number, row in CHECKLIST.items()} | INCIDENTS


class Source:
    """What a test file has: its test functions, and the strings that its cases are named by."""

    def __init__(self, path: Path) -> None:
        tree = list(ast.walk(ast.parse(path.read_text())))
        functions = [node for node in tree if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        self.tests = {node.name for node in functions if node.name.startswith("test_")}
        self.skipped = {
            node.name for node in functions if any("skip" in ast.dump(each) for each in node.decorator_list)
        }
        self.cases = {
            node.value.replace(" ", "_")
            for node in tree
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }


@functools.cache
def source(file: str) -> Source:
    return Source(TESTS / file)


def test_every_line_has_its_row() -> None:
    assert sorted(CHECKLIST) == list(range(1, LINES + 1))


def test_every_row_says_something_of_its_own_and_names_a_test() -> None:
    texts = [row.what for row in ROWS.values()]
    assert len(set(texts)) == len(texts)
    assert all(row.tests and row.what for row in ROWS.values())


@pytest.mark.parametrize("name", ROWS)
def test_every_test_that_a_row_names_exists_and_is_run(name: str) -> None:
    for test in ROWS[name].tests:
        match = NAME.fullmatch(test)
        assert match is not None, f"{test!r} is no name of a test"
        assert (TESTS / match["file"]).is_file(), f"no file {match['file']}"
        found = source(match["file"])
        assert match["function"] in found.tests, f"no test {test}"
        assert match["function"] not in found.skipped, f"{test} is skipped"
        assert match["case"] is None or match["case"] in found.cases, f"no case {match['case']!r} in {match['file']}"


def test_every_test_of_this_folder_proves_a_row() -> None:
    named = {test.partition("[")[0] for row in ROWS.values() for test in row.tests}
    own = {
        f"security/{path.name}::{test}"
        for path in (TESTS / "security").glob("test_*.py")
        if path.name not in ("test_bench.py", "test_checklist.py")
        for test in source(f"security/{path.name}").tests
    }
    assert own - named == set()
