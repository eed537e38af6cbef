"""What the documentation says is what the code does: tables, configurations, metric names, links, commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
import yaml

from docs import generate
from sidecar.cli import COMMANDS
from sidecar.config import load
from sidecar.config.model import Limits
from sidecar.config.presets import PRESETS
from sidecar.rehearsal import reading
from sidecar.telemetry.metrics import Metrics

ROOT: Final = Path(__file__).resolve().parent.parent
PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "deploy").rglob("*.md")))


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("name", [*generate.PAGES, *generate.WHOLE])
def test_the_tables_are_as_the_code_is(name: str) -> None:
    stands = (ROOT / name).read_text()
    assert stands == generate.render(name), "run: python -m docs.generate"


def test_every_limit_is_in_the_reference() -> None:
    assert re.findall(r"(?m)^\| `(\w+)` \| `", generate.limits()) == list(Limits.__struct_fields__)


def test_a_page_without_its_marks_is_an_error() -> None:
    with pytest.raises(ValueError, match="generated:part:start"):
        generate.between_marks("a page", "part", "text")


AROUND: Final = """\
listeners: [{name: egress, bind: 127.0.0.1:6180}]
store: {path: /var/lib/sidecar/tokens, key: file:/run/secrets/store-key}
"""
"""What a section that is shown alone stands in."""


@pytest.fixture
def _platforms(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that platforms set, of all platforms at once."""
    for preset in PRESETS.values():
        for param in preset.params.values():
            if param.env is not None:
                monkeypatch.setenv(param.env, param.example)


@pytest.mark.usefixtures("_platforms")
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_configuration_that_is_shown_loads(page: Path) -> None:
    for block in re.findall(r"(?ms)^```yaml\n(.*?)^```", page.read_text()):
        if block.startswith("# scenario: "):
            reading.parse(block, name_of(page))
        elif block.startswith("- "):  # containers of a pod, or volumes, which have no args
            for part in yaml.safe_load(block):
                assert "image" not in part or part["args"][0] in COMMANDS
        else:
            text = AROUND + block if block.startswith("credentials:") else block
            load.parse(text, name_of(page), check_files=False)


def test_the_readme_shows_a_configuration() -> None:
    assert "```yaml\n" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_metric_that_is_named_exists(page: Path) -> None:
    metrics = Metrics()
    metrics.route("ROUTE", "CREDENTIAL").answered(b"GET", 200)
    metrics.credential("CREDENTIAL")
    metrics.listener("LISTENER")
    shown = metrics.render()[0].decode()
    for name in re.findall(r"\btokensidecar_[a-z_]+[a-z]\b", page.read_text()):
        assert name in shown, f"{name_of(page)} names {name}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{name_of(page)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_that_is_shown_exists(page: Path) -> None:
    for block in re.findall(r"(?ms)^```sh\n(.*?)^```", page.read_text()):
        for command in re.findall(r"(?<![\w-])sidecar ([a-z-]+)", block):
            assert command in COMMANDS, f"{name_of(page)} shows sidecar {command}"
