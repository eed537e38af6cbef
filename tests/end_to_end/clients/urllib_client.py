"""An app on the standard library: urllib reads HTTP_PROXY by itself; a new connection for every request.

Arguments: URL, seconds, requests per second. Prints one JSON line {"statuses": {code: count}, "errors": []}.
"""

import json
import sys
import time
import urllib.error
import urllib.request
from collections import Counter


def ask(url: str, turn: int) -> int:
    """GET and POST by turns; a POST must come back as it was sent."""
    body = f"order {turn}".encode() if turn % 2 else None
    with urllib.request.urlopen(url, data=body, timeout=30) as answer:
        echoed = answer.read()
        if body is not None and echoed != body:
            raise ValueError(f"echoed {echoed!r}")
        return int(answer.status)


def main(url: str, seconds: float, rate: float) -> None:
    statuses: Counter[int] = Counter()
    errors = []
    end, turn = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        try:
            statuses[ask(url, turn)] += 1
        except urllib.error.HTTPError as exc:
            statuses[exc.code] += 1
            exc.close()
        except (OSError, ValueError) as exc:
            errors.append(repr(exc))
        turn += 1
        time.sleep(1 / rate)
    sys.stdout.write(json.dumps({"statuses": statuses, "errors": errors}) + "\n")


main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
