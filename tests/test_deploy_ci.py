"""The templates for pipelines do what they say, on hosts that are played here: ``tests/pipelines.py``."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree

import pytest
import yaml
from aiohttp import web

from sidecar.config.load import parse
from sidecar.simulation.echo import Echo
from sidecar.simulation.idp import Client, MockIdP, Trusted
from tests.pipelines import GitHub, Outcome, TokenService, component, extended, run_job
from tests.simulation.parties import new_key, public, signed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CI: Final = Path(__file__).resolve().parent.parent / "deploy" / "ci"
ACTION: Final = CI / "github"
TEMPLATE: Final = CI / "gitlab" / "templates" / "token-sidecar.yml"
AUDIENCE: Final = "https://idp.example.com"
PLATFORM: Final = "https://platform.example.com"
SUBJECT: Final = "repo:example/orders:ref:refs/heads/main"
NO_NETWORK: Final = ("name resolution", "NewConnectionError", "Network is unreachable", "Max retries exceeded")
WRONG: Final = "listeners: [{name: egress, bind: 127.0.0.1:6180, color: red}]\n"


QUIET: Final = "description: Nothing happens.\nduration: 1s\n"
OUTAGE: Final = """description: An outage that no token outlives.
duration: 3s
ttl: 1s
steps: [{at: 100ms, event: outage}]
"""


RECORDING: Final = r"""#!/bin/sh
[ "$1" = -m ] || exit "${TOO_OLD:-0}"
mkdir -p "$3/bin"
for name in pip sidecar; do
  printf '#!/bin/sh\nfor word; do printf "[%%s] " "$word"; done | sed "s/ $//"\necho\n' > "$3/bin/$name"
  chmod +x "$3/bin/$name"
