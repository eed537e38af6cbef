"""The process that is killed: a broker with one credential, told on standard input at which step to die.

It prints a line for every token it publishes and when it needs a login. What cuts it off are wrappers around the
functions of the steps, put there by this file; the product knows nothing of them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from benchmarks.rotation_kills.steps import Step
from sidecar.broker import store as store_module
from sidecar.broker.broker import Broker
from sidecar.broker.policy import State
from sidecar.config import model
from sidecar.oauth.endpoint import Endpoint
from sidecar.runtime import SystemClock, Tasks, uniform
from sidecar.secrets import SecretReference
from sidecar.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.broker.credential import Credential

NAME: Final = "orders"
WRITES: Final = {
    # What the store calls -> the step that is over then, in the first write of a rotation and in the second.
    "_fill": (Step.MARK_FILLED, Step.FILLED),
    "_sync": (Step.MARK_SYNCED, Step.SYNCED),
    "_rename": (Step.MARK_RENAMED, Step.RENAMED),
    "_sync_folder": (Step.MARK_KEPT, Step.KEPT),
}


class Death:
    """At which step to die, once it is set; knows how many writes there were since."""

    def __init__(self) -> None:
        self.at: Step | None = None
        self._writes = 0

    def reached(self, step: Step) -> None:
        if step is self.at:
            die()

    def install(self) -> None:
        """Put the wrappers around the steps."""
        for name, steps in WRITES.items():
            setattr(store_module, name, self._around_write(getattr(store_module, name), steps))
        replace, send = store_module.TokenStore.replace, Endpoint.send

        def begins(*arguments: Any, **named: Any) -> Any:
            self.reached(Step.BEGUN)
            return replace(*arguments, **named)

        async def answered(*arguments: Any) -> Any:
            answer = await send(*arguments)
            self.reached(Step.ANSWERED)
            return answer

        store_module.TokenStore.replace = begins  # type: ignore[method-assign]
        Endpoint.send = answered  # type: ignore[method-assign, assignment]

    def _around_write(self, real: Callable[..., Any], steps: tuple[Step, Step]) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> Any:
            result = real(*arguments)
            self.reached(steps[min(self._writes, 1)])
            if self.at is not None and steps[0] is Step.MARK_KEPT:
                self._writes += 1
            return result

        return wrapped


def die() -> NoReturn:
    """As if somebody had pulled the plug: no handler runs, no buffer is flushed."""
    os.kill(os.getpid(), signal.SIGKILL)
    while True:
        time.sleep(60)


def configuration(token_url: str, client_id: str, grace_seconds: float) -> model.Credential:
    """A credential whose refresh token stands in the store."""
    return model.Credential(
        grant="refresh_token",
        token_url=token_url,
        client_id=client_id,
        client_secret=SecretReference.parse("secret", allow_inline=True),
        client_auth="client_secret_basic",
        dialect=model.Dialect(rotation_grace=grace_seconds),
    )


async def follow(credential: Credential, death: Death) -> None:
    """Tell what becomes of the credential."""
    told: object = None
    while True:
        token, state = credential.published, credential.status().state
        news = "login_needed" if state is State.LOGIN_NEEDED else token.generation if token else None
        if news not in (None, told):
            told = news
            if news != "login_needed":
                if death.at is not None:
                    death.reached(Step.PUBLISHED)
                print("token", flush=True)
            else:
                print("login_needed", flush=True)
        await asyncio.sleep(0.005)


async def run(store: Path, key: str, config: model.Credential) -> None:
    """Rotate once at the start, then once for every step that is read, until the input ends."""
    death = Death()
    death.install()
    tasks = Tasks(lambda name, error: print(f"crashed: {name}: {error!r}", file=sys.stderr))
    broker = Broker(clock=SystemClock(), uniform=uniform, metrics=Metrics(), tasks=tasks)
    await broker.apply({NAME: config}, model.Limits(), model.Store(path=str(store), key=SecretReference("file", key)))
    credential = broker.credential(NAME)
    credential.request_refresh()  # now, and not at a random moment of the first seconds
    following = tasks.spawn("follow", follow(credential, death))
    while line := await asyncio.to_thread(sys.stdin.readline):
        death.at = Step[line.strip()]
        credential.request_refresh()
    following.cancel()
    await broker.close()
    await tasks.close()


def main(argv: list[str]) -> None:
    """``child STORE KEY TOKEN_URL CLIENT_ID GRACE_SECONDS``"""
    store, key, token_url, client_id, grace_seconds = argv
    asyncio.run(run(Path(store), key, configuration(token_url, client_id, float(grace_seconds))))


if __name__ == "__main__":
    main(sys.argv[1:])
