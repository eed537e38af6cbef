"""The status page in a real browser: under its policy, live, by keyboard, in the dark, and for nobody from elsewhere.

``STATUS_PAGE_PICTURE=docs/status-page.png`` in the environment makes the picture of the README anew.
"""

# ruff: noqa: F811 - fixtures are imported, and tests name them

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest

from tests.end_to_end.browsers import CHROMIUM, Chromium
from tests.end_to_end.pages import Page
from tests.end_to_end.status_scene import ADMIN, STATES, Scene
from tests.end_to_end.waiting import until
from tests.proxy.conftest import pytest_asyncio_loop_factories, rig, trust  # noqa: F401 - fixtures
from tests.proxy.raw_client import get
from tests.proxy.rig import API

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.proxy.rig import Rig

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

LIVE: Final = "document.querySelector('#live').textContent === 'Live'"


def state_of(name: str) -> str:
    """A script: the state that the page shows for a credential."""
    return f"{card_of(name)}?.dataset.state"


def card_of(name: str) -> str:
    """A script: the card of a credential."""
    return f"[...document.querySelectorAll('.card')].find(card => card.querySelector('h3').textContent === '{name}')"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    browser = Chromium(tmp_path_factory.mktemp("browser"))
    browser.start()
    yield browser
    browser.kill()


@pytest.fixture
async def scene(rig: Rig) -> AsyncIterator[Scene]:
    async with Scene(rig) as scene:
        yield scene


@pytest.fixture
async def page(scene: Scene, chromium: Chromium) -> AsyncIterator[Page]:
    async with Page(chromium) as page:
        await page.size(1360, 1000)
        yield page


async def look(scene: Scene, page: Page) -> None:
    await page.open(scene.url)
    await page.until(LIVE)
    await page.until(f"document.querySelectorAll('.card').length === {len(STATES)}")


async def test_every_state_is_shown_and_the_console_is_silent(scene: Scene, page: Page) -> None:
    await scene.start()
    await scene.age()
    await scene.traffic()
    await look(scene, page)
    for name, state in STATES.items():
        await page.until(f"{state_of(name)} === '{state}'")
    cards = await page.text("#cards")
    for words in ("server_error", "sidecar login repository", "Next attempt", "orders.read"):
        assert words in cards
    assert "orders-api" in await page.text("#route-rows")
    requests = await page.text("#request-rows")
    assert "/v1/orders/4711" in requests
    assert "page=2" not in requests
    assert "target_unmatched" in requests
    everything = await page.evaluate("document.documentElement.outerHTML")
    for provider in scene.providers.values():
        assert not [token for token in provider.issued if token in everything]
    assert page.complaints == []


async def test_a_token_that_is_renewed_is_seen_without_a_reload(scene: Scene, page: Page) -> None:
    await scene.start()
    await until(lambda: scene.state("orders") == "fresh", "there is a token")
    await look(scene, page)
    shown = f"{card_of('orders')}.querySelector('.facts').innerText"
    before = await page.evaluate(shown)
    assert "Generation\n1\n" in before
    scene.rig.orders.request_refresh()
    await page.until(f"{shown}.includes('Generation\\n2\\n')")
    assert page.complaints == []


async def test_a_change_of_state_is_announced(scene: Scene, page: Page) -> None:
    await scene.start()
    await until(lambda: scene.state("orders") == "fresh", "there is a token")
    await look(scene, page)
    await page.until(f"{state_of('orders')} === 'fresh'")
    await scene.providers["orders"].stop()
    scene.rig.orders.request_refresh()
    await page.until("document.querySelector('#news').textContent.includes('orders: failing')")
    assert await page.evaluate("document.querySelector('#news').getAttribute('role')") == "status"
    await page.until("document.title.startsWith('(')")


