"""Writes the job's OpenID Connect token for one audience to a file that is its owner's alone.

Part of the composite action beside it, and nothing but Python's standard library. The token is printed once, in the
workflow command that hides it from the log. With ``--renew`` it is written anew before each one ends, until standard
input does.

https://docs.github.com/actions/reference/security/oidc
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import select
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final
from urllib.parse import quote

USAGE: Final = "usage: job_token.py [--renew] AUDIENCE FILE"
NO_TOKEN: Final = "the job is given no OpenID Connect token: it needs `permissions: {id-token: write}`"
JWT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
ATTEMPTS, PAUSE_SECONDS, TIMEOUT_SECONDS = 3, 2.0, 20.0
TOO_MANY, SERVER_ERRORS = 429, 500
RENEW_AT: Final = 0.5
SOONEST_SECONDS: Final = 1.0
UNKNOWN_LIFE_SECONDS: Final = 240.0


class Unavailable(Exception):
    """There is no token; the message says why, and shows nothing of what came in its place.

    Args:
        may_pass: another attempt may fare better.
    """

    def __init__(self, message: str, *, may_pass: bool = False) -> None:
        super().__init__(message)
        self.may_pass = may_pass


def ask(audience: str) -> str:
    """The token. Raises: Unavailable."""
    url = os.environ.get("ACTIONS_ID_TOKEN_REQUEST_URL", "")
    key = os.environ.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "")
    if not url.startswith(("https://", "http://")) or not key:
        raise Unavailable(NO_TOKEN)
    address = f"{url}{'&' if '?' in url else '?'}audience={quote(audience, safe='')}"
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {key}"})  # noqa: S310 - checked above
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
            token = json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        may_pass = error.code == TOO_MANY or error.code >= SERVER_ERRORS
        raise Unavailable(f"GitHub's token service answered {error.code}", may_pass=may_pass) from None
    except (OSError, http.client.HTTPException):  # the latter for an answer that breaks off, or is no HTTP
        raise Unavailable("GitHub's token service cannot be reached", may_pass=True) from None
    except (ValueError, KeyError, TypeError):
        token = None
    if not isinstance(token, str) or not JWT.fullmatch(token):
        raise Unavailable("GitHub's token service answered something that holds no token")
    return token


def ask_patiently(audience: str) -> str:
    """The same, and again after a moment when it fails. Raises: Unavailable."""
    for _ in range(ATTEMPTS - 1):
        try:
            return ask(audience)
        except Unavailable as error:
            if not error.may_pass:
                raise
        time.sleep(PAUSE_SECONDS)
    return ask(audience)


def write(token: str, file: Path) -> None:
    """In one step, so that whoever reads it meanwhile finds a whole one. Raises: Unavailable."""
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(token)
        fresh.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise Unavailable(f"the job's token cannot be written: {error.strerror}") from None


def tell(command: str, *, alone: bool) -> None:
    """A workflow command for the runner, which reads them at the beginning of a line.

    Args:
        alone: nobody else writes to standard output. Otherwise it begins a line of its own in the same write, and what
            a pipe does not take at once is not written at all: a token in the middle of a line would be shown.
    """
    data = f"{'' if alone else chr(10)}{command}\n".encode()
    if alone or len(data) <= select.PIPE_BUF:
        os.write(1, data)


def seconds_to_renewal(token: str) -> float:
    """From now to the middle of what is left of its life."""
    payload = token.split(".")[1]
    try:
        end = float(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["exp"])
    except (ValueError, KeyError, TypeError):
        return UNKNOWN_LIFE_SECONDS
    return max(SOONEST_SECONDS, RENEW_AT * (end - time.time()))


def renew(audience: str, file: Path) -> None:
    """Write it again and again; a failure leaves the old one where it is, and the next attempt is soon."""
    pause = seconds_to_renewal(file.read_text())
    while not is_over(pause):
        try:
            token = ask_patiently(audience)
            tell(f"::add-mask::{token}", alone=False)
            if is_over(0):  # the folder is about to be removed
                return
            write(token, file)
            pause = seconds_to_renewal(token)
        except Unavailable as error:
            tell(f"::warning title=Token Sidecar::{error}; it is asked again", alone=False)
            pause = PAUSE_SECONDS


def is_over(seconds: float) -> bool:
    """Whether standard input has ended, or does within this time."""
    return bool(select.select([sys.stdin], [], [], seconds)[0])


def once(audience: str, file: Path) -> None:
    """Write it, into a folder that is made for it. Raises: Unavailable."""
    token = ask_patiently(audience)
    tell(f"::add-mask::{token}", alone=True)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"there is no folder for the job's token: {error.strerror}") from None
    write(token, file)


def main(words: list[str]) -> int:
    """Exit code 1: no token."""
    again = words[:1] == ["--renew"]
    if len(words) != 2 + again or not words[-2]:
        sys.stderr.write(f"{USAGE}\n")
        return 2
    audience, file = words[-2], Path(words[-1])
    try:
        (renew if again else once)(audience, file)
    except Unavailable as error:
        tell(f"::error title=Token Sidecar::{error}", alone=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
