"""The IdP, and one life of a child after another: each begins on what the last one left, and dies at a given step."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.rotation_kills.child import NAME
from benchmarks.rotation_kills.steps import AT_THE_IDP, Outcome, Step, judged
from sidecar.broker.store import Grant, TokenStore, new_lineage
from sidecar.errors import StoreUnusable
from sidecar.secrets import Secret, SecretReference
from sidecar.simulation.faults import Step as Answer
from sidecar.simulation.idp import MockIdP
from sidecar.simulation.registration import Client, Refreshing

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Iterable, Iterator

ROOT: Final = Path(__file__).parent.parent.parent
PATIENCE_SECONDS: Final = 60.0
GRACES: Final = (30.0, 0.0)
"""What providers give: Okta's default, and Auth0's."""


class TrialFailed(Exception):
    """A child did not do what it was told, so there is nothing to judge."""


@dataclass(slots=True)
class Figures:
    """Outcomes by step and grace."""

    seconds: float = 0.0
    outcomes: Counter[tuple[Step, float, Outcome]] = field(default_factory=Counter)

    def count(self, *outcomes: Outcome, step: Step | None = None, grace: float | None = None) -> int:
        """How often one of these came of this step and this grace; None stands for all."""
        return sum(
            number
            for (its_step, its_grace, outcome), number in self.outcomes.items()
            if (step in (None, its_step)) and (grace in (None, its_grace)) and (not outcomes or outcome in outcomes)
        )

    @property
    def lost(self) -> int:
        return self.count(Outcome.LOST)


class Trial:
    """Kills in a row with one store and one policy of the IdP."""

    def __init__(self, folder: Path, idp: MockIdP, grace: float, figures: Figures) -> None:
        self._folder = folder
        self._idp = idp
        self._grace = grace
        self._figures = figures
        self._client = f"grace-{grace:g}"
        self._key = folder / "key"
        self._key.write_text(base64.b64encode(os.urandom(32)).decode())
        self._key.chmod(0o600)
        self._store = TokenStore(folder / "tokens", SecretReference("file", str(self._key)))
        idp.register(self._client, Client(refreshing=Refreshing(grace=grace)), secret="secret")
        self._died_at: Step | None = None

    def log_in(self) -> None:
        """What ``sidecar login`` leaves."""
        token = Secret(self._idp.login(self._client))
        self._store.write(NAME, Grant(token, new_lineage(), 0.0))

    async def kill(self, step: Step) -> None:
        """Start a child, judge what it makes of the last kill, and kill it at this step of its next rotation."""
        child = await self._start()
        try:
            if await self._verdict(child) is not Outcome.USABLE:
                await _ended(child)
                self.log_in()
                child = await self._start()
                if await _said(child) != "token":
                    raise TrialFailed("a fresh login brought no token")
            await self._kill(child, step)
        finally:
            await _ended(child)
        self._died_at = step

    async def settle(self) -> None:
        """Judge what is left of the last kill."""
        child = await self._start()
        await self._verdict(child)
        await _ended(child)

    async def _verdict(self, child: Process) -> Outcome:
        said = await _said(child)
        outcome = {"token": Outcome.USABLE, "login_needed": Outcome.LOGIN_NEEDED}.get(said, Outcome.LOST)
        if self._died_at is not None:
            outcome = judged(self._died_at, self._as_on_disk(outcome), grace=self._grace > 0)
            self._figures.outcomes[self._died_at, self._grace, outcome] += 1
        return outcome

    def _as_on_disk(self, outcome: Outcome) -> Outcome:
        try:
            return outcome if self._store.read(NAME) is not None else Outcome.LOST
        except StoreUnusable:
            return Outcome.LOST

    async def _start(self) -> Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.rotation_kills.child", str(self._folder / "tokens"), str(self._key)),
            *(self._idp.token_url, self._client, str(self._grace)),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )

    async def _kill(self, child: Process, step: Step) -> None:
        assert child.stdin is not None
        held = asyncio.Event()
        if step in AT_THE_IDP:
            self._idp.script(Answer(hold=held, fault="close", commits=step is Step.COMMITTED))
        before = len(self._idp.token_requests)
        child.stdin.write(f"{step.name}\n".encode())
        await child.stdin.drain()
        if step in AT_THE_IDP:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while len(self._idp.token_requests) == before:
                    await asyncio.sleep(0.001)
            child.kill()
        async with asyncio.timeout(PATIENCE_SECONDS):
            code = await child.wait()
        held.set()
        if code != -9:
            raise TrialFailed(f"the child ended with {code} at {step.name}")


async def _said(child: Process) -> str:
    """The next line of a child; nothing in time is a word too."""
    assert child.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return (await child.stdout.readline()).decode().strip()
    except TimeoutError:
        return "nothing"


async def _ended(child: Process) -> None:
    if child.returncode is None:
        child.kill()
    await child.communicate()


def plan(kills: int) -> Iterator[tuple[int, Step]]:
    """Which trial and which step, kill after kill: every step with each policy in turn."""
    steps = list(Step)
    for number in range(kills):
        yield number // len(steps) % len(GRACES), steps[number % len(steps)]


async def run(folder: Path, kills: Iterable[tuple[int, Step]], figures: Figures) -> None:
    """Kill as ``plan`` says.

    Raises:
        TrialFailed: a child could not be brought to die where it should.
    """
    async with MockIdP() as idp:
        trials = []
        for grace in GRACES:
            (place := folder / f"{grace:g}").mkdir()
            trials.append(Trial(place, idp, grace, figures))
            trials[-1].log_in()
        for number, (which, step) in enumerate(kills, 1):
            await trials[which].kill(step)
            if number % 20 == 0:
                print(f"{number} kills, {figures.lost} lost", file=sys.stderr, flush=True)
        for trial in trials:
            await trial.settle()
