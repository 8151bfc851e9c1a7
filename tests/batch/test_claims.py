"""Several processes with one journal: each row is in one batch, whoever of them makes it, dies or is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from mellea.batch import Row
from tests.batch.batch_server import BatchServer
from tests.batch.test_batches import Mail, collect

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.usefixtures("quick"),
    pytest.mark.one_loop,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no kill"),
]

PROGRAM = """
import os, signal, sys, time
from mellea.batch import desk
import mellea
from tests.batch.test_batches import make_classify

provider, address, path, way, first, last = sys.argv[1:]
desk._FIRST_LOOK = desk._TICK_SECONDS = 0.02
desk._SETTLE_SECONDS = 0.1
drive = desk.drive

async def drive_in_a_way(backend, calls, **named):
    if calls.__name__ == "create":
        print("creates", flush=True)
        if way == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if way == "stops":
            os.kill(os.getpid(), signal.SIGSTOP)
    return await drive(backend, calls, **named)

desk.drive = drive_in_a_way
classify = make_classify(provider, address)
texts = [f"mail k{n}" for n in range(int(first), int(last))]
for row in mellea.map(classify, texts, id=lambda row: row, journal=path, batch=True):
    print(row.value.kind, flush=True)
"""


class Programs:
    """Programs that map rows with one journal."""

    def __init__(self, provider: str, server: BatchServer, path: Path) -> None:
        self._command = [sys.executable, "-c", PROGRAM, provider, server.address, str(path)]
        self._running: list[subprocess.Popen[str]] = []

    def start(self, way: str = "plain", first: int = 0, last: int = 6) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": os.getcwd()}
        process = subprocess.Popen(
            [*self._command, way, str(first), str(last)], stdout=subprocess.PIPE, text=True, env=environment
        )
        self._running.append(process)
        return process

    def end(self) -> None:
        for process in self._running:
            process.kill()
            process.communicate()  # which closes the pipe


@pytest.fixture
def programs(provider: str, server: BatchServer, tmp_path: Path) -> Iterator[Programs]:
    found = Programs(provider, server, tmp_path / "run.db")
    yield found
    found.end()


def read_rows(process: subprocess.Popen[str]) -> list[str]:
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return [line for line in output.split() if line != "creates"]


def list_keys(server: BatchServer) -> list[str]:
    """Return the rows that stand in the server's batches."""
    return sorted(str(request).rpartition("mail k")[2][:1] for kept in server.batches for _, request in kept.requests)


@pytest.mark.sample(1)
def test_of_programs_that_map_the_same_rows_one_makes_the_batch(server: BatchServer, programs: Programs) -> None:
    running = [programs.start(), programs.start(), programs.start("plain", 3, 9)]
    assert [read_rows(each) for each in running[:2]] == [[f"k{n}" for n in range(6)]] * 2
    assert read_rows(running[2]) == [f"k{n}" for n in range(3, 9)]
    assert list_keys(server) == [str(n) for n in range(9)], "each row stands in one batch"
    assert server.live == 0


@pytest.mark.sample(1)
def test_of_programs_that_find_a_batch_that_was_never_made_one_makes_it(
    server: BatchServer, programs: Programs
) -> None:
    dead = programs.start("dies")
    dead.wait(60)
    assert (dead.returncode, server.batches) == (-signal.SIGKILL, [])
    running = [programs.start() for _ in range(3)]
    assert [read_rows(each) for each in running] == [[f"k{n}" for n in range(6)]] * 3
    assert list_keys(server) == [str(n) for n in range(6)]


@pytest.mark.sample(1)
def test_rows_of_a_program_that_dies_before_it_makes_their_batch_go_into_one_of_another(
    server: BatchServer, programs: Programs
) -> None:
    maker = programs.start("stops")
    assert maker.stdout is not None
    assert maker.stdout.readline() == "creates\n"
    others = [programs.start(), programs.start()]
    time.sleep(1.0)  # they find the intent
    assert server.batches == []
    maker.kill()  # and isn't waited for, as by many parents
    assert [read_rows(each) for each in others] == [[f"k{n}" for n in range(6)]] * 2
    assert list_keys(server) == [str(n) for n in range(6)]


@pytest.mark.sample(1)
def test_a_program_that_was_stopped_while_it_made_a_batch_is_not_a_dead_one(
    server: BatchServer, programs: Programs
) -> None:
    maker = programs.start("stops")
    assert maker.stdout is not None
    assert maker.stdout.readline() == "creates\n"
    other = programs.start()
    time.sleep(1.5)  # far longer than the batch of a dead one is waited for
    assert other.poll() is None
    assert server.batches == []
    maker.send_signal(signal.SIGCONT)
    assert read_rows(maker) == read_rows(other) == [f"k{n}" for n in range(6)]
    assert len(server.batches) == 1


async def test_of_maps_in_one_process_one_makes_the_batch(provider: str, server: BatchServer, tmp_path: Path) -> None:
    found: list[list[Row[Mail]]] = []
    texts = [f"mail k{number}" for number in range(6)]

    async def run(texts: list[str]) -> None:
        found.append(await collect(provider, server, texts, tmp_path / "run.db", id=lambda row: row))

    async with anyio.create_task_group() as group:
        group.start_soon(run, texts)
        group.start_soon(run, [*texts[::-1], "mail k6"])
    assert sorted(len(rows) for rows in found) == [6, 7]
    assert all(row.value == Mail(row.id.removeprefix("mail "), 3) for rows in found for row in rows)
    assert list_keys(server) == [str(n) for n in range(7)]


async def test_the_same_row_twice_gets_two_answers(provider: str, server: BatchServer, tmp_path: Path) -> None:
    async def run() -> None:
        texts = ["mail k0", "mail k0", "mail k1"]
        rows = await collect(provider, server, texts, tmp_path / "run.db", id=lambda row: row)
        assert [row.value and row.value.kind for row in rows] == ["k0", "k0", "k1"]

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        group.start_soon(run)
    await run()
