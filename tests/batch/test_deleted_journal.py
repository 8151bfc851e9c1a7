"""A journal whose file is deleted or replaced while a map uses it: said once, and no answer is lost."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from mellea.batch import Journal, amap
from mellea.errors import StateError

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="an open file can't be deleted there"),
]


def delete(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def delete_only_the_file(path: Path) -> None:
    path.unlink()


def move(path: Path) -> None:
    path.rename(path.with_name("elsewhere.db"))


async def run(path: Path, count: int, interfere: object = None) -> list[str]:
    """Map some rows; after half of them something happens to the file."""
    calls: list[str] = []

    async def shout(text: str) -> str:
        calls.append(text)
        await anyio.sleep(0.001)
        return text.upper()

    done = 0
    async for row in amap(shout, [f"k{n}" for n in range(count)], journal=path, concurrency=2):
        assert row.value == str(f"k{row.index}").upper()
        done += 1
        if done == count // 2 and callable(interfere):
            interfere(path)
    return calls


@pytest.mark.parametrize("interfere", [delete, delete_only_the_file, move])
async def test_all_answers_are_in_the_new_file(
    tmp_path: Path, interfere: object, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "run.db"
    with caplog.at_level(logging.WARNING, "mellea"):
        assert len(await run(path, 40)) == 40  # of an earlier run
        assert len(await run(path, 400, interfere)) == 360
    assert [f"{str(path)!r} was deleted or replaced" in each.getMessage() for each in caplog.records].count(True) == 1
    # Another process sees them all, and so does the next run.
    command = [sys.executable, "-m", "mellea", "journal", "show", str(path)]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "400" in shown.stdout, shown.stdout + shown.stderr
    assert await run(path, 400) == []
    assert len(list(Journal(path).answers())) == 400


async def test_maps_that_share_it_lose_nothing_either(tmp_path: Path) -> None:
    path = tmp_path / "run.db"

    async def shout(text: str) -> str:
        await anyio.sleep(0.002)
        return text.upper()

    async def use(first: int, last: int, deletes: bool) -> None:
        done = 0
        async for _ in amap(shout, [f"k{n}" for n in range(first, last)], journal=path, concurrency=2, id=str):
            done += 1
            if done == 50 and deletes:
                delete(path)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(use, 0, 200, True)
            group.start_soon(use, 100, 300, False)
            group.start_soon(use, 300, 500, False)
    assert len({each["id"] for each in Journal(path).answers()}) == 500


async def test_another_journal_in_its_place_ends_the_map_and_is_left_alone(tmp_path: Path) -> None:
    path, other = tmp_path / "run.db", tmp_path / "other.db"
    Journal(other).job("something else")

    def replace(path: Path) -> None:
        delete(path)
        os.replace(other, path)

    with pytest.raises(StateError, match="was replaced by another one while it was in use; start again"):
        await run(path, 400, replace)
    assert [name for _, name in Journal(path).list_jobs()] == ["something else"]
