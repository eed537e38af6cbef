"""The tree against the model: every key, type and limit checked, every error noted, and the structs built.

One error never hides another: a value that is wrong is noted and left out, and the walk goes on beside it. What was
found goes to ``found`` with its place. A struct with a broken value is built with the default or a placeholder in its
stead, so that the rules about its other keys can be applied; it never leaves this package.

A secret's value is never put into a message. Values in other places are marked visible for the source line only when
they are plain words; see ``frames``.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar, cast

from sidecar.config import hosts, scalars
from sidecar.config.document import ListNode, MappingNode, Node, ScalarNode
from sidecar.config.found import BROKEN, Found, Path, Written, dotted, shown
from sidecar.config.frames import is_plain_word
from sidecar.config.model import Bind, Configuration, Model
from sidecar.config.problems import Problems, did_you_mean, listed, nearest, quoted
from sidecar.config.scalars import Plain
from sidecar.config.shapes import (
    BindShape,
    BoolShape,
    EitherShape,
    FieldShape,
    ListShape,
    MapShape,
    NumberShape,
    SecretShape,
    Shape,
    StructShape,
    WordShape,
    WrittenShape,
    struct_shape,
)
from sidecar.secrets import SecretReference

REFUSED_WORDS: Final = {
    ("grant", "password"): "the password grant is not supported: RFC 9700 section 2.4 says it must not be used",
    ("grant", "implicit"): "the implicit grant is not supported: RFC 9700 section 2.1.2 advises against it",
}
"""Values that people bring from elsewhere, refused with the reason."""

M = TypeVar("M", bound=Model)


def walk(root: Node, problems: Problems) -> tuple[Configuration | None, Found]:
    """Check the whole tree; the configuration is None if it could not be built at all."""
    found = Found(problems)
    found.written[()] = Written(None, root)
    value = _Walker(found, inline_allowed=_inline_allowed(root)).value(root, struct_shape(Configuration), ())
    return (value if isinstance(value, Configuration) else None), found


def walk_as(root: Node, problems: Problems, model: type[M]) -> tuple[M | None, Found]:
    """The same for a file of another kind that is written as strictly; None if it could not be built."""
    found = Found(problems)
    found.written[()] = Written(None, root)
    value = _Walker(found, inline_allowed=False).value(root, struct_shape(model), ())
    return (value if isinstance(value, model) else None), found


def _inline_allowed(root: Node) -> bool:
    """``allow_inline_secrets`` is needed before the walk comes to it."""
    entries = root.entries if isinstance(root, MappingNode) else []
    return any(
        key.text == "allow_inline_secrets" and isinstance(node, ScalarNode) and node.plain and node.text == "true"
        for key, node in entries
    )


class _Walker:
    def __init__(self, found: Found, *, inline_allowed: bool) -> None:
        self._found = found
        self._inline_allowed = inline_allowed

    def value(self, node: Node, shape: Shape, path: Path) -> Any:
        """The value of a node, or BROKEN; the error is noted."""
        if isinstance(node, ScalarNode) and node.refused:
            self._found.mark_broken(path)
            return BROKEN
        try:
            value = self._read(node, shape, path)
        except ValueError as exc:
            self._found.fail(path, f"{_subject(path)}: {exc}")
            return BROKEN
        if value is not BROKEN:
            self._found.values[path] = value
        return value

    def _read(self, node: Node, shape: Shape, path: Path) -> Any:
        match shape:
            case StructShape():
                return self._struct(_wanted(node, MappingNode, "a mapping"), shape, path)
            case ListShape(item):
                return self._list(_wanted_list(node, path), item, path)
            case MapShape():
                return self._map(_wanted(node, MappingNode, "a mapping"), shape, path)
            case EitherShape(other=ListShape()) if isinstance(node, MappingNode):
                raise ValueError("text or a list is wanted here, not a mapping")
            case EitherShape(scalar, other):
                return self._read(node, scalar if isinstance(node, ScalarNode) else other, path)
            case BindShape() if isinstance(node, MappingNode):
                return self._socket(node, path)
        return self._scalar(node, shape, path)

    def _scalar(self, node: Node, shape: Shape, path: Path) -> Any:
        match shape:
            case WordShape(words):
                return _word(_wanted(node, ScalarNode, listed(words)), words, path)
            case BoolShape():
                return _boolean(_wanted(node, ScalarNode, "true or false"))
            case NumberShape():
                return _number(_wanted(node, ScalarNode, "a number"), shape)
            case WrittenShape(kind):
                return _written(_wanted(node, ScalarNode, scalars.KINDS[kind].wanted), shape)
            case SecretShape():
                return self._secret(_wanted(node, ScalarNode, "a reference to a secret"))
            case BindShape():
                text = _wanted(node, ScalarNode, "an address such as 127.0.0.1:6180")
                _show(text)
                return hosts.bind(text.text)
        raise AssertionError(shape)

    # --- mappings and lists ---

    def _struct(self, node: MappingNode, shape: StructShape, path: Path) -> Any:
        values: dict[str, Any] = {}
        slips: set[str | None] = set()
        for key, child in node.entries:
            place = (*path, key.text)
            if key.text not in shape.fields:
                slips.add(self._unknown(key, shape.fields, place))
                continue
            key.visible = True
            self._found.written[place] = Written(key, child)
            values[key.text] = self._field(child, shape.fields[key.text], place)
        required = [name for name, known in shape.fields.items() if known.required]
        for name in required:
            if name not in values and name not in slips:
                self._found.fail((*path, name), f"{_owner(path)} needs the key '{name}'", at_key=True)
        usable = {name: value for name, value in values.items() if value is not BROKEN}
        lacking = [name for name in required if name not in usable]
        for name in lacking:
            self._found.mark_broken((*path, name))
            usable[name] = _placeholder(shape.fields[name].shape)
        struct = self._found.built[path] = shape.model(**usable)
        return BROKEN if lacking else struct

    def _unknown(self, key: ScalarNode, known: dict[str, Any], path: Path) -> str | None:
        """Note an unknown key; gives the known one that was probably meant."""
        self._found.written[path] = Written(key, key)
        if self._found.problems.is_long:
            self._found.fail(path, "unknown key")  # a file of another kind: guessing takes longer than reading it
            return None
        near = nearest(key.text, known)
        word = quoted(key.text, known)
        key.visible = bool(word)
        self._found.fail(path, f"unknown key{word}{did_you_mean(near)}")
        return near

    def _field(self, node: Node, known: FieldShape, path: Path) -> Any:
        if isinstance(node, ScalarNode) and node.kind is Plain.NULL and not node.refused:
            if known.nullable and node.text:
                self._found.values[path] = None
                return None
            self._found.fail(path, f"'{known.name}' has no value: give it one, or take the key out", at_key=True)
            return BROKEN
        return self.value(node, known.shape, path)

    def _list(self, node: ListNode, item: Shape, path: Path) -> Any:
        values = []
        seen: set[Any] = set()
        for index, child in enumerate(node.items):
            place = (*path, index)
            self._found.written[place] = Written(None, child)
            if (value := self.value(child, item, place)) is BROKEN:
                continue
            values.append(value)
            if isinstance(item, WrittenShape) and item.kind not in ("text", "form_field"):
                if value in seen:
                    self._found.fail(place, f"{_subject(place)}: the same stands in this list before")
                seen.add(value)
        return tuple(values)

    def _map(self, node: MappingNode, shape: MapShape, path: Path) -> Any:
        values: dict[str, Any] = {}
        for key, child in node.entries:
            place = (*path, key.text)
            self._found.written[place] = Written(key, child)
            try:
                name = scalars.KINDS[shape.key.kind].read(key.text)
            except ValueError as exc:
                self._found.fail(place, f"a key of {_owner(path)}: {exc}", at_key=True)
                continue
            key.visible = bool(quoted(key.text))
            if (value := self.value(child, shape.value, place)) is not BROKEN:
                values[name] = value
        return values

    # --- special scalars ---

    def _secret(self, node: ScalarNode) -> SecretReference:
        reference = SecretReference.parse(node.text, allow_inline=self._inline_allowed)
        # Only the path or name of a reference that was recognised; "file: x" with a literal after it is none.
        node.visible = reference.kind != "inline" and is_plain_word(node.text)
        return reference

    def _socket(self, node: MappingNode, path: Path) -> Any:
        readers = {"unix": hosts.socket_path, "mode": hosts.file_mode, "group": scalars.line}
        values: dict[str, Any] = {}
        for key, child in node.entries:
            place = (*path, key.text)
            if key.text not in readers:
                self._unknown(key, readers, place)
                continue
            key.visible = True
            self._found.written[place] = Written(key, child)
            try:
                text = _wanted(child, ScalarNode, "text")
                _show(text)
                values[key.text] = readers[key.text](text.text)
            except ValueError as exc:
                self._found.fail(place, f"'{key.text}': {exc}")
        if "unix" not in values:
            if (*path, "unix") not in self._found.written:
                self._found.fail((*path, "unix"), f"{_owner(path)} needs the key 'unix'", at_key=True)
            return BROKEN
        return Bind(path=values["unix"], mode=values.get("mode", 0o600), group=values.get("group", ""))


def _placeholder(shape: Shape) -> Any:
    """Stands for a needed value that is broken, so that the rules about the other keys of its struct can be applied."""
    match shape:
        case ListShape():
            return ()
        case BindShape():
            return Bind()
        case SecretShape():
            return SecretReference("env", "")
    return ""


# --- one scalar --------------------------------------------------------------------------------------------------

N = TypeVar("N", ScalarNode, ListNode, MappingNode)


def _wanted(node: Node, kind: type[N], words: str) -> N:
    if not isinstance(node, kind):
        raise ValueError(f"{words} is wanted here, not {_described(node)}")
    return node


def _wanted_list(node: Node, path: Path) -> ListNode:
    if isinstance(node, ScalarNode) and node.kind is not Plain.NULL:
        raise ValueError(f"a list is wanted here: write it as {path[-1]}: [...]")
    return _wanted(node, ListNode, "a list")


def _described(node: Node) -> str:
    match node:
        case ListNode():
            return "a list"
        case MappingNode():
            return "a mapping"
        case ScalarNode():
            return "text" if node.kind is Plain.ODD else node.kind.value


def _show(node: ScalarNode) -> None:
    node.visible = is_plain_word(node.text)


def _word(node: ScalarNode, words: tuple[str, ...], path: Path) -> str:
    _show(node)
    if node.text in words:
        return node.text
    for part in path[-1:]:
        if reason := REFUSED_WORDS.get((cast("str", part), node.text)):
            raise ValueError(reason)
    word = quoted(node.text, words)
    near = did_you_mean(nearest(node.text, words))
    raise ValueError(f"{listed(words)} is wanted here{', not' + word if word else ''}{near}")


def _boolean(node: ScalarNode) -> bool:
    _show(node)
    if node.kind is Plain.BOOL:
        return node.text == "true"
    quotes = " without quotes" if node.text in ("true", "false") else ""
    raise ValueError(f"true or false is wanted here{quotes}, in these words")


def _number(node: ScalarNode, shape: NumberShape) -> int | float:
    _show(node)
    wanted = "a whole number" if shape.whole else "a number"
    if node.kind is Plain.TEXT and not node.plain and scalars.plain_kind(node.text) in (Plain.INTEGER, Plain.DECIMAL):
        raise ValueError(f"{wanted} is wanted here, without quotes")
    if node.kind is not Plain.INTEGER and (shape.whole or node.kind is not Plain.DECIMAL):
        raise ValueError(f"{wanted} is wanted here")
    digits = node.text.removeprefix("-")
    if len(digits) > 1 and digits[0] == "0" and node.kind is Plain.INTEGER:
        raise ValueError("a number has no zeros before it: some readers take it for octal")
    # Compared before it is converted: int() of a million digits takes its time, and refuses with a message of its own.
    if len(digits) > 20 or not shape.low <= float(node.text) <= shape.high:
        raise ValueError(f"a number from {shape.low:g} to {shape.high:.0f} is wanted here")
    return int(node.text) if shape.whole else float(node.text)


def _written(node: ScalarNode, shape: WrittenShape) -> Any:
    kind = scalars.KINDS[shape.kind]
    if kind.shown:
        _show(node)
    if not kind.odd_allowed and node.kind not in (Plain.TEXT, Plain.INTEGER):
        if node.kind is Plain.NULL:
            raise ValueError(f"{kind.wanted} is wanted here, not nothing")
        raise ValueError("YAML may read this as something else than text: put it in quotes")
    value = kind.read(node.text)
    _within(value, shape)
    return value


def _within(value: Any, shape: WrittenShape) -> None:
    show = scalars.written_size if shape.kind == "size" else scalars.written_duration
    if shape.low is not None and (value < shape.low or (shape.above_low and value == shape.low)):
        raise ValueError(f"it must be {'more than' if shape.above_low else 'at least'} {show(cast('int', shape.low))}")
    if shape.high is not None and value > shape.high:
        raise ValueError(f"it must be at most {show(cast('int', shape.high))}")


# --- words for places --------------------------------------------------------------------------------------------


def _subject(path: Path) -> str:
    """What a message is about: the key, and for an element of a list the list's key."""
    names = [part for part in path if isinstance(part, str)]
    return f"'{shown(names[-1])}'" if names else "the configuration"


def _owner(path: Path) -> str:
    return f"'{dotted(path)}'" if path else "the configuration"