async def test_the_keyboard_reaches_every_action_and_the_token_stays_in_the_page(scene: Scene, page: Page) -> None:
    await scene.start()
    await until(lambda: scene.state("repository") == "login_needed", "somebody has to log in")
    await look(scene, page)
    await page.press("Tab")
    seen = [await page.focused()]
    while seen.count("Skip to the credentials") < 2 and len(seen) < 60:
        await page.press("Tab")
        seen.append(await page.focused())
    assert seen[0] == "Skip to the credentials"
    assert {"token", "Use", "Support bundle", "Log in", "Refresh now"} <= set(seen)
    assert seen.count("Refresh now") == len(STATES)
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    await page.evaluate("document.querySelector('#token').focus()")
    await page.press("Tab")
    assert await page.evaluate(outline) == "solid"

    await page.evaluate("document.querySelector('#token').focus()")
    await page.type(ADMIN)
    await page.press("Enter")
    assert await page.focused() == "Forget the admin token"
    await page.evaluate("[...document.querySelectorAll('.log-in')].find(button => !button.hidden).focus()")
    await page.press("Enter")
    await page.until("document.querySelector('.login .code') !== null")
    code = await page.text(".login .code")
    scene.providers["repository"].approve(code)
    await page.until(f"{state_of('repository')} === 'fresh'")
    kept = (
        "JSON.stringify([Object.entries(localStorage), Object.entries(sessionStorage), document.cookie, location.href])"
    )
    assert ADMIN not in await page.evaluate(kept)
    assert ADMIN not in await page.evaluate("document.documentElement.outerHTML")
    assert page.complaints == []


async def test_a_link_to_the_provider_comes_back_and_the_page_goes_on(scene: Scene, page: Page) -> None:
    provider = scene.providers["repository"]
    scene.log_in_by_link()
    await scene.start()
    await until(lambda: scene.state("repository") == "login_needed", "somebody has to log in")
    await look(scene, page)
    await page.evaluate("document.querySelector('#token').focus()")
    await page.type(ADMIN)
    await page.press("Enter")
    await page.evaluate("[...document.querySelectorAll('.log-in')].find(button => !button.hidden).click()")
    await page.until("document.querySelector('.login a') !== null")
    address = await page.evaluate("document.querySelector('.login a').href")
    assert address.startswith(provider.issuer)
    await page.open(address)
    await page.evaluate("document.querySelector('button[value=approve]').click()")
    await page.until("document.body.innerText.includes('The answer has arrived')")
    await page.open(scene.url)
    await page.until(f"{state_of('repository')} === 'fresh'")
    assert [each for each in page.complaints if scene.url in each] == []


async def test_a_wrong_token_is_said_and_forgotten(scene: Scene, page: Page) -> None:
    await scene.start()
    await look(scene, page)
    await page.evaluate("document.querySelector('#token').focus()")
    await page.type("a-wrong-admin-token")
    await page.press("Enter")
    await page.evaluate("document.querySelector('.renew').focus()")
    await page.press(" ")
    await page.until("document.querySelector('#cards .said').textContent.includes('admin token is not the right one')")
    assert await page.focused() == "token"


async def test_a_support_bundle_is_saved(scene: Scene, page: Page, tmp_path: Path) -> None:
    await scene.start()
    await look(scene, page)
    await page.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    await page.evaluate("document.querySelector('#token').focus()")
    await page.type(ADMIN)
    await page.press("Enter")
    await page.evaluate("document.querySelector('#bundle').click()")
    await until(lambda: bool(list(tmp_path.glob("token-sidecar-support-*.zip"))), "the archive is saved")
    assert page.complaints == []


async def test_a_url_is_explained(scene: Scene, page: Page) -> None:
    await scene.start()
    await look(scene, page)
    await page.evaluate("document.querySelector('#url').focus()")
    await page.type("http://api.example.test/v1/orders")
    await page.press("Enter")
    await page.until("document.querySelector('#explanation').innerText.startsWith('With a token: route orders-api')")
    await page.evaluate("document.querySelector('#url').select()")
    await page.type("no url")
    await page.press("Enter")
    await page.until("document.querySelector('#explanation').innerText.includes('percent-encode')")
    assert [each for each in page.complaints if "400" not in each] == []


async def test_light_and_dark_follow_the_system(scene: Scene, page: Page) -> None:
    await scene.start()
    await look(scene, page)
    shades = {}
    for scheme in ("light", "dark"):
        await page.prefers(color_scheme=scheme, reduced_motion="reduce")
        shades[scheme] = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        moves = await page.evaluate("getComputedStyle(document.querySelector('.ring .expiry')).transitionDuration")
        assert moves in ("0s", "")
    assert shades == {"light": "rgb(246, 247, 248)", "dark": "rgb(20, 23, 26)"}


