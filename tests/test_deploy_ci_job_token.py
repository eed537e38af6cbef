"""The script that fetches a job's token, where the service that it asks does not answer as it should."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.pipelines import environment, shell

SCRIPT: Final = Path(__file__).resolve().parent.parent / "deploy" / "ci" / "github" / "job_token.py"
TOKEN: Final = "aGVhZGVy.cGF5bG9hZA.c2lnbmF0dXJl"
BODY: Final = json.dumps({"value": TOKEN}).encode()
WHOLE: Final = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(BODY), BODY)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(b"nonsense\r\n\r\n", id="is no HTTP"),
        pytest.param(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"value', id="breaks off"),
    ],
)
async def test_after_an_answer_that_is_not_whole_it_asks_again(broken: bytes, tmp_path: Path) -> None:
    answers = [broken, WHOLE]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answers.pop(0))
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/idtoken?api-version=2.0"
        variables = environment(ACTIONS_ID_TOKEN_REQUEST_URL=url, ACTIONS_ID_TOKEN_REQUEST_TOKEN="key")
        words = [sys.executable, str(SCRIPT), "https://idp.example.com", str(tmp_path / "job-token")]
        code, output = await shell(words, folder=tmp_path, variables=variables)
    assert (code, output) == (0, f"::add-mask::{TOKEN}\n")
    assert (tmp_path / "job-token").read_text() == TOKEN
