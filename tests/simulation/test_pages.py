"""The pages need no script, and nothing that is shown on them becomes markup."""

from __future__ import annotations

from sidecar.simulation import pages

NASTY = "\"'><script>alert(1)</script>"


def test_nothing_that_was_sent_becomes_markup() -> None:
    for reply in (pages.consent(NASTY, NASTY, [(NASTY, NASTY)]), pages.device(NASTY), pages.message(NASTY)):
        assert "<script" not in (reply.page or "")
        assert "\"'>" not in (reply.page or "")


def test_a_page_cannot_be_framed_and_tells_nobody_its_address() -> None:
    reply = pages.message("Done", 400)
    assert reply.status == 400
    assert "frame-ancestors 'none'" in reply.headers["Content-Security-Policy"]
    assert reply.headers["Referrer-Policy"] == "no-referrer"


def test_a_decision_is_one_of_two_buttons() -> None:
    page = pages.consent("client", "", []).page or ""
    assert page.count("<button") == 2
    assert 'name="decision" value="approve"' in page
    assert "It asks for" not in page
