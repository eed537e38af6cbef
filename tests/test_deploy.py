"""What is deployed keeps its promises: the manifests, the component, the configuration in them, the Dockerfile."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

import sidecar
from sidecar.config.load import parse

if TYPE_CHECKING:
    from sidecar.config.model import Configuration

ROOT: Final = Path(__file__).resolve().parent.parent
KUBERNETES: Final = ROOT / "deploy" / "kubernetes"
MANIFESTS: Final = sorted(path for path in KUBERNETES.rglob("*.yaml") if path.name != "config.yaml")

API_VERSIONS: Final = {
    "Namespace": "v1",
    "ConfigMap": "v1",
    "Deployment": "apps/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PodMonitor": "monitoring.coreos.com/v1",
    "Kustomization": "kustomize.config.k8s.io/v1beta1",
    "Component": "kustomize.config.k8s.io/v1alpha1",
}

Manifest = dict[str, Any]


def load(name: str) -> Manifest:
    (document,) = yaml.safe_load_all((KUBERNETES / name).read_text())
    assert isinstance(document, dict)
    return document


def pod(manifest: Manifest) -> Manifest:
    spec: Manifest = manifest["spec"]["template"]["spec"]
    return spec


def sidecar_in(manifest: Manifest) -> Manifest:
    (container,) = [each for each in pod(manifest)["initContainers"] if each["name"] == "token-sidecar"]
    assert isinstance(container, dict)
    return container


PODS: Final = ("base/deployment.yaml", "component/sidecar.yaml")


@pytest.fixture(params=PODS)
def manifest(request: pytest.FixtureRequest) -> Manifest:
    """Each manifest that holds the sidecar's container."""
    return load(request.param)


def configurations() -> dict[str, Configuration]:
    texts = {
        "base": load("base/configmap.yaml")["data"]["config.yaml"],
        "example": (KUBERNETES / "example" / "config.yaml").read_text(),
    }
    return {name: parse(text, f"{name}/config.yaml") for name, text in texts.items()}


# --- the manifests as such ---


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.relative_to(KUBERNETES).as_posix())
def test_a_manifest_is_one_document_of_a_known_kind_and_version(path: Path) -> None:
    document = load(path.relative_to(KUBERNETES).as_posix())
    assert document["apiVersion"] == API_VERSIONS[document["kind"]]


@pytest.mark.parametrize("folder", ["base", "component", "example"])
def test_a_kustomization_names_every_file_of_its_folder(folder: str) -> None:
    text = (KUBERNETES / folder / "kustomization.yaml").read_text()
    files = {path.name for path in (KUBERNETES / folder).iterdir()} - {"kustomization.yaml"}
    assert {name for name in files if name not in text} == set()
    assert set(re.findall(r"[a-z]+\.yaml", text)) <= files | {"config.yaml"}


# --- the sidecar's container ---


def test_it_is_a_native_sidecar(manifest: Manifest) -> None:
    assert sidecar_in(manifest)["restartPolicy"] == "Always"


