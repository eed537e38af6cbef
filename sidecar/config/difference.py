"""What a reload changed: the keys by their path, and never a value, because any of them may be one that is not shown.

Listeners and routes are told apart by their names, credentials by theirs, so a route that moved is not another one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from sidecar.config.model import Listener, Route

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sidecar.config.model import Configuration


class Change(NamedTuple):
    """One key that is not what it was.

    Attributes:
        path: ``credentials.orders.scopes``.
        kind: ``added``, ``removed`` or ``changed``.
    """

    path: str
    kind: str


def changes(before: Configuration, after: Configuration) -> list[Change]:
    """Every key that differs, in the order of the reference."""
    return list(_of_struct("", before, after))


def _of_struct(path: str, before: msgspec.Struct, after: msgspec.Struct) -> Iterator[Change]:
    for name in before.__struct_fields__:
        yield from _of(f"{path}.{name}" if path else name, getattr(before, name), getattr(after, name))


def _of(path: str, before: object, after: object) -> Iterator[Change]:
    if before == after:
        return
    if isinstance(before, msgspec.Struct) and type(before) is type(after):
        yield from _of_struct(path, before, after)
    elif isinstance(before, dict) and isinstance(after, dict):
        yield from _of_mapping(path, before, after)
    elif isinstance(before, tuple) and isinstance(after, tuple) and _are_named((*before, *after)):
        named_before, named_after = _by_name(before), _by_name(after)
        if named_before == named_after:
            yield Change(path, "changed")  # only their order
        yield from _of_mapping(path, named_before, named_after)
    else:
        yield Change(path, _kind(before, after))


def _of_mapping(path: str, before: Mapping[str, object], after: Mapping[str, object]) -> Iterator[Change]:
    for name in dict.fromkeys((*before, *after)):
        inner = f"{path}.{name}"
        if name not in before:
            yield Change(inner, "added")
        elif name not in after:
            yield Change(inner, "removed")
        else:
            yield from _of(inner, before[name], after[name])


def _kind(before: object, after: object) -> str:
    return "added" if before is None else "removed" if after is None else "changed"


def _are_named(members: tuple[object, ...]) -> bool:
    return all(isinstance(each, Listener | Route) for each in members)


def _by_name(members: tuple[object, ...]) -> dict[str, object]:
    return {_name(each): each for each in members}


def _name(member: object) -> str:
    match member:
        case Listener():
            return member.name
        case Route():
            return member.label
        case _:
            raise TypeError(f"{type(member).__name__} has no name")
