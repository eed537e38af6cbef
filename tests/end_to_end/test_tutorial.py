"""The tutorial as it stands on its page, run line by line: a newcomer's ten minutes."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.end_to_end.waiting import free_port
from tests.promql import promtool

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "tutorial.md"
RULES = ROOT / "deploy" / "prometheus" / "token-sidecar.rules.yaml"
PATIENCE_SECONDS = 240
PORTS = ("9400", "9500", "6180", "6181", "6182", "6190")


def blocks() -> Iterator[tuple[str, str]]:
    """Language and text of every block, in order."""
    for match in re.finditer(r"(?ms)^```(\w+)\n(.*?)^```", PAGE.read_text()):
        yield match[1], match[2]


def script(folder: Path) -> str:
    """Everything that the page has the reader type, on ports of this test's own."""
    lines = ["set -euo pipefail"]
    for language, text in blocks():
        if language == "sh":
            lines.append(text)
        elif text.startswith("# config.yaml"):
            lines.append(f"cat > config.yaml <<'END'\n{text}END")
    whole = "\n".join(lines)
    for port in PORTS:
        whole = re.sub(rf"\b{port}\b", str(free_port()), whole)
    return whole + f"\necho done > {folder / 'done'}\n"


async def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    programs = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}
    environment.pop("SIDECAR_CONFIG", None)
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", script(tmp_path)),
        cwd=tmp_path,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert process.stdout is not None
            told = b""
            while not (tmp_path / "done").exists() and (line := await process.stdout.readline()):
                told += line
            await process.wait()
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # all that it left in the background
    said = told.decode()
    assert process.returncode == 0, said
    assert "PASSED  idp-outage-short" in said
    assert '"reason":"server_error"' in said
    for name in ("answer.html", "answer-by-proxy.html", "answer-in-the-outage.html"):
        assert "Directory listing" in (tmp_path / name).read_text()
    assert "demo-secret" not in said + (tmp_path / "sidecar.log").read_text()
    the_alert_fires(tmp_path, (tmp_path / "outage.metrics").read_text())


def the_alert_fires(folder: Path, scrape: str) -> None:
    """What was scraped in the outage makes the alert fire that the page names."""
    series = [
        {"series": f"{sample.name}{{{labels(sample.labels)}}}", "values": f"{sample.value}+0x10"}
        for family in text_string_to_metric_families(scrape)
        for sample in family.samples
        if sample.name in ("tokensidecar_token_refresh_consecutive_failures", "tokensidecar_token_up")
    ]
    firing = 'ALERTS{alertname="TokenSidecarRefreshFailing", alertstate="firing"}'
    found = labels({"alertname": "TokenSidecarRefreshFailing", "alertstate": "firing", "credential": "api"})
    expected = [{"labels": f'ALERTS{{{found}, severity="warning"}}', "value": 1}]
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": series,
                "promql_expr_test": [{"expr": firing, "eval_time": "5m", "exp_samples": expected}],
            }
        ],
    }
    (folder / "alert.test.yaml").write_text(yaml.safe_dump(test))
    done = promtool("test", "rules", str(folder / "alert.test.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


def labels(own: dict[str, str]) -> str:
    """As PromQL writes them, with those that Prometheus adds."""
    target = {"namespace": "shop", "job": "token-sidecar"}
    return ", ".join(f'{name}="{value}"' for name, value in {**target, **own}.items())


@pytest.mark.parametrize("word", ["sidecar check", "sidecar simulate", "sidecar run", "status page", "runbook"])
def test_the_page_shows_the_whole_way(word: str) -> None:
    assert word in PAGE.read_text()
