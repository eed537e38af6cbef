"""The rules of the house that no single file can hold: who imports whom, who does no I/O, what is tested where.

The order and the sans-IO files are written out here and in the map (the docstring of ``sidecar``); both have to agree.
"""

from __future__ import annotations

import ast
import functools
import graphlib
import re
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

import pytest

import sidecar

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGE: Final = ROOT / "sidecar"

ORDER: Final = (
    *("errors", "secrets", "runtime", "telemetry", "config", "http", "oauth", "broker", "proxy", "admin"),
    *("simulation", "read_once", "preflight", "app", "rehearsal", "cli", "testing"),
)
"""Each imports only from what stands before it, and within itself without a cycle."""

SANS_IO: Final = frozenset(
    (
        *(
            "errors",
            "telemetry/trace_context",
            "config/model",
            "config/presets",
            "config/completion",
            "http/message",
            "http/hygiene",
            "http/h1",
            "http/intake",
        ),
        *(
            "oauth/token",
            "oauth/answer",
            "oauth/inputs",
            "oauth/client_auth",
            "oauth/grants",
            "oauth/discovery",
            "oauth/dpop",
        ),
        *("oauth/jws", "oauth/assertion", "oauth/interactive", "oauth/redirect", "config/difference", "config/shown"),
        *("telemetry/abuse", "broker/policy", "broker/breaker"),
        *("proxy/authority", "proxy/paths", "proxy/routing", "proxy/admission", "proxy/budget", "proxy/entrance"),
        *("proxy/exchange", "proxy/challenges", "proxy/question", "proxy/explaining"),
        *("admin/access", "admin/facts", "admin/rates", "admin/claims", "preflight/kinds", "preflight/findings"),
        *("rehearsal/timeline", "rehearsal/verdict", "rehearsal/reports"),
    )
)
IO_MODULES: Final = frozenset(("asyncio", "socket", "ssl", "time", "random", "os"))

ONE_DOOR: Final = {
    # A library that only one file may import, because that file does something about it first.
    "structlog": "telemetry/log",
    "prometheus_client": "telemetry/metrics",
    "opentelemetry": "telemetry/spans",
}

LONGEST_FILE: Final = 500

MIRRORED_IN: Final = {"config/presets": "providers"}
"""Folders whose tests stand in another one."""

UNMIRRORED: Final[dict[str, str]] = {
    # A file without a test file of its own -> why.
    "proxy/parties": "types that nothing runs",
    "admin/facts": "types that nothing runs",
}

# Put together from pieces, so that this file does not find itself.
FOREIGN_TEXT: Final = tuple(
    "".join(pieces)
    for pieces in (
        *(("/wo", "rk/"), ("/opt/", "venv"), ("/tmp", "/w/"), ("/ro", "ot/"), ("/ho", "me/")),
        *(("py", "pi.org"), ("python", "hosted.org"), ("registry.", "npmjs"), ("npm", "js.org"), ("--index", "-url")),
        *(("--trusted", "-host"), ("proxy.", "golang.org"), ("deb.", "debian.org")),
    )
)
"""Paths of somebody's machine and addresses of package registries: those belong to the machine, not to the project."""


class Import(NamedTuple):
    """One imported module, as a path below the package (``proxy/routing``) or as a name from outside."""

    target: str
    line: int
    own: bool


def module_name(path: Path) -> str:
    """``proxy/routing`` for that file, ``proxy`` for the package's own ``__init__``; ``""`` for the map."""
    name = path.relative_to(PACKAGE).with_suffix("").as_posix()
    return name.removesuffix("__init__").rstrip("/")


SOURCES: Final = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@functools.cache
def tree(name: str) -> ast.Module:
    return ast.parse(SOURCES[name].read_text())


def own_module(dotted: str) -> str:
    """The nearest module of ours: what follows it in the dotted name is a name inside it."""
    parts = dotted.split(".")[1:]
    while parts and "/".join(parts) not in SOURCES:
        parts.pop()
    return "/".join(parts)


@functools.cache
def imports(name: str) -> tuple[Import, ...]:
    """Every import of a file, also inside functions and under TYPE_CHECKING."""
    found: list[Import] = []
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno}: a relative import"
            module = node.module or ""
            own = module.split(".")[0] == "sidecar"
            dotted = [f"{module}.{alias.name}" for alias in node.names] if own else [module]
        else:
            continue
        for each in dotted:
            own = each.split(".")[0] == "sidecar"
            found.append(Import(own_module(each) if own else each, node.lineno, own))
    return tuple(found)


def rank(name: str) -> int:
    """The place in the order; the map itself, which imports nothing, stands before everything."""
    return ORDER.index(name.split("/")[0]) if name else -1


# --- the order -------------------------------------------------------------------------------------------------------


def test_every_file_has_its_place_in_the_order() -> None:
    assert {name.split("/")[0] for name in SOURCES if name} - {"__main__"} <= set(ORDER)


