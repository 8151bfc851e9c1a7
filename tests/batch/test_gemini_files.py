"""Gemini's batches that go by a file: uploaded in pieces, and read out of the file of results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mellea.backends.gemini import batches
from mellea.batch import desk
from mellea.errors import WireError
from tests.batch.batch_server import BatchServer, find_word, serve
from tests.batch.test_batches import Mail, collect, make_backend

pytestmark = pytest.mark.anyio

TEXTS = [f"mail k{number}" for number in range(12)]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchServer]:
    monkeypatch.setattr(desk, "_FIRST_LOOK", 0.02)
    monkeypatch.setattr(desk, "_TICK_SECONDS", 0.01)
    monkeypatch.setattr(desk, "_SETTLE_SECONDS", 0.1)
    monkeypatch.setattr("mellea.batch.attempts._FIRST_PAUSE", 0.01)
    with serve("gemini", BatchServer()) as server:
        yield server


async def test_a_small_batch_goes_in_the_call_itself(server: BatchServer, tmp_path: Path) -> None:
    await collect("gemini", server, TEXTS, tmp_path / "run.db")
    assert [kept.has_file for kept in server.batches] == [False]
    assert not any("upload" in line for line in server.log)


async def test_a_large_batch_goes_by_a_file_in_pieces(
    server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_PIECE_BYTES", 2**18)
    texts = [f"{'long ' * 20_000}mail k{number}" for number in range(220)]  # 22 MB
    rows = await collect("gemini", server, texts, tmp_path / "run.db")
    assert [row.value for row in rows] == [Mail(f"k{number}", 3) for number in range(220)]
    assert [kept.has_file for kept in server.batches] == [True]
    assert len([line for line in server.log if line.startswith("POST /upload/")]) > 80
    assert server.live == 0
    again = await collect("gemini", server, texts, tmp_path / "run.db")
    assert all(row.cached for row in again)


async def test_failures_stand_in_the_file_of_results(
    server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_MOST_INLINE", 100)
    seen: set[str] = set()

    def fate(prompt: str) -> str:
        word = find_word(prompt)
        is_first = word not in seen
        seen.add(word)
        return word if is_first and word in ("busy", "expired", "missing") else "refused" if word == "bad" else "fine"

    server.fate = fate
    texts = ["mail busy", "mail expired", "mail missing", "mail bad", "mail a"]
    rows = await collect("gemini", server, texts, tmp_path / "run.db")
    assert [row.value and row.value.kind for row in rows] == ["busy", "expired", "missing", None, "a"]
    assert "it was refused" in str(rows[3].error)
    assert all(kept.has_file for kept in server.batches)


async def test_a_lost_answer_to_a_creation_by_file_makes_no_second_batch(
    server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_MOST_INLINE", 100)
    server.loses = 1
    rows = await collect("gemini", server, TEXTS, tmp_path / "run.db")
    assert {row.error for row in rows} == {None}
    assert len(server.batches) == 1


async def test_a_file_is_not_sent_to_another_server(
    server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_MOST_INLINE", 100)
    whole = server.address
    server.address = "http://127.0.0.2:9"
    backend = make_backend("gemini", whole)
    codec = backend.batches
    assert codec is not None
    with pytest.raises(WireError, match="server other than its own"):
        await desk.drive(backend, codec.create("i", [codec.encode_item("i-0", {"contents": []}) * 2]), retries=0)


async def test_the_official_client_reads_and_makes_the_same_batches(
    server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That client understands what the imitation answers, and sends what ours sends."""
    genai: Any = pytest.importorskip("google.genai", reason="the group peers isn't installed")
    monkeypatch.setattr(batches, "_MOST_INLINE", 100)
    await collect("gemini", server, TEXTS, tmp_path / "run.db")
    ours = {name: data for name, data in server.files.items() if name.startswith("files/in")}
    client = genai.Client(api_key="k", http_options={"base_url": server.address, "api_version": "v1beta"})
    [lines] = ours.values()
    path = tmp_path / "requests.jsonl"
    path.write_bytes(lines)
    file = client.files.upload(file=path, config={"mime_type": "application/jsonl", "display_name": "theirs"})
    assert server.files[file.name] == lines
    made = client.batches.create(model="gemini-2.5-flash", src=file.name, config={"display_name": "theirs"})
    assert server.batches[-1].requests == server.batches[0].requests
    for kept, name in ((server.batches[0], "batches/b0"), (server.batches[1], made.name)):
        kept.looks = 1
        job = client.batches.get(name=name)
        assert job.state.name == "JOB_STATE_SUCCEEDED"
        results = client.files.download(file=job.dest.file_name)
        assert {json.loads(line)["key"] for line in results.splitlines()} == {key for key, _ in kept.requests}
    client.close()
