"""`mellea serve`: what of a file is served, to whom, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from mellea.cli import main

pytest.importorskip("uvicorn")

PROGRAM = """
import mellea
from mellea.testing import Pause, ScriptedBackend

m = mellea.MelleaSession(ScriptedBackend([piece for _ in range(2000) for piece in ("word ", Pause(0.01))]))

@mellea.generative(session=mellea.MelleaSession(ScriptedBackend("Blue.")))
def colour(of: str) -> str:
    "Say the colour."

def shout(text: str) -> str:
    return text.upper()

_hidden = colour
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


@contextmanager
def _serving(*arguments: object) -> Iterator[tuple[httpx.Client, subprocess.Popen[str]]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "import sys; from mellea.cli import main; sys.exit(main())", "serve"]
    named = {name: value for name, value in os.environ.items() if not name.startswith("MELLEA_")}
    with (
        subprocess.Popen(
            [*command, *map(str, arguments), "--port", str(port)], stderr=subprocess.PIPE, text=True, env=named
        ) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        try:
            _wait_for(client, process)
            yield client, process
        finally:
            process.terminate()
            process.wait(30)


def _wait_for(client: httpx.Client, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            client.get("/health")
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the server didn't start")


def _ids(client: httpx.Client, **headers: str) -> list[str]:
    return [model["id"] for model in client.get("/v1/models", headers=headers).json()["data"]]


def _ask(client: httpx.Client, model: str, text: str) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    answer = client.post("/v1/chat/completions", json=body)
    content: str = answer.json()["choices"][0]["message"]["content"]
    return content


def test_sessions_and_prompt_functions_of_a_file_are_served_until_ctrl_c(program: Path) -> None:
    with _serving(program) as (client, process):
        assert _ids(client) == ["m", "colour"]
        assert _ask(client, "colour", "the sea") == "Blue."
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            assert next(answer.iter_text())
        process.send_signal(signal.SIGINT)
        process.wait(30)
        assert process.stderr is not None
        said = process.stderr.read()
        assert said.startswith("serving m, colour at http://127.0.0.1:")
        assert "Traceback" not in said


def test_any_free_port_is_one_that_is_named(program: Path) -> None:
    command = [sys.executable, "-m", "mellea", "serve", str(program), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        try:
            url = said.split(" at ")[1].split("/ ")[0]
            with httpx.Client(base_url=url, timeout=30) as client:
                assert _ids(client) == ["m", "colour"], "it listens as soon as it says so"
        finally:
            process.terminate()


def test_a_port_that_is_taken_is_no_server(program: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-m", "mellea", "serve", str(program), "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "in use" in done.stderr
    assert "serving" not in done.stderr
    assert "can't listen on port" in done.stderr and "--port 0" in done.stderr and done.stderr.count("\n") == 1


def test_names_choose_what_is_served(program: Path) -> None:
    with _serving(f"{program}:shout,colour", "--key", "secret") as (client, _):
        assert client.get("/v1/models").status_code == 401
        client.headers["authorization"] = "Bearer secret"
        assert _ids(client) == ["shout", "colour"]
        assert _ask(client, "shout", "the sea") == "THE SEA"


def test_what_all_names_is_served(program: Path) -> None:
    program.write_text(PROGRAM + "\n__all__ = ['shout', 'm']\n")
    with _serving(program) as (client, _):
        assert _ids(client) == ["shout", "m"]


@pytest.mark.thorough
def test_several_workers_share_a_file(program: Path, tmp_path: Path) -> None:
    with _serving(program, "--workers", 2, "--store", tmp_path / "served.db") as (client, _):
        done = client.post("/v1/responses", json={"model": "colour", "input": "the sea"}).json()
        for _ in range(10):
            with httpx.Client(base_url=client.base_url) as other:
                assert other.get(f"/v1/responses/{done['id']}").json()["output"] == done["output"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{}", "--host", "0.0.0.0"], "give --key"),
        (["{}", "--workers", "2"], "--store"),
        (["{}:nothing"], "doesn't define 'nothing'"),
        (["{}x"], "there is no file"),
        (["{}", "--port", "99999"], "65535"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_served(
    arguments: list[str], said: str, program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *(argument.format(program) for argument in arguments)]) == 2
    assert said in capsys.readouterr().err


def test_a_file_without_programs_says_what_to_name(
    program: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MELLEA_SERVE_SETTINGS", json.dumps({}))
    program.write_text("def shout(text: str) -> str:\n    return text.upper()\n")
    assert main(["serve", str(program)]) == 2
    assert "no session, agent or generative function" in capsys.readouterr().err