@pytest.mark.parametrize("name", [name for name in SOURCES if name not in ("", "__main__")])
def test_a_file_imports_only_from_above(name: str) -> None:
    below = [
        f"line {each.line}: {each.target}" for each in imports(name) if each.own and rank(each.target) > rank(name)
    ]
    assert not below, f"{name} imports from below itself: {below}"


def test_the_map_itself_imports_nothing() -> None:
    assert not [each for each in imports("") if each.target != "__future__"]


def test_no_imports_go_round_in_a_circle() -> None:
    # Imports for types alone count: two files that need each other's types are one subject, or lack a protocol.
    graph = {name: {each.target for each in imports(name) if each.own} - {name, ""} for name in SOURCES}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as exc:
        pytest.fail(f"imports in a circle: {' -> '.join(exc.args[1])}")


@pytest.mark.parametrize(("library", "door"), ONE_DOOR.items())
def test_a_library_that_needs_care_is_imported_in_one_place(library: str, door: str) -> None:
    users = {name for name in SOURCES for each in imports(name) if each.target.split(".")[0] == library}
    assert users <= {door}


# --- the map ---------------------------------------------------------------------------------------------------------


def map_entries() -> dict[str, str]:
    """Top-level names of the map with their text, in its order."""
    table = (sidecar.__doc__ or "").split("======  ====")[1]
    entries: dict[str, str] = {}
    for line in table.splitlines()[1:]:
        if match := re.match(r"([a-z_]+)/?\s+(.*)", line):
            entries[match[1]] = match[2]
        elif entries and line.startswith(" "):
            entries[list(entries)[-1]] += f" {line.strip()}"
    return entries


def test_the_map_names_the_packages_in_their_order() -> None:
    assert tuple(map_entries()) == ORDER


def test_the_map_marks_the_sans_io_files() -> None:
    marked: set[str] = set()
    for name, text in map_entries().items():
        if text.startswith("o "):
            marked.add(name)
        marked |= {f"{name}/{file}" for file in re.findall(r"``(\w+)`` o\b", text)}
    assert marked == SANS_IO


def test_the_map_names_only_what_exists() -> None:
    packages = {name.split("/")[0] for name in SOURCES if "/" in name}
    for name, text in map_entries().items():
        named = {f"{name}/{file}" for file in re.findall(r"``(\w+)``", text)} if name in packages else {name}
        assert named <= set(SOURCES)


# --- inside the files ------------------------------------------------------------------------------------------------


def is_sans_io(name: str) -> bool:
    """A package that is marked holds nothing but such files."""
    return name in SANS_IO or any(parent.as_posix() in SANS_IO for parent in Path(name).parents)


@pytest.mark.parametrize("name", [name for name in SOURCES if is_sans_io(name)])
def test_a_sans_io_file_imports_nothing_that_does_io_or_asks_the_machine(name: str) -> None:
    used = {each.target.split(".")[0] for each in imports(name) if not each.own}
    assert not used & IO_MODULES


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "runtime"])
def test_every_task_has_a_name_and_an_owner(name: str) -> None:
    bare = [
        f"line {node.lineno}"
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Attribute | ast.Name)
        and (node.attr if isinstance(node, ast.Attribute) else node.id) in ("create_task", "ensure_future")
    ]
    assert not bare, f"{name}: use runtime.Tasks.spawn ({bare})"


@pytest.mark.parametrize("name", [name for name in SOURCES if not SOURCES[name].name.startswith("__")])
def test_every_file_opens_with_what_it_decides(name: str) -> None:
    assert ast.get_docstring(tree(name)), f"{name} has no docstring"


def python_files() -> list[Path]:
    return [path for path in project_files() if path.suffix == ".py"]


def test_no_file_is_longer_than_one_can_hold_in_mind() -> None:
    long = {
        path.relative_to(ROOT).as_posix(): lines
        for path in python_files()
        if (lines := len(path.read_text().splitlines())) > LONGEST_FILE
    }
    assert not long


# --- the tests beside it ---------------------------------------------------------------------------------------------


def mirror_folder(name: str) -> str:
    folder = Path(name).parent.as_posix()
    return MIRRORED_IN.get(folder, folder)


def test_every_file_has_its_tests_in_the_same_place() -> None:
    missing = {
        name
        for name, path in SOURCES.items()
        if not path.name.startswith("__")
        and not (ROOT / "tests" / mirror_folder(name) / f"test_{Path(name).name}.py").exists()
    }
    assert missing == set(UNMIRRORED), "missing tests, or an excuse that is no longer needed"


# --- the project's texts ---------------------------------------------------------------------------------------------


@functools.cache
def project_files() -> tuple[Path, ...]:
    """What belongs to the project: tracked by git, or new and not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return tuple(path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file())


def test_no_text_names_a_path_of_a_machine_or_a_package_registry() -> None:
    found = []
    for path in project_files():
        text = path.read_bytes().decode("utf-8", "replace")
        found += [f"{path.relative_to(ROOT)}: {word}" for word in FOREIGN_TEXT if word in text]
    assert not found
