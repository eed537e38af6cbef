"""An origin that keeps every byte it was sent, connection by connection, read or not, in the order of arrival.

What it answers and how it is scripted is the plain origin's business; what is added here is the tape.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, SupportsIndex

from tests.proxy.raw_origin import Origin

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

_LONGEST_LINE: Final = 1 << 20


class _TapedReader(asyncio.StreamReader):
    """Puts on tape what arrives, before anybody asks for it."""

    def __init__(self, origin: RecordingOrigin) -> None:
        super().__init__(limit=_LONGEST_LINE)
        self._origin = origin

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        self._origin.tape.append((self, bytes(data)))
        super().feed_data(data)


class RecordingOrigin(Origin):
    """Attributes:
    tape: every read of every connection, in the order of arrival.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.tape: list[tuple[object, bytes]] = []

    async def start(self) -> None:
        def accept() -> asyncio.StreamReaderProtocol:
            return asyncio.StreamReaderProtocol(_TapedReader(self), self._serve)

        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(accept, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    def received(self, since: int = 0) -> list[bytes]:
        """What came after a mark on the tape, joined for each connection."""
        joined: dict[object, bytes] = {}
        for connection, data in self.tape[since:]:
            joined[connection] = joined.get(connection, b"") + data
        return list(joined.values())

    def rewind(self) -> None:
        """Forget the script of a case that is over, and the tape."""
        self._script.clear()
        self.always = None
        self.tape.clear()
        self.requests.clear()
        self.connections = [each for each in self.connections if not each.ended.is_set()]