done
"""


class JobTokens:
    """The tokens that a platform signs for one job; ``life`` is in seconds."""

    def __init__(self) -> None:
        self._key = new_key()
        self.public = public(self._key)
        self.life = 300
        self._numbers = itertools.count()

    def __call__(self, audience: str) -> str:
        now = int(time.time())
        claims = {"iss": PLATFORM, "sub": SUBJECT, "aud": audience, "iat": now, "exp": now + self.life}
        return signed(claims | {"jti": str(next(self._numbers))}, self._key)


@pytest.fixture
def job_token() -> JobTokens:
    return JobTokens()


@pytest.fixture
async def idp(job_token: JobTokens) -> AsyncIterator[MockIdP]:
    """A provider that trusts the platform, for one repository and its branch."""
    trusted = Trusted(issuer=PLATFORM, keys=(job_token.public,), subject=SUBJECT, audience=AUDIENCE)
    async with MockIdP() as provider:
        provider.register("orders-pipeline", Client(auth=frozenset({"federated"}), federated=trusted))
        yield provider


@pytest.fixture
async def api(idp: MockIdP) -> AsyncIterator[Echo]:
    async with Echo(is_valid=idp.is_valid) as echo:
        yield echo


@pytest.fixture
async def service(job_token: JobTokens) -> AsyncIterator[TokenService]:
    async with TokenService(job_token) as service:
        yield service


def configuration(idp: MockIdP, api: Echo, **credential: str) -> str:
    """The configuration of the examples, with its addresses on loopback."""
    text = yaml.safe_load((CI / "config.yaml").read_text())
    text["credentials"]["orders"] |= {"token_url": idp.token_url} | credential
    text["routes"][0] |= {"host": "localhost", "port": api.port, "upstream_tls": "plain"}
    return json.dumps(text)


@pytest.fixture
def github(idp: MockIdP, api: Echo, service: TokenService, tmp_path: Path) -> GitHub:
    job = GitHub(ACTION, tmp_path, variables=service.variables)
    job.has_installed()
    (job.workspace / "config.yaml").write_text(configuration(idp, api))
    return job


def call(api: Echo) -> str:
    return f"curl --fail --silent --show-error http://localhost:{api.port}/v1/orders"


def shown(outcome: Outcome) -> str:
    """The log as the runner shows it: without the lines that are commands to it."""
    return re.sub(r"(?m)^::add-mask::.*\n", "", outcome.output)


# --- GitHub: exec ----------------------------------------------------------------------------------------------------


async def test_a_job_calls_its_api_by_its_own_token_and_no_secret_is_stored(
    github: GitHub, service: TokenService, idp: MockIdP, api: Echo
) -> None:
    done = await github.use(mode="exec", audience=AUDIENCE, command=call(api))
    assert done.code == 0, done.output
    assert api.served == 1
    assert '"valid": true' in done.output
    assert [request.field("client_assertion") for request in idp.received] == service.given[:1]
    assert {request.field("client_id") for request in idp.received} == {"orders-pipeline"}


async def test_the_configuration_may_name_the_file_of_the_token_by_its_path(
    github: GitHub, idp: MockIdP, api: Echo
) -> None:
    text = json.loads(configuration(idp, api))
    del text["credentials"]["orders"]["assertion"]
    file = github.temporary / "token-sidecar" / "credentials" / "job-token"
    text["credentials"]["orders"]["assertion_file"] = str(file)
    (github.workspace / "config.yaml").write_text(json.dumps(text))
    assert (await github.use(mode="exec", audience=AUDIENCE, command=call(api))).code == 0
    assert api.served == 1


async def test_the_token_of_the_job_is_masked_and_shown_nowhere(
    github: GitHub, service: TokenService, idp: MockIdP, api: Echo
) -> None:
    done = await github.use(mode="exec", audience=AUDIENCE, command=f"set -x; {call(api)}; env")
    assert f"::add-mask::{service.given[0]}\n" in done.output
    for secret in (*service.given, *idp.issued):
        assert secret not in shown(done)


async def test_its_file_is_for_its_owner_and_gone_afterwards(github: GitHub) -> None:
    look = 'stat -c "%a %n" "$CREDENTIALS_DIRECTORY" "$CREDENTIALS_DIRECTORY"/* "$AZURE_FEDERATED_TOKEN_FILE"; exit 7'
    done = await github.use(mode="exec", audience=AUDIENCE, command=look)
    assert done.code == 7, done.output
    folder = github.temporary / "token-sidecar" / "credentials"
    assert f"700 {folder}\n600 {folder}/job-token\n600 {folder}/job-token\n" in done.output
    assert not folder.exists()


async def test_the_token_is_fetched_anew_before_it_ends_and_half_a_line_does_not_show_it(
    github: GitHub, service: TokenService, job_token: JobTokens
) -> None:
    job_token.life = 2
    wait = 'f=$CREDENTIALS_DIRECTORY/job-token; old=$(cat "$f"); until [ "$(cat "$f")" != "$old" ]; do sleep 0.05; done'
    command = f"printf half; {wait}"
    done = await github.use(mode="exec", arguments="--no-wait", audience=AUDIENCE, command=command)
    assert done.code == 0, done.output
    assert "half" in done.output
    assert {f"::add-mask::{token}" for token in service.given} <= set(done.output.splitlines())
    assert len(service.given) >= 2
    assert not [token for token in service.given if token in shown(done)]


async def test_a_renewal_that_fails_is_told_and_tried_again(
    github: GitHub, service: TokenService, job_token: JobTokens
) -> None:
    job_token.life = 2
    wait = 'f=$CREDENTIALS_DIRECTORY/job-token; old=$(cat "$f"); until [ "$(cat "$f")" != "$old" ]; do sleep 0.05; done'
    service.script.append(web.json_response({"value": job_token(AUDIENCE)}))
    service.script.append(web.Response(status=403))
    done = await github.use(mode="exec", arguments="--no-wait", audience=AUDIENCE, command=wait)
    assert done.code == 0, done.output
    assert "\n::warning title=Token Sidecar::GitHub's token service answered 403; it is asked again\n" in done.output


async def test_the_exit_code_of_the_command_is_that_of_the_step(github: GitHub) -> None:
    assert (await github.use(mode="exec", audience=AUDIENCE, command="exit 3")).code == 3
    done = await github.use(mode="exec", audience=AUDIENCE, command="false\necho went on")
    assert done.code == 1
    assert "went on" not in done.output


async def test_what_is_asked_for_is_not_run_by_a_shell_before_it_is_looked_at(github: GitHub) -> None:
    done = await github.use(mode="exec", arguments="--timeout $(touch${IFS}here) `touch there`", command="true")
    assert done.code == 2
    assert "argument --timeout" in done.output
    assert {path.name for path in github.workspace.iterdir()} == {"config.yaml"}


async def test_an_idp_that_does_not_trust_the_job_fails_the_step_with_the_reason(github: GitHub, api: Echo) -> None:
    done = await github.use(mode="exec", audience="https://other.example.com", command=call(api))
    assert done.code == 6
    assert "invalid_client" in done.output
    assert api.served == 0


async def test_without_an_audience_no_token_is_asked_for(github: GitHub, service: TokenService) -> None:
    done = await github.use(mode="exec", arguments="--no-wait", command="echo began ${CREDENTIALS_DIRECTORY-without}")
    assert done.code == 4, done.output  # the configuration names it
    assert service.given == []


# --- GitHub: what goes wrong -----------------------------------------------------------------------------------------


async def test_a_job_without_the_permission_is_told_of_it(tmp_path: Path) -> None:
    job = GitHub(ACTION, tmp_path)
    job.has_installed()
    done = await job.use(mode="exec", audience=AUDIENCE, command="true")
    assert done.code == 1
    assert "::error title=Token Sidecar::" in done.output
    assert "`permissions: {id-token: write}`" in done.output


@pytest.mark.parametrize("answer", [{"value": "n0t-a-token"}, {"count": 0}, ["value"], {"value": "a.b.c\n::stop"}])
async def test_an_answer_that_holds_no_token_fails_the_step_and_is_not_shown(
    github: GitHub, service: TokenService, answer: Any
) -> None:
    service.script.append(web.json_response(answer))
    done = await github.use(mode="exec", audience=AUDIENCE, command="true")
    assert done.code == 1
    assert done.output == "::error title=Token Sidecar::GitHub's token service answered something that holds no token\n"
    assert not (github.temporary / "token-sidecar" / "credentials").exists()


async def test_a_token_that_cannot_be_written_fails_the_step(github: GitHub, service: TokenService) -> None:
    (github.temporary / "token-sidecar" / "credentials").write_text("a file")
    done = await github.use(mode="exec", audience=AUDIENCE, command="true")
    assert done.code == 1
    assert "::error title=Token Sidecar::there is no folder for the job's token: File exists\n" in done.output
    assert service.given[0] not in shown(done)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"mode": "serve"}, "mode is check, simulate or exec"),
        ({"mode": "exec"}, "mode exec wants a command"),
    ],
)
async def test_wrong_use_is_told_in_one_line(github: GitHub, inputs: dict[str, str], message: str) -> None:
    done = await github.use(**inputs)
    assert (done.code, done.output) == (2, f"::error title=Token Sidecar::{message}\n")


# --- GitHub: check and simulate --------------------------------------------------------------------------------------


async def test_a_check_asks_for_a_token_as_the_job_would(github: GitHub, idp: MockIdP) -> None:
    done = await github.use(audience=AUDIENCE, arguments="--live")
    assert done.code == 0, done.output
    assert len(idp.issued) == 1


async def test_what_a_check_finds_is_an_annotation_at_its_line(github: GitHub) -> None:
    (github.workspace / "deploy").mkdir()
    (github.workspace / "deploy" / "wrong.yaml").write_text(WRONG)
    done = await github.use(config="deploy/wrong.yaml", arguments="--offline --no-files")
    assert done.code == 3
    assert re.search(r"(?m)^::error file=deploy/wrong\.yaml,line=1,", done.output), done.output


async def test_it_runs_where_it_is_told_to(github: GitHub) -> None:
    (github.workspace / "deploy").mkdir()
    (github.workspace / "config.yaml").rename(github.workspace / "deploy" / "config.yaml")
    assert (await github.use(working_directory="deploy", arguments="--offline --no-files")).code == 0


async def test_a_rehearsal_leaves_its_report_also_when_it_fails(github: GitHub, service: TokenService) -> None:
    for name, text, code in (("quiet", QUIET, 0), ("outage", OUTAGE, 1)):
        (github.workspace / f"{name}.yaml").write_text(text)
        done = await github.use(mode="simulate", arguments=f"./{name}.yaml")
        assert done.code == code, done.output
        suites = ElementTree.parse(done.outputs["report"]).getroot()
        assert [suite.get("name") for suite in suites] == [name]
        assert bool(suites.findall(".//failure")) == bool(code)
        assert "<testsuites" in done.output
    assert service.given == []


# --- GitHub: the action as such --------------------------------------------------------------------------------------


def steps() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((ACTION / "action.yml").read_text())["runs"]["steps"]
    return found


def test_the_action_is_made_of_strict_shell_steps_that_nothing_is_pasted_into() -> None:
    for step in steps():
        assert "uses" not in step
        assert step["run"].startswith("set -euo pipefail\n")
        assert "${{" not in step["run"]


def test_bash_can_read_every_step() -> None:
    for step in steps():
        subprocess.run(["bash", "-n"], input=step["run"], text=True, check=True)


def test_the_example_uses_inputs_that_there_are() -> None:
    inputs = yaml.safe_load((ACTION / "action.yml").read_text())["inputs"]
    jobs = yaml.safe_load((ACTION / "example.yml").read_text())["jobs"]
    ours = [step for job in jobs.values() for step in job["steps"] if "deploy/ci/github@" in step["uses"]]
    assert {step["with"].get("mode", "check") for step in ours} == {"check", "simulate", "exec"}
    for step in ours:
        assert step["with"].keys() <= inputs.keys()
    assert jobs["nightly"]["permissions"] == {"contents": "read", "id-token": "write"}
    assert "permissions" not in jobs["check"]


async def test_the_example_s_check_has_nothing_to_say_about_its_configuration(github: GitHub) -> None:
    (github.workspace / "config.yaml").write_text((CI / "config.yaml").read_text())
    jobs = yaml.safe_load((ACTION / "example.yml").read_text())["jobs"]
    done = await github.use(**jobs["check"]["steps"][1]["with"])
    assert (done.code, "::" in done.output) == (0, False), done.output


def test_the_configuration_of_the_examples_loads() -> None:
    text = (CI / "config.yaml").read_text()
    for reference in ("cred:job-token", "env:ID_TOKEN"):
        assert parse(text.replace("cred:job-token", reference), "config.yaml").credentials["orders"].assertion


@pytest.fixture
def recording(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A path with a ``python3`` whose environments have a ``pip`` that only says what it was told."""
    folder = tmp_path_factory.mktemp("recording")
    (folder / "python3").write_text(RECORDING)
    (folder / "python3").chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


