"""The provider table as data: every row is whole by itself."""

from __future__ import annotations

import re

import pytest

from sidecar.config.model import Credential, Dialect
from sidecar.config.presets import PRESETS, Preset, filled_in


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_a_row_uses_known_keys_and_exactly_its_parameters(preset: Preset) -> None:
    assert set(preset.keys) <= set(Credential.__struct_fields__)
    assert set(preset.yours) <= set(Credential.__struct_fields__)
    assert set(preset.keys.get("dialect", {})) <= set(Dialect.__struct_fields__)
    assert set(re.findall(r"\{([a-z_]+)\}", repr(preset.keys))) == set(preset.params)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_the_examples_fit_their_parameters(preset: Preset) -> None:
    for param in preset.params.values():
        assert param.fits(param.example)
        assert param.default is None or param.fits(param.default)


def test_parameters_are_filled_in_wherever_they_stand() -> None:
    preset = Preset("a", "A", "https://a.example", {"token_url": "x/{b}", "token_params": {"k": ("{b}", "c")}})
    assert filled_in(preset, {"b": "1"}) == {"token_url": "x/1", "token_params": {"k": ("1", "c")}}
