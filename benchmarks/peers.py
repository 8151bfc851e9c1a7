"""Other clients against the same floor, for comparison: each in a process of its own, in turns with the floor.

`MELLEA_PEERS` names the Python that has them, since one of them is a package of our own name; OpenAI's client may
also be in our own environment. What isn't installed is skipped, and says so.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.pairs import Measure, Samples, Setting, Skipped, interleave, on_loop
from benchmarks.peer_client import PEERS
from benchmarks.server import text
from benchmarks.wire import Bench

__all__ = ["PEERS", "first_text", "many_streams", "one_stream", "plain_request", "running_script"]

SCRIPT = Path(__file__).with_name("peer_client.py")


def one_stream(peer: str) -> Callable[[Setting], Samples]:
    """W1 of a peer: microseconds for each chunk."""
    return lambda setting: _streams(setting, peer, setting.size(2000, 200), 1)


def many_streams(peer: str) -> Callable[[Setting], Samples]:
    """W3 of a peer: microseconds for each chunk."""
    return lambda setting: _streams(setting, peer, setting.size(200, 50), setting.size(200, 20))


def first_text(peer: str) -> Callable[[Setting], Samples]:
    """W4 of a peer: milliseconds to the first text on a warm client."""

    def measure(setting: Setting) -> Samples:
        calls = setting.size(20, 5)
        with asyncio.Runner() as runner:
            bench = Bench(setting, runner, chunks=3, spacing=2)

            async def floor() -> float:
                return sum([await bench.floor_first() for _ in range(calls)])

            return _compare(runner, bench, on_loop(runner, floor), peer, "first", calls=calls).times(1000 / calls)

    return measure


def plain_request(peer: str) -> Callable[[Setting], Samples]:
    """W5 of a peer: milliseconds for a request that is answered by one plain JSON response."""

    def measure(setting: Setting) -> Samples:
        calls = setting.size(20, 5)
        with asyncio.Runner() as runner:
            bench = Bench(setting, runner, chunks=20)

            async def floor() -> float:
                return sum([await bench.cpu(bench.floor_plain) for _ in range(calls)])

            return _compare(runner, bench, on_loop(runner, floor), peer, "plain", calls=calls).times(1000 / calls)

    return measure


def _streams(setting: Setting, peer: str, chunks: int, streams: int) -> Samples:
    with asyncio.Runner() as runner:
        bench = Bench(setting, runner, chunks=chunks)
        floor = on_loop(runner, lambda: bench.cpu(bench.floor, streams))
        return _compare(runner, bench, floor, peer, "stream", streams=streams).times(1e6 / chunks / streams)


def _compare(
    runner: asyncio.Runner, bench: Bench, floor: Measure, peer: str, what: str, *, streams: int = 1, calls: int = 1
) -> Samples:
    try:
        with _running(peer, bench, what, streams, calls) as measure:
            return interleave(floor, measure, min(bench.pairs, 7))
    finally:
        runner.run(bench.close())


@contextmanager
def _running(peer: str, bench: Bench, what: str, streams: int, calls: int) -> Iterator[Measure]:
    """Run a peer in its own process, and give what has it measure once."""
    wanted = 0 if what == "first" else len(text(bench.chunks))
    with running_script(SCRIPT, peer, bench.url, str(streams), what, str(calls)) as ask:

        def measure() -> float:
            seconds, characters = ask()
            assert int(characters) == wanted, f"the text of {peer} has {characters} characters, not {wanted}"
            return float(seconds)

        yield measure


@contextmanager
def running_script(script: Path, *arguments: str) -> Iterator[Callable[[], list[str]]]:
    """Run a script that measures a peer in its own process, and give what has it measure once and returns its words."""
    python = os.environ.get("MELLEA_PEERS") or sys.executable
    command = [python, "-P", str(script), *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=script.parent)
    assert process.stdin is not None and process.stdout is not None

    def ask() -> list[str]:
        print("go", file=process.stdin, flush=True)
        return _line(process).split()

    try:
        if (said := _line(process)) != "ready":
            raise Skipped(f"{said}; MELLEA_PEERS=/path/to/python names one that has it")
        yield ask
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        raise Skipped(f"its process ended in {process.wait(30)}; the error stands above")
    return line
