"""Rules across keys and sections that no single type can say: what is supported, listeners, limits, routes.

The rules of a credential and its grant stand in ``credential_rules``, those of ``auth`` in ``auth_rules``, those of TLS
interception in ``interception``. Each rule looks at what the walk found and notes errors at their place. A rule that
needs a value which is broken keeps silent: that error is noted already, and a second one that follows from it would
only mislead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sidecar.config import auth_rules, credential_rules, hosts, interception, scalars
from sidecar.config.found import Found, Path, dotted
from sidecar.config.model import NOT_YET, Admin, Bind, Configuration, Limits, Listener, Route, Telemetry
from sidecar.config.problems import did_you_mean, listed, nearest
from sidecar.config.shapes import FieldShape, ListShape, MapShape, Shape, StructShape, struct_shape

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from sidecar.config.hosts import URLParts


def check(configuration: Configuration | None, found: Found) -> None:
    """Apply every rule; ``configuration`` is None if it could not be built, and then some rules have no ground."""
    _supported(found)
    if found.values.get(("listeners",)) == () and found.is_sound(("listeners",)):
        found.note(("listeners",), "at least one listener is needed")
    for path, listener in found.each(Listener):
        _listener(found, path, listener)
        auth_rules.check(found, path, listener)
    for path, admin in found.each(Admin):
        _admin(found, path, admin)
    _distinct_names(found)
    _distinct_binds(found)
    credential_rules.check(found)
    names = [str(path[1]) for path in found.written if len(path) == 2 and path[0] == "credentials"]
    for path, route in found.each(Route):
        _route(found, path, route, frozenset(names))
    _ties(found)
    _distinct_labels(found)
    interception.check(found)
    for path, limits in found.each(Limits):
        _limits(found, path, limits)
    _loops(found)
    if configuration is not None:
        _covered_upstreams(found, configuration)


# --- features that do not exist yet ------------------------------------------------------------------------------


def _supported(found: Found) -> None:
    for path in list(found.written):
        refused = NOT_YET.get(".".join(_pattern(path)))
        if refused is None:
            continue
        value = found.values.get(path)
        if refused:
            if value in refused:
                found.note(path, f"'{path[-1]}: {value}' is not supported by this version")
        elif path not in found.values or value != _default(path):
            found.note(path, f"'{dotted(path[-1:])}' is not supported by this version", at_key=True)


def _pattern(path: Path) -> Iterator[str]:
    """The path as ``NOT_YET`` writes it: ``*`` for an index and for a name that the user chose."""
    for depth, part in enumerate(path):
        chosen = isinstance(part, int) or path[:depth] == ("credentials",)
        yield "*" if chosen else str(part)


def _default(path: Path) -> Any:
    """The model's default of a key."""
    shape: Shape = struct_shape(Configuration)
    known: FieldShape | None = None
    for part in path:
        match shape:
            case StructShape(fields=fields):
                known = fields[str(part)]
                shape = known.shape
            case ListShape(item):
                shape = item
            case MapShape(value=value):
                shape = value
    assert known is not None  # noqa: S101 - NOT_YET names keys
    return known.default


# --- listeners ---------------------------------------------------------------------------------------------------


def _listener(found: Found, path: Path, listener: Listener) -> None:
    bind = listener.bind
    upstream = (*path, "upstream")
    is_exposed = not bind.is_unix and not hosts.is_loopback(bind.host)
    is_open = listener.auth == "none" and not listener.beyond_loopback
    keys = [(*path, key) for key in ("bind", "auth", "beyond_loopback")]
    if is_exposed and is_open and all(map(found.is_sound, keys)):
        message = "whoever reaches this address can use the tokens: bind 127.0.0.1, set auth, or beyond_loopback: true"
        found.note((*path, "bind"), message)
    if not found.is_sound((*path, "mode")):
        return
    if listener.mode == "forward":
        for key in ("upstream", "hosts"):
            if found.given((*path, key)):
                found.note((*path, key), f"'{key}' belongs to a listener with mode: reverse", at_key=True)
    elif not found.given(upstream):
        found.note(upstream, "a listener with mode: reverse needs its 'upstream'", at_key=True)
    elif listener.upstream is not None:
        _upstream(found, upstream, hosts.url_parts(listener.upstream))


def _admin(found: Found, path: Path, admin: Admin) -> None:
    bind = admin.bind
    is_exposed = not bind.is_unix and not hosts.is_loopback(bind.host)
    if is_exposed and admin.token is None and found.is_sound(path):
        found.note((*path, "bind"), "beyond loopback the admin API needs its 'token': set it, or bind 127.0.0.1")


