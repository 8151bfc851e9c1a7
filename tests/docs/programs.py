"""Programs run as a user runs them: in a process of their own, watched while they write."""

from __future__ import annotations

import os
import re
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.docs.fences import ROOT

EXAMPLES = ROOT / "docs" / "examples"
STREAMING = EXAMPLES / "streaming"
LMSTUDIO = EXAMPLES / "lmstudio"
PYTHON = (sys.executable, "-W", "error")
"""As a user runs Python, but nothing may be left open, or be about to go away."""

SECONDS = 120.0
"""How long any program may take; far more than it needs, for machines that have other work."""


_MOST_AT_ONCE = 2**20


def environment(**more: str) -> dict[str, str]:
    """A user's environment: without what the test run and `uv run` have set for themselves."""
    unwanted = {"PYTHONPATH", "PYTHONUNBUFFERED", "MELLEA_MODEL", "UV", "UV_PROJECT", "UV_RUN_RECURSION_DEPTH"}
    unwanted |= {"VIRTUAL_ENV"}
    return {key: value for key, value in os.environ.items() if key not in unwanted} | more


@dataclass
class Watched:
    """What a program wrote, and when each piece of it arrived."""

    returncode: int
    out: str
    err: str
    arrivals: list[float] = field(default_factory=list)
    is_by_stand_in: bool = False
    """Whether some of it is what the stand-in for the model says."""


def watch(command: Sequence[str | Path], *, cwd: Path = ROOT, said: str = "", **more: str) -> Watched:
    """Run a program to its end, with `said` as its piped input."""
    out, its_out = _make_output()
    with out, its_out:
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=cwd,
            env=environment(**more),
            stdin=subprocess.PIPE,
            stdout=its_out,
            stderr=subprocess.PIPE,
        )
        its_out.close()
        return _read_all(process, out.fileno(), said)


def _make_output() -> tuple[socket.socket, socket.socket]:
    """Return where to read what a program writes: each of its writes by itself, however busy this process is."""
    kind = getattr(socket, "SOCK_SEQPACKET", socket.SOCK_STREAM) if sys.platform == "linux" else socket.SOCK_STREAM
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MOST_AT_ONCE)
    return ours, theirs


def _read_all(process: subprocess.Popen[bytes], output: int, said: str) -> Watched:
    assert process.stdin and process.stderr
    with process, selectors.DefaultSelector() as selector:
        process.stdin.write(said.encode())
        process.stdin.close()
        written: dict[int, list[bytes]] = {output: [], process.stderr.fileno(): []}
        for fd in written:
            selector.register(fd, selectors.EVENT_READ)
        arrivals: list[float] = []
        end = time.monotonic() + SECONDS
        while selector.get_map():
            ready = selector.select(max(0.0, end - time.monotonic()))
            if not ready:
                process.kill()
                raise AssertionError(f"not done after {SECONDS:g} s; it wrote {written}")
            for key, _ in ready:
                data = os.read(key.fd, _MOST_AT_ONCE)
                if not data:
                    selector.unregister(key.fd)
                elif key.fd == output:
                    arrivals.append(time.monotonic())
                written[key.fd].append(data)
        process.wait(SECONDS)
        out, err = (b"".join(pieces).decode() for pieces in written.values())
    return Watched(process.returncode, out, err, arrivals)


class Terminal:
    """A program at a terminal, and the person in front of it."""

    def __init__(self, process: subprocess.Popen[bytes], fd: int) -> None:
        self.screen = ""
        self._process = process
        self._fd = fd
        self._seen = 0

    @classmethod
    @contextmanager
    def running(cls, program: Path, *, kind: str = "dumb") -> Iterator[Self]:
        import pty  # lazy: not on every system

        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [*PYTHON, "-c", _TAKE_TERMINAL, str(program)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env=environment(TERM=kind),
        )
        os.close(theirs)
        try:
            yield cls(process, ours)
        finally:
            process.kill()
            process.wait()
            os.close(ours)

    def type(self, keys: str) -> None:
        time.sleep(0.3)  # CPython loses a Ctrl-C that comes between a prompt and its reading; people aren't that quick
        os.write(self._fd, keys.encode())

    def expect(self, pattern: str) -> str:
        """Wait until the program has written something that matches, after what was expected before."""
        end = time.monotonic() + SECONDS
        while True:
            match = re.compile(pattern, re.DOTALL).search(self.screen, self._seen)
            if match:
                self._seen = match.end()
                return match[0]
            if not self._read(end - time.monotonic()):
                raise AssertionError(f"{pattern!r} never came; the screen says {self.screen!r}")

    def leave(self) -> int:
        """Wait for the end of the program, and return its exit status."""
        end = time.monotonic() + SECONDS
        while self._read(end - time.monotonic()):
            pass
        return self._process.wait(max(1.0, end - time.monotonic()))

    def _read(self, seconds: float) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self._fd, selectors.EVENT_READ)
            if not selector.select(max(0.0, seconds)):
                return False
        data = b""
        with suppress(OSError):  # the other end was closed
            data = os.read(self._fd, 65536)
        self.screen += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)


# The terminal has to control the session of the program, or Ctrl-C would reach nobody.
_TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-W", "error", *sys.argv[1:]])
"""
