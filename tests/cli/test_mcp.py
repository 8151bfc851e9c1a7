"""`mellea mcp serve`: a file's programs as tools, for the official client."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from mellea.cli import main
from tests.ports import Port

pytest.importorskip("mcp", reason="the extra mcp isn't installed")

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

PROGRAM = """
import mellea
from mellea.testing import Pause, ScriptedBackend

print("printed while it is imported")
m = mellea.MelleaSession(ScriptedBackend("Blue."))

@mellea.generative(session=m)
def colour(of: str) -> str:
    "Say the colour."

@mellea.command(session=m)
def greet(name: str) -> str:
    "Greet somebody."
    return f"Greet {name}."

@mellea.tool
def add(a: int, b: int) -> int:
    "Add two numbers."
    print("printed by a tool")
    return a + b

helper = mellea.Agent(m, [add], instructions="Be brief.")

def shout(text: str) -> str:
    return text.upper()

_hidden = colour
"""
COMMAND = ["-c", "import sys; from mellea.cli import main; sys.exit(main())", "mcp", "serve"]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


async def _look(client: Client) -> tuple[list[str], dict[str, Any]]:
    names = [tool.name for tool in (await client.list_tools()).tools]
    calls = {"add": {"a": 1, "b": 2}, "colour": {"of": "sea"}, "greet": {"name": "Ada"}, "helper": {"task": "x"}}
    results = {name: await client.call_tool(name, given) for name, given in calls.items()}
    return names, {name: result.content[0].text for name, result in results.items()}


ALL = ["colour", "greet", "add", "helper"]
ANSWERS = {"add": "3", "colour": "Blue.", "greet": "Blue.", "helper": "Blue."}


def test_generative_functions_commands_tools_and_agents_are_tools_over_stdio(program: Path, tmp_path: Path) -> None:
    async def look() -> tuple[Any, Any]:
        given = StdioServerParameters(
            command=sys.executable, args=[*COMMAND, str(program)], env={"PYTHONPATH": str(Path(__file__).parents[2])}
        )
        async with Client(stdio_client(given, errlog=errors)) as client:
            return client.server_info, await _look(client)

    with (tmp_path / "errors").open("w") as errors:
        server, looked = anyio.run(look)
    assert server.name == "program" and looked == (ALL, ANSWERS)
    # Else they would stand between the messages of the protocol.
    assert (tmp_path / "errors").read_text() == "printed while it is imported\nprinted by a tool\n"


@contextmanager
def _started(*arguments: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MELLEA_")}
    with subprocess.Popen(
        [sys.executable, *COMMAND, *map(str, arguments)],
        **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        text=True,
        env=environment,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to send")
def test_ctrl_c_ends_a_server_that_waits_for_its_client(program: Path) -> None:
    with _started(program) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "printed while it is imported\n"
        time.sleep(0.5)  # if it isn't serving yet, the signal ends it as well
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
    assert (process.returncode, out, errors) == (130, "", "")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to send")
def test_streamable_http_is_served_until_ctrl_c(program: Path) -> None:
    port = Port()

    async def look() -> Any:
        async with Client(f"http://127.0.0.1:{port.number}/mcp") as client:
            return await _look(client)

    with _started(program, "--http", "--port", port.number) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert said == f"serving {', '.join(ALL)} at http://127.0.0.1:{port.number}/mcp\n"
        until = time.monotonic() + 60
        while True:
            try:
                assert anyio.run(look) == (ALL, ANSWERS)
                break
            except Exception:
                assert time.monotonic() < until and process.poll() is None
                time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
        assert process.returncode == 130 and "Traceback" not in errors
        assert out == "printed while it is imported\nprinted by a tool\n"
    port.release()


@pytest.mark.parametrize(
    ("added", "given", "served"),
    [
        ("", "{}:shout,colour", ["shout", "colour"]),
        ("__all__ = ['shout', 'm', 'add']", "{}", ["shout", "add"]),
        ("server = mellea.serve.mcp(shout, name='own')", "{}", ["shout"]),
        ("server = mellea.serve.mcp(shout, name='own')", "{}:server", ["shout"]),
    ],
)
def test_what_is_served_is_named_by_the_command_or_by_the_file(
    program: Path,
    added: str,
    given: str,
    served: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    program.write_text(f"{PROGRAM}\n{added}\n")
    seen: list[Any] = []
    monkeypatch.setattr("mellea.serve.McpServer.run", lambda self, *how, **more: seen.append((self, how, more)))
    assert main(["mcp", "serve", given.format(program)]) == 0
    ((server, how, more),) = seen
    assert [tool.name for tool in server.tools] == served and (how, more) == ((), {})
    assert capsys.readouterr() == ("", "printed while it is imported\n")


@pytest.mark.parametrize(
    ("added", "arguments", "said"),
    [
        ("", ["{}:nothing"], "doesn't define 'nothing'"),
        ("", ["{}:m"], "'m' can't be a tool"),
        ("", ["{}", "--http", "--host", "0.0.0.0"], "isn't a loopback address"),
        ("", ["{}x"], "there is no file"),
        ("__all__ = []", ["{}"], "has no generative function, tool or agent"),
        ("a = mellea.serve.mcp(shout)\nb = mellea.serve.mcp(add)", ["{}"], "has several servers, a, b"),
        ("a = mellea.serve.mcp(shout)", ["{}", "--name", "x"], "makes its own server"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_served(
    program: Path, added: str, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    program.write_text(f"{PROGRAM}\n{added}\n")
    assert main(["mcp", "serve", *(argument.format(program) for argument in arguments)]) == 2
    shown = capsys.readouterr().err
    assert said in shown and "Traceback" not in shown


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such shell")
@pytest.mark.parametrize(("closed", "said"), [("<&-", "one of them is closed"), (">&-", "stdout is closed")])
def test_a_closed_stdin_or_stdout_is_said(program: Path, closed: str, said: str) -> None:
    command = f'"$0" "$@" {closed}'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, *COMMAND, str(program)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
