"""The command line: arguments in, exit codes out.

Rules:

- Each command is a function in its own file; its docstring is its help.
- Errors of mellea, and of files that it can't read or write for the user, are one line on stderr: 2 if the arguments
  were wrong, 1 for everything else. Other errors are bugs and show a traceback: the frames of the user's program,
  with `MELLEA_DEBUG=1` all of them.
- Ctrl-C and a reader that leaves end a command silently.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer

from mellea._version import __version__
from mellea.cli import output
from mellea.core.entrance import short_errors
from mellea.core.options import find_nearest_option
from mellea.core.tracebacks import list_program_frames
from mellea.errors import MelleaError, StateError, UsageError

__all__ = ["run"]

_COMMANDS = {
    "ask": "mellea.cli.ask",
    "chat": "mellea.cli.chat",
    "docs": "mellea.cli.docs",
    "doctor": "mellea.cli.doctor",
    "eval": "mellea.cli.eval",
    "journal": "mellea.cli.journal",
    "map": "mellea.cli.map",
    "mcp": "mellea.cli.mcp",
    "models": "mellea.cli.models",
    "run": "mellea.cli.run",
    "serve": "mellea.cli.serve",
    "traces": "mellea.cli.traces",
}
"""Each command and its module, which has a function of that name or an `app`; only the called one is loaded."""


_WITH_OPTIONS = ("ask",)
"""The commands that take any option of the model."""

_BUDGET = "--cost limits what it costs, in US dollars, --tokens how many tokens it uses"

_WAYS = {
    **dict.fromkeys([("map", name) for name in ("budget", "max-cost", "max-tokens")], _BUDGET),
    ("map", "cache"): "--journal names the file that keeps the answers, --resume goes on from it",
    ("map", "continue"): "--resume goes on from the journal",
}
"""What to write in place of an option that a command doesn't have."""

_LONGEST = 2_000
"""The maximum length of an error in characters; longer ones mostly quote a user's value."""


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        output.write(f"mellea {__version__}\n")
        raise typer.Exit


def _start(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Ask language models, and run, evaluate and serve the Python programs that use them."""


@short_errors
def run(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: the arguments, by default those of this process.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        output.prepare()
        code = _call(arguments)
        # Printed text may still be in a buffer, and its destination may be full or gone.
        return code if output.has_reader() else 0
    except MelleaError as error:
        output.note(f"mellea: {_shorten(str(error))}")
        # A `StateError` is a `UsageError`, but the arguments were right: the problem is that the file can't be read.
        return 2 if isinstance(error, UsageError) and not isinstance(error, StateError) else 1
    except OSError as error:
        return _explain(error)


def _call(arguments: list[str]) -> int:
    stdout, stderr = sys.stdout, sys.stderr
    try:
        _make_app(arguments[0] if arguments else None)(arguments, prog_name="mellea")
    # typer ends with `SystemExit`, even after `--help`.
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):
            # typer treats every broken pipe as stdout's, exits silently with 1, and replaces the streams by wrappers.
            sys.stdout, sys.stderr = stdout, stderr
            raise end.__context__ from None
        if hint := _advise(end.__context__, arguments):
            output.note(f"mellea: {hint}")
        return end.code if isinstance(end.code, int) else 0
    return 0


def _advise(error: BaseException | None, arguments: list[str]) -> str:
    """Return what to write in place of an option or a command that typer doesn't know; `""` if that isn't known."""
    option = getattr(error, "option_name", None)
    if isinstance(option, str) and (way := _WAYS.get((arguments[0], option.lstrip("-")))) is not None:
        return way
    if isinstance(option, str) and arguments[0] in _WITH_OPTIONS:
        name = option.lstrip("-").replace("-", "_")
        if (known := find_nearest_option(name, 1)) is not None:
            return f"{known} is an option of the model: -o {known}=…"
    if arguments[:2] in (["traces", "record"], ["traces", "start"], ["traces", "on"]):
        return (
            "MELLEA_TRACES=runs.db in the environment records what a program does, and so does mellea.traces.record(…)"
        )
    return ""


def _shorten(message: str) -> str:
    # A whole file pasted in the wrong place would push the actual error off the screen.
    half = _LONGEST // 2
    return message if len(message) <= _LONGEST else f"{message[:half]} … {message[-half:]}"


def _explain(error: OSError) -> int:
    if isinstance(error, BrokenPipeError) and not output.has_reader():
        return 0  # a program printed to a reader that has left
    # The same goes for printing to a full disk: the program's frames would say nothing.
    if list_program_frames(error.__traceback__) is not None and error.errno != errno.ENOSPC:
        raise error  # it failed in the user's program
    named = "" if error.filename is None else f"{error.filename!r}: "
    output.note(f"mellea: {_shorten(named)}{error.strerror or error}")
    return 1


def _make_app(called: str | None) -> typer.Typer:
    app = typer.Typer(
        no_args_is_help=True,
        # Without typer's own tracebacks, which show the values of local variables, and so keys.
        pretty_exceptions_enable=False,
        # In a pipe, help has no boxes; drawing them costs more than everything else.
        rich_markup_mode="rich" if sys.stdout.isatty() else None,
    )
    app.callback()(_start)
    for name in _choose_commands(called):
        home = import_module(_COMMANDS[name])
        if isinstance(group := getattr(home, "app", None), typer.Typer):
            app.add_typer(group, name=name)
        else:
            app.command(name)(getattr(home, name))
    return app


def _choose_commands(called: str | None) -> list[str]:
    # Only the command that is called is imported; all of them only for `--help` or an unknown name.
    if called in _COMMANDS:
        return [called]
    return [] if called == "--version" else list(_COMMANDS)
