"""The composition root: a configuration becomes a running generation, and a new one takes its place on reload.

The order of a start is the order of what can fail for good: configuration, secrets, sockets. Only then does anything
begin to run, and from then on nothing but a signal ends it; an identity provider that is down never does. A reload goes
the same way with what is new, and swaps it in only when all of it stands: a failure leaves the old generation in place.
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sidecar import __version__
from sidecar.admin.facts import Facts, Reload
from sidecar.admin.telemetry_server import TelemetryServer
from sidecar.broker.broker import Broker
from sidecar.config import difference, files, load
from sidecar.config.reload import Watched, watch
from sidecar.errors import InternalError, SidecarError
from sidecar.proxy.addresses import OwnSockets
from sidecar.proxy.entrance import Entrance, ForwardEntrance, reverse_entrance
from sidecar.proxy.gateway import Gateway, Generation
from sidecar.proxy.listener import Listener, sweep, sweep_interval
from sidecar.proxy.pool import UpstreamPool
from sidecar.proxy.resolver import Resolver, system_lookup
from sidecar.proxy.routing import Route, RoutingTable
from sidecar.proxy.tls import Contexts
from sidecar.read_once import ReadOnce, see_secrets
from sidecar.runtime import Clock, SystemClock, Tasks, Trimmer, Uniform, uniform
from sidecar.telemetry import log
from sidecar.telemetry.access_log import AccessLog
from sidecar.telemetry.metrics import UNMATCHED, Metrics
from sidecar.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from sidecar.admin.admin_server import AdminServer
    from sidecar.admin.page_server import PageServer
    from sidecar.config import model
    from sidecar.config.model import Bind, Configuration
    from sidecar.preflight.findings import Finding
    from sidecar.proxy.resolver import Lookup

QUIET_SECONDS: Final = 2.0
"""A drain ends when no request came for this long."""
_DRAIN_LOOK_SECONDS: Final = 0.1


class Health:
    """What the probes ask; none of it depends on an identity provider unless the configuration says so."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.started = False
        self.draining = False

    def not_ready(self) -> list[str]:
        """Names of the credentials whose token readiness waits for."""
        return self._broker.ready()


