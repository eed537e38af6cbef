"""The hosts that run pipelines, as far as a template sees them: GitHub's runner with its token service, and GitLab's.

Steps are what the files say, run by the shell that the host would use, with the variables that it sets. What the host
itself does (checking out, choosing a machine, showing reports) is not there.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import yaml
from aiohttp import web

from tests.end_to_end.programs import clean_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

SECONDS: Final = 120
OURS: Final = ("ACTIONS_", "GITHUB_", "RUNNER_", "SIDECAR_", "CREDENTIALS_", "AZURE_", "CI_", "ID_TOKEN")


def environment(**more: str) -> dict[str, str]:
    """Of this process, but for what a host of pipelines sets: the tests may run on one."""
    return {name: value for name, value in clean_environment().items() if not name.startswith(OURS)} | more


@dataclass(slots=True)
class Outcome:
    """How a job ended: the exit code of what failed first, or 0, and all that it printed."""

    code: int = 0
    output: str = ""
    outputs: dict[str, str] = field(default_factory=dict)


async def shell(words: list[str], *, folder: Path, variables: dict[str, str]) -> tuple[int, str]:
    """Its exit code, and both outputs in one, as a log shows them."""
    done = await asyncio.to_thread(
        subprocess.run,
        words,
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return done.returncode, done.stdout


# --- GitHub ----------------------------------------------------------------------------------------------------------


class TokenService:
    """GitHub's, on loopback: a token for whoever has the key of the job and names an audience.

    Args:
        make: the token for an audience.
    """

    KEY: Final = "request-key-of-the-job"

    def __init__(self, make: Callable[[str], str]) -> None:
        self.make = make
        self.given: list[str] = []
        self.script: list[web.Response] = []
        """Answers that come first."""
        self._runner = web.ServerRunner(web.Server(self._serve, access_log=None), shutdown_timeout=0.1)
        self.variables: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        port = self._runner.addresses[0][1]
        self.variables = {
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"http://127.0.0.1:{port}/idtoken?api-version=2.0",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": self.KEY,
        }
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._runner.cleanup()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {self.KEY}" or request.query["api-version"] != "2.0":
            return web.Response(status=401)
        if self.script:
            return self.script.pop(0)
        self.given.append(self.make(request.query["audience"]))
        return web.json_response({"count": 1, "value": self.given[-1]})


class GitHub:
    """One job on a runner that uses a composite action, as often as it is told to.

    Args:
        action: its folder.
        folder: what the job has: a workspace and a folder for temporary files.
    """

    def __init__(self, action: Path, folder: Path, *, variables: Mapping[str, str] | None = None) -> None:
        self.action = action
        self.workspace, self.temporary = folder / "workspace", folder / "temporary"
        self.workspace.mkdir()
        self.temporary.mkdir()
        self._path: list[str] = []
        self._variables = environment(
            RUNNER_TEMP=str(self.temporary),
            GITHUB_ACTION_PATH=str(action),
            GITHUB_WORKSPACE=str(self.workspace),
            **(variables or {}),
        )

    def has_installed(self) -> None:
        """The sidecar of these tests is there, as an earlier use of the action would have left it."""
        command = self.temporary / "token-sidecar" / "bin" / "sidecar"
        command.parent.mkdir(parents=True)
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -m sidecar "$@"\n')
        command.chmod(0o755)

    async def use(self, **inputs: str) -> Outcome:
        """A step of the job with ``uses:``, its inputs written with ``_`` for ``-``."""
        text = yaml.safe_load((self.action / "action.yml").read_text())
        given = {name.replace("_", "-"): value for name, value in inputs.items()}
        values = {name: spec.get("default", "") for name, spec in text["inputs"].items()} | given
        assert given.keys() <= text["inputs"].keys()
        outcome = Outcome()
        outputs: dict[str, str] = {}
        for number, step in enumerate(text["runs"]["steps"]):
            condition = step.get("if", "true")
            always = condition.startswith("always()")
            if (outcome.code and not always) or not holds(condition.removeprefix("always() && "), values):
                continue
            code, output, found = await self._step(step, values, self._written(step, number))
            outcome.code, outcome.output = outcome.code or code, outcome.output + output
            outputs |= {f"steps.{step.get('id')}.outputs.{name}": value for name, value in found.items()}
        outcome.outputs = {
            name: filled(spec["value"], outputs, missing="") for name, spec in text.get("outputs", {}).items()
        }
        return outcome

    def _written(self, step: dict[str, Any], number: int) -> Path:
        file = self.temporary / f"step-{number}.sh"
        file.write_text(step["run"])
        return file

    async def _step(self, step: dict[str, Any], inputs: dict[str, str], file: Path) -> tuple[int, str, dict[str, str]]:
        assert step["shell"] == "bash"
        values = {f"inputs.{name}": value for name, value in inputs.items()}
        commands = {name: file.with_suffix(f".{name}") for name in ("output", "path")}
        for each in commands.values():
            each.write_text("")
        variables = self._variables | {name: filled(text, values) for name, text in step.get("env", {}).items()}
        variables["PATH"] = os.pathsep.join([*self._path, variables["PATH"]])
        variables |= {f"GITHUB_{name.upper()}": str(path) for name, path in commands.items()}
        folder = self.workspace / filled(step.get("working-directory", "."), values)
        words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(file)]
        code, output = await shell(words, folder=folder, variables=variables)
        self._path = [*commands["path"].read_text().split(), *self._path]
        found = dict(line.split("=", 1) for line in commands["output"].read_text().splitlines())
        return code, output, found


def filled(text: str, values: Mapping[str, str], *, missing: str | None = None) -> str:
    """A text with its expressions replaced by their values."""

    def value(match: re.Match[str]) -> str:
        return values[match[1]] if missing is None else values.get(match[1], missing)

    return re.sub(r"\$\{\{ (\S+) \}\}", value, text)


def holds(condition: str, inputs: Mapping[str, str]) -> bool:
    """Whether a step's condition does: ``true``, or an input that is not empty."""
    if condition == "true":
        return True
    match = re.fullmatch(r"inputs\.(\S+) != ''", condition)
    assert match is not None, f"this runner does not know {condition}"
    return inputs[match[1]] != ""