def _upstream(found: Found, path: Path, parts: URLParts) -> None:
    if parts.path not in ("", "/") or parts.query:
        found.note(path, "an upstream is scheme, host and port; the path comes with each request")
    if hosts.is_metadata(parts.host):
        found.note(path, _METADATA)


_WILDCARDS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - they are told apart here, not bound
_METADATA: Final = "link-local and metadata addresses are never upstreams"


def _distinct_names(found: Found) -> None:
    first: dict[str, Path] = {}
    for path, listener in found.each(Listener):
        if not found.is_sound((*path, "name")):
            continue
        other = first.setdefault(listener.name, path)
        if other != path:
            message = f"another listener has this name, in line {found.line((*other, 'name'))}"
            found.note((*path, "name"), message)


def _distinct_binds(found: Found) -> None:
    taken: dict[int | str, list[tuple[Bind, int]]] = {}
    for path, listener in found.each(Listener):
        _take_bind(found, (*path, "bind"), listener.bind, taken)
    for path, section in _own_sections(found):
        _take_bind(found, (*path, "bind"), section.bind, taken)
    for key, default in (("telemetry", Telemetry().bind), ("admin", Admin().bind)):
        if key == "telemetry" or found.given((key,)):
            _distinct_from_default(found, key, default)


def _own_sections(found: Found) -> list[tuple[Path, Telemetry | Admin]]:
    """The listeners that are not for the app."""
    return [*found.each(Telemetry), *found.each(Admin)]


def _distinct_from_default(found: Found, key: str, default: Bind) -> None:
    """Where ``key`` does not say where it listens, the others may not listen on its default address."""
    if not found.is_sound((key,)) or (key, "bind") in found.written:
        return
    binds = [((*path, "bind"), listener.bind) for path, listener in found.each(Listener)]
    binds += [((*path, "bind"), section.bind) for path, section in _own_sections(found) if path != (key,)]
    for path, bind in binds:
        if path in found.written and _clash(bind, default):
            found.note(path, f"{key} listens on {default} unless {key}.bind says otherwise")


def _take_bind(found: Found, path: Path, bind: Bind, taken: dict[int | str, list[tuple[Bind, int]]]) -> None:
    if path not in found.written or not found.is_sound(path):
        return
    others = taken.setdefault(bind.path or bind.port, [])
    for other, line in others:
        if _clash(bind, other):
            found.note(path, f"this address is taken in line {line}")
            return
    others.append((bind, found.line(path)))


def _clash(one: Bind, other: Bind) -> bool:
    """Whether the second of two sockets could not be opened. Port 0 is a new port each time."""
    if one.is_unix or other.is_unix:
        return one.path == other.path
    if one.port != other.port or one.port == 0:
        return False
    return any(
        mine == theirs or (_WILDCARDS & {mine, theirs} and (":" in mine) == (":" in theirs))
        for mine in _addresses(one)
        for theirs in _addresses(other)
    )


def _addresses(bind: Bind) -> tuple[str, ...]:
    return ("127.0.0.1", "::1") if bind.host == "localhost" else (bind.host,)


# --- limits ------------------------------------------------------------------------------------------------------


def _limits(found: Found, path: Path, limits: Limits) -> None:
    if limits.target > limits.head and found.is_sound(path):
        key = "target" if (*path, "target") in found.written else "head"
        found.note((*path, key), "the request target is part of the head: 'target' cannot be larger than 'head'")


# --- routes ------------------------------------------------------------------------------------------------------


def _route(found: Found, path: Path, route: Route, credentials: Collection[str]) -> None:
    if route.credential not in credentials and found.is_sound((*path, "credential")):
        near = did_you_mean(None if found.problems.is_long else nearest(route.credential, credentials))
        found.note((*path, "credential"), f"no credential has this name{near}")
    if hosts.is_metadata(route.host.removeprefix("*.")):
        found.note((*path, "host"), _METADATA)
    for key in ("paths", "methods"):
        if (*path, key) in found.written and not getattr(route, key) and found.is_sound((*path, key)):
            found.note((*path, key), f"an empty list matches nothing: leave '{key}' out for all", at_key=True)
    if route.upstream_tls == "plain" and route.ca_file is not None and found.is_sound((*path, "upstream_tls")):
        found.note((*path, "ca_file"), "'ca_file' has no use with upstream_tls: plain", at_key=True)
    if route.probe is not None and found.is_sound(path):
        _probe(found, (*path, "probe"), route, route.probe.partition("?")[0])


