"""``sidecar init``: what it writes loads, for every preset and every grant, and says what is left to fill in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.cli import main
from sidecar.cli.init import EXAMPLE_HOST, GRANTS, MEANINGS
from sidecar.config import load
from sidecar.config.model import NEEDS_LOGIN
from sidecar.config.presets import FAMILIES, PRESETS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that the command runs in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SIDECAR_CONFIG", raising=False)
    return tmp_path


@pytest.fixture
def _platforms(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that platforms set, of all platforms at once."""
    for preset in PRESETS.values():
        for param in preset.params.values():
            if param.env is not None:
                monkeypatch.setenv(param.env, param.example)


def written(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    """The text, and what was said beside it."""
    assert main(["init", "-o", "-", *arguments]) == 0
    out, err = capsys.readouterr()
    return out, err


# --- it loads ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_platforms")
@pytest.mark.parametrize("name", PRESETS)
def test_what_is_written_for_a_preset_loads(capsys: pytest.CaptureFixture[str], name: str) -> None:
    text, said = written(capsys, "--provider", name)
    configuration = load.parse(text, "config.yaml", check_files=False)
    assert configuration.credentials["api"].provider == name
    assert [listener.mode for listener in configuration.listeners] == ["forward"]
    assert [(route.host, route.credential) for route in configuration.routes] == [(EXAMPLE_HOST, "api")]
    assert (configuration.store is not None) == (configuration.credentials["api"].grant in NEEDS_LOGIN)
    assert PRESETS[name].page in text
    assert not [line for line in said.splitlines() if "-:" in line and "'ca_file'" not in line], "files may be missing"


@pytest.mark.parametrize("grant", GRANTS)
def test_what_is_written_for_a_grant_loads(capsys: pytest.CaptureFixture[str], grant: str) -> None:
    text, _ = written(capsys, "--grant", grant)
    configuration = load.parse(text, "config.yaml")
    assert configuration.credentials["api"].grant == grant
    assert (configuration.store is not None) == (grant in NEEDS_LOGIN)


def test_without_provider_and_grant_it_is_client_credentials(capsys: pytest.CaptureFixture[str]) -> None:
    assert written(capsys) == written(capsys, "--grant", "client_credentials")


@pytest.mark.parametrize("host", ["api.github.com", "*.example.org", "192.0.2.1", "::1"])
def test_the_host_is_that_of_the_route(capsys: pytest.CaptureFixture[str], host: str) -> None:
    text, said = written(capsys, "--host", host)
    assert load.parse(text, "config.yaml").routes[0].host == host
    assert "routes.api.host" not in said


# --- what is left to do -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_everything_that_is_yours_is_marked_and_told(capsys: pytest.CaptureFixture[str], name: str) -> None:
    text, said = written(capsys, "--provider", name)
    preset = PRESETS[name]
    asked = [key for key, param in preset.params.items() if param.default is None and param.env is None]
    for key in (*preset.yours, *asked):
        lines = [line for line in text.splitlines() if line.strip().startswith(f"{key}:")]
        assert any("# yours: " in line for line in lines)
    for path in (*preset.yours, *(f"provider_params.{key}" for key in asked)):
        assert f"credentials.api.{path}: " in said
    assert preset.yours.keys() <= MEANINGS.keys(), "each has its words"
    assert "routes.api.host" in said


def test_secrets_that_are_not_there_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    _, said = written(capsys, "--provider", "keycloak")
    assert "credentials.api.client_secret: file:/run/secrets/" in said
    assert "No such file" in said


def test_variables_that_the_platform_has_to_set_are_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_TENANT_ID", raising=False)
    text, said = written(capsys, "--provider", "entra_id_workload")
    assert "by default $AZURE_TENANT_ID" in text
    assert "$AZURE_TENANT_ID in the environment" in said


@pytest.mark.parametrize(
    ("provider", "step"),
    [("github_user", "sidecar login api -c config.yaml, and sidecar run -c config.yaml"), ("slack", "sidecar run")],
)
def test_the_next_step_is_told(capsys: pytest.CaptureFixture[str], provider: str, step: str) -> None:
    assert main(["init", "--provider", provider]) == 0
    assert f"Then: {step}" in capsys.readouterr().err


# --- the file ---------------------------------------------------------------------------------------------------------


def test_it_goes_to_the_default_file_and_over_nothing_that_is_there(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    assert main(["init"]) == 0
    first = (folder / "config.yaml").read_text()
    assert capsys.readouterr().out == ""
    assert main(["init", "--provider", "okta"]) == 2
    assert "config.yaml is there already" in capsys.readouterr().err
    assert (folder / "config.yaml").read_text() == first
    assert main(["init", "--provider", "okta", "--force"]) == 0
    assert "provider: okta" in (folder / "config.yaml").read_text()


def test_a_link_to_nowhere_is_something_that_is_there(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "config.yaml").symlink_to(folder / "elsewhere")
    assert main(["init"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert not (folder / "elsewhere").exists()


def test_a_file_that_cannot_be_written_exits_with_2(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert main(["init", "-o", f"{folder}/absent/config.yaml"]) == 2
    assert (
        capsys.readouterr().err
        == f"sidecar: {folder}/absent/config.yaml cannot be written: No such file or directory\n"
    )
    assert list(folder.iterdir()) == []


def test_the_list_names_every_preset_below_its_provider(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == list(FAMILIES)
    assert [line.split()[0] for line in lines if line.startswith(" ")] == list(PRESETS)


# --- wrong use --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--provider", "keyclok"), "there is no preset 'keyclok'; did you mean 'keycloak'?; --list has them all"),
        (
            ("--provider", "gitlab", "--grant", "device_code"),
            "gitlab is for the grant authorization_code; device_code has",
        ),
        (("--provider", "auth0", "--grant", "exec"), "auth0 is for the grant client_credentials"),
    ],
)
def test_a_provider_that_is_not_there_or_of_another_grant_exits_with_2(
    capsys: pytest.CaptureFixture[str], folder: Path, arguments: tuple[str, ...], why: str
) -> None:
    assert main(["init", *arguments]) == 2
    assert why in capsys.readouterr().err
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("arguments", [("--grant", "password"), ("--host", "https://a.test/"), ("extra",)])
def test_wrong_use_exits_with_2_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], folder: Path, arguments: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["init", *arguments])
    assert exit_.value.code == 2
    assert capsys.readouterr().err.startswith("usage: sidecar init")
    assert list(folder.iterdir()) == []
