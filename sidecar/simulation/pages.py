"""The two pages that a person sees: do you allow this, and which device is it. Plain HTML that works without script.

They show and ask; what an answer means is for the endpoints.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Final

from sidecar.simulation.exchange import Reply

if TYPE_CHECKING:
    from collections.abc import Iterable

HEADERS: Final = {
    # No clickjacking, and the query with its state goes nowhere as a referrer (RFC 9700 sections 4.2 and 4.16).
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
CHOICE: Final = (
    '<button name="decision" value="approve">Approve</button>\n<button name="decision" value="deny">Deny</button>'
)


def consent(client_id: str, scope: str, carried: Iterable[tuple[str, str]]) -> Reply:
    """May this client have these scopes? ``carried`` comes back with the decision."""
    hidden = "\n".join(f'<input type="hidden" name="{_text(name)}" value="{_text(value)}">' for name, value in carried)
    asked = f"<p>It asks for: {_text(scope)}</p>" if scope else ""
    return _page(f"Allow {client_id}?", f'{asked}\n<form method="post">\n{hidden}\n{CHOICE}\n</form>')


def device(user_code: str) -> Reply:
    """Which device is it? The code may be filled in already (RFC 8628 section 3.3.1)."""
    field = f'<label>Code <input name="user_code" value="{_text(user_code)}" autocomplete="off"></label>'
    return _page("Connect a device", f'<form method="post">\n{field}\n{CHOICE}\n</form>')


def message(text: str, status: int = 200) -> Reply:
    return _page(text, "", status)


def _page(title: str, content: str, status: int = 200) -> Reply:
    page = f"""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{_text(title)}</title>
<h1>{_text(title)}</h1>
{content}
</html>
"""
    return Reply(status=status, page=page, headers=HEADERS)


def _text(value: str) -> str:
    return html.escape(value, quote=True)
