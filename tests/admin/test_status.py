"""What the status page is told: everything that helps, and nothing that is a secret."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.admin.facts import Reload
from sidecar.admin.status import StatusReport
from sidecar.config import model
from sidecar.config.difference import Change
from sidecar.secrets import Secret
from sidecar.simulation.idp import Step
from tests.admin.conftest import INVALID, Stage
from tests.end_to_end.waiting import until

if TYPE_CHECKING:
    from pathlib import Path


def report(stage: Stage) -> StatusReport:
    return StatusReport(broker=stage.broker, metrics=stage.metrics, clock=stage.clock, facts=stage.facts)


def card(stage: Stage) -> dict[str, Any]:
    [card] = report(stage).snapshot()["credentials"]
    return dict(card)


async def test_a_card_says_when_its_token_is_renewed_and_when_it_ends(stage: Stage) -> None:
    stage.idp.script(Step(fields={"scope": "orders.read"}))
    await stage.run()
    await stage.has_token()
    orders = card(stage)
    assert (orders["name"], orders["state"], orders["generation"]) == ("orders", "fresh", 1)
    token = orders["token"]
    low, high = token["window"]
    assert token["issued_at"] < low <= token["refresh_at"] <= high < token["expires_at"] == token["usable_until"]
    assert token["expires_at"] == pytest.approx(stage.clock.wall() + 3600, abs=5)
    assert (token["scope"], token["bound"]) == ("orders.read", False)
    assert len(token["fingerprint"]) == 8
    assert orders["trouble"] is None
    assert orders["secret_changed_at"] == pytest.approx(stage.secret_file.stat().st_mtime, abs=1)
    assert abs(orders["clock_skew"]) < 5


async def test_the_window_is_the_usual_one_once_a_token_was_renewed(stage: Stage) -> None:
    await stage.run()
    await stage.has_token()
    assert card(stage)["token"]["refresh_at"] < stage.clock.wall() + 0.65 * 3600
    stage.broker.credential("orders").request_refresh()
    await until(lambda: card(stage)["generation"] == 2, "there is another token")
    token = card(stage)["token"]
    low, high = token["window"]
    assert (low - token["issued_at"], high - token["issued_at"]) == pytest.approx((2340, 3060), abs=1)


async def test_a_card_says_what_failed_since_when_and_what_to_do(stage: Stage) -> None:
    stage.idp.script(*[INVALID] * 5)
    await stage.run()
    await until(lambda: stage.failed, "an attempt failed")
    orders = card(stage)
    assert (orders["state"], orders["token"], orders["usable"]) == ("failing", None, False)
    trouble = orders["trouble"]
    assert (trouble["reason"], trouble["failures"]) == ("invalid_client", 1)
    assert "client_secret" in trouble["next"]
    assert trouble["since"] == pytest.approx(stage.clock.wall(), abs=5)


async def test_no_token_and_no_secret_is_told(stage: Stage) -> None:
    await stage.run()
    await stage.has_token()
    token = stage.broker.credential("orders").published
    assert token is not None
    canary = Secret("canary-in-a-file")
    stage.facts.reload = Reload(at=1.0, problem=f"sidecar.yaml:3: what is {canary.reveal()}?\nline")
    text = json.dumps(report(stage).snapshot())
    assert token.secret.reveal() not in text
    assert "client-secret" not in text
    assert canary.reveal() not in text
    assert "what is [redacted]?" in text


async def test_a_reload_is_told_with_its_changes(stage: Stage) -> None:
    assert report(stage).snapshot()["reload"] is None
    stage.facts.reload = Reload(at=12.0, changes=(Change("routes.api.methods", "changed"),))
    assert report(stage).snapshot()["reload"] == {
        "at": 12.0,
        "applied": True,
        "problem": None,
        "changes": [{"path": "routes.api.methods", "kind": "changed"}],
    }


async def test_two_snapshots_of_the_same_moment_are_the_same(stage: Stage) -> None:
    await stage.run("orders", "billing")
    await stage.has_token()
    await until(lambda: all(each.published for each in stage.broker.credentials()), "all have tokens")
    made = report(stage)
    assert made.snapshot()["about"] == made.snapshot()["about"]
    assert [each["token"]["claims"] for each in made.snapshot()["credentials"]] == [None, None]


async def test_a_token_that_never_ends_has_no_window(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("opaque-and-for-ever")
    partner = model.Credential(grant="static", token_file=str(tmp_path / "token"))
    await stage.broker.apply({"orders": partner}, model.Limits())
    await stage.has_token()
    token = card(stage)["token"]
    assert (token["expires_at"], token["window"], token["refresh_at"]) == (None, [None, None], None)
    assert token["fingerprint"] is None  # too short to have one


async def test_where_tokens_come_from_is_told_without_what_may_be_a_key(stage: Stage) -> None:
    url = f"{stage.idp.token_url}?key=canary"
    for config, source in (
        (model.Credential(grant="client_credentials", token_url=url, client_auth="none", client_id="a"), url[:-11]),
        (model.Credential(grant="exec", command=("/usr/bin/tool", "--password", "canary")), "/usr/bin/tool"),
        (model.Credential(grant="static", token_file="/run/token"), "/run/token"),
    ):
        await stage.broker.apply({"orders": config}, model.Limits())
        assert card(stage)["from"] == source
