"""What an editor shows of a verb: a line for each argument, for the synchronous twin and the async one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mellea.stdlib.agents.arguments import AgentArguments, AgentStreamArguments
from mellea.stdlib.verb import (
    ActArguments,
    CallArguments,
    ChatArguments,
    FunctionArguments,
    InstructArguments,
    OptionArguments,
    StreamArguments,
)
from tests.house.tree import ROOT, needs_lint_group

PROGRAM = "import mellea\nm = mellea.start_session()\na = mellea.Agent()\n"
SHOWN: Mapping[str, Any] = {
    "m.instruct": InstructArguments,
    "m.ainstruct": InstructArguments,
    "m.act": ActArguments,
    "m.aact": ActArguments,
    "m.chat": ChatArguments,
    "m.achat": ChatArguments,
    "m.query": CallArguments,
    "m.aquery": CallArguments,
    "m.transform": OptionArguments,
    "m.atransform": OptionArguments,
    "m.stream": StreamArguments,
    "m.astream": StreamArguments,
    "mellea.mfuncs.instruct": InstructArguments,
    "mellea.mfuncs.ainstruct": InstructArguments,
    "mellea.ask.stream": StreamArguments,
    "mellea.ask.astream": StreamArguments,
    "mellea.generative": FunctionArguments,
    "mellea.command": FunctionArguments,
    "a.run": AgentArguments,
    "a.arun": AgentArguments,
    "a.stream": AgentStreamArguments,
    "a.astream": AgentStreamArguments,
}


def test_the_docstrings_in_the_source_have_the_lines_of_the_declarations() -> None:
    command = [sys.executable, "scripts/arguments", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_tool_tips_explain_every_argument() -> None:
    needs_lint_group("basedpyright")
    lines = [f"{shown}()" for shown in SHOWN]
    with _Editor(PROGRAM + "\n".join([*lines, "mellea.ask()"])) as editor:
        for number, (shown, declared) in enumerate(SHOWN.items(), PROGRAM.count("\n")):
            tip = " ".join(editor.hover(number, len(shown) - 1).replace("&nbsp;", " ").split())
            missing = [name for name in declared.__annotations__ if f" {name}: " not in tip.partition("Args:")[2]]
            assert not missing, f"the tool tip of {shown} doesn't explain {missing}"
        # `ask` is a variable to the checker, so its arguments are explained where a call is typed.
        tip = editor.help(PROGRAM.count("\n") + len(lines), len("mellea.ask("))
        missing = [name for name in InstructArguments.__annotations__ if f"{name}: " not in tip.partition("Args:")[2]]
        assert not missing, f"the tip of ask doesn't explain {missing}"


class _Editor:
    """A client of the language server, as far as tool tips go (LSP 3.17)."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._number = 0
        self._file = (ROOT / "tool_tips.py").as_uri()  # which only the server's memory has

    def __enter__(self) -> _Editor:
        server = Path(sys.executable).with_name("basedpyright-langserver")
        self._server = subprocess.Popen(
            [server, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT
        )
        folder = {"uri": ROOT.as_uri(), "name": "mellea"}
        document = {"uri": self._file, "languageId": "python", "version": 1, "text": self._text}
        formats = {"hover": {"contentFormat": ["plaintext"]}}
        self._ask("initialize", processId=None, capabilities={"textDocument": formats}, workspaceFolders=[folder])
        self._write({"method": "initialized", "params": {}})
        self._write({"method": "textDocument/didOpen", "params": {"textDocument": document}})
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.kill()
        self._server.communicate()

    def hover(self, line: int, column: int) -> str:
        shown: str = self._ask_at("textDocument/hover", line, column)["contents"]["value"]
        return shown

    def help(self, line: int, column: int) -> str:
        signatures = self._ask_at("textDocument/signatureHelp", line, column)["signatures"]
        return "\n".join(json.dumps(each.get("documentation", "")) for each in signatures)

    def _ask_at(self, method: str, line: int, column: int) -> Any:
        place = {"line": line, "character": column}
        return self._ask(method, textDocument={"uri": self._file}, position=place)

    def _ask(self, method: str, **params: Any) -> Any:
        self._number += 1
        self._write({"id": self._number, "method": method, "params": params})
        for message in self._read():
            if "method" in message and "id" in message:  # the server asks for settings, of which there are none
                wanted = message["params"].get("items", []) if isinstance(message.get("params"), dict) else []
                self._write({"id": message["id"], "result": [{} for _ in wanted]})
            elif message.get("id") == self._number:
                return message["result"]
        pytest.fail("the language server ended")

    def _write(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._server.stdin is not None
        self._server.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self._server.stdin.flush()

    def _read(self) -> Iterator[dict[str, Any]]:
        stream = self._server.stdout
        assert stream is not None
        while header := stream.readline():
            length = int(header.split(b":")[1]) if header.lower().startswith(b"content-length") else 0
            while header.strip():
                header = stream.readline()
                if header.lower().startswith(b"content-length"):
                    length = int(header.split(b":")[1])
            yield json.loads(stream.read(length))
