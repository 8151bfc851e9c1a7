"""Side by side: the same rows by `mellea.map`, by hand, by Pydantic AI, instructor and Ray Data, killed once each.

    uv run --group peers --extra ray --with instructor python -m benchmarks.campaigns.side_by_side   # some minutes
    uv run python -m benchmarks.campaigns.side_by_side 2000 --ways mellea hand

instructor wants older clients than the lock file has, so it comes for this run alone (`--with`).

The model is a server on loopback that counts (`model_server.py`) and takes 20 ms. Each way asks for a typed answer for
each row, 64 at a time. First it runs to its end: rows a second from the first call on, seconds until that, and the
memory that its processes hold at most. Then it runs again, is killed (SIGKILL, with all its processes) when half of
the rows are asked for, and is started once more: how many calls were made again. What a way offers by itself for that
is used: our journal, and Ray Data's checkpoints. Checked: ours repeats no more than what was in flight.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from benchmarks.campaigns.model_server import count, serve

PLACES = 64
DELAY = 0.02


class Found(BaseModel):
    """What the model says of a row."""

    word: str
    length: int


def make_rows(rows: int) -> list[dict[str, str]]:
    return [{"number": f"T-{number}", "text": f"the word w{number:06}"} for number in range(rows)]


# -- the ways: each does all rows, and returns how many it has --------------------------------------------


def run_mellea(address: str, rows: list[dict[str, str]], folder: Path) -> int:
    import mellea
    from mellea.backends.openai import OpenAIBackend

    session = mellea.MelleaSession(OpenAIBackend("m", base_url=f"{address}/v1", api_key="-"))

    @mellea.generative(session=session)
    def measure(text: str) -> Found:
        """Say how long the word is."""

    texts = [{"number": row["number"], "text": row["text"]} for row in rows]
    mapped = mellea.map(measure, texts, id="number", journal=folder / "run.db", concurrency=PLACES)
    return sum(row.error is None for row in mapped)


async def ask(client: Any, address: str, text: str) -> Found:
    """Ask as a program does that has nothing but an HTTP client: a stream, read to its end."""
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": f"How long is {text}"}]}
    said = ""
    async with client.stream("POST", f"{address}/v1/chat/completions", json=body) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: {") and (choices := json.loads(line[6:])["choices"]):
                said += choices[0]["delta"].get("content") or ""
    return Found.model_validate_json(said)


async def gather(address: str, rows: list[dict[str, str]]) -> list[Found]:
    import httpx

    places = asyncio.Semaphore(PLACES)
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=PLACES), timeout=60) as client:

        async def work(row: dict[str, str]) -> Found:
            async with places:
                return await ask(client, address, row["text"])

        return await asyncio.gather(*map(work, rows))


def run_by_hand(address: str, rows: list[dict[str, str]], folder: Path) -> int:
    return len(asyncio.run(gather(address, rows)))


def run_pydantic_ai(address: str, rows: list[dict[str, str]], folder: Path) -> int:
    from pydantic_ai import Agent, PromptedOutput
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    model = OpenAIChatModel("m", provider=OpenAIProvider(base_url=f"{address}/v1", api_key="-"))
    # As a text in JSON, as ours and the one by hand are; the server makes no tool calls.
    agent = Agent(model, output_type=PromptedOutput(Found))

    async def collect() -> int:
        places = asyncio.Semaphore(PLACES)

        async def work(row: dict[str, str]) -> Found:
            async with places, agent.run_stream(row["text"]) as run:
                return await run.get_output()

        return len(await asyncio.gather(*map(work, rows)))

    return asyncio.run(collect())


def run_instructor(address: str, rows: list[dict[str, str]], folder: Path) -> int:
    import instructor
    from openai import AsyncOpenAI

    client = instructor.from_openai(AsyncOpenAI(base_url=f"{address}/v1", api_key="-"), mode=instructor.Mode.JSON)

    async def collect() -> int:
        places = asyncio.Semaphore(PLACES)

        async def work(row: dict[str, str]) -> Found:
            asked = [{"role": "user", "content": row["text"]}]
            async with places:
                parts = client.create_partial(model="m", messages=asked, response_model=Found)
                return [part async for part in parts][-1]

        return len(await asyncio.gather(*map(work, rows)))

    return asyncio.run(collect())


class Asker:
    """An actor of Ray Data, with as much in flight as the others have."""

    def __init__(self, address: str) -> None:
        self.address = address

    async def __call__(self, batch: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        rows = [{"text": str(text)} for text in batch["text"]]
        found = await gather(self.address, rows)
        yield {"number": batch["number"], "value": [each.model_dump_json() for each in found]}


def run_ray(address: str, rows: list[dict[str, str]], folder: Path) -> int:
    import ray
    from ray.data.checkpoint import CheckpointConfig

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.checkpoint_config = CheckpointConfig(id_column="number", checkpoint_path=str(folder / "checkpoint"))
    dataset = ray.data.from_items(rows, override_num_blocks=max(1, len(rows) // 500))
    compute = ray.data.ActorPoolStrategy(size=1, max_concurrent_calls_per_actor=2)
    done = dataset.map_batches(Asker, fn_constructor_args=[address], batch_size=PLACES // 2, compute=compute)
    done.write_parquet(str(folder / "out"))
    ray.shutdown()
    return len(rows)


WAYS: dict[str, Callable[[str, list[dict[str, str]], Path], int]] = {
    "mellea": run_mellea,
    "hand": run_by_hand,
    "pydantic_ai": run_pydantic_ai,
    "instructor": run_instructor,
    "ray": run_ray,
}

# -- the runs ---------------------------------------------------------------------------------------------


def find_family(pid: int) -> list[int]:
    """Return the processes of a session that `start_new_session` has begun, those that it has started included."""
    found = []
    for path in Path("/proc").iterdir():
        try:
            if path.name.isdigit() and int((path / "stat").read_text().rpartition(")")[2].split()[3]) == pid:
                found.append(int(path.name))
        except OSError:
            continue
    return found


def memory(pids: list[int]) -> float:
    """Return the megabytes that processes hold together, shared pages counted once for each."""
    total = 0
    for pid in pids:
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except OSError:
            continue
    return total * resource.getpagesize() / 2**20


@contextmanager
def start(way: str, address: str, rows: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a run in a session of its own; whatever it has started ends with the block."""
    command = [sys.executable, "-m", "benchmarks.campaigns.side_by_side", "--run", way, address, str(rows), str(folder)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.getcwd(),
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    }
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        for pid in find_family(process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


class Watch:
    """What a run holds at most, and when it made its first call."""

    def __init__(self, process: subprocess.Popen[bytes], address: str) -> None:
        self.most, self.first = 0.0, 0.0
        self._began = time.monotonic()
        thread = threading.Thread(target=self._watch, args=(process, address), daemon=True)
        thread.start()

    def _watch(self, process: subprocess.Popen[bytes], address: str) -> None:
        while process.poll() is None:
            self.most = max(self.most, memory(find_family(process.pid)))
            if not self.first and count(address)["received"]:
                self.first = time.monotonic() - self._began
            time.sleep(0.1)


def run_whole(way: str, rows: int) -> tuple[float, float, float]:
    """Run a way to its end; returns rows a second, seconds to the first call, megabytes."""
    with tempfile.TemporaryDirectory() as name, serve("--delay", str(DELAY)) as address:
        began = time.monotonic()
        with start(way, address, rows, Path(name)) as process:
            watch = Watch(process, address)
            check(process, Path(name), way)
            took = time.monotonic() - began
        return rows / (took - watch.first), watch.first, watch.most


def run_killed(way: str, rows: int) -> int:
    """Run a way, kill it in the middle, run it again; returns how many calls there were beyond the rows."""
    with tempfile.TemporaryDirectory() as name, serve("--delay", str(DELAY)) as address:
        with start(way, address, rows, Path(name)) as process:
            while count(address)["received"] < rows // 2:
                if process.poll() is not None:
                    raise AssertionError(f"{way} ended too early:\n{(Path(name) / 'log').read_text()[-3000:]}")
                time.sleep(0.01)
        time.sleep(0.5)  # the server reads what was sent before
        with start(way, address, rows, Path(name)) as process:
            check(process, Path(name), way)
        return count(address)["received"] - rows


def check(process: subprocess.Popen[bytes], folder: Path, way: str) -> None:
    if process.wait() != 0:
        raise AssertionError(f"{way} failed:\n{(folder / 'log').read_text()[-3000:]}")


def main(rows: int, ways: list[str]) -> None:
    print(f"{rows:,} rows, {PLACES} at a time, a model that takes {DELAY * 1000:g} ms\n")
    print("| program | rows per second | first call after | memory | calls repeated after the kill |")
    print("|---|--:|--:|--:|--:|")
    for way in ways:
        rate, first, most = run_whole(way, rows)
        again = run_killed(way, rows)
        print(f"| {way} | {rate:,.0f} | {first:.1f} s | {most:,.0f} MB | {again:,} |", flush=True)
        if way == "mellea" and again > PLACES:
            raise AssertionError("ours made more calls again than were in flight")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int, nargs="?", default=10_000)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        way, address, number, folder = given.run
        done = WAYS[way](address, make_rows(int(number)), Path(folder))
        if done != int(number):
            raise SystemExit(f"{done} of {number} rows")
    else:
        main(given.rows, given.ways)
