"""One input through all readers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.fuzz.differences import REASON, VERDICT, Difference, differences
from benchmarks.fuzz.others import aiohttp_answer, aiohttp_requests, h11_answer, h11_requests
from benchmarks.fuzz.ours import Answer, Requests
from benchmarks.fuzz.outgoing import Outgoing, answer_out, request_out
from benchmarks.fuzz.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.fuzz.inputs import Input


def in_pieces(whole: Reading, pieces: Reading) -> list[Difference]:
    """What differs because the bytes came in several reads. Only whole messages count: of an answer that fails in its
    body, the head may have gone on before."""
    if whole.verdict == pieces.verdict and whole.whole == pieces.whole:
        return []
    if whole.error and pieces.error and whole.whole == pieces.whole:
        return [Difference("ours", "pieces", REASON, f"{pieces.error} instead of {whole.error}")]
    return [Difference("ours", "pieces", VERDICT, f"{pieces.verdict} instead of {whole.verdict}")]


class Trial:
    """What came of one input.

    Attributes:
        reading: ours.
        found: every difference, known or not.
    """

    __slots__ = ("found", "reading")

    def __init__(self, source: Input, pieces: Sequence[bytes]) -> None:
        self.found: list[Difference] = []
        self.reading = self._answer(source, pieces) if source.is_answer else self._request(source, pieces)

    def _request(self, source: Input, pieces: Sequence[bytes]) -> Reading:
        data = source.data
        requests = Requests()
        ours = requests.read([data])
        self.found += in_pieces(ours, Requests().read(pieces))
        count = len(ours.messages)
        if count:
            self.found += differences(ours, h11_requests(data, count), "h11", "request")
            self.found += differences(ours, aiohttp_requests(data, count), "aiohttp", "request")
        for head, message in zip(requests.heads, ours.messages, strict=True):
            out = request_out(head, message)
            if out is not None:
                self._request_out(out)
        return ours

    def _request_out(self, out: Outgoing) -> None:
        meant = Reading([out.meant])
        self._no_hops(out, "request out")
        self.found += differences(meant, h11_requests(out.data, 1), "h11", "request out")
        self.found += differences(meant, aiohttp_requests(out.data, 1), "aiohttp", "request out")

    def _answer(self, source: Input, pieces: Sequence[bytes]) -> Reading:
        data, method = source.data, source.method
        answer = Answer(method)
        ours = answer.read([data])
        self.found += in_pieces(ours, Answer(method).read(pieces))
        if not ours.messages:
            return ours
        self.found += differences(ours, h11_answer(data, method), "h11", "answer")
        self.found += differences(ours, aiohttp_answer(data, method), "aiohttp", "answer")
        draw = len(data)  # as good as chance, and the same when the input is tried again
        out = answer_out(answer, ours.messages[0], method, minor=int(draw % 8 > 0), close=draw % 4 == 1)
        if out is not None:
            meant = Reading([out.meant])
            self._no_hops(out, "answer out")
            self.found += differences(meant, h11_answer(out.data, method), "h11", "answer out")
            self.found += differences(meant, aiohttp_answer(out.data, method), "aiohttp", "answer out")
        return ours

    def _no_hops(self, out: Outgoing, stage: str) -> None:
        if out.hops:
            self.found.append(Difference("ours", stage, "hops", repr(out.hops), out.meant))