def test_its_probes_ask_the_telemetry_port_by_name(manifest: Manifest) -> None:
    container = sidecar_in(manifest)
    (port,) = container["ports"]
    assert len(port["name"]) <= 15, "Kubernetes allows no longer port name"
    probes = {"startupProbe": "/startupz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}
    for probe, path in probes.items():
        assert container[probe]["httpGet"] == {"path": path, "port": port["name"]}
    # A slow node must not kill it before it has started.
    assert container["startupProbe"]["failureThreshold"] * container["startupProbe"]["periodSeconds"] >= 30


def test_it_meets_the_restricted_pod_security_standard(manifest: Manifest) -> None:
    assert sidecar_in(manifest)["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_it_has_a_memory_limit_and_no_cpu_limit(manifest: Manifest) -> None:
    resources = sidecar_in(manifest)["resources"]
    assert set(resources["requests"]) == {"cpu", "memory"}
    assert set(resources["limits"]) == {"memory"}


def test_secrets_are_mounted_into_the_sidecar_alone_and_as_folders(manifest: Manifest) -> None:
    (secret,) = [volume["name"] for volume in pod(manifest)["volumes"] if "secret" in volume]
    containers = pod(manifest).get("containers", []) + pod(manifest)["initContainers"]
    users = {
        container["name"]
        for container in containers
        for mount in container.get("volumeMounts", [])
        if mount["name"] == secret
    }
    assert users == {"token-sidecar"}
    for mount in sidecar_in(manifest)["volumeMounts"]:
        assert mount["readOnly"] is True
        assert "subPath" not in mount


def test_its_image_and_its_command_are_those_of_the_dockerfile(manifest: Manifest) -> None:
    container = sidecar_in(manifest)
    assert container["image"] == f"token-sidecar:{sidecar.__version__}"
    assert container["args"][0] == "run"
    assert "command" not in container


# --- the pod around it ---


def test_the_pod_outlives_the_drain() -> None:
    grace = pod(load("base/deployment.yaml"))["terminationGracePeriodSeconds"]
    assert grace == 30
    for configuration in configurations().values():
        assert configuration.limits.drain < grace


def test_the_pod_has_no_service_account_token_and_its_app_is_restricted_too() -> None:
    for name in ("base/deployment.yaml", "example/app.yaml"):
        spec = pod(load(name))
        assert spec["automountServiceAccountToken"] is False
        (app,) = spec["containers"]
        context = app["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}


def test_the_namespace_enforces_the_restricted_standard() -> None:
    for folder in ("base", "example"):
        labels = load(f"{folder}/namespace.yaml")["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_app_is_pointed_at_the_forward_listener() -> None:
    for name, configuration in zip(
        ("base/deployment.yaml", "example/app.yaml"), configurations().values(), strict=True
    ):
        (forward,) = [listener for listener in configuration.listeners if listener.mode == "forward"]
        (app,) = pod(load(name))["containers"]
        environment = {entry["name"]: entry["value"] for entry in app["env"]}
        assert environment["HTTP_PROXY"] == environment["http_proxy"] == f"http://{forward.bind}"
        assert environment["NO_PROXY"] == environment["no_proxy"]
        assert {"localhost", "127.0.0.1", "::1", "169.254.169.254"} <= set(environment["NO_PROXY"].split(","))


# --- the configuration ---


def test_the_configuration_loads_and_opens_to_the_pod_alone_what_gives_tokens() -> None:
    for name, configuration in configurations().items():
        assert {listener.bind.host for listener in configuration.listeners} == {"127.0.0.1"}, name
        assert {listener.bind.port for listener in configuration.listeners} == {6180, 6190}, name
        assert str(configuration.telemetry.bind) == "0.0.0.0:6181", name


def test_the_configuration_reads_its_secrets_where_they_are_mounted() -> None:
    mounts = {mount["name"]: mount["mountPath"] for mount in sidecar_in(load("base/deployment.yaml"))["volumeMounts"]}
    for configuration in configurations().values():
        for credential in configuration.credentials.values():
            reference = credential.client_secret
            assert reference is not None
            assert str(reference).startswith(f"file:{mounts['token-sidecar-secrets']}/")


def test_the_telemetry_port_of_the_configuration_is_the_port_of_the_container(manifest: Manifest) -> None:
    (port,) = sidecar_in(manifest)["ports"]
    assert {configuration.telemetry.bind.port for configuration in configurations().values()} == {port["containerPort"]}


def test_the_configuration_file_is_where_the_sidecar_looks_for_it(manifest: Manifest) -> None:
    container = sidecar_in(manifest)
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert container["args"] == ["run", "-c", f"{mounts['token-sidecar-config']}/config.yaml"]


# --- who may see and be seen ---


def test_prometheus_finds_the_pods_by_label_and_port_name(manifest: Manifest) -> None:
    for folder in ("base", "component"):
        spec = load(f"{folder}/podmonitor.yaml")["spec"]
        labels = manifest["spec"]["template"]["metadata"]["labels"]
        assert spec["selector"]["matchLabels"].items() <= labels.items()
        (endpoint,) = spec["podMetricsEndpoints"]
        assert endpoint["port"] == sidecar_in(manifest)["ports"][0]["name"]
        assert endpoint["path"] == "/metrics"


def test_only_the_telemetry_port_is_open_from_outside_and_only_for_monitoring() -> None:
    spec = load("base/networkpolicy.yaml")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    labels = load("base/deployment.yaml")["spec"]["template"]["metadata"]["labels"]
    assert spec["podSelector"]["matchLabels"].items() <= labels.items()
    (rule,) = spec["ingress"]
    assert [port["port"] for port in rule["ports"]] == [6181]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]


def test_the_pod_reaches_names_and_https_but_no_metadata_service() -> None:
    names, world = load("base/networkpolicy.yaml")["spec"]["egress"]
    assert {port["port"] for port in names["ports"]} == {53}
    assert {port["port"] for port in world["ports"]} == {443}
    blocks = {peer["ipBlock"]["cidr"]: peer["ipBlock"]["except"] for peer in world["to"]}
    assert "169.254.0.0/16" in blocks["0.0.0.0/0"]
    assert "fe80::/10" in blocks["::/0"]


# --- the component ---


def merged(target: Any, patch: Any) -> Any:
    """A strategic merge as far as this patch needs it: mappings by key, lists by name with the new things first."""
    if isinstance(target, dict) and isinstance(patch, dict):
        both = copy.deepcopy(target)
        for key, value in patch.items():
            both[key] = merged(both[key], value) if key in both else value
        return both
    if isinstance(target, list) and isinstance(patch, list):
        names = {each["name"] for each in target}
        return [each for each in patch if each["name"] not in names] + target
    return patch


def test_the_component_makes_of_the_example_what_the_base_has_written_out() -> None:
    app, patch, base = load("example/app.yaml"), load("component/sidecar.yaml"), load("base/deployment.yaml")
    assert app["metadata"].pop("annotations") == {"token-sidecar/inject": "true"}
    assert merged(app, {"spec": patch["spec"]}) == base
    assert configurations()["base"] == configurations()["example"]
    assert load("component/podmonitor.yaml") == load("base/podmonitor.yaml")


def test_the_component_patches_every_kind_of_workload_that_asks_for_it() -> None:
    component = load("component/kustomization.yaml")
    assert {patch["target"]["kind"] for patch in component["patches"]} == {
        "Deployment",
        "StatefulSet",
        "DaemonSet",
        "Job",
    }
    for patch in component["patches"]:
        assert patch["target"]["annotationSelector"] == "token-sidecar/inject=true"


# --- the image ---


def dockerfile() -> list[tuple[str, str]]:
    text = (ROOT / "Dockerfile").read_text()
    joined = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", text))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines()) if word]


def test_the_image_runs_as_nobody_in_particular_and_starts_the_sidecar() -> None:
    lines = dockerfile()
    last = dict(lines)
    assert last["USER"] == "65532:65532"
    assert last["ENTRYPOINT"] == '["/usr/bin/python3.13", "-P", "-B", "-m", "sidecar"]'
    assert last["CMD"] == '["run"]'
    assert "HEALTHCHECK" not in last


def test_the_image_s_two_stages_have_the_same_python() -> None:
    builder, runtime = [rest for word, rest in dockerfile() if word == "FROM"]
    assert builder == "python:3.13-slim-trixie AS builder"
    assert runtime == "gcr.io/distroless/python3-debian13:nonroot"
    assert ("RUN", "PYTHON=python3.13 deploy/image/assemble /assembled /app") in dockerfile()
    assert ("COPY", "--from=builder /assembled /app") in dockerfile()


def test_the_dockerfile_says_what_it_has_not_been_through() -> None:
    assert "the image itself has not\n# been built" in (ROOT / "Dockerfile").read_text()


def test_only_what_the_image_is_made_of_goes_to_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        part for word, rest in dockerfile() if word == "COPY" and "--from" not in rest for part in rest.split()[:-1]
    }
    assert "*" in ignored
    assert allowed == copied


# --- the locks ---


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_every_locked_package_has_hashes_for_several_platforms(name: str) -> None:
    text = (ROOT / name).read_text()
    packages = re.findall(r"(?m)^([a-z0-9-]+)==\S+ \\\n((?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text)
    assert len(packages) == len(re.findall(r"(?m)^[a-z0-9-]+==", text)) > 15
    hashes = {package: found.count("--hash") for package, found in packages}
    assert min(hashes[package] for package in ("aiohttp", "httptools", "uvloop", "msgspec", "pyyaml")) > 10
    assert "://" not in text


def test_what_runs_is_what_was_tested() -> None:
    def pins(name: str) -> dict[str, str]:
        return dict(re.findall(r"(?m)^([a-z0-9-]+)==(\S+)", (ROOT / name).read_text()))

    assert pins("requirements.lock").items() <= pins("requirements-dev.lock").items()


def test_the_locks_hold_every_dependency_of_the_project() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    dependencies = project.split("\ndependencies = [")[1].split("]")[0]
    wanted = set(re.findall(r'"([a-z0-9-]+)>=', dependencies))
    locked = set(re.findall(r"(?m)^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text()))
    assert wanted
    assert wanted <= locked
