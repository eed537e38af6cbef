"""The dashboard: every query is PromQL, and asks for what a sidecar shows that has served and failed."""

# ruff: noqa: F811 - fixtures are imported, and tests name them

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from sidecar.simulation.idp import Step
from tests.promql import Shown, promtool
from tests.proxy.conftest import rig, trust  # noqa: F401 - fixtures
from tests.proxy.raw_client import get
from tests.proxy.rig import API

if TYPE_CHECKING:
    from tests.proxy.rig import Rig

FILE: Final = Path(__file__).resolve().parent.parent / "deploy" / "grafana" / "token-sidecar.json"
DASHBOARD: Final[dict[str, Any]] = json.loads(FILE.read_text())
PANELS: Final[list[dict[str, Any]]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS: Final = [target["expr"] for panel in PANELS for target in panel["targets"]]
VARIABLES: Final = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}


async def test_every_query_finds_its_metrics_and_labels_in_a_sidecar_that_has_served_and_failed(rig: Rig) -> None:
    rig.idp.script(Step(status=503), Step())
    await rig.start(routes=[rig.route(), rig.plain_route(), rig.route(name="gone", host="gone.test")])
    client = await rig.client()
    assert (await client.ask(get(f"http://{API}/"))).status == 200
    assert (await client.ask(get("http://gone.test/"))).status == 502
    assert (await client.ask(get("http://denied.test/"))).status == 403
    shown = Shown(rig.sidecar.metrics.render()[0].decode())
    queries = [*EXPRESSIONS, *(variable["definition"] for variable in VARIABLES.values() if "definition" in variable)]
    assert {query: missing for query in queries if (missing := shown.missing(query))} == {}


def test_promtool_reads_every_query(tmp_path: Path) -> None:
    file = tmp_path / "queries.yaml"
    queries = [expression.replace("$__rate_interval", "5m") for expression in EXPRESSIONS]
    assert not [query for query in queries if "$__" in query]
    recorded = [{"record": f"panel:query:{number}", "expr": query} for number, query in enumerate(queries)]
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    checked = promtool("check", "rules", str(file))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_its_rows_are_the_token_the_requests_the_process_and_the_configuration() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Token life", "Requests", "Process", "Configuration"]


def test_it_is_of_a_current_grafana_and_of_any_data_source() -> None:
    assert DASHBOARD["schemaVersion"] >= 39
    assert "id" not in DASHBOARD
    assert VARIABLES.keys() == {"datasource", "namespace", "pod", "credential", "route"}
    for panel in PANELS:
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_every_query_follows_the_variables() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            used = set(re.findall(r"=~\"\$(\w+)\"", target["expr"]))
            assert {"namespace", "pod"} <= used <= VARIABLES.keys(), panel["title"]


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (column, line)
            for column in range(place["x"], place["x"] + place["w"])
            for line in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_every_metric_of_the_product_that_people_watch_is_on_it() -> None:
    shown = " ".join(EXPRESSIONS)
    for name in ("token_up", "token_wait_seconds", "upstream_unauthorized_total", "proxy_overhead_seconds"):
        assert f"tokensidecar_{name}" in shown
