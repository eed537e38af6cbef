"""Scenario files: the shipped ones by name, others by path, and every error in one at once, with its place.

The YAML, its strictness and the form of errors are the configuration's; what is checked here beyond types are events,
their times, and that what is to end has begun.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sidecar.config import document, walker
from sidecar.config.problems import Problems, did_you_mean, nearest
from sidecar.errors import ClientError, SidecarError, UsageError, leaves
from sidecar.rehearsal.scenario import EVENTS, NO_ANSWER, UPSTREAM_401, Expectation, Scenario, Step
from sidecar.simulation.catalogue import ordered

if TYPE_CHECKING:
    from sidecar.config.found import Found
    from sidecar.config.found import Path as Place

SHIPPED: Final = Path(__file__).parent / "scenarios"
REASONS: Final = frozenset(
    {kind.reason for kind in leaves(SidecarError) if kind.status and not issubclass(kind, ClientError)}
    | {UPSTREAM_401, NO_ANSWER}
)
_KEYS: Final = frozenset({"description", "duration", "ttl", "at", "event", "end", "rate", "failed"})


def shipped() -> dict[str, Path]:
    """The scenarios of the package, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def find(name: str) -> Path:
    """The file of a scenario: a name without a path is a shipped one.

    Raises:
        UsageError: there is none of this name.
    """
    path = Path(name)
    if path.name != name or path.suffix:
        return path
    known = shipped()
    if name not in known:
        near = did_you_mean(nearest(name, known))
        raise UsageError(f"no scenario has the name {name!r}{near} (sidecar simulate --list; a file: ./{name}.yaml)")
    return known[name]


def load(path: Path) -> Scenario:
    """Read a scenario file.

    Raises:
        ConfigurationErrors: it cannot be read or used; carries every error with its place.
    """
    problems = Problems(str(path))
    try:
        text = path.read_bytes()[: document.MAX_BYTES].decode()
    except OSError as exc:
        problems.add(None, f"the scenario cannot be read: {exc.strerror}")
        raise problems.error() from None
    except UnicodeDecodeError:
        problems.add(None, "the scenario is not UTF-8 text")
        raise problems.error() from None
    return parse(text, str(path))


def parse(text: str, filename: str) -> Scenario:
    """Read a scenario that is at hand as text.

    Raises:
        ConfigurationErrors: it cannot be used; carries every error with its place.
    """
    problems = Problems(filename)
    source = document.read(text, problems, known_keys=_KEYS)
    if source.root is None:
        raise _of_a_scenario(problems).error(source.frame)
    scenario, found = walker.walk_as(source.root, problems, Scenario)
    for place, step in found.each(Step):
        _check_step(found, place, step)
    for place, expectation in found.each(Expectation):
        _check_reasons(found, place, expectation)
    if scenario is not None:
        _check_times(found, scenario)
    if problems or scenario is None:
        raise _of_a_scenario(problems).error(source.frame)
    return scenario


def _of_a_scenario(problems: Problems) -> Problems:
    """What reads the file speaks of the configuration where it means the whole of it."""
    named = [problem._replace(message=_renamed(problem.message)) for problem in problems.found]
    return Problems(problems.filename, named)


def _renamed(message: str) -> str:
    return message.replace("the configuration", "the scenario")


def _check_step(found: Found, place: Place, step: Step) -> None:
    if not found.is_sound(place):
        return
    if (step.event is None) == (step.end is None):
        found.note(place, "a step has either an 'event' or an 'end'")
    elif step.event is not None:
        try:
            ordered(step.event, EVENTS, what="event")
        except ValueError as exc:
            found.note((*place, "event"), f"'event': {exc}")
    elif step.end not in EVENTS or not EVENTS[step.end].lasts:
        near = did_you_mean(nearest(step.end or "", EVENTS))
        found.note((*place, "end"), f"'end': no event that lasts has this name{near}")


def _check_reasons(found: Found, place: Place, expectation: Expectation) -> None:
    for index, reason in enumerate(expectation.reasons):
        if reason not in REASONS:
            near = did_you_mean(nearest(reason, REASONS))
            found.note((*place, "reasons", index), f"'reasons': no request fails for this reason{near}")


def _check_times(found: Found, scenario: Scenario) -> None:
    begun: set[str] = set()
    for index, step in enumerate(scenario.steps):
        place = ("steps", index)
        if step.at >= scenario.duration:
            found.note((*place, "at"), "'at' is at or after the end of the scenario: see 'duration'")
        if index and step.at < scenario.steps[index - 1].at:
            found.note((*place, "at"), "'at' is before the step above: steps stand in the order of time")
        if step.event is not None:
            begun.add(step.event.partition(":")[0].partition("=")[0])
        elif step.end not in begun and step.end in EVENTS:
            found.note((*place, "end"), "'end': this event has not begun in a step above")