# --- GitLab ----------------------------------------------------------------------------------------------------------


def component(file: Path, **inputs: str) -> dict[str, Any]:
    """The jobs of a component, with these inputs."""
    head, body = file.read_text().split("\n---\n")
    declared = yaml.safe_load(head)["spec"]["inputs"]
    assert inputs.keys() <= declared.keys()
    values = {name: spec["default"] for name, spec in declared.items() if "default" in spec} | inputs
    text = re.sub(r"\$\[\[ inputs\.(\S+) \]\]", lambda match: values[match[1]], body)
    jobs: dict[str, Any] = yaml.safe_load(text)
    return jobs


def extended(jobs: dict[str, Any], name: str) -> dict[str, Any]:
    """A job with what it extends: mappings are merged, all else is replaced."""
    job = jobs[name]
    base = extended(jobs, job["extends"]) if "extends" in job else {}
    merged = dict(base)
    for key, value in job.items():
        merged[key] = base[key] | value if isinstance(value, dict) and key in base else value
    return merged


async def run_job(job: dict[str, Any], *, folder: Path, interpreter: str, variables: Mapping[str, str]) -> Outcome:
    """Its lines, one after another in one shell, with ``sidecar`` on the path."""
    commands = folder / "bin"
    commands.mkdir(exist_ok=True)
    command = commands / "sidecar"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m sidecar "$@"\n')
    command.chmod(0o755)
    own = {name: str(value) for name, value in job.get("variables", {}).items()}
    all_of_them = environment(**own, **variables)
    all_of_them["PATH"] = f"{commands}{os.pathsep}{all_of_them['PATH']}"
    file = folder / "job.sh"
    file.write_text("\n".join(lines_of(job)))
    flags = ["-eo", "pipefail"] if interpreter == "bash" else ["-e"]
    return Outcome(*await shell([interpreter, *flags, str(file)], folder=folder, variables=all_of_them))


def lines_of(job: dict[str, Any]) -> Iterator[str]:
    """What a job runs."""
    for key in ("before_script", "script"):
        yield from job.get(key, [])
