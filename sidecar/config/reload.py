"""Noticing that a file changed: by polling its stamp, and nothing else.

Kubernetes swaps the ``..data`` link above a mounted file, on which inotify goes deaf, and inotify instances are scarce
per user and node; one ``stat`` in five seconds costs nothing. Links are followed, so the swap shows as another inode.
What a change leads to is left to the caller.
"""

from __future__ import annotations

import inspect
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from sidecar.runtime import Clock

POLL_SECONDS: Final = 5.0
SETTLE_SECONDS: Final = 0.5
"""A changed file must stay as it is for this long: the first half of a file that is being written may be valid YAML."""
MOST_SETTLING: Final = 10

Stamp = tuple[int, int, int, int]
"""Device, inode, size and time of change (nanoseconds): what a file of other content does not share."""


def stamp(path: Path) -> Stamp | None:
    """The stamp of what the path leads to; None while it leads nowhere."""
    try:
        status = os.stat(path)  # noqa: PTH116 - Path.stat builds the same on top of it, and this is polled
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class Watched:
    """Some files and their stamps as last seen. Create it *before* reading them, or a change in between is lost."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._seen: dict[Path, Stamp | None] = {path: stamp(path) for path in paths}

    def take_in(self, paths: Iterable[Path]) -> None:
        """Watch further files. Call it, too, before they are read."""
        for path in paths:
            if path not in self._seen:
                self._seen[path] = stamp(path)

    def changed(self) -> list[Path]:
        """Files that are others than when last asked.

        A file that is gone is no change until it is back: editors and mounts take it away for a moment.
        """
        now = {path: stamp(path) for path in self._seen}
        found = [path for path, mark in now.items() if mark is not None and mark != self._seen[path]]
        for path in found:
            self._seen[path] = now[path]
        return found


async def watch(
    path: Path,
    clock: Clock,
    changed: Callable[[], Awaitable[None] | None],
    *,
    since: Watched | None = None,
) -> None:
    """Call ``changed`` after each change of a file, for ever; a call that is under way is waited for.

    Args:
        path: the configuration file.
        clock: what the polls are timed on.
        changed: told that something changed; called once for changes that are seen together.
        since: stamps from before the file was read, and of further files, which may become more (the secrets of
            listeners); without them, changes count from now.
    """
    watched = since or Watched((path,))
    while True:
        await clock.sleep_until(clock.now() + POLL_SECONDS)
        if watched.changed():
            await _settle(watched, clock)
            result = changed()
            if inspect.isawaitable(result):
                await result


async def _settle(watched: Watched, clock: Clock) -> None:
    for _ in range(MOST_SETTLING):
        await clock.sleep_until(clock.now() + SETTLE_SECONDS)
        if not watched.changed():
            return