async def test_a_wheel_is_installed_where_one_is_named_with_dependencies_by_their_hashes(
    tmp_path: Path, recording: str
) -> None:
    job = GitHub(ACTION, tmp_path, variables={"PATH": recording})
    done = await job.use(package="./a b.whl", arguments="--strict")
    lock = f"{ACTION}/../../../requirements.lock"
    assert done.output.splitlines() == [
        f"[--quiet] [--disable-pip-version-check] [install] [--require-hashes] [--requirement] [{lock}]",
        "[--quiet] [--disable-pip-version-check] [install] [--no-deps] [./a b.whl]",
        "[check] [--format] [github] [--strict]",
    ]
    again = await job.use(package="./a b.whl")
    assert again.output == "[check] [--format] [github]\n"


async def test_a_python_that_is_too_old_is_told_of(tmp_path: Path, recording: str) -> None:
    job = GitHub(ACTION, tmp_path, variables={"PATH": recording, "TOO_OLD": "1"})
    done = await job.use()
    assert done.code == 1
    assert done.output.startswith("::error title=Token Sidecar::python3 has to be 3.11 or newer")


async def test_the_action_installs_the_checkout_that_it_is_in(tmp_path: Path) -> None:
    job = GitHub(ACTION, tmp_path)
    (job.workspace / "config.yaml").write_text((CI / "config.yaml").read_text())
    done = await job.use(arguments="--offline --no-files")
    if done.code and any(words in done.output for words in NO_NETWORK):
        pytest.skip("the locked packages cannot be fetched here")
    assert done.code == 0, done.output
    assert [path.name for path in (job.temporary / "token-sidecar" / "bin").iterdir()] == ["sidecar"]


