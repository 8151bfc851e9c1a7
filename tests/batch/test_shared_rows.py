"""Several maps with one journal: each row is asked for once, whichever of them asks, dies or is stopped."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from mellea.batch import Budget, BudgetExceededError, Journal, Row, amap
from mellea.batch import claims as claims_module
from mellea.batch import map as map_rows
from mellea.batch.claims import Claims
from tests.waiting import until, until_here

pytestmark = pytest.mark.anyio

PROGRAM = """
import sys, time
import mellea

path, calls, first, last, pause = sys.argv[1:]

def shout(text: str) -> str:
    with open(calls, "a") as file:
        file.write(text + "\\n")
    time.sleep(float(pause))
    return text.upper()

texts = [f"k{n}" for n in range(int(first), int(last))]
for row in mellea.map(shout, texts, journal=path, version="1", concurrency=4, id=lambda row: row):
    print(row.value, flush=True)
"""


def shout_plainly(text: str) -> str:
    """Shout."""
    return text.upper()


class Programs:
    """Programs that map rows with one journal, and the file in which each call is noted."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: list[subprocess.Popen[str]] = []

    def start(self, first: int, last: int, pause: float = 0.02) -> subprocess.Popen[str]:
        arguments = [self._directory / "run.db", self._directory / "calls", first, last, pause]
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._running.append(process)
        return process

    def list_calls(self) -> list[str]:
        calls = self._directory / "calls"
        return calls.read_text().split() if calls.exists() else []

    def end(self) -> None:
        for process in self._running:
            process.kill()
            process.communicate()


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    found = Programs(tmp_path)
    yield found
    found.end()


def read_rows(process: subprocess.Popen[str]) -> list[str]:
    output, errors = process.communicate(timeout=90)
    assert process.returncode == 0, errors
    return output.split()


def name_rows(first: int, last: int) -> list[str]:
    return [f"k{n}" for n in range(first, last)]


def test_of_programs_that_map_the_same_rows_one_asks_for_each(programs: Programs) -> None:
    running = [programs.start(0, 100), programs.start(0, 100), programs.start(50, 150)]
    for process, (first, last) in zip(running, [(0, 100), (0, 100), (50, 150)], strict=True):
        assert read_rows(process) == [f"K{n}" for n in range(first, last)]
    assert sorted(programs.list_calls()) == sorted(name_rows(0, 150))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no kill")
