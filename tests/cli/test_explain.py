"""``sidecar explain``: what is shown of an explanation, and how a credential stands."""

# ruff: noqa: F811 - fixtures are imported, and tests name them

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

from sidecar.cli import main
from tests.cli.token_command import ended
from tests.end_to_end.waiting import free_port
from tests.proxy.conftest import rig, trust  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.token_command import Done
    from tests.proxy.rig import Rig

EGRESS: Final = {"name": "egress", "bind": "127.0.0.1:6180"}
ORDERS: Final = {"name": "orders", "mode": "reverse", "bind": "127.0.0.1:6190", "upstream": "https://api.example.com"}
ROUTES: Final = (
    {"name": "v1", "host": "api.example.com", "paths": ["/v1/"], "credential": "orders"},
    {"name": "v2", "host": "api.example.com", "paths": ["/v2/"], "credential": "orders"},
    {"name": "other", "host": "other.example.com", "credential": "orders"},
)


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration with three routes, in the folder that the command runs in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SIDECAR_CONFIG", raising=False)
    path = tmp_path / "config.yaml"
    write(path)
    return path


def write(path: Path, **changes: Any) -> None:
    complete = {
        "listeners": [EGRESS, ORDERS],
        "credentials": {"orders": {"grant": "static", "token_file": "/absent"}},
        "routes": ROUTES,
    }
    path.write_text(json.dumps(complete | changes))


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["explain", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_a_request_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "http://api.example.com/v1/orders")
    assert text.startswith(
        "GET http://api.example.com/v1/orders, by listener egress (forward)\n"
        "with a token: route v1 takes it, with the token of credential orders\n"
    )
    assert "  > route v1: the most specific one\n" in text
    assert "    route v2: path: /v1/orders is not below /v2/\n" in text
    assert "    1 other route is for other hosts\n" in text
    assert re.search(r"^  leaves as +https://api\.example\.com/v1/orders$", text, re.MULTILINE)
    assert re.search(r"^  by the app +curl -x http://127\.0\.0\.1:6180 http://api", text, re.MULTILINE)
    assert re.search(r'^  what leaves +curl -H "Authorization: Bearer \$TOKEN" https://api', text, re.MULTILINE)


def test_a_request_that_is_denied_is_explained_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "DELETE", "http://nowhere.example.com/")
    assert "denied 403 (target_unmatched): no route matches this host and port\n" in text
    assert "    3 routes are for other hosts\n" in text
    assert "host: nowhere.example.com is not api.example.com" in text
    assert "what leaves" not in text


def test_a_base_url_is_mapped_to_its_upstream(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "POST", "-c", "config.yaml", "/v1/orders", "--listener", "orders")
    assert "by listener orders (reverse)" in text
    assert "https://api.example.com/v1/orders" in text
    assert text == shown(capsys, "POST", "/v1/orders")


def test_for_programs_there_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(shown(capsys, "--json", "http://api.example.com/v1/orders"))
    assert (found["outcome"], found["route"], found["credential"]) == ("token", "v1", "orders")
    assert found["way"]["url"] == "https://api.example.com/v1/orders"
    assert [each["taken"] for each in found["routes"]] == [True, False, False]
    assert found["credential_state"] is None
    denied = json.loads(shown(capsys, "--json", "https://other.test/"))
    assert (denied["outcome"], denied["status"], denied["reason"]) == ("denied", 403, "target_unmatched")


def test_a_sidecar_that_does_not_run_is_no_error(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    write(file, admin={"bind": f"127.0.0.1:{free_port()}"})
    assert "credential     orders (how it stands says the running sidecar" in shown(
        capsys, "http://api.example.com/v1/"
    )


async def test_the_running_sidecar_says_how_the_credential_stands(rig: Rig) -> None:
    await rig.start(admin={"bind": f"127.0.0.1:{rig.port('admin')}"})
    done = await run(rig, f"http://localhost:{rig.plain.port}/x")
    assert re.search(r"credential +orders: fresh, generation 1, expires 20", done.stdout), done
    state = json.loads((await run(rig, "--json", f"http://localhost:{rig.plain.port}/x")).stdout)["credential_state"]
    assert (state["name"], state["state"]) == ("orders", "fresh")
    assert rig.idp.issued[-1] not in done.stdout


async def test_something_else_at_the_admin_address_is_no_error(rig: Rig) -> None:
    write(rig.file, admin={"bind": f"127.0.0.1:{rig.plain.port}"})
    done = await run(rig, "http://api.example.com/v1/")
    assert done.returncode == 0, done
    assert "says the running sidecar" in done.stdout


async def run(rig: Rig, *arguments: str) -> Done:
    return await ended([sys.executable, "-m", "sidecar", "explain", "-c", str(rig.file), *arguments])


# --- wrong use --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), ("GET", "http://a.test/", "extra"), ("--nonsense", "http://a.test/")])
def test_wrong_use_exits_with_2(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["explain", *arguments])
    assert exit_.value.code == 2
    assert capsys.readouterr().err.startswith("usage: sidecar explain")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("api.example.com/v1",), "write the whole URL"),
        (("http://a.test/ä",), "percent-encode"),
        (("http://a.test/", "--listener", "absent"), "no listener is called absent"),
    ],
)
def test_what_no_app_could_send_exits_with_2(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], why: str
) -> None:
    assert main(["explain", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert why in err


def test_a_configuration_with_errors_exits_with_3(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    file.write_text("listeners: []\n")
    assert main(["explain", "http://a.test/"]) == 3
    assert "config.yaml:1:" in capsys.readouterr().err