# --- GitLab ----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["bash", "sh"])
def interpreter(request: pytest.FixtureRequest) -> str:
    """GitLab's runner takes bash where the image has it."""
    name: str = request.param
    return name


@pytest.fixture
def project(idp: MockIdP, api: Echo, tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text(configuration(idp, api, assertion="env:ID_TOKEN"))
    return tmp_path


def jobs_of(**inputs: str) -> dict[str, Any]:
    return component(TEMPLATE, audience=AUDIENCE, **inputs)


def given(job: dict[str, Any], make: JobTokens) -> dict[str, str]:
    """The tokens that GitLab gives to a job."""
    return {name: make(spec["aud"]) for name, spec in job["id_tokens"].items()}


async def test_a_job_that_extends_the_component_calls_its_api_by_its_id_token(
    project: Path, idp: MockIdP, api: Echo, job_token: JobTokens, interpreter: str
) -> None:
    own = yaml.safe_load((CI / "gitlab" / "example.yml").read_text())["nightly"]
    own["script"] = [f"sidecar exec -- {call(api)}", "sidecar exec -- env"]
    job = extended(jobs_of() | {"nightly": own}, "nightly")
    tokens = given(job, job_token)
    done = await run_job(job, folder=project, interpreter=interpreter, variables=tokens)
    assert done.code == 0, done.output
    assert api.served == 1
    assert {request.field("client_assertion") for request in idp.received} == set(tokens.values())
    for secret in (*tokens.values(), *idp.issued):  # exec takes it out of the command's environment
        assert secret not in done.output


async def test_the_check_leaves_a_report_for_the_merge_request(
    project: Path, idp: MockIdP, job_token: JobTokens, interpreter: str
) -> None:
    job = extended(jobs_of(arguments="--live"), "token-sidecar-check")
    done = await run_job(job, folder=project, interpreter=interpreter, variables=given(job, job_token))
    assert (done.code, done.output) == (0, "")
    assert len(idp.issued) == 1
    assert job["artifacts"]["when"] == "always"
    assert ElementTree.parse(project / job["artifacts"]["reports"]["junit"]).getroot().tag == "testsuites"


async def test_a_check_that_fails_shows_its_report_and_keeps_its_exit_code(project: Path, interpreter: str) -> None:
    (project / "wrong.yaml").write_text(WRONG)
    job = extended(jobs_of(config="wrong.yaml"), "token-sidecar-check")
    done = await run_job(job, folder=project, interpreter=interpreter, variables={})
    assert done.code == 3
    assert "color" in done.output
    assert done.output == (project / job["artifacts"]["reports"]["junit"]).read_text()


async def test_scenarios_are_rehearsed_where_some_are_named(project: Path, interpreter: str) -> None:
    (project / "quiet.yaml").write_text(QUIET)
    job = extended(jobs_of(scenarios="./quiet.yaml"), "token-sidecar-simulate")
    assert job["rules"] == [{"if": '"./quiet.yaml" != ""'}]
    done = await run_job(job, folder=project, interpreter=interpreter, variables={})
    assert (done.code, done.output) == (0, "")
    assert ElementTree.parse(project / job["artifacts"]["reports"]["junit"]).getroot().tag == "testsuites"


def test_without_scenarios_there_is_no_rehearsal() -> None:
    assert extended(jobs_of(), "token-sidecar-simulate")["rules"] == [{"if": '"" != ""'}]


async def test_an_image_without_the_sidecar_wants_a_package(tmp_path: Path, interpreter: str) -> None:
    job = jobs_of()[".token-sidecar"]
    line = job["before_script"][0].replace("command -v sidecar", "command -v no-such-sidecar")
    done = await run_job(job | {"before_script": [line]}, folder=tmp_path, interpreter=interpreter, variables={})
    assert (done.code, done.output) == (2, "the image has no sidecar: name a package for pip\n")


async def test_it_is_installed_from_a_package_and_dependencies_by_their_hashes_where_there_is_a_lock(
    tmp_path: Path, recording: str, interpreter: str
) -> None:
    for inputs, told in (
        ({"package": "a.whl"}, ["[a.whl]"]),
        (
            {"package": "a.whl", "requirements": "r.lock"},
            ["[--require-hashes] [--requirement] [r.lock]", "[--no-deps] [a.whl]"],
        ),
    ):
        job = jobs_of(**inputs)[".token-sidecar"]
        line = job["before_script"][0].replace("command -v sidecar", "command -v no-such-sidecar")
        done = await run_job(
            job | {"before_script": [line]}, folder=tmp_path, interpreter=interpreter, variables={"PATH": recording}
        )
        assert done.code == 0, done.output
        assert done.output.splitlines() == [
            f"[install] [--quiet] [--disable-pip-version-check] {each}" for each in told
        ]


def test_the_example_gives_the_component_what_it_wants() -> None:
    (include,) = yaml.safe_load((CI / "gitlab" / "example.yml").read_text())["include"]
    assert include["component"].split("@")[0].endswith(f"/{TEMPLATE.stem}")
    jobs = component(TEMPLATE, **include["inputs"])
    assert jobs["token-sidecar-check"]["extends"] == ".token-sidecar"
    assert jobs[".token-sidecar"]["id_tokens"] == {"ID_TOKEN": {"aud": AUDIENCE}}