def test_the_rows_of_a_killed_program_are_free_at_once(programs: Programs) -> None:
    dead = programs.start(0, 4, 600.0)
    until_here(lambda: len(programs.list_calls()) == 4)
    heir = programs.start(0, 4, 0.0)
    assert heir.stderr is not None
    assert "by another map" in heir.stderr.readline()
    assert len(programs.list_calls()) == 4
    began = time.monotonic()
    dead.kill()  # and isn't waited for, as by many parents
    assert read_rows(heir) == ["K0", "K1", "K2", "K3"]
    assert time.monotonic() - began < 20
    assert len(programs.list_calls()) == 8


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes can't be paused here")
def test_a_program_that_is_paused_holds_up_others_for_a_while_only(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(claims_module, "_PATIENCE_SECONDS", 0.3)
    first = programs.start(0, 4, pause=60)
    until_here(lambda: len(programs.list_calls()) == 4)
    first.send_signal(signal.SIGSTOP)
    rows = map_rows(shout_plainly, name_rows(10, 20), journal=tmp_path / "run.db")
    assert [row.value for row in rows] == [name.upper() for name in name_rows(10, 20)]
    assert [log.message.count("does not react") for log in caplog.records] == [1]


def test_programs_with_rows_of_their_own_work_at_the_same_time(programs: Programs) -> None:
    one = programs.start(0, 4, 600.0)
    until_here(lambda: len(programs.list_calls()) == 4)
    assert read_rows(programs.start(4, 8, 0.0)) == ["K4", "K5", "K6", "K7"]
    assert one.poll() is None


async def test_maps_in_one_loop_share_the_rows(tmp_path: Path) -> None:
    calls: list[str] = []
    found: list[list[Row[str]]] = []

    async def shout(text: str) -> str:
        calls.append(text)
        await anyio.sleep(0.02)
        return text.upper()

    async def run(texts: list[str]) -> None:
        rows = amap(shout, texts, journal=tmp_path / "run.db", id=lambda row: row)
        found.append([row async for row in rows])

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(run, name_rows(0, 40))
            group.start_soon(run, name_rows(0, 40)[::-1])
            group.start_soon(run, name_rows(20, 60))
    assert sorted(calls) == sorted(name_rows(0, 60))
    assert sorted(len(rows) for rows in found) == [40, 40, 40]
    assert all(row.value == str(row.id).upper() for rows in found for row in rows)


def test_maps_in_threads_share_the_rows(tmp_path: Path) -> None:
    calls: list[str] = []
    found: list[list[str | None]] = []

    def shout(text: str) -> str:
        calls.append(text)
        time.sleep(0.01)
        return text.upper()

    def run() -> None:
        rows = map_rows(shout, name_rows(0, 50), journal=tmp_path / "run.db", concurrency=3)
        found.append([row.value for row in rows])

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [[f"K{n}" for n in range(50)]] * 4
    assert sorted(calls) == sorted(name_rows(0, 50))


async def test_a_row_that_fails_is_asked_again_by_who_waited(tmp_path: Path) -> None:
    calls: list[str] = []

    async def shout(text: str) -> str:
        calls.append(text)
        await anyio.sleep(0.1)
        if len(calls) == 1:
            raise ValueError("not now")
        return text.upper()

    found: list[object] = []

    async def run() -> None:
        found.extend([row.value or type(row.error) async for row in amap(shout, ["a"], journal=tmp_path / "run.db")])

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            group.start_soon(run)
    assert found == [ValueError, "A"]


async def test_a_map_that_waits_can_be_left_and_one_that_is_left_frees_its_rows(tmp_path: Path) -> None:
    calls: list[str] = []
    is_slow = True

    async def shout(text: str) -> str:
        calls.append(text)
        if is_slow:
            await anyio.sleep_forever()
        return text.upper()

    async def run() -> list[str | None]:
        return [row.value async for row in amap(shout, ["a", "b"], journal=tmp_path / "run.db")]

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            first = anyio.CancelScope()

            async def begin() -> None:
                with first:
                    await run()

            group.start_soon(begin)
            await until(lambda: len(calls) == 2)
            with anyio.move_on_after(0.2) as scope:
                await run()
            assert scope.cancelled_caught
            assert len(calls) == 2
            is_slow = False
            first.cancel()
            assert await run() == ["A", "B"]


async def test_a_map_whose_time_is_up_waits_no_longer(tmp_path: Path) -> None:
    async def shout(text: str) -> str:
        await anyio.sleep_forever()
        return text

    async def run(budget: Budget | None) -> None:
        async for _ in amap(shout, ["a"], journal=tmp_path / "run.db", budget=budget):
            pass

    claims = Claims(str(tmp_path / "run.db"))
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(run, None)
            await until(lambda: not claims.is_alone)
            with pytest.raises(BudgetExceededError):
                await run(Budget(seconds=0.3))
            group.cancel_scope.cancel()
    claims.close()


def test_nothing_is_left_beside_the_journal(tmp_path: Path) -> None:
    for _ in range(2):
        assert [row.value for row in map_rows(shout_plainly, ["a"], journal=tmp_path / "run.db")] == ["A"]
    until_here(lambda: [each.name for each in tmp_path.iterdir() if "claims" in each.name] == [])


def test_a_map_without_company_is_not_warned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "mellea"):
        list(map_rows(shout_plainly, ["a", "a"], journal=tmp_path / "run.db", id=lambda row: row))
    assert caplog.records == []


def test_a_claim_is_held_until_it_is_released_as_often_as_it_was_taken(tmp_path: Path) -> None:
    one, other = Claims(str(tmp_path / "run.db")), Claims(str(tmp_path / "run.db"))
    assert one.take(b"k" * 16) and one.take(b"k" * 16)
    assert not other.take(b"k" * 16)
    assert other.take(b"l" * 16)
    one.release(b"k" * 16)
    assert other.is_taken(b"k" * 16)
    one.release(b"k" * 16)
    assert not other.is_taken(b"k" * 16)
    assert one.is_taken(b"l" * 16)
    other.close()
    assert not one.is_taken(b"l" * 16)
    one.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_has_none_of_the_claims(tmp_path: Path) -> None:
    claims = Claims(str(tmp_path / "run.db"))
    claims.take(b"k" * 16)
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()

    def look() -> None:
        mine = Claims(str(tmp_path / "run.db"))
        while mine.is_waiting and not mine.take(b"m" * 16):
            time.sleep(0.01)
        results.put((mine.take(b"k" * 16), mine.take(b"l" * 16)))
        mine.close()

    child = context.Process(target=look)
    child.start()
    while child.is_alive():
        claims.share_if_asked()
        child.join(0.01)
    assert results.get() == (False, True)
    assert claims.is_taken(b"k" * 16)
    claims.close()


def test_a_disk_without_locks_is_said_and_maps_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> int:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("mellea.batch.claims._open", fail)
    assert [row.value for row in map_rows(shout_plainly, ["a"], journal=tmp_path / "run.db")] == ["A"]
    assert "No locks available" in caplog.text
    assert Journal(tmp_path / "run.db").count() == {f"{__name__}.shout_plainly": (1, 0)}