class Sidecar:
    """The whole product in one event loop.

    Args:
        configuration: loaded and checked.
        clock: lifetimes are counted on it.
        draw: randomness for jitter.
        lookup: how upstreams' names become addresses.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        clock: Clock | None = None,
        draw: Uniform = uniform,
        lookup: Lookup = system_lookup,
    ) -> None:
        self.configuration = configuration
        self.metrics = Metrics()
        self.log = log.get_logger("app")
        self._clock = clock or SystemClock()
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks(self._crashed)
        self._own_sockets = OwnSockets()
        self.tracing = Tracing()
        self.broker = Broker(
            clock=self._clock, uniform=draw, metrics=self.metrics, tasks=self._tasks, tracing=self.tracing
        )
        self.health = Health(self.broker)
        self.facts = Facts(started_at=self._clock.wall(), configuration=configuration)
        resolver = Resolver(tasks=self._tasks, own_sockets=self._own_sockets, lookup=lookup)
        self.gateway = Gateway(
            self._empty_generation(),
            pool=UpstreamPool(resolver=resolver, contexts=Contexts(), draw=draw),
            metrics=self.metrics,
            tasks=self._tasks,
            clock=self._clock,
            loop_time=self._loop.time,
            tracing=self.tracing,
        )
        self.listeners: list[Listener] = []
        self._retired: list[Listener] = []
        self.telemetry: TelemetryServer | None = None
        self.admin: AdminServer | None = None
        self._watched = Watched(())

    # --- start ---

    async def start(self) -> None:
        """Bind everything, then serve.

        Raises:
            SecretMissing, ConfigurationInvalid: a listener's secret or the local CA cannot be read any more, or there
                is no tracing here.
            CannotBind: an address is not to be had; nothing is left open.
        """
        configuration = self.configuration
        read_once = ReadOnce.of(configuration, self._clock)
        if configuration.tracing.enabled:
            self.tracing.prepare()
            self.tracing.switch(True)  # before the first token is asked for
        self.listeners = [self._listener(each) for each in configuration.listeners]
        self.telemetry = self._telemetry_server(configuration.telemetry.bind)
        if configuration.admin is not None:
            self.admin = self._admin_server(configuration.admin)
            self.admin.simulation = configuration.simulation.enabled
        try:
            for listener in self.listeners:
                listener.open()
            for server in self._pages():
                server.open()
        except BaseException:
            await self._close_sockets()
            raise
        self._note_own_sockets()
        await self.broker.apply(configuration.credentials, configuration.limits, configuration.store)
        self._enter(configuration, read_once)
        for listener in self.listeners:
            await listener.serve()
        for server in self._pages():
            await server.serve()
        self._tasks.spawn("sweep", self._sweep())
        self.health.started = True
        self._note_applied()
        await self._warn(configuration)
        self.log.info(
            "started",
            version=__version__,
            python=platform.python_version(),
            listeners=[f"{listener.name} {listener.bind}" for listener in self.listeners],
            telemetry=str(configuration.telemetry.bind),
            admin=str(configuration.admin.bind) if configuration.admin else None,
            credentials=len(configuration.credentials),
            routes=len(configuration.routes),
        )

    def _listener(self, config: model.Listener) -> Listener:
        entrance = ForwardEntrance(RoutingTable(()))  # replaced before anything is served
        meters = self.metrics.listener(config.name)
        return Listener(config.name, config.bind, gateway=self.gateway, entrance=entrance, meters=meters)

    def _telemetry_server(self, bind: Bind) -> TelemetryServer:
        return TelemetryServer(bind=bind, metrics=self.metrics, health=self.health, tasks=self._tasks)

    def _admin_server(self, section: model.Admin) -> AdminServer:
        from sidecar.admin.admin_server import AdminServer  # with the page, its stream, explanations: only who has one

        return AdminServer(
            section.bind,
            token=section.token,
            broker=self.broker,
            metrics=self.metrics,
            facts=self.facts,
            clock=self._clock,
            tasks=self._tasks,
        )

    def _pages(self) -> list[PageServer]:
        """The listeners that are not for the app."""
        return [server for server in (self.telemetry, self.admin) if server is not None]

    def _empty_generation(self) -> Generation:
        return Generation(
            RoutingTable(()),
            self.configuration.limits,
            forwards_unmatched=False,
            unmatched_meters=self.metrics.route(UNMATCHED, None),
        )

    def _note_own_sockets(self) -> None:
        addresses = [listener.address for listener in self.listeners]
        addresses += [server.address for server in self._pages()]
        self._own_sockets.replace([address for address in addresses if address is not None])

    # --- a generation ---

    def _enter(self, configuration: Configuration, read_once: ReadOnce) -> None:
        """Make the configuration the one that requests are served under. Nothing here can fail."""
        table = RoutingTable(self._route(each) for each in configuration.routes)
        self.gateway.generation = Generation(
            table,
            configuration.limits,
            forwards_unmatched=configuration.unmatched == "forward",
            unmatched_meters=self.metrics.route(UNMATCHED, None),
            local_ca=read_once.local_ca,
        )
        by_name = {each.name: each for each in configuration.listeners}
        for listener in self.listeners:
            listener.entrance = _entrance(by_name[listener.name], table)
            admission = read_once.admissions[listener.name]
            if admission is None or not admission.is_as(listener.admission):  # open tunnels know theirs by identity
                listener.admission = admission
            listener.trusts_forwarded = by_name[listener.name].trust_forwarded
        log.configure(configuration.log.level)
        self._switch_access_log(configuration.log.access)
        self.gateway.recent = None if configuration.admin is None else self.facts.recent
        log.keep_lines(configuration.admin is not None)
        self.configuration = self.facts.configuration = configuration
        self.facts.table = table
        self.tracing.switch(configuration.tracing.enabled)

    def _route(self, config: model.Route) -> Route:
        meters = self.metrics.route(config.label, config.credential)
        return Route.of(config, credential=self.broker.credential(config.credential), meters=meters)

    def _switch_access_log(self, wanted: bool) -> None:
        if wanted and self.gateway.access_log is None:
            self.gateway.access_log = AccessLog(on_broken=self._access_log_broken)
        elif not wanted and self.gateway.access_log is not None:
            self.gateway.access_log.close()
            self.gateway.access_log = None

    def _access_log_broken(self, why: str) -> None:
        self.log.error("access_log_stopped", detail=f"standard output takes no more lines: {why}")

    async def _warn(self, configuration: Configuration) -> None:
        """Say what is allowed and yet worth a look."""
        if configuration.simulation.enabled:
            self.log.warning("simulation_enabled", next="for rehearsals only: take simulation.enabled out elsewhere")
        for finding in await asyncio.to_thread(_advice, configuration):
            told = {"finding": finding.kind.id, "detail": finding.sentence, "next": finding.next_step}
            self.log.warning("configuration_advice", **told)

    # --- reload ---

    async def reload(self, path: Path) -> bool:
        """Read the file again and take over what it says; True if it was taken over.

        A file that is not valid, a missing secret or an address that cannot be bound leaves everything as it is.
        """
        try:
            # In a thread: a large file takes tens of milliseconds, which requests would wait out.
            configuration = await asyncio.to_thread(load.load, path)
            self._watched.take_in(files.read_once(configuration))
            read_once = await asyncio.to_thread(see_secrets, configuration, self._clock)
            if configuration.tracing.enabled:
                await asyncio.to_thread(self.tracing.prepare)
            opened = await self._open_new(configuration)
        except SidecarError as error:
            self._reject(error)
            return False
        changes = tuple(difference.changes(self.configuration, configuration))
        await self._swap(configuration, read_once, opened)
        self.facts.reload = Reload(at=self._clock.wall(), changes=changes)
        await self._warn(configuration)
        self.metrics.config_reloads["applied"].value += 1
        self._note_applied()
        self.log.info("reload_applied", credentials=len(configuration.credentials), routes=len(configuration.routes))
        return True

    def _reject(self, error: SidecarError) -> None:
        self.metrics.config_reloads["rejected"].value += 1
        self.metrics.config_last_reload_successful.value = 0
        self.facts.reload = Reload(at=self._clock.wall(), problem=error.detail)
        self.log.error(
            "reload_rejected",
            reason=error.reason,
            detail=error.detail,
            remedy="the old configuration goes on; correct the file and it is read again",
        )

    async def _open_new(self, configuration: Configuration) -> _Opened:
        """Bind what is bound nowhere yet.

        Raises:
            CannotBind: what was opened on the way is closed again.
        """
        known = {str(listener.bind): listener for listener in self.listeners}
        opened = _Opened()
        try:
            for config in configuration.listeners:
                if str(config.bind) not in known:
                    listener = self._listener(config)
                    opened.listeners.append(listener)
                    listener.open()
            if self.configuration.telemetry.bind != configuration.telemetry.bind:
                opened.telemetry = self._telemetry_server(configuration.telemetry.bind)
                opened.telemetry.open()
            section = configuration.admin
            if section is not None and (self.admin is None or self.admin.bind != section.bind):
                opened.admin = self._admin_server(section)
                opened.admin.open()
            for config in configuration.listeners:
                if (kept := known.get(str(config.bind))) is not None:
                    kept.adopt(config.bind)
        except SidecarError:
            for server in (opened.telemetry, opened.admin):
                if server is not None:
                    await server.close()
            for listener in opened.listeners:
                await listener.close()
                if listener.name not in {each.name for each in self.listeners}:
                    self.metrics.forget_listener(listener.name)
            raise
        return opened

    async def _swap(self, configuration: Configuration, read_once: ReadOnce, opened: _Opened) -> None:
        old_routes = {route.label for route in self.configuration.routes}
        old_names = {listener.name for listener in self.listeners}
        await self.broker.apply(configuration.credentials, configuration.limits, configuration.store)
        wanted = {str(config.bind): config for config in configuration.listeners}
        gone = [listener for listener in self.listeners if str(listener.bind) not in wanted]
        self.listeners = [listener for listener in self.listeners if str(listener.bind) in wanted] + opened.listeners
        for listener in self.listeners:
            self._rename(listener, wanted[str(listener.bind)].name)
        self._enter(configuration, read_once)
        for listener in opened.listeners:
            await listener.serve()
        await self._swap_pages(configuration, opened)
        self._note_own_sockets()
        for listener in gone:
            listener.retire()
        self._retired += gone
        self._forget(
            routes=old_routes - {route.label for route in configuration.routes},
            listeners=old_names - {config.name for config in configuration.listeners},
        )

    async def _swap_pages(self, configuration: Configuration, opened: _Opened) -> None:
        if opened.telemetry is not None:
            await opened.telemetry.serve()
            if self.telemetry is not None:
                await self.telemetry.close()
            self.telemetry = opened.telemetry
        section = configuration.admin
        if opened.admin is not None:
            await opened.admin.serve()
        if self.admin is not None and (opened.admin is not None or section is None):
            await self.admin.close()
            self.admin = None
        self.admin = opened.admin or self.admin
        if self.admin is not None and section is not None:
            self.admin.token = section.token
            self.admin.simulation = configuration.simulation.enabled

    def _rename(self, listener: Listener, name: str) -> None:
        if listener.name != name:
            listener.name = name
            listener.meters = self.metrics.listener(name)
            listener.meters.connections_open.value = len(listener.holders)

    def _forget(self, *, routes: Iterable[str], listeners: Iterable[str]) -> None:
        for label in routes:
            self.metrics.forget_route(label)
        for name in listeners:
            self.metrics.forget_listener(name)

    def _note_applied(self) -> None:
        self.metrics.config_last_reload_successful.value = 1
        self.metrics.config_last_reload_success_timestamp.value = self._clock.wall()

    def watch(self, path: Path, since: Watched, asked: asyncio.Event) -> None:
        """Reload when a watched file changes, or when ``asked`` is set (SIGHUP); one reload at a time.

        A CA bundle that changes needs no reload: it is read again with the next connection. A listener's secret does,
        and so does the local CA.
        """
        self._watched = since
        self._tasks.spawn("watch the configuration", watch(path, self._clock, asked.set, since=since))
        self._tasks.spawn("reload", self._reload_when_asked(path, asked))

    async def _reload_when_asked(self, path: Path, asked: asyncio.Event) -> None:
        while True:
            await asked.wait()
            asked.clear()
            try:
                await self.reload(path)
            except Exception as exc:
                # A bug in one reload must not lose the next one.
                self.log.error("reload_crashed", exc_info=exc)
                self._reject(InternalError("unexpected error while reloading; the log has it"))

    # --- the end ---

    async def drain(self) -> None:
        """Go on serving, with ``Connection: close``, until nobody asks any more or ``limits.drain`` is over."""
        self.health.draining = True
        self.gateway.draining = True
        limits = self.configuration.limits
        self.log.info("draining", limit_seconds=limits.drain)
        ends_at = self._loop.time() + limits.drain
        quiet_since, served = self._loop.time(), self._served()
        while (now := self._loop.time()) < ends_at:
            if self._busy(now) or self._served() != served:
                quiet_since, served = now, self._served()
            elif now - quiet_since >= QUIET_SECONDS:
                break
            await asyncio.sleep(_DRAIN_LOOK_SECONDS)

    def _served(self) -> int:
        return self.metrics.overhead.count

    def _busy(self, now: float) -> bool:
        return any(
            holder.is_busy(now, QUIET_SECONDS)
            for listener in (*self.listeners, *self._retired)
            for holder in listener.holders
        )

    async def close(self) -> None:
        """End everything at once; what still runs is broken off."""
        await self._close_sockets()
        await self.broker.close()
        await self._tasks.close()
        self.gateway.pool.close()
        if self.gateway.access_log is not None:
            self.gateway.access_log.close()
        await self.tracing.close()
        self.log.info("stopped")
        log.keep_lines(False)

    async def _close_sockets(self) -> None:
        for listener in (*self.listeners, *self._retired):
            await listener.close()
        for server in self._pages():
            await server.close()

    # --- the coarse timer ---

    async def _sweep(self) -> None:
        trimmer = Trimmer()
        while True:
            await asyncio.sleep(sweep_interval(self.gateway))
            # What a retired listener still serves has its deadlines like everything else.
            self._retired = [listener for listener in self._retired if listener.holders]
            sweep(self.gateway, [*self.listeners, *self._retired])
            self.metrics.abuse.sweep(self._clock.now())
            trimmer.look(self._loop.time(), self._served())

    def _crashed(self, task: str, error: BaseException) -> None:
        with contextlib.suppress(Exception):
            self.log.error("task_crashed", task=task, exc_info=error)


@dataclass(slots=True)
class _Opened:
    """The sockets that a reload needs and that were not there before."""

    listeners: list[Listener] = field(default_factory=list)
    telemetry: TelemetryServer | None = None
    admin: AdminServer | None = None


def _advice(configuration: Configuration) -> list[Finding]:
    """What is allowed and yet worth a look. In a thread: it looks at files, and is loaded while requests are served."""
    from sidecar.preflight.offline import advice

    return advice(configuration)


def _entrance(config: model.Listener, table: RoutingTable) -> Entrance:
    if config.mode == "forward":
        return ForwardEntrance(table)
    return reverse_entrance(table, config.upstream or "", config.hosts, config.bind.host)
