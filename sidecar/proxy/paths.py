"""Every form in which an upstream may read a path: how a route's prefix is kept from being left. Pure decisions.

A path is forwarded byte for byte, and matched in all of its forms: a spelling that any reader would resolve to
somewhere else must not get the token of where it seems to lead.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote_to_bytes

from sidecar.errors import BadRequest

_MOST_DECODINGS: Final = 2
_NO_NAMES: Final = frozenset((b"", b"."))
_NO_CONTROLS: Final = bytes(byte for byte in range(0x20, 0x100) if byte != 0x7F)


def path_forms(path: bytes) -> tuple[bytes, ...]:
    """What has to be below a prefix for the path to be below it, whoever reads it: the path as sent, and, where it
    climbs, the highest folder that it may reach on its way.

    Readers differ in what they decode, whether slashes in a row are one, a backslash is a slash, and what follows ``;``
    belongs to the name; and these mix freely (WHATWG URLs climb by ``%2e%2e`` but do not split at ``%2f``). So a step
    up counts where any reader may see it, a step down only where all do. The query is not part of the path.

    Raises:
        BadRequest: it is still encoded after two decodings, or a decoded form holds a control character.
    """
    path = path.partition(b"?")[0]
    if not (b"%" in path or b"/." in path or b"//" in path or b";" in path or b"\\" in path):
        return (path,)
    segments = path.split(b"/")[1:]
    depth, highest = 0, len(segments)
    for segment in segments:
        names = _names(segment)
        if climbs := names.count(b".."):
            depth = max(depth - climbs, 0)
            highest = min(highest, depth)
        elif _NO_NAMES.isdisjoint(names):
            depth += 1
    if highest == len(segments):
        return (path,)
    return (path, b"/" + b"".join(segment + b"/" for segment in segments[:highest]))


def _names(segment: bytes) -> list[bytes]:
    """The names into which a reader may take a segment apart: decoded, split at every slash, without parameters."""
    decoded = segment
    if b"%" in segment:
        for _ in range(_MOST_DECODINGS):
            decoded = unquote_to_bytes(decoded)
        if unquote_to_bytes(decoded) != decoded:
            raise BadRequest("the path is encoded more than twice over")
        if decoded.translate(None, _NO_CONTROLS):
            raise BadRequest("the path holds an encoded control character")
    return [name.partition(b";")[0] for name in decoded.replace(b"\\", b"/").split(b"/")]
