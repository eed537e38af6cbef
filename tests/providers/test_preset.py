"""The provider table as data: every row is whole by itself, tested, documented, and loads as it is shown."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sidecar.config.model import Credential, Dialect
from sidecar.config.presets import PRESETS, Preset, filled_in, params_in
from sidecar.secrets import SecretReference

ROWS = pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
TESTS = Path(__file__).parent
PAGE = (TESTS.parents[1] / "docs" / "providers.md").read_text()


@ROWS
def test_a_row_uses_known_keys_and_exactly_its_parameters(preset: Preset) -> None:
    assert set(preset.keys) <= set(Credential.__struct_fields__)
    assert set(preset.yours) <= set(Credential.__struct_fields__) - set(preset.keys)
    assert set(preset.keys.get("dialect", {})) <= set(Dialect.__struct_fields__)
    assert params_in(preset.keys) == set(preset.params)


@ROWS
def test_the_examples_fit_their_parameters(preset: Preset) -> None:
    for param in preset.params.values():
        assert param.fits(param.example)
        assert param.default is None or param.fits(param.default)


@ROWS
def test_no_parameter_ends_a_line_or_becomes_an_option_of_a_command(preset: Preset) -> None:
    for name, param in preset.params.items():
        assert not any(param.fits(value) for value in ("", "a\nb", "a\r", "a\n"))
        assert name not in params_in(preset.keys.get("command")) or not param.fits("--profile")


@ROWS
def test_no_parameter_changes_the_host_of_an_address_but_one_that_is_a_host(preset: Preset) -> None:
    for key, value in preset.keys.items():
        if key.endswith("_url") and not value.startswith("{"):
            assert "{" not in urlsplit(value).netloc or re.fullmatch(r"\{[a-z_]+\}", urlsplit(value).netloc)


@ROWS
def test_its_page_is_the_provider_s_own(preset: Preset) -> None:
    assert urlsplit(preset.page).scheme == "https"


@ROWS
def test_it_is_tested_against_a_fake_of_its_provider(preset: Preset) -> None:
    texts = [path.read_text() for path in TESTS.glob("test_*.py") if path.name != "test_preset.py"]
    assert any(f'provider: {preset.name}"' in text for text in texts)


@ROWS
def test_it_has_a_row_and_an_example_in_the_documentation(preset: Preset) -> None:
    assert f"| [`{preset.name}`](" in PAGE
    assert re.search(rf"(?m)^    provider: {preset.name}$", PAGE)


def test_parameters_are_filled_in_wherever_they_stand() -> None:
    keys = {
        "token_url": "x/{b}",
        "token_params": {"k": ("{b}", "c")},
        "token": SecretReference("env", "{b}"),
        "dpop": True,
    }
    preset = Preset("a", "A", "https://a.example", keys)
    assert filled_in(preset, {"b": "1"}) == {
        "token_url": "x/1",
        "token_params": {"k": ("1", "c")},
        "token": SecretReference("env", "1"),
        "dpop": True,
    }
    assert params_in(keys) == {"b"}
