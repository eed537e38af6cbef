"""Faults put into a running provider, and taken out again: after their time, after so many answers, or when told.

What a fault is stands in ``catalogue``; this file only knows which ones hold now.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.simulation.catalogue import ordered
from sidecar.simulation.faults import Standing

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from sidecar.runtime import Clock, Tasks
    from sidecar.simulation.catalogue import Ordered, Undo
    from sidecar.simulation.idp import MockIdP


@dataclass(slots=True, eq=False)
class _Held:
    """A fault that holds."""

    order: Ordered
    standing: Standing | None = None
    undo: Undo | None = None
    timer: asyncio.Task[None] | None = None


class Injection:
    """The faults of one provider.

    Args:
        clock: their times are counted on it.
        tasks: owns their ends.
        on_end: told of each one that ends.
    """

    def __init__(
        self, idp: MockIdP, *, clock: Clock, tasks: Tasks, on_end: Callable[[Ordered], None] | None = None
    ) -> None:
        self._idp = idp
        self._clock = clock
        self._tasks = tasks
        self._on_end = on_end
        self._held: list[_Held] = []

    async def inject(self, order: Ordered | str) -> Ordered:
        """Let a fault happen, from now on. The same one again takes the place of the first.

        Raises:
            ValueError: there is no such fault.
        """
        order = ordered(order) if isinstance(order, str) else order
        fault = order.fault
        if fault.lasts:
            await self.end(fault.name)
        held = _Held(order)
        if fault.step is not None:
            held.standing = Standing(fault.step(order.value), fault.endpoints, order.count)
            self._idp.faults.impose(held.standing)
        if fault.change is not None:
            held.undo = await fault.change(self._idp, order.value)
        if fault.lasts:
            self._held.append(held)
            if order.seconds is not None:
                at = self._clock.now() + order.seconds
                held.timer = self._tasks.spawn(f"end of {order}", self._end_at(held, at))
        return order

    async def end(self, name: str | None = None) -> list[Ordered]:
        """End the faults of this name, or all; those that ended by it, the newest first."""
        ending = [held for held in reversed(self._held) if name in (None, held.order.fault.name)]
        for held in ending:
            if held.timer is not None:
                held.timer.cancel()
            await self._take_out(held)
        return [held.order for held in ending]

    def active(self) -> list[Ordered]:
        """Those that hold now, in the order in which they began."""
        return [held.order for held in self._held if held.standing is None or not held.standing.spent]

    async def _end_at(self, held: _Held, at: float) -> None:
        await self._clock.sleep_until(at)
        await self._take_out(held)

    async def _take_out(self, held: _Held) -> None:
        if held not in self._held:
            return
        self._held.remove(held)
        if held.standing is not None:
            self._idp.faults.lift(held.standing)
            if held.standing.step.fault is not None:
                self._idp.faults.release()
        if held.undo is not None:
            await held.undo()
        if self._on_end is not None:
            self._on_end(held.order)
