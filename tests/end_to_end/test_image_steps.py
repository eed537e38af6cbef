"""What the Dockerfile's builder does, done outside a container: assemble the folder, then run the sidecar from it.

The image itself is not built here: that needs a container engine. The Dockerfile's other lines are read by
``tests/test_deploy.py``.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import aiohttp
import pytest

ROOT: Final = Path(__file__).resolve().parent.parent.parent
NO_NETWORK: Final = ("name resolution", "NewConnectionError", "Network is unreachable", "Max retries exceeded")
LARGEST_MIB: Final = 40
# As the image's entry point, and -S, which leaves out the site-packages of the environment that the tests run in.
COMMAND: Final = (sys.executable, "-S", "-P", "-B", "-m", "sidecar")


def environment(assembled: Path) -> dict[str, str]:
    """As in the image: nothing but the assembled folder, so that a forgotten dependency shows."""
    return {"PYTHONPATH": str(assembled), "PATH": os.defpath, "PYTHONNOUSERSITE": "1", "LANG": "C.UTF-8"}


@pytest.fixture(scope="module")
def assembled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the image would hold."""
    if shutil.which("strip") is None:
        pytest.skip("strip is missing (Debian: binutils)")
    destination = tmp_path_factory.mktemp("image") / "app"
    done = subprocess.run(
        [str(ROOT / "deploy" / "image" / "assemble"), str(destination), "/app"],
        env=os.environ | {"PYTHON": sys.executable},
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode and any(words in done.stderr for words in NO_NETWORK):
        pytest.skip("the locked packages cannot be fetched here")
    assert done.returncode == 0, done.stderr
    return destination


def run(assembled: Path, code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-B", "-c", code],
        env=environment(assembled),
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout


def test_the_folder_is_small_stripped_and_holds_no_sources_that_nothing_reads(assembled: Path) -> None:
    files = [path for path in assembled.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 2**20
    assert size < LARGEST_MIB, f"{size:.1f} MiB in {len(files)} files"
    assert not [path for path in files if path.suffix in (".pyx", ".pxd", ".pyi", ".c", ".h")]
    assert not (assembled / "rich").exists()
    (loop,) = assembled.glob("uvloop/loop*.so")
    assert loop.stat().st_size < 4 * 2**20


def test_every_module_is_compiled_for_good_and_names_its_place_in_the_image(assembled: Path) -> None:
    sources = list((assembled / "sidecar").rglob("*.py"))
    compiled = list((assembled / "sidecar").rglob("*.pyc"))
    assert len(sources) == len(compiled) > 20
    # PEP 552: the flags say "hash-based, not checked": bit 0 set, bit 1 clear.
    assert {path.read_bytes()[4:8] for path in compiled} == {b"\x01\x00\x00\x00"}
    assert b"/app/sidecar/errors.py" in next(path for path in compiled if path.name.startswith("errors.")).read_bytes()


OF_EXTRAS: Final = {"sidecar.testing", "sidecar.telemetry.spans"}
"""They need pytest and OpenTelemetry, which the image has not."""


def test_the_whole_product_imports_from_the_folder_alone(assembled: Path) -> None:
    names = sorted(
        path.relative_to(assembled).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        for path in (assembled / "sidecar").rglob("*.py")
        if path.name != "__main__.py"
    )
    names = [name for name in names if name not in OF_EXTRAS]
    code = f"import importlib; [importlib.import_module(name) for name in {names!r}]\n"
    code += "import sidecar; print(sidecar.__file__)"
    assert run(assembled, code).strip() == str(assembled / "sidecar" / "__init__.py")


def test_the_command_starts(assembled: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--help"], env=environment(assembled), check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.startswith("usage: sidecar")
    assert "run" in done.stdout


async def test_a_sidecar_runs_from_the_folder_on_a_read_only_root_as_the_pod_would_run_it(
    assembled: Path, tmp_path: Path
) -> None:
    socket = tmp_path / "telemetry.sock"
    config = tmp_path / "config.yaml"
    config.write_text(
        "listeners: [{name: egress, mode: forward, bind: "
        + json.dumps(f"unix:{tmp_path / 'proxy.sock'}")
        + "}]\ntelemetry: {bind: "
        + json.dumps(f"unix:{socket}")
        + "}\n"
    )
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "run", env=environment(assembled) | {"SIDECAR_CONFIG": str(config)}, cwd="/", stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(30):
            started = json.loads(await process.stderr.readline())
            assert started["event"] == "started"
            async with (
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as session,
                session.get("http://localhost/readyz") as answer,
            ):
                assert answer.status == 200
            process.terminate()
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
