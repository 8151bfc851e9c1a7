"""`mellea chat`: a conversation in the terminal, or with the lines of a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from mellea.cli import output
from mellea.cli.arguments import Model
from mellea.core.events import Usage
from mellea.core.messages import Message
from mellea.core.options import ModelOption
from mellea.errors import ConfigurationError, MelleaError
from mellea.stdlib.context import ChatContext
from mellea.stdlib.session import MelleaSession, start_session

__all__ = ["chat"]

_HELP = """\
/help            this list
/clear           forget the conversation
/model NAME      continue with another model
/usage           tokens and cost so far
/exit            leave, as Ctrl-D does
Ctrl-C           stop an answer, which isn't remembered then"""


def chat(
    model: Model = None,
    system: Annotated[str | None, typer.Option("--system", "-s", help="Instructions for the model.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="The maximum number of tokens in an answer.")] = None,
) -> None:
    """Chat with a model.

    /help lists the commands. Ctrl-C stops an answer, Ctrl-D leaves.
    """
    options: dict[Any, Any] = {} if system is None else {ModelOption.SYSTEM_PROMPT: system}
    options |= {} if max_tokens is None else {ModelOption.MAX_NEW_TOKENS: max_tokens}
    talk = _Talk(start_session(model, ctx=ChatContext(), model_options=options))
    if sys.stdin is not None and sys.stdin.isatty():
        talk.greet(model)
    for line in _lines():
        if not line.strip():
            continue
        try:
            if talk.take(line.strip()):
                return
        except MelleaError as error:
            output.note(f"mellea: {error}")


class _Talk:
    def __init__(self, session: MelleaSession) -> None:
        self._session = session
        self._tokens: list[int | None] = [0, 0]

    def greet(self, name: str | None) -> None:
        """Print the model's name: as the user named it, or its own."""
        backend = self._session.backend
        output.note(f"mellea: {name or f'{backend.name}/{backend.model_id}'}; /help lists the commands")

    def take(self, line: str) -> bool:
        """Answer a line, or run its command; returns whether it was the last one."""
        if not line.startswith("/"):
            self._answer(line)
            return False
        name, _, rest = line.partition(" ")
        if name in ("/exit", "/quit", "/q"):
            return True
        commands: dict[str, Callable[[str], None]] = {
            "/clear": self._clear,
            "/reset": self._clear,
            "/help": self._help,
            "/model": self._change_model,
            "/usage": self._show_usage,
        }
        if name in commands:
            commands[name](rest.strip())
        else:
            output.note(f"mellea: there is no command {name!r}; /help lists them")
        return False

    def _answer(self, line: str) -> None:
        chunk = ""
        # A `with` block: Ctrl-C leaves it, which stops the model.
        with self._session.stream(Message("user", line)) as stream:
            try:
                for chunk in stream:
                    output.write(chunk)
            except KeyboardInterrupt:
                output.note("\n(stopped)")
                return
            self._count(stream.usage)
        output.end_line(chunk)

    def _count(self, usage: Usage | None) -> None:
        counts = (usage.input_tokens, usage.output_tokens) if usage is not None else (None, None)
        # If one figure is missing, the sum is unknown.
        self._tokens = [
            None if sum is None or count is None else sum + count
            for sum, count in zip(self._tokens, counts, strict=True)
        ]

    def _clear(self, _: str) -> None:
        self._session.reset()

    def _help(self, _: str) -> None:
        output.explain(_HELP)

    def _change_model(self, name: str) -> None:
        old = self._session
        # With the same context, so the new model knows the conversation.
        self._session = start_session(name or None, ctx=old.ctx, model_options=old.model_options)
        self.greet(name or None)

    def _show_usage(self, _: str) -> None:
        cost = self._session.cost
        tokens = " + ".join("?" if count is None else f"{count:,}" for count in self._tokens)
        output.note(f"mellea: {tokens} tokens, " + ("the cost is unknown" if cost is None else f"${cost:.6f}"))


def _lines() -> Iterator[str]:
    if sys.stdin is None or not sys.stdin.isatty():
        yield from sys.stdin or ()
        return
    from prompt_toolkit import PromptSession  # lazy: only a terminal needs it
    from prompt_toolkit.completion import WordCompleter  # lazy
    from prompt_toolkit.history import FileHistory, History, InMemoryHistory  # lazy

    from mellea.backends.llama_cpp.weights import find_models_dir  # lazy: other models don't need it

    def history() -> History:
        try:
            folder = find_models_dir().parent
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / "chat_history"
            # Made before prompt_toolkit opens it, so that only its owner can read what was typed.
            file.touch(mode=0o600)
            return FileHistory(str(Path(file)))
        except (OSError, ConfigurationError):
            return InMemoryHistory()

    commands = WordCompleter([line.split()[0] for line in _HELP.splitlines() if line.startswith("/")], sentence=True)
    prompt: PromptSession[str] = PromptSession(history=history(), completer=commands)
    while True:
        try:
            yield prompt.prompt([("bold", "> ")])
        except KeyboardInterrupt:
            continue  # it clears the line
        except EOFError:
            return
