"""``sidecar check`` as a pipeline runs it: a process without a terminal, its report on standard output."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree

import pytest

from sidecar.cli import main
from sidecar.simulation.idp import MockIdP, Step
from tests.cli.token_command import Done, ended
from tests.config.conftest import VALID

if TYPE_CHECKING:
    from pathlib import Path

COMMAND: Final = [sys.executable, "-W", "error", "-m", "sidecar", "check"]
OFFLINE: Final = ("--offline", "--no-files")


async def run(folder: Path, *arguments: str, text: str = VALID) -> Done:
    """The command in a folder with this ``config.yaml``."""
    (folder / "config.yaml").write_text(text)
    return await ended([*COMMAND, *arguments], folder=folder)


async def test_a_sound_configuration_ends_with_0_and_a_line_of_counts(tmp_path: Path) -> None:
    done = await run(tmp_path, *OFFLINE, "--strict")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\nno errors, no warnings and no notes in config.yaml\n")


async def test_warnings_count_when_it_is_strict(tmp_path: Path) -> None:
    text = VALID + "    on_failure: open\n"

    assert (await run(tmp_path, *OFFLINE, text=text)).returncode == 0
    assert (await run(tmp_path, *OFFLINE, "--strict", text=text)).returncode == 1


async def test_a_configuration_with_errors_is_a_report_in_every_format(tmp_path: Path) -> None:
    for form in ("text", "json", "junit", "sarif", "github"):
        done = await run(tmp_path, "--format", form, text=VALID.replace("credential: orders", "credential: ordres"))
        assert (done.returncode, done.stderr) == (3, "")
        assert "ordres" not in done.stdout or form == "text"
        match form:
            case "json":
                (finding,) = json.loads(done.stdout)["findings"]
                assert (finding["id"], finding["line"], finding["column"]) == ("configuration-invalid", 12, 17)
            case "junit":
                assert ElementTree.fromstring(done.stdout).get("failures") == "1"
            case "sarif":
                assert json.loads(done.stdout)["runs"][0]["invocations"][0]["exitCode"] == 3
            case "github":
                assert done.stdout.startswith("::error file=config.yaml,line=12,")
            case _:
                assert "config.yaml:12:17: error: no credential has this name; did you mean 'orders'?" in done.stdout


async def test_a_secret_that_is_missing_is_4(tmp_path: Path) -> None:
    done = await run(tmp_path, "--offline", text=VALID.replace("/run/secrets", "/nowhere/secrets"))

    assert done.returncode == 4
    assert "config.yaml:9:20: error: credentials.orders.client_secret: " in done.stdout


async def test_a_refusal_is_6_and_shows_no_secret(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch(0o600)
    secret.write_text("c4n4ry-secret-of-the-test")
    async with MockIdP() as idp:
        text = VALID.replace("https://idp.example.com/oauth2/token", idp.token_url)
        text = text[: text.index("routes:")].replace("/run/secrets/orders", str(secret))
        done = await run(tmp_path, "--live", text=text)

    assert (done.returncode, done.stderr) == (6, "")
    assert "HTTP 401, invalid_client [invalid-client]" in done.stdout
    assert "c4n4ry" not in done.stdout


async def test_it_ends_in_its_time_whatever_hangs(tmp_path: Path) -> None:
    async with MockIdP() as idp:
        idp.always(Step(fault="hang"))
        text = VALID.replace("https://idp.example.com/oauth2/token", idp.token_url)
        text = text[: text.index("routes:")].replace("client_secret: file:/run/secrets/orders", "client_secret: secret")
        done = await run(tmp_path, "--live", "--timeout", "2s", text="allow_inline_secrets: true\n" + text)

    assert (done.returncode, done.stderr) == (5, "")
    assert "[out-of-time]" in done.stdout


async def test_a_file_that_is_not_there_is_3(tmp_path: Path) -> None:
    named = await ended([*COMMAND, "-c", "none.yaml"], folder=tmp_path)
    unnamed = await ended(COMMAND, folder=tmp_path)

    assert (named.returncode, named.stderr) == (3, "")
    assert "none.yaml: error: the configuration cannot be read" in named.stdout
    assert (unnamed.returncode, unnamed.stdout) == (3, "")
    assert "there is no config.yaml" in unnamed.stderr


async def test_a_file_below_the_working_directory_is_called_as_seen_from_there(tmp_path: Path) -> None:
    done = await run(tmp_path, "-c", str(tmp_path / "config.yaml"), *OFFLINE)
    assert done.stdout.endswith(" in config.yaml\n")

    (tmp_path / "below").mkdir()
    done = await ended([*COMMAND, "-c", str(tmp_path / "config.yaml"), *OFFLINE], folder=tmp_path / "below")
    assert done.stdout.endswith(f" in {tmp_path}/config.yaml\n")


async def test_a_name_that_does_not_exist_is_wrong_use(tmp_path: Path) -> None:
    done = await run(tmp_path, *OFFLINE, "--only", "ordres")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "sidecar: the configuration has no credential ordres; did you mean 'orders'?\n"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--offline", "--live"), "not allowed with"),
        (("--format", "xml"), "invalid choice"),
        (("--timeout", "0s"), "more than nothing"),
        (("--timeout", "soon"), "not a duration"),
        (("--no-files", "--live"), "--no-files belongs to --offline"),
    ],
)
def test_wrong_use_says_what_is_wrong(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], why: str) -> None:
    try:
        code = main(["check", *arguments])
    except SystemExit as exc:
        code = int(exc.code or 0)
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert why in err


def test_the_help_has_an_example_and_the_exit_codes() -> None:
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True)
    assert "example: sidecar check" in done.stdout
    assert "7 upstream" in done.stdout
