"""Asking an IdP: secrets that rotate, issuers, what is sent."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.secrets import SecretReference
from sidecar.simulation.idp import Step

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.broker.credential import Credential
    from tests.broker.conftest import House

LogLines = Callable[[str], list[dict[str, Any]]]


async def refresh(house: House, credential: Credential) -> None:
    credential.request_refresh()
    await house.clock.settle()


def remove(path: Path) -> None:
    path.unlink()


def rewrite(path: Path, text: str) -> None:
    """Replace a file as platforms do, by renaming: a new inode, whatever the clock's resolution."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(text)
    fresh.replace(path)


def results(house: House) -> dict[str, float]:
    return {result: cell.value for result, cell in house.meters().requests.items() if cell.value}


# --- secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client_auth", ["client_secret_basic", "client_secret_post"])
@pytest.mark.parametrize("secret", ["plain", "a+b%2Fc=d:e €&"])
async def test_any_secret_gets_through_either_way(house: House, client_auth: str, secret: str) -> None:
    house.idp.secrets["client"] = {secret}
    house.secret_file.write_text(secret)
    assert (await house.run_one(client_auth=client_auth)).status().usable


async def test_raw_basic_suits_a_provider_that_does_not_decode(house: House) -> None:
    house.idp.basic_encoding = "raw"
    house.idp.secrets["client"] = {"a+b%2Fc"}
    house.secret_file.write_text("a+b%2Fc")
    assert (await house.run_one(basic_encoding="raw")).status().usable


async def test_a_changed_secret_is_read_at_the_next_request(house: House, log_lines: LogLines) -> None:
    credential = await house.run_one()
    rewrite(house.secret_file, "second-secret")
    house.idp.secrets["client"] = {"second-secret"}
    await refresh(house, credential)
    assert results(house) == {"success": 2}
    assert len(log_lines("secret_changed")) == 1


async def test_while_the_idp_does_not_know_the_new_secret_the_old_one_works(house: House, log_lines: LogLines) -> None:
    credential = await house.run_one()
    rewrite(house.secret_file, "second-secret")
    for _ in range(2):
        await refresh(house, credential)
    assert results(house) == {"success": 3, "invalid_client": 2}
    assert credential.status().consecutive_failures == 0
    assert len(log_lines("secret_changed")) == 1
    assert len(log_lines("secret_refused")) == 2
    house.idp.secrets["client"] = {"second-secret"}
    await refresh(house, credential)
    assert results(house) == {"success": 4, "invalid_client": 2}
    await refresh(house, credential)
    assert results(house) == {"success": 5, "invalid_client": 2}


@pytest.mark.parametrize(
    "refusal",
    [
        Step(status=401, body=b""),
        Step(status=403, body=b'{"error": "access_denied"}'),
        Step(status=400, body=b'{"error": "invalid_client"}'),
    ],
)
async def test_every_way_to_refuse_a_secret_leads_back_to_the_old_one(house: House, refusal: Step) -> None:
    credential = await house.run_one()
    rewrite(house.secret_file, "second-secret")
    house.idp.script(refusal)
    await refresh(house, credential)
    assert results(house)["success"] == 2


async def test_an_idp_that_is_down_says_nothing_about_a_new_secret(house: House) -> None:
    credential = await house.run_one()
    rewrite(house.secret_file, "second-secret")
    house.idp.script(Step(status=503))
    await refresh(house, credential)
    assert results(house) == {"success": 1, "server_error": 1}


async def test_when_both_secrets_are_refused_that_is_the_failure(house: House) -> None:
    credential = await house.run_one()
    rewrite(house.secret_file, "second-secret")
    house.idp.secrets["client"] = {"third"}
    await refresh(house, credential)
    assert results(house) == {"success": 1, "invalid_client": 2}
    assert credential.status().last_error == "invalid_client"


async def test_a_secret_that_cannot_be_read_is_counted_and_its_last_value_used(
    house: House, log_lines: LogLines
) -> None:
    credential = await house.run_one()
    house.secret_file.unlink()
    await refresh(house, credential)
    assert results(house) == {"success": 2}
    assert house.meters().secret_read_errors.value == 1
    assert log_lines("secret_unreadable")[0]["detail"].endswith("No such file or directory")