async def test_a_page_of_another_origin_gets_nothing(scene: Scene, page: Page) -> None:
    await scene.start()
    other = scene.providers["orders"].issuer  # another port is another origin
    await page.open(f"{other}/.well-known/openid-configuration")
    script = """
      Promise.all(['/', '/v1/status', '/v1/credentials/orders/refresh'].map(path =>
        fetch(URL + path, {method: path.endsWith('refresh') ? 'POST' : 'GET', headers: {Authorization: 'Bearer TOKEN'}})
          .then(answer => answer.status, () => 'refused')))
    """
    answers = await page.evaluate(script.replace("URL", f"'{scene.url}'").replace("TOKEN", ADMIN))
    assert answers == ["refused"] * 3
    framed = f"(f => {{ f.src = '{scene.url}/'; document.body.append(f); }})(document.createElement('iframe'))"
    await page.evaluate(framed)
    await page.until("frames.length === 1")
    assert scene.rig.sidecar.metrics.denied["origin_foreign"].value > 0
    async with aiohttp.ClientSession() as session:
        async with session.get(scene.url, headers={"Host": "evil.example"}) as answer:
            assert answer.status == 403
        async with session.get(scene.url, headers={"Origin": "http://evil.example"}) as answer:
            assert answer.status == 403


async def test_many_credentials_and_routes_leave_the_browser_time(
    scene: Scene, page: Page, record_property: Callable[[str, object], None]
) -> None:
    configuration = scene.configuration()
    configuration["credentials"] = {f"team-{number}": scene._credential("orders") for number in range(30)}
    configuration["routes"] = [
        scene.rig.route(name=f"api-{number}", credential=f"team-{number}", paths=[f"/{number}/"])
        for number in range(30)
    ]
    scene.configuration = lambda **_: configuration  # type: ignore[method-assign]
    sidecar = await scene.start()
    await until(lambda: all(each.published for each in sidecar.broker.credentials()), "all have tokens", seconds=30)
    assert len(sidecar.metrics) <= 100 + 50 * 30 + 80 * 30
    await page.open(scene.url)
    await page.until("document.querySelectorAll('.card').length === 30")
    client = await scene.rig.client()
    seconds, before = 6, 0.0
    for second in range(seconds + 1):
        if second == 1:  # the first one is spent on drawing it all
            before = await page.busy_seconds()
        for number in range(30):
            await client.ask(get(f"http://{API}/{number}/"))
        for credential in sidecar.broker.credentials()[::3]:
            credential.request_refresh()
        await page.evaluate("new Promise(done => setTimeout(done, 1000))")
    busy = (await page.busy_seconds() - before) / seconds
    assert page.complaints == []
    record_property("busy_ms_a_second", f"{busy * 1000:.1f}")
    sys.stderr.write(f"30 credentials and 30 routes: {busy * 1000:.1f} ms of the browser's main thread a second\n")


SHOWN_HOSTS: Final = """
(() => {
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const node = texts.currentNode;
    node.data = node.data.replace(/-x http:\\/\\/127\\.0\\.0\\.1:\\d+/g, '-x http://127.0.0.1:6180')
      .replace(/http:\\/\\/127\\.0\\.0\\.1:(?!6180)\\d+/g, 'https://login.example.com')
      .replace(/^-(30\\d\\d|\\d) s$/, 'as ours')
      .replace(/· 127\\.0\\.0\\.1:\\d+$/, '· login.example.com').replace(/127\\.0\\.0\\.1:\\d+/g, '127.0.0.1:6180')
      .replace(/api\\.example\\.test:\\d+/g, 'api.example.com').replace(/api\\.example\\.test/g, 'api.example.com')
      .replace(/\\/[^ ]+\\/ca\\.pem/g, '/etc/ssl/corp-ca.pem');
  }
})()
"""
"""Ports and names of the test are no news to a reader, nor is it that time went on here and not at the provider."""


async def test_a_picture_can_be_made_of_every_state(scene: Scene, page: Page, tmp_path: Path) -> None:
    await scene.start()
    await scene.age()
    await scene.reload()
    await look(scene, page)
    await scene.traffic()
    await page.prefers(color_scheme="light", reduced_motion="reduce")
    await page.evaluate("document.querySelector('#token').focus()")
    await page.type(ADMIN)
    await page.press("Enter")
    await page.evaluate("[...document.querySelectorAll('.log-in')].find(button => !button.hidden).click()")
    await page.until("document.querySelector('.login .code') !== null")
    await page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    await page.evaluate("new Promise(done => setTimeout(done, 2500))")
    await page.call("Emulation.setScrollbarsHidden", hidden=True)
    await page.evaluate(SHOWN_HOSTS)
    end = await page.evaluate("document.querySelector('#route-rows').getBoundingClientRect().bottom")
    await page.size(1360, int(end) + 24)
    file = Path(os.environ.get("STATUS_PAGE_PICTURE", tmp_path / "status-page.png"))
    file.write_bytes(await page.picture())  # noqa: ASYNC240 - a test waits for its disk
    assert file.stat().st_size > 50_000  # noqa: ASYNC240
