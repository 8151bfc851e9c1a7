"""Kills: a map over many rows is killed (SIGKILL) at random moments, and run again, until it has come to its end.

    uv run python -m benchmarks.campaigns.map_kills                     # 20,000 rows, 20 kills: some minutes
    uv run python -m benchmarks.campaigns.map_kills 2000 --kills 4

The model is a server on loopback that counts (`model_server.py`). Checked:

- at each kill, the requests that the server has answered and the journal doesn't hold are at most those in flight;
- in all, the server was asked at most once for each row, and once more for each request in flight at a kill;
- the outcomes are those of a run that nobody disturbs, which asks once for each row.

The runs take turns in plain code, on asyncio and on trio.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

import mellea
from benchmarks.campaigns.model_server import count, serve
from mellea.backends.openai import OpenAIBackend
from mellea.batch import Journal, Row

PLACES = 32
WAYS = ("sync", "asyncio", "trio")


@dataclass
class Found:
    """What the model says of a row."""

    word: str
    length: int


def run(address: str, journal: str, out: str, rows: int, way: str) -> None:
    """Map all rows, and write the outcomes."""
    session = mellea.MelleaSession(OpenAIBackend("m", base_url=f"{address}/v1", api_key="-", retries=0))

    @mellea.generative(session=session)
    def measure(text: str) -> Found:
        """Say how long the word is."""

    source = (f"the word w{number:05}" for number in range(rows))
    found: list[Row[Any]] = []
    if way == "sync":
        found = list(mellea.map(measure, source, journal=journal, concurrency=PLACES))
    else:

        async def collect() -> None:
            async for row in mellea.amap(measure, source, journal=journal, concurrency=PLACES):
                found.append(row)

        asyncio.run(collect()) if way == "asyncio" else trio.run(collect)
    lines = [f"{row.index} {row.id} {row.value} {row.error!r} {row.usage}" for row in found]
    Path(out).write_text("\n".join(lines))


def start(address: str, folder: Path, name: str, rows: int, way: str) -> subprocess.Popen[bytes]:
    arguments = [address, str(folder / f"{name}.db"), str(folder / f"{name}.txt"), str(rows), way]
    return subprocess.Popen([sys.executable, "-m", "benchmarks.campaigns.map_kills", "--run", *arguments])


def count_answers(path: Path) -> int:
    return sum(answers for answers, _ in Journal(path).count().values()) if path.exists() else 0


def make_undisturbed(folder: Path, rows: int) -> None:
    with serve() as address:
        if start(address, folder, "undisturbed", rows, "sync").wait() != 0:
            raise AssertionError("the undisturbed run failed")
        if (asked := count(address)["received"]) != rows:
            raise AssertionError(f"{asked} requests for {rows} rows")


def kill_at(process: subprocess.Popen[bytes], address: str, target: int, delay: float) -> bool:
    """Kill a run when the server has had so many requests, and a little later; false if the run has ended before."""
    while count(address)["received"] < target:
        if process.poll() is not None:
            return False
        time.sleep(0.002)
    time.sleep(delay)
    if process.poll() is not None:
        return False
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.2)  # the server reads what was sent before
    return True


def main(rows: int, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    targets = sorted(chance.sample(range(1, rows), kills))
    with tempfile.TemporaryDirectory() as name, serve() as address:
        folder = Path(name)
        make_undisturbed(folder, rows)
        lost: list[int] = []
        for number, target in enumerate(targets):
            process = start(address, folder, "killed", rows, WAYS[number % len(WAYS)])
            begun = count(address)["received"] + 1
            if not kill_at(process, address, max(target, begun), chance.uniform(0, 0.02)):
                break
            lost.append(count(address)["received"] - sum(lost) - count_answers(folder / "killed.db"))
        if start(address, folder, "killed", rows, "sync").wait() != 0:
            raise AssertionError("the last run failed")
        beyond = count(address)["received"] - rows
        is_same = (folder / "killed.txt").read_text() == (folder / "undisturbed.txt").read_text()
    print(f"{rows:,} rows\n{len(lost):,} kills\n{beyond:,} requests beyond\n{max(lost):,} most lost by a kill")
    if not is_same:
        raise AssertionError("the outcomes are not those of the undisturbed run")
    if max(lost) > PLACES or beyond > sum(lost):
        raise AssertionError(f"more was lost than the {PLACES} in flight: {json.dumps(lost)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int, nargs="?", default=20_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--run", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        run(*given.run[:3], int(given.run[3]), given.run[4])
    else:
        main(given.rows, given.kills, given.seed)
