"""Refresh tokens that are spent, rotated, lost and found: what is on disk at each moment, and what is asked for."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from sidecar.broker import renewal
from sidecar.broker.idp import party
from sidecar.broker.policy import State
from sidecar.broker.store import Grant, fingerprint
from sidecar.config.model import Limits
from sidecar.errors import (
    InvalidGrant,
    InvalidScope,
    LoginNeeded,
    SecretMissing,
    StoreLocked,
    StoreUnusable,
    TokenMalformed,
    TokenRequestError,
)
from sidecar.oauth.dpop import ProofKey
from sidecar.secrets import Secret, SecretReference
from sidecar.simulation.faults import Step
from sidecar.simulation.registration import Refreshing
from tests.broker.renewal_kit import Asked, Rig
from tests.broker.store_kit import grant, other_process, said_by

if TYPE_CHECKING:
    from pathlib import Path


LogLines = Callable[[str], list[dict[str, Any]]]


# --- where a grant comes from ----------------------------------------------------------------------------------------


async def test_without_a_login_one_is_asked_for_and_nothing_sent(rig: Rig) -> None:
    source = rig.source()
    with pytest.raises(LoginNeeded) as caught:
        await source.fetch()
    assert caught.value.detail == "credential orders has no login yet: run `sidecar login orders`"
    assert rig.presented == []
    assert source.watches
    assert not source.inputs_changed()


async def test_a_login_in_another_process_is_taken_up_within_a_turn(rig: Rig, tmp_path: Path) -> None:
    credential = await rig.run(rig.source())
    assert credential.status().state is State.LOGIN_NEEDED
    said_by(
        other_process(tmp_path, 'store.write("orders", Grant(Secret(sys.argv[3]), "l2", 1.0))', rig.idp.login("client"))
    )
    await rig.clock.advance(5.0)
    assert credential.status().state is State.FRESH
    assert rig.on_disk.lineage == "l2"


async def test_a_seed_begins_a_lineage_once(rig: Rig, tmp_path: Path) -> None:
    seed = tmp_path / "seed"
    seed.write_text(rig.idp.login())
    source = rig.source(seed=seed)
    await source.fetch()
    await source.fetch()
    assert rig.presented[0] == seed.read_text()
    assert rig.presented[1] not in rig.presented[:1]
    assert rig.on_disk.seed == fingerprint(Secret(seed.read_text()))


@pytest.mark.parametrize("other", [{"token_url": "https://other.example.com/token"}, {"client_id": "other"}])
async def test_a_login_with_another_provider_or_client_is_not_presented(rig: Rig, other: dict[str, str]) -> None:
    there = msgspec.structs.replace(rig.config, **other)
    rig.store.write("orders", grant(rig.idp.login(), party=party(there)))
    source = rig.source()
    with pytest.raises(LoginNeeded, match="has a login, but it is of client"):
        await source.fetch()
    assert rig.presented == []
    rig.store.write("orders", grant(rig.idp.login(), party=party(rig.config)))
    await source.fetch()


async def test_a_seed_for_another_provider_begins_another_lineage(rig: Rig, tmp_path: Path) -> None:
    seed = tmp_path / "seed"
    seed.write_text(token := rig.idp.login())
    there = party(msgspec.structs.replace(rig.config, token_url="https://other.example.com/token"))
    rig.store.write("orders", grant("canary-of-others", seed=fingerprint(Secret(token)), party=there))
    await rig.source(seed=seed).fetch()
    assert rig.presented == [token]
    assert rig.on_disk.party == party(rig.config)


async def test_another_seed_begins_another_lineage(rig: Rig, tmp_path: Path) -> None:
    seed = tmp_path / "seed"
    seed.write_text(rig.idp.login())
    source = rig.source(seed=seed)
    await source.fetch()
    first = rig.on_disk.lineage
    seed.write_text(rig.idp.login())
    assert source.inputs_changed()
    await source.fetch()
    assert rig.presented[1] == seed.read_text()
    assert rig.on_disk.lineage != first


async def test_a_login_made_beside_the_same_seed_goes_before_it(rig: Rig, tmp_path: Path) -> None:
    seed = tmp_path / "seed"
    seed.write_text("canary-old-seed")
    login = rig.idp.login()
    rig.store.write("orders", Grant(Secret(login), "l2", 1.0, seed=fingerprint(Secret("canary-old-seed"))))
    await rig.source(seed=seed).fetch()
    assert rig.presented == [login]


async def test_a_seed_that_is_refused_asks_for_another_one(rig: Rig, tmp_path: Path) -> None:
    seed = tmp_path / "seed"
    seed.write_text("canary-of-somebody-else")
    source = rig.source(seed=seed)
    with pytest.raises(InvalidGrant, match=f": put another refresh token at file:{seed}$"):
        await source.fetch()
    assert not source.inputs_changed()
    seed.write_text(rig.idp.login())
    assert source.inputs_changed()
    await source.fetch()


async def test_a_seed_that_is_gone_is_missed_only_where_it_is_needed(rig: Rig, tmp_path: Path) -> None:
    source = rig.source(seed=tmp_path / "seed")
    with pytest.raises(SecretMissing):
        await source.fetch()
    rig.log_in()
    await source.fetch()
    assert rig.meters.secret_read_errors.value == 2


async def test_a_damaged_record_is_told_and_a_login_mends_it(rig: Rig) -> None:
    rig.log_in()
    (rig.store.path / "orders.grant").write_bytes(b"rubbish")
    credential = await rig.run(rig.source())
    assert credential.status().last_error == "store_unusable"
    rig.log_in()
    await rig.clock.advance(5.0)
    assert credential.status().usable


# --- spending --------------------------------------------------------------------------------------------------------


async def test_that_a_token_is_being_spent_is_on_disk_before_it_is_sent(rig: Rig) -> None:
    token, held = rig.log_in(), asyncio.Event()
    rig.idp.script(Step(hold=held))
    fetch = asyncio.ensure_future(rig.source().fetch())
    while not rig.presented:
        await asyncio.sleep(0)
    assert rig.on_disk.refresh_token == Secret(token)
    assert rig.on_disk.spent_at == rig.clock.wall()
    held.set()
    await fetch
    assert rig.on_disk.spent_at is None


async def test_a_rotated_token_is_on_disk_before_the_access_token_is_used(rig: Rig) -> None:
    token = rig.log_in()
    rig.policy(Refreshing(lifetime=86400.0))
    await rig.source().fetch()
    after = rig.on_disk
    assert after.refresh_token != Secret(token)
    assert (after.rotates, after.spent_at, after.expires_at) == (True, None, rig.clock.wall() + 86400.0)
    assert rig.meters.rotations.value == 1
    assert rig.meters.refresh_token_expiry_timestamp.value == rig.clock.wall() + 86400.0


async def test_each_rotation_spends_the_token_of_the_one_before(rig: Rig) -> None:
    rig.log_in()
    source = rig.source()
    successors = []
    for _ in range(4):
        await source.fetch()
        successors.append(rig.on_disk.refresh_token.reveal())
    assert rig.presented[1:] == successors[:-1]
    assert rig.meters.rotations.value == 4


@pytest.mark.parametrize("brought", [None, "", "same"])
async def test_an_answer_without_another_token_keeps_the_old_one(rig: Rig, brought: str | None) -> None:
    token = rig.log_in()
    before = rig.on_disk
    rig.policy(Refreshing(rotates=False))
    rig.idp.script(Step(fields={"refresh_token": token if brought == "same" else brought}))
    await rig.source().fetch()
    assert rig.on_disk == before
    assert rig.meters.rotations.value == 0


async def test_the_end_of_a_token_that_stays_may_move(rig: Rig) -> None:
    rig.store.write("orders", grant(expires_at=5.0))
    asked = Asked(rig.answer(), rig.answer(refresh_token_lifetime=60.0), rig.answer("canary-next"))
    source = rig.source(asked)
    await source.fetch()
    assert rig.on_disk.expires_at == rig.meters.refresh_token_expiry_timestamp.value == 5.0
    await source.fetch()
    assert rig.on_disk.expires_at == rig.clock.wall() + 60.0
    await source.fetch()
    assert rig.on_disk.expires_at is None


async def test_what_was_granted_stays_known(rig: Rig) -> None:
    rig.store.write("orders", grant(scope="a b"))
    source = rig.source(Asked(rig.answer(), rig.answer(scope="a")))
    await source.fetch()
    assert rig.on_disk.scope == "a b"
    await source.fetch()
    assert rig.on_disk.scope == "a"


async def test_the_key_of_a_grant_is_used_and_kept(rig: Rig) -> None:
    rig.store.write("orders", grant(dpop_key=Secret("canary-jwk")))
    asked = Asked(rig.answer(), rig.answer("canary-next", dpop=ProofKey(Secret("canary-other-jwk"))))
    source = rig.source(asked)
    await source.fetch()
    key = asked.dpop
    assert key == ProofKey(Secret("canary-jwk"))
    await source.fetch()
    assert asked.dpop is key
    assert rig.on_disk.dpop_key == Secret("canary-other-jwk")


async def test_limits_and_counts_are_those_of_the_idp(rig: Rig) -> None:
    rig.log_in()
    source = rig.source()
    await source.fetch()
    assert source.requests_sent == 1
    source.limits = limits = Limits(token_request=9.0)
    assert source.limits is limits


async def test_a_changed_secret_of_the_client_is_a_changed_input(rig: Rig) -> None:
    rig.log_in()
    asked = Asked(rig.answer())
    source = rig.source(asked)
    await source.fetch()
    assert not source.inputs_changed()
    asked.changed = True
    assert source.inputs_changed()


# --- one owner -------------------------------------------------------------------------------------------------------


async def test_a_second_sidecar_waits_until_the_first_one_ends(rig: Rig) -> None:
    rig.log_in()
    first, second = await rig.run(rig.source()), await rig.run(rig.source())
    assert first.status().usable
    assert second.status().last_error == "store_locked"
    assert second.status().state is State.FAILING
    await rig.clock.advance(60.0)
    assert len(rig.presented) == 1
    await first.close()
    await rig.clock.advance(30.0)
    assert second.status().usable


async def test_a_newer_login_is_not_overwritten_by_an_answer_to_the_old_one(rig: Rig, log_lines: LogLines) -> None:
    rig.log_in()
    held = asyncio.Event()
    rig.idp.script(Step(hold=held))
    source = rig.source()
    fetch = asyncio.ensure_future(source.fetch())
    while not rig.presented:
        await asyncio.sleep(0)
    login = rig.log_in()
    held.set()
    await fetch
    assert rig.on_disk.refresh_token == Secret(login)
    assert source.inputs_changed()
    await source.fetch()
    assert rig.presented[1] == login
    assert len(log_lines("login_found")) == 2


async def test_an_answer_is_kept_although_nobody_waits_for_it_any_more(rig: Rig) -> None:
    token, held = rig.log_in(), asyncio.Event()
    rig.idp.script(Step(commits=True, hold=held))
    source = rig.source()
    fetch = asyncio.ensure_future(source.fetch())
    while not rig.presented:
        await asyncio.sleep(0)
    fetch.cancel()
    await asyncio.sleep(0)
    source.close()
    with pytest.raises(StoreLocked):
        rig.store.own("orders")
    held.set()
    with pytest.raises(asyncio.CancelledError):
        await fetch
    assert rig.on_disk.refresh_token != Secret(token)
    assert rig.on_disk.spent_at is None
    with rig.store.own("orders"):
        pass


async def test_a_fetch_that_was_given_up_is_joined_by_the_next(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "CLOSE_SECONDS", 0.0)
    rig.log_in()
    held = asyncio.Event()
    rig.idp.script(Step(commits=True, hold=held))
    source = rig.source()
    fetch = asyncio.ensure_future(source.fetch())
    while not rig.presented:
        await asyncio.sleep(0)
    fetch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetch
    held.set()
    assert (await source.fetch()).value.reveal() in rig.idp.issued
    assert len(rig.presented) == 1


# --- what is refused -------------------------------------------------------------------------------------------------


async def test_a_folder_that_cannot_be_used_is_a_failure_without_a_request(rig: Rig) -> None:
    rig.store.path.write_text("in the way")
    with pytest.raises(StoreUnusable):
        await rig.source().fetch()
    assert rig.presented == []
    rig.store.path.unlink()


@pytest.mark.parametrize(
    ("odd", "kind"),
    [
        ({"scope": "other"}, InvalidScope),
        ({"token_type": "mac"}, TokenMalformed),
        ({"access_token": "two words"}, TokenMalformed),
        ({"expires_in": -1}, TokenMalformed),
    ],
)
async def test_the_refresh_token_beside_a_token_that_is_refused_is_kept_all_the_same(
    rig: Rig, odd: dict[str, Any], kind: type[Exception]
) -> None:
    rig.policy(Refreshing(grace=0.0))
    rig.store.write("orders", grant(rig.idp.login("client", scope="read"), rotates=True))
    rig.config = msgspec.structs.replace(rig.config, required_scopes=("read",))
    rig.idp.script(Step(fields=odd), Step(fields=odd))
    source = rig.source()
    for count in (1, 2):
        with pytest.raises(kind):
            await source.fetch()
        assert rig.meters.rotations.value == count
        assert rig.on_disk.spent_at is None
    assert (await source.fetch()).value.reveal() == rig.idp.issued[-1]


@pytest.mark.parametrize(
    "second",
    [
        Step(status=200, body=json.dumps({"accessToken": "canary-second", "expires_in": 60}).encode()),
        Step(status=401, body=b'{"error": "invalid_client"}'),
        Step(status=503),
        Step(fault="reset"),
    ],
    ids=["granted", "refused", "failed", "lost"],
)
async def test_the_refresh_token_of_the_first_of_two_requests_is_kept_whatever_the_second_brings(
    rig: Rig, tmp_path: Path, second: Step
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    rig.policy(Refreshing(grace=0.0))
    rig.store.write("orders", grant(rig.idp.login("client"), rotates=True))
    rig.config = msgspec.structs.replace(
        rig.config, impersonation_url=rig.idp.token_url, client_secret=SecretReference("file", str(secret))
    )
    granted = Step(status=200, body=json.dumps({"accessToken": "canary-first", "expires_in": 60}).encode())
    source = rig.source()
    rig.idp.script(Step(), granted)
    await source.fetch()
    rig.idp.secrets["client"].add("y")
    secret.write_text("y")
    rig.idp.script(Step(), second, Step(), granted)
    with contextlib.suppress(TokenRequestError):
        await source.fetch()
    await source.fetch()
    presented = [each for each in rig.presented if each is not None]
    assert len(presented) == len(set(presented)) == 3
    assert rig.on_disk.spent_at is None
