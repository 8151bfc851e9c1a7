"""A terminal with a person in front of it: a shell in tmux, whose screen can be read as it is shown."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import until_here

__all__ = ["Terminal", "has_tmux", "open_terminal"]

PROMPT = "you$ "

_ENDED = re.compile(r";echo =\$\?\n(.*)=(\d+)\nyou\$$", re.DOTALL)


def has_tmux() -> bool:
    return shutil.which("tmux") is not None


class Terminal:
    """A shell on a terminal of its own.

    Args:
        socket: of a tmux server that has nothing else.
        folder: where the shell is.
    """

    def __init__(self, socket: Path, folder: Path) -> None:
        self._socket = socket
        self._folder = folder

    def tmux(self, *arguments: str) -> str:
        command = ["tmux", "-S", str(self._socket), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

    def screen(self, *, colours: bool = False) -> str:
        """Return what stands on the screen, and above it; with escapes for the colours, if they are wanted."""
        shown = self.tmux("capture-pane", "-p", "-S", "-", *(["-e"] if colours else []))
        return "\n".join(line.rstrip() for line in shown.rstrip().splitlines())

    def type(self, text: str) -> None:
        """Type a line, and press Return."""
        self.tmux("send-keys", "-l", text)
        self.tmux("send-keys", "Enter")

    def press(self, *keys: str) -> None:
        """Press keys, by tmux's names for them."""
        self.tmux("send-keys", *keys)

    def expect(self, text: str) -> str:
        """Wait until a text stands on the screen, and return the screen."""
        try:
            until_here(lambda: text in self.screen())
        except TimeoutError:
            raise AssertionError(f"{text!r} never came; the screen says\n{self.screen()}") from None
        return self.screen()

    def start(self, line: str) -> None:
        """Type a line of the shell, on an empty screen."""
        # On a screen that is empty already, `clear` could be yet to run, and take away the next line that is typed.
        self.type(": x")
        until_here(lambda: self.screen().endswith(f": x\n{PROMPT.rstrip()}"))
        self.type("clear")
        until_here(lambda: self.screen() == PROMPT.rstrip())
        self.tmux("clear-history")
        # What is typed is short, so that no terminal is too narrow for it.
        (self._folder / "s").write_text(f"{line}\n")
        self.type(". ./s;echo =$?")

    def run(self, line: str) -> tuple[str, int]:
        """Run a line of the shell to its end; return what it shows, and its exit code."""
        self.start(line)
        return self.end()

    def end(self) -> tuple[str, int]:
        """Wait for the end of a line that was started; return what it showed, and its exit code."""
        try:
            until_here(lambda: _ENDED.search(self.screen()))
        except TimeoutError:
            raise AssertionError(f"the line never ended; the screen says\n{self.screen()}") from None
        match = _ENDED.search(self.screen())
        assert match is not None
        return match[1].rstrip("\n"), int(match[2])


@contextmanager
def open_terminal(folder: Path, *, columns: int = 80, **environment: str) -> Iterator[Terminal]:
    """Give a shell in a folder, where `mellea` is the command of this Python."""
    with tempfile.TemporaryDirectory() as sockets:  # the path of a socket has a hundred characters at most
        binary = folder / "bin" / "mellea"
        binary.parent.mkdir(exist_ok=True)
        binary.write_text(f'#!/bin/sh\nexec "{sys.executable}" -W error -m mellea "$@"\n')
        binary.chmod(0o755)
        unwanted = ("MELLEA_", "TMUX", "NO_COLOR", "COLUMNS", "LINES")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
        kept |= {"PATH": f"{binary.parent}:{kept['PATH']}", "LANG": "C.UTF-8", "HOME": str(folder)}
        terminal = Terminal(Path(sockets) / "tmux", folder)
        start = ["tmux", "-S", str(terminal._socket), "-f", os.devnull, "new-session", "-d", "-x", str(columns)]
        try:
            subprocess.run([*start, "-y", "30", "/bin/sh"], check=True, cwd=folder, env={**kept, **environment})
            # Shells have prompts of their own, whatever the environment says.
            terminal.type(f"PS1='{PROMPT}'; clear")
            until_here(lambda: terminal.screen() == PROMPT.rstrip())
            yield terminal
        finally:
            subprocess.run(["tmux", "-S", str(terminal._socket), "kill-server"], check=False, capture_output=True)