def _probe(found: Found, path: Path, route: Route, target: str) -> None:
    """A probe carries the token, so it goes where the route's requests go and nowhere else."""
    if route.host.startswith("*."):
        found.note(path, "'probe' needs a route with an exact host: no name stands for all below it")
    elif not _is_normal(target) or not any(_is_below(target, prefix) for prefix in route.paths):
        found.note(path, "'probe' lies outside the route's 'paths', where the token never goes")
    elif route.methods and "GET" not in route.methods:
        found.note(path, "'probe' is a GET, which the route's 'methods' leave out")


def _is_normal(target: str) -> bool:
    """Whether a path is in the form that ``paths`` are in, where nothing (``/v1/../admin``) hides another path."""
    try:
        return scalars.url_path(target) == target
    except ValueError:
        return False


def _is_below(target: str, prefix: str) -> bool:
    return target.startswith(prefix) and (prefix.endswith("/") or target[len(prefix) : len(prefix) + 1] in ("", "/"))


def _ties(found: Found) -> None:
    """Two routes that the same request would match equally well (the order of the file decides nothing)."""
    claimed: dict[tuple[str, int, str], list[tuple[Path, Route]]] = {}
    for path, route in found.each(Route):
        if not found.is_sound(path):
            continue
        for prefix in route.paths:
            others = claimed.setdefault((route.host, route.upstream_port, prefix), [])
            for other_path, other in others:
                if methods := _shared_methods(route, other):
                    message = f"the route in line {found.line((*other_path, 'host'))} has the same host, port and path"
                    found.note((*path, "host"), f"{message} for {methods}")
                    break
            others.append((path, route))


def _shared_methods(one: Route, other: Route) -> str:
    """A listed method is more specific than none, so a route for all and one for GET are no tie."""
    if not one.methods and not other.methods:
        return "every method"
    shared = [method for method in one.methods if method in other.methods]
    return listed(shared) if shared else ""


def _distinct_labels(found: Found) -> None:
    first: dict[str, Path] = {}
    for path, route in found.each(Route):
        if not route.paths or not found.is_sound(path):
            continue
        other = first.setdefault(route.label, path)
        if other != path:
            line = found.line((*other, "name" if (*other, "name") in found.written else "host"))
            key = "name" if route.name is not None else "host"
            wanted = "" if route.name is not None else ": give this one a 'name'"
            found.note((*path, key), f"the route in line {line} has the same label in metrics{wanted}")


def _covered_upstreams(found: Found, configuration: Configuration) -> None:
    """A reverse listener whose upstream has no route would answer 403 to everything."""
    if not found.is_sound(("routes",)) or not found.is_sound(("unmatched",)):
        return
    for path, listener in found.each(Listener):
        place = (*path, "upstream")
        if listener.mode == "reverse" and listener.upstream is not None and found.is_sound(place):
            reason = _uncovered(hosts.url_parts(listener.upstream), configuration)
            if reason:
                found.note(place, reason)


def _uncovered(upstream: URLParts, configuration: Configuration) -> str | None:
    hosts = [route for route in configuration.routes if _covers_host(route, upstream.host)]
    ports = [route for route in hosts if route.upstream_port == upstream.port]
    wanted = "required" if upstream.scheme == "https" else "plain"
    if any(route.upstream_tls == wanted for route in ports):
        return None
    if ports:
        return f"the route for this host and port says upstream_tls: {ports[0].upstream_tls}; this URL needs {wanted}"
    if configuration.unmatched == "forward":
        return None
    if hosts:
        return f"no route covers port {upstream.port}; the route for this host has port {hosts[0].upstream_port}"
    return "no route covers this host, so every request would be denied"


def _loops(found: Found) -> None:
    """The sidecar's own sockets are never upstreams; the data path refuses them too, when names lead to them."""
    own = {listener.bind for _, listener in found.each(Listener)}
    own |= {section.bind for _, section in _own_sections(found)}
    for path, listener in found.each(Listener):
        if listener.upstream is not None:
            upstream = hosts.url_parts(listener.upstream)
            _loop(found, (*path, "upstream"), upstream.host, upstream.port, own)
    for path, route in found.each(Route):
        if found.is_sound(path):
            _loop(found, (*path, "host"), route.host, route.upstream_port, own)


def _loop(found: Found, path: Path, host: str, port: int, own: Collection[Bind]) -> None:
    for bind in own:
        is_here = hosts.is_loopback(host) and (hosts.is_loopback(bind.host) or bind.host in _WILDCARDS)
        if not bind.is_unix and bind.port == port and (bind.host == host or is_here):
            found.note(path, f"the sidecar itself listens on {bind}: requests would go round in circles")
            return


def _covers_host(route: Route, host: str) -> bool:
    return host.endswith(route.host[1:]) if route.host.startswith("*.") else host == route.host
