"""Tokens that somebody else keeps fresh: in a file, or in the environment."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.secrets import SecretReference
from tests.broker.test_idp import remove, results, rewrite

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.broker.credential import Credential
    from tests.broker.conftest import House, LogLines


def jwt(**claims: Any) -> str:
    return f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b'=').decode()}.c2ln"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("canary-first\n")
    return path


async def run_static(house: House, token_file: Path, **changes: Any) -> Credential:
    return await house.run_one(
        grant="static", token_url=None, client_id=None, client_secret=None, token_file=str(token_file), **changes
    )


def header(credential: Credential) -> bytes:
    token = credential.published
    return token.header if token else b""


async def test_a_file_is_a_token_for_ever(house: House, token_file: Path) -> None:
    credential = await run_static(house, token_file)
    assert header(credential) == b"Authorization: Bearer canary-first\r\n"
    await house.clock.advance(600.0)
    assert credential.status().usable
    assert results(house) == {"success": 1}


async def test_a_changed_file_is_a_new_generation_within_5_seconds(house: House, token_file: Path) -> None:
    credential = await run_static(house, token_file)
    await house.clock.advance(60.0)
    rewrite(token_file, "canary-second")
    await house.clock.advance(5.0)
    assert header(credential) == b"Authorization: Bearer canary-second\r\n"
    assert credential.status().generation == 2
    assert results(house) == {"success": 2}


async def test_a_file_that_was_only_touched_is_the_same_generation(house: House, token_file: Path) -> None:
    credential = await run_static(house, token_file)
    rewrite(token_file, "canary-first")
    await house.clock.advance(5.0)
    assert credential.status().generation == 1


async def test_a_file_that_is_gone_keeps_its_token_and_says_so(
    house: House, token_file: Path, log_lines: LogLines
) -> None:
    credential = await run_static(house, token_file)
    remove(token_file)
    await house.clock.advance(60.0)
    assert credential.status().usable
    assert house.meters().secret_read_errors.value > 0
    line = log_lines("token_refresh_failed")[0]
    assert (line["reason"], line["usable_for_seconds"]) == ("secret_missing", None)
    rewrite(token_file, "canary-second")
    await house.clock.advance(5.0)
    assert credential.status().generation == 2
    assert len(log_lines("token_recovered")) == 1


async def test_a_jwt_in_a_file_expires_and_its_successor_is_found(house: House, token_file: Path) -> None:
    rewrite(token_file, jwt(exp=house.clock.wall() + 600))
    credential = await run_static(house, token_file)
    await house.clock.advance(599.0)
    assert credential.status().usable
    assert sum(results(house).values()) < 10
    await house.clock.advance(1.0)
    assert not credential.status().usable
    rewrite(token_file, jwt(exp=house.clock.wall() + 600))
    await house.clock.advance(5.0)
    assert credential.status().usable
    assert credential.status().generation == 2


@pytest.mark.parametrize("content", ["two words", "line\nbreak", "\x07", "ä"])
async def test_a_file_with_something_else_in_it_is_malformed(house: House, token_file: Path, content: str) -> None:
    rewrite(token_file, content)
    credential = await run_static(house, token_file)
    assert credential.published is None
    assert credential.status().last_error == "malformed"


async def test_a_401_reads_the_file_at_once(house: House, token_file: Path) -> None:
    credential = await run_static(house, token_file)
    rewrite(token_file, "canary-second")
    renewing = house.tasks.spawn("renewing", credential.renew_after_unauthorized(1, accepted_before=True))
    await house.clock.settle()
    assert (await renewing) is credential.published
    assert credential.status().generation == 2


async def test_a_token_in_the_environment_needs_no_file(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI_TOKEN", "canary-of-the-job")
    plain = {"token_url": None, "client_id": None, "client_secret": None}
    credential = await house.run_one(grant="static", token=SecretReference.parse("env:CI_TOKEN"), **plain)
    assert header(credential) == b"Authorization: Bearer canary-of-the-job\r\n"
