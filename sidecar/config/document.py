"""YAML text to a tree of mappings, lists and scalars, each with its place; no meaning yet.

The subset is the one that every YAML reader agrees on. Refused, each with its place: duplicate keys (PyYAML lets the
last one win), anchors and aliases, tags, merge keys, several documents, tabs, control characters, nesting beyond 32,
keys that are not text. Scalars keep their text: nothing turns ``no`` into false or ``12:30:00`` into 45000, because the
resolver is never asked; what a scalar means is decided by the key it stands under.

It reads parser events instead of ``yaml.compose``, whose composer recurses in C as deep as the text says and has lost
the anchors by the time it returns.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import yaml

from sidecar.config import frames
from sidecar.config.problems import Problems, Span, quoted
from sidecar.config.scalars import Plain, plain_kind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 32
_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_LINE_END: Final = re.compile(r"\r\n|\n|\r")
_UNPRINTABLE: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
"""Control characters, the line ends that only YAML knows (NEL, LS, PS), and marks that turn the reading direction."""
_TAB: Final = re.compile(r"^[^#\t]*(\t)")


@dataclass(slots=True, eq=False)
class ScalarNode:
    """A single value or a key.

    Attributes:
        plain: it stands without quotes.
        visible: an error's source line may show it; see ``frames``.
        refused: it is an alias or has a tag or an anchor, so there is nothing more to say about it.
    """

    text: str
    plain: bool
    span: Span
    visible: bool = False
    refused: bool = False

    @property
    def kind(self) -> Plain:
        return plain_kind(self.text) if self.plain else Plain.TEXT


@dataclass(slots=True, eq=False)
class ListNode:
    items: list[Node]
    span: Span


@dataclass(slots=True, eq=False)
class MappingNode:
    entries: list[tuple[ScalarNode, Node]]
    span: Span


Node = ScalarNode | ListNode | MappingNode


@dataclass(slots=True)
class Document:
    """The file: its lines, its scalars in order, and the tree; no root if the text is not YAML."""

    lines: list[str]
    scalars: list[ScalarNode] = field(default_factory=list)
    root: Node | None = None
    known_keys: Collection[str] = ()

    def frame(self, span: Span) -> tuple[str, int, int] | None:
        """The source line of a span as it may be shown, with caret and width."""
        if span.line >= len(self.lines):
            return None
        line = self.lines[span.line]
        end = span.end_column if span.end_line == span.line else len(line)
        if self.root is None:
            return frames.windowed(frames.unparsed_line(line, self.known_keys), span.column, end - span.column)
        text, columns = frames.masked_line(line, span.line, self.scalars)
        first, last = (columns[min(column, len(line))] for column in (span.column, end))
        return frames.windowed(text, first, last - first)


def read(text: str, problems: Problems, *, known_keys: Collection[str] = ()) -> Document:
    """Read a text; what is wrong goes to ``problems``.

    Args:
        text: the file, decoded.
        problems: collects the errors.
        known_keys: keys whose values hold no secret, for the source line when the text is not YAML.
    """
    text = text.removeprefix("\ufeff")
    document = Document(_LINE_END.split(text), known_keys=known_keys)
    if _refuse_characters(document.lines, problems):
        return document
    try:
        document.root = _Builder(document, problems).build(text)
    except yaml.YAMLError as exc:
        span, message = _explained(exc)
        problems.add(span, message)
    return document


def _refuse_characters(lines: list[str], problems: Problems) -> bool:
    before = len(problems.found)
    for number, line in enumerate(lines):
        if match := _UNPRINTABLE.search(line):
            message = f"the character U+{ord(match[0]):04X} is not allowed here"
            problems.add(Span.point(number, match.start()), message)
        if match := _TAB.match(line):
            problems.add(Span.point(number, match.start(1)), "a tab: YAML is indented and separated by spaces")
    return len(problems.found) > before


class _TooDeep(Exception):
    """Stops the build; the problem is noted already."""


class _Builder:
    """Turns parser events into nodes."""

    def __init__(self, document: Document, problems: Problems) -> None:
        self._scalars = document.scalars
        self._problems = problems
        self._events: Iterator[Any] = iter(())

    def build(self, text: str) -> Node | None:
        self._events = yaml.parse(text, Loader=_Loader)
        root: Node | None = None
        try:
            for event in self._events:
                match event:
                    case yaml.DocumentStartEvent() if root is not None:
                        self._problems.add(_span(event), "a second document: one file holds one configuration")
                        break
                    case yaml.NodeEvent():
                        root = self._node(event, depth=0)
        except _TooDeep:
            return None
        if root is None or (isinstance(root, ScalarNode) and root.kind is Plain.NULL):
            if not self._problems:
                self._problems.add(None, "the configuration is empty")
            return None
        return root

    def _node(self, event: Any, depth: int) -> Node:
        refused = self._refuse_decoration(event)
        if depth > MAX_DEPTH:
            self._problems.add(_span(event), f"nested more than {MAX_DEPTH} levels deep")
            raise _TooDeep
        match event:
            case yaml.SequenceStartEvent():
                return self._list(event, depth)
            case yaml.MappingStartEvent():
                return self._mapping(event, depth)
            case yaml.ScalarEvent():
                node = ScalarNode(event.value, not event.style, _span(event), refused=refused)
            case _:  # an alias
                node = ScalarNode("", plain=False, span=_span(event), refused=True)
        self._scalars.append(node)
        return node

    def _list(self, event: Any, depth: int) -> ListNode:
        node = ListNode([], _span(event))
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            node.items.append(self._node(event, depth + 1))
        return node

    def _mapping(self, event: Any, depth: int) -> MappingNode:
        node = MappingNode([], _span(event))
        first_seen: dict[str, Span] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key, value = self._node(event, depth + 1), self._node(next(self._events), depth + 1)
            if not isinstance(key, ScalarNode):
                self._problems.add(key.span, "a key is a single word, not a list or a mapping")
            elif key.refused:
                continue
            elif key.plain and key.text == "<<":
                self._problems.add(key.span, "merge keys are not used here: write the keys out")
            elif key.kind not in (Plain.TEXT, Plain.INTEGER):
                self._problems.add(key.span, "YAML may read this key as something else than text: put it in quotes")
            elif key.text in first_seen:
                line = first_seen[key.text].line + 1
                key.visible = bool(quoted(key.text))
                self._problems.add(key.span, f"this key stands here a second time; the first is in line {line}")
            else:
                first_seen[key.text] = key.span
                node.entries.append((key, value))
        return node

    def _refuse_decoration(self, event: Any) -> bool:
        if isinstance(event, yaml.AliasEvent):
            self._problems.add(_span(event), "aliases (*name) are not used here; put text that starts with * in quotes")
            return True
        if event.anchor is not None:
            self._problems.add(_span(event), "anchors (&name) are not used here")
        if event.tag is not None:
            self._problems.add(_span(event), "tags (!name) are not used here; put text that starts with ! in quotes")
        return event.anchor is not None or event.tag is not None


def _span(event: Any) -> Span:
    start, end = event.start_mark, event.end_mark
    if not isinstance(event, yaml.ScalarEvent | yaml.AliasEvent):
        return Span.point(start.line, start.column)
    return Span(start.line, start.column, end.line, end.column)


# --- what the parser says, in words that help --------------------------------------------------------------------

_EXPLANATIONS: Final = (
    ("found unexpected ':'", "a ':' is followed by a space here, or its text needs quotes"),
    ("mapping values are not allowed", "a ': ' that belongs to no key: the indentation is off, or text needs quotes"),
    ("could not find expected ':'", "a key without its ':', or text that needs quotes"),
    ("did not find expected key", "the indentation does not fit, or a quote or bracket before this is not closed"),
    ("did not find expected '-' indicator", "the indentation does not fit the list above"),
    ("expected ',' or ']'", "this list is not closed, or a comma is missing"),
    ("expected ',' or '}'", "this mapping is not closed, or a comma is missing"),
    ("cannot start any token", "this character cannot begin a value: put the text in quotes"),
    ("block sequence entries are not allowed", "a list cannot begin here: put each '- ' on a line of its own"),
    ("did not find expected node content", "a value is missing here, or a bracket is not closed"),
    ("expected alphabetic or numeric character", "text that starts with * or & needs quotes"),
    ("undefined tag handle", "tags (!name) are not used here; put text that starts with ! in quotes"),
)


def _explained(exc: yaml.YAMLError) -> tuple[Span | None, str]:
    """The place and the meaning of a syntax error; never its own text, which may quote the file."""
    problem = str(getattr(exc, "problem", None) or "")
    mark = getattr(exc, "problem_mark", None)
    opened = getattr(exc, "context_mark", None)
    if "unexpected end of stream" in problem and "quoted scalar" in str(getattr(exc, "context", "")):
        return _at(opened or mark), "the quote that opens here is never closed"
    for words, meaning in _EXPLANATIONS:
        if words in problem:
            return _at(mark), meaning
    described = re.sub(r"'[^']*'|\"[^\"]*\"", "something", problem)
    return _at(mark or opened), f"not valid YAML{': ' if described else ''}{described}"


def _at(mark: Any) -> Span | None:
    return None if mark is None else Span.point(mark.line, mark.column)