async def test_a_secret_that_never_was_there_is_a_failure_without_a_request(house: House) -> None:
    house.secret_file.unlink()
    credential = await house.run_one()
    await house.clock.advance(60.0)
    assert credential.status().last_error == "secret_missing"
    assert len(house.idp.received) == 0
    assert house.meters().secret_read_errors.value == house.meters().consecutive_failures.value > 3
    house.secret_file.write_text("client-secret")
    await house.clock.advance(5.0)
    assert credential.status().usable


async def test_a_refused_secret_is_tried_again_at_once_when_its_file_changes(house: House) -> None:
    rewrite(house.secret_file, "wrong")
    credential = await house.run_one()
    assert credential.status().last_error == "invalid_client"
    await house.clock.advance(30.0)
    assert len(house.idp.received) == 1
    rewrite(house.secret_file, "client-secret")
    await house.clock.advance(5.0)
    assert credential.status().usable


async def test_a_changed_secret_alone_is_no_reason_for_a_request(house: House) -> None:
    await house.run_one()
    rewrite(house.secret_file, "second-secret")
    await house.clock.advance(60.0)
    assert len(house.idp.received) == 1


async def test_a_mounted_secret_that_is_swapped_by_symlink_is_noticed(house: House, tmp_path: Path) -> None:
    # Kubernetes: secret -> ..data/secret, ..data -> a dated folder, swapped by renaming the link.
    for version, text in (("v1", "wrong"), ("v2", "client-secret")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "secret").write_text(text)
    (tmp_path / "..data").symlink_to("v1")
    mounted = tmp_path / "mounted"
    mounted.symlink_to("..data/secret")
    credential = await house.run_one(client_secret=SecretReference.parse(f"file:{mounted}"))
    assert credential.status().last_error == "invalid_client"
    (tmp_path / "..tmp").symlink_to("v2")
    (tmp_path / "..tmp").replace(tmp_path / "..data")
    await house.clock.advance(5.0)
    assert credential.status().usable


async def test_the_age_of_a_secret_is_its_files(house: House) -> None:
    os.utime(house.secret_file, (1_700_000_000, 1_700_000_000))
    await house.run_one()
    assert house.meters().secret_last_change_timestamp.value == 1_700_000_000


async def test_a_secret_from_the_environment_works_too(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERS_SECRET", "client-secret")
    credential = await house.run_one(client_secret=SecretReference.parse("env:ORDERS_SECRET"))
    assert credential.status().usable
    assert house.meters().secret_last_change_timestamp.value == house.clock.wall()


# --- requests --------------------------------------------------------------------------------------------------------


async def test_scopes_audience_and_further_fields_are_sent(house: House) -> None:
    await house.run_one(scopes=("a", "b"), audience="https://api.test", token_params={"resource": ("x", "y")})
    assert sorted(house.idp.received[0].form) == [
        ("audience", "https://api.test"),
        ("grant_type", "client_credentials"),
        ("resource", "x"),
        ("resource", "y"),
        ("scope", "a b"),
    ]


async def test_the_idps_clock_is_compared_with_ours(house: House) -> None:
    house.idp.script(Step(headers={"Date": "Fri, 15 Jan 2027 08:01:00 GMT"}))
    await house.run_one()
    assert house.meters().clock_skew.value == 60.0


async def test_an_issuer_is_enough(house: House) -> None:
    credential = await house.run_one(token_url=None, issuer=house.idp.issuer)
    assert credential.status().usable
    await refresh(house, credential)
    assert [received.method for received in house.idp.received] == ["GET", "POST", "POST"]


async def test_a_token_endpoint_that_moved_is_found_again(house: House) -> None:
    house.idp.metadata["token_endpoint"] = f"{house.idp.origin}/old"
    credential = await house.run_one(token_url=None, issuer=house.idp.issuer)
    assert credential.status().last_error == "malformed"
    house.idp.metadata.clear()
    await refresh(house, credential)
    assert credential.status().usable


async def test_a_failed_discovery_is_a_failed_request(house: House) -> None:
    house.idp.metadata["issuer"] = "https://other.test"
    credential = await house.run_one(token_url=None, issuer=house.idp.issuer)
    assert credential.status().last_error == "malformed"
    assert results(house) == {"malformed": 1}
    assert all(received.method == "GET" for received in house.idp.received)
