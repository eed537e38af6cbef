"""An app on requests: a session with kept connections, which reads HTTP_PROXY by itself.

Arguments: URL, seconds, requests per second. Prints one JSON line {"statuses": {code: count}, "errors": []}.
"""

import json
import sys
import time
from collections import Counter

import requests


def ask(session: requests.Session, url: str, turn: int) -> int:
    """GET and POST by turns; a POST must come back as it was sent."""
    if turn % 2 == 0:
        return session.get(url, timeout=30).status_code
    body = f"order {turn}"
    answer = session.post(url, data=body, timeout=30)
    if answer.status_code == 200 and answer.text != body:
        raise ValueError(f"echoed {answer.text!r}")
    return answer.status_code


def main(url: str, seconds: float, rate: float) -> None:
    statuses: Counter[int] = Counter()
    errors = []
    end, turn = time.monotonic() + seconds, 0
    with requests.Session() as session:
        while time.monotonic() < end:
            try:
                statuses[ask(session, url, turn)] += 1
            except (requests.RequestException, ValueError) as exc:
                errors.append(repr(exc))
            turn += 1
            time.sleep(1 / rate)
    sys.stdout.write(json.dumps({"statuses": statuses, "errors": errors}) + "\n")


main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
