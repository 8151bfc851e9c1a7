"""Providers' batches: made once, found again after a crash, and what becomes of requests that weren't answered."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

import mellea
from mellea.backends.anthropic import AnthropicBackend
from mellea.backends.gemini import GeminiBackend
from mellea.backends.http import HttpBackend
from mellea.backends.http.batches import BatchStatus
from mellea.backends.openai import OpenAIBackend
from mellea.batch import Journal, Row, acancel_batches, amap, desk
from mellea.core import Request, Requirement
from mellea.errors import BadRequestError, UnsupportedError, UsageError
from mellea.testing import ScriptedBackend
from mellea.traces import Observer
from tests.batch.batch_server import BatchServer, Kept, find_word, serve

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick"), pytest.mark.one_loop]


@dataclass
class Mail:
    kind: str
    urgency: int


def make_backend(provider: str, address: str) -> HttpBackend:
    if provider == "openai":
        return OpenAIBackend("gpt-5-mini", service="openai", base_url=f"{address}/v1", api_key="k", retries=0)
    if provider == "anthropic":
        return AnthropicBackend("claude-sonnet-4-5", base_url=address, api_key="k", retries=0)
    return GeminiBackend("gemini-2.5-flash", base_url=f"{address}/v1beta", api_key="k", retries=0)


def make_classify(provider: str, address: str) -> Any:
    session = mellea.MelleaSession(make_backend(provider, address))

    @mellea.generative(session=session)
    def classify(text: str) -> Mail:
        """Classify a mail."""

    return classify


async def collect(provider: str, server: BatchServer, texts: list[str], path: Path, **options: Any) -> list[Row[Any]]:
    classify = make_classify(provider, server.address)
    with anyio.fail_after(30):
        return [row async for row in amap(classify, texts, journal=path, batch=True, **options)]


async def test_rows_go_in_one_batch_and_cost_half(provider: str, server: BatchServer, tmp_path: Path) -> None:
    rows = await collect(provider, server, [f"mail k{number}" for number in range(30)], tmp_path / "run.db")
    assert [row.value for row in rows] == [Mail(f"k{number}", 3) for number in range(30)]
    assert len(server.batches) == 1
    assert server.live == 0
    live = make_backend(provider, server.address)
    whole = mellea.prices.compute_cost(rows[0].usage, live.name, live.model_id)
    assert rows[0].cost is not None and whole is not None
    assert rows[0].cost == pytest.approx(whole / 2)
    again = await collect(provider, server, [f"mail k{number}" for number in range(30)], tmp_path / "run.db")
    assert all(row.cached for row in again)
    assert len(server.batches) == 1


async def test_requests_of_a_batch_pass_the_hooks_and_are_spans(
    provider: str, server: BatchServer, tmp_path: Path
) -> None:
    class Redact(Observer):
        def before_request(self, request: Request) -> Request:
            return request.change_texts(lambda text: text.replace("ada@example.org", "[email]"))

    texts = [f"mail k{number} to ada@example.org" for number in range(3)]
    with mellea.traces.start("batch") as t, mellea.observe(Redact()):
        rows = await collect(provider, server, texts, tmp_path / "run.db")
    assert [row.value for row in rows] == [Mail(f"k{number}", 3) for number in range(3)]
    # On a busy machine they may come in more than one batch.
    sent = str([batch.requests for batch in server.batches])
    assert "ada@example.org" not in sent
    assert sent.count("[email]") == 3
    requests = [span for span in t.spans if span.is_request]
    assert [span.status for span in requests] == ["ok"] * 3
    assert t.cost == pytest.approx(sum(row.cost or 0 for row in rows)), "half the price here as well"


async def test_schemas_and_tools_stand_in_the_batch(provider: str, server: BatchServer, tmp_path: Path) -> None:
    def look(place: str) -> str:
        """Look."""
        return place

    session = mellea.MelleaSession(make_backend(provider, server.address))
    texts = [{"description": "mail a", "tools": [look]}]
    rows = [row async for row in amap(session.instruct, texts, journal=tmp_path / "run.db", batch=True)]
    assert rows[0].error is None
    [(_, request)] = server.batches[0].requests
    assert "look" in str(request["tools"])
    await collect(provider, server, ["mail a"], tmp_path / "run.db")
    [(_, request)] = server.batches[1].requests
    assert "urgency" in str(request), "the schema"


async def test_requests_that_expired_or_failed_go_into_the_next_batch(
    provider: str, server: BatchServer, tmp_path: Path
) -> None:
    seen: dict[str, int] = {}

    def fate(prompt: str) -> str:
        word = find_word(prompt)
        seen[word] = seen.get(word, 0) + 1
        return word if seen[word] == 1 and word in ("expired", "busy", "missing") else "fine"

    server.fate = fate
    rows = await collect(provider, server, ["mail expired", "mail busy", "mail missing", "mail a"], tmp_path / "run.db")
    assert [row.value and row.value.kind for row in rows] == ["expired", "busy", "missing", "a"]
    assert len(server.batches) >= 2
    assert len(server.batches[0].requests) == 4
    assert sum(len(kept.requests) for kept in server.batches) == 7


async def test_a_refused_request_is_a_failed_row(provider: str, server: BatchServer, tmp_path: Path) -> None:
    server.fate = lambda prompt: "refused" if "bad" in prompt else "fine"
    rows = await collect(provider, server, ["mail a", "mail bad"], tmp_path / "run.db")
    assert rows[0].value == Mail("a", 3)
    assert isinstance(rows[1].error, BadRequestError)
    assert "refused" in str(rows[1].error)


async def test_an_answer_to_a_creation_that_was_lost_makes_no_second_batch(
    provider: str, server: BatchServer, tmp_path: Path
) -> None:
    server.loses = 1
    rows = await collect(provider, server, [f"mail k{number}" for number in range(5)], tmp_path / "run.db")
    assert [row.error for row in rows] == [None] * 5
    assert len(server.batches) == 1


async def test_what_a_batch_cannot_do_is_asked_for_live(provider: str, server: BatchServer, tmp_path: Path) -> None:
    classify = make_classify(provider, server.address)
    checked = classify.with_options(requirements=[Requirement("x", validation_fn=lambda _: True)])
    rows = [row async for row in amap(checked, ["mail a"], journal=tmp_path / "run.db", batch=True)]
    assert rows[0].value == Mail("a", 3)
    assert (server.live, server.batches) == (1, [])


async def test_an_answer_of_another_form_is_corrected_live(provider: str, server: BatchServer, tmp_path: Path) -> None:
    answers = iter(["nonsense"])
    import tests.batch.batch_server as module

    whole = module.answer_to
    module.answer_to = lambda prompt: next(answers, None) or whole("mail a")
    try:
        rows = await collect(provider, server, ["mail a"], tmp_path / "run.db")
    finally:
        module.answer_to = whole
    assert rows[0].value == Mail("a", 3)
    assert len(server.batches) == 1
    assert server.live >= 1


async def test_large_batches_are_cut(
    provider: str, server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = make_backend(provider, server.address).batches
    monkeypatch.setattr(type(codec), "most_requests", 10)
    rows = await collect(provider, server, [f"mail k{number}" for number in range(35)], tmp_path / "run.db")
    assert [row.error for row in rows] == [None] * 35
    assert sorted(len(kept.requests) for kept in server.batches) == [5, 10, 10, 10]


async def test_a_batch_can_be_cancelled_and_read_all_the_same(provider: str, server: BatchServer) -> None:
    server.looks = 1000
    backend = make_backend(provider, server.address)
    codec = backend.batches
    assert codec is not None
    item = backend.encode_for_batch("i-0", mellea.core.backend.Request((mellea.Message("user", "mail a"),)))
    assert item is not None
    made: BatchStatus = await desk.drive(backend, codec.create("i", [item]))
    assert not made.is_over
    cancelled = await desk.drive(backend, codec.cancel(made.id))
    assert cancelled.is_over
    [outcome] = await desk.drive(backend, codec.fetch(cancelled))
    assert outcome.key == "i-0"


async def test_a_map_that_is_left_finds_its_batch_again(provider: str, server: BatchServer, tmp_path: Path) -> None:
    server.looks = 10_000
    texts = [f"mail k{number}" for number in range(8)]
    rows = amap(make_classify(provider, server.address), texts, journal=tmp_path / "run.db", batch=True)
    with anyio.move_on_after(20):
        async with anyio.create_task_group() as group:

            async def read() -> None:
                await anext(rows)

            group.start_soon(read)
            while not server.batches or not any("GET" in line for line in server.log):
                await anyio.sleep(0.01)
            group.cancel_scope.cancel()
    await rows.aclose()
    server.looks = 0
    found = await collect(provider, server, [*texts, "mail new"], tmp_path / "run.db")
    assert [row.error for row in found] == [None] * 9
    assert [len(kept.requests) for kept in server.batches] == [8, 1], "the rows that it had aren't in another one"


async def test_a_run_with_fewer_rows_leaves_the_other_answers_of_a_batch_to_the_next(
    provider: str, server: BatchServer, tmp_path: Path
) -> None:
    texts = await leave_a_batch(provider, server, tmp_path / "run.db")
    server.looks = 0
    few = await collect(provider, server, texts[:3], tmp_path / "run.db")
    assert [row.value and row.value.kind for row in few] == ["k0", "k1", "k2"]
    rows = await collect(provider, server, [*texts, "mail k8"], tmp_path / "run.db")
    assert [row.value and row.value.kind for row in rows] == [f"k{number}" for number in range(9)]
    assert [len(kept.requests) for kept in server.batches] == [8, 1]
    assert Journal(tmp_path / "run.db").open_batches() == []


async def leave_a_batch(provider: str, server: BatchServer, path: Path) -> list[str]:
    """Begin a map, and leave it once its batch is made; returns its rows."""
    server.looks = 10_000
    texts = [f"mail k{number}" for number in range(8)]
    rows = amap(make_classify(provider, server.address), texts, journal=path, batch=True)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(anext, rows)
            while not server.batches or not any("GET" in line for line in server.log):
                await anyio.sleep(0.01)
            group.cancel_scope.cancel()
    await rows.aclose()
    return texts


async def test_batches_are_cancelled_by_their_journal_and_what_was_answered_is_fetched(
    provider: str, server: BatchServer, tmp_path: Path
) -> None:
    texts = await leave_a_batch(provider, server, tmp_path / "run.db")
    backend = make_backend(provider, server.address)
    server.batches[0].requests[3:] = []  # three are answered by then
    [cancelled] = await acancel_batches(tmp_path / "run.db", backend=backend)
    assert (cancelled.provider, cancelled.rows) == (backend.name, 8)
    assert cancelled.id in ("b0", "batches/b0")
    assert server.batches[0].is_cancelled
    server.looks = 0
    rows = await collect(provider, server, texts, tmp_path / "run.db")
    assert [row.value and row.value.kind for row in rows] == [f"k{number}" for number in range(8)]
    assert [len(kept.requests) for kept in server.batches] == [3, 5]
    assert await acancel_batches(tmp_path / "run.db", backend=backend) == [], "all of them are done"


async def test_only_the_batches_of_the_given_provider_are_cancelled(
    provider: str, server: BatchServer, tmp_path: Path
) -> None:
    await leave_a_batch(provider, server, tmp_path / "run.db")
    other = make_backend("anthropic" if provider == "openai" else "openai", server.address)
    assert await acancel_batches(tmp_path / "run.db", backend=other) == []
    assert not server.batches[0].is_cancelled


async def test_a_batch_that_the_provider_has_forgotten_is_cancelled_as_unknown(tmp_path: Path) -> None:
    with serve("openai", BatchServer()) as server:
        await leave_a_batch("openai", server, tmp_path / "run.db")
    with serve("gemini", BatchServer()) as server:  # knows no batch of OpenAI's
        [batch] = await acancel_batches(tmp_path / "run.db", backend=make_backend("openai", server.address))
    assert batch.state == "unknown"


async def test_batches_of_no_journal_or_of_no_provider_cannot_be_cancelled(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no journal '.*none\.db'"):
        await acancel_batches(tmp_path / "none.db")
    with pytest.raises(UnsupportedError, match="batches"):
        await acancel_batches(Journal(tmp_path / "run.db"), backend=ScriptedBackend("x"))


PROGRAM = """
import os, signal, sys
from mellea.batch import desk
import mellea
from tests.batch.test_batches import make_classify

provider, address, path, moment = sys.argv[1:]
desk._FIRST_LOOK = desk._TICK_SECONDS = desk._SETTLE_SECONDS = 0.02

async def die(*arguments, **named):
    os.kill(os.getpid(), signal.SIGKILL)

note = desk.BatchDesk._note
if moment == "before the note":
    desk.BatchDesk._note = die
elif moment == "before the creation":
    desk.drive = die
elif moment == "after the note":
    async def note_and_die(self, *arguments):
        await note(self, *arguments)
        await die()
    desk.BatchDesk._note = note_and_die
classify = make_classify(provider, address)
for row in mellea.map(classify, [f"mail k{n}" for n in range(6)], journal=path, batch=True):
    print(row.value.kind)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no kill")
@pytest.mark.parametrize("moment", ["before the creation", "before the note", "after the note"])
@pytest.mark.sample(2)
def test_a_crash_around_the_creation_gives_one_batch_not_two(
    provider: str, server: BatchServer, tmp_path: Path, moment: str
) -> None:
    path = str(tmp_path / "run.db")
    command = [sys.executable, "-c", PROGRAM, provider, server.address, path]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    killed = subprocess.run([*command, moment], capture_output=True, text=True, env=environment, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(server.batches) == (0 if moment == "before the creation" else 1)
    done = subprocess.run([*command, "never"], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [f"k{number}" for number in range(6)]
    assert len(server.batches) == 1


async def lose_the_note(provider: str, server: BatchServer, path: Path) -> list[str]:
    """Leave a batch at the server whose id isn't in the journal, as a program does that is killed in between."""
    texts = await leave_a_batch(provider, server, path)
    with closing(sqlite3.connect(path)) as journal, journal:
        journal.execute("UPDATE batches SET state = 'intended', provider_id = NULL")
    return texts


def keep_foreign(server: BatchServer, name: str, like: int = 0) -> Kept:
    """Have the server keep a batch of another program: as many requests, made at the same time."""
    kept = server.batches[like]
    requests = [(f"{name}-{number}", request) for number, (_, request) in enumerate(kept.requests)]
    return server.keep(None if kept.intent is None else name, requests)


async def test_a_batch_whose_note_was_lost_is_told_from_those_of_others(
    provider: str, server: BatchServer, tmp_path: Path
) -> None:
    server.page = 2
    texts = await lose_the_note(provider, server, tmp_path / "run.db")
    for number in range(5):
        keep_foreign(server, f"theirs{number}")
    keep_foreign(server, "deleted").is_deleted = True
    server.looks = 3  # all of them are under way at first
    for kept in server.batches:
        kept.looks = 0
    rows = await collect(provider, server, texts, tmp_path / "run.db")
    assert [row.value and row.value.kind for row in rows] == [f"k{number}" for number in range(8)]
    assert len(server.batches) == 7
    assert server.live == 0


async def test_a_batch_of_another_program_is_not_taken_for_one_that_was_never_made(
    provider: str, server: BatchServer, tmp_path: Path
) -> None:
    texts = await lose_the_note(provider, server, tmp_path / "run.db")
    theirs = keep_foreign(server, "theirs")
    del server.batches[0]  # ours was never made
    server.looks = 1
    rows = await collect(provider, server, texts, tmp_path / "run.db")
    assert [row.value and row.value.kind for row in rows] == [f"k{number}" for number in range(8)]
    ours = [kept for kept in server.batches if kept is not theirs]
    assert [len(kept.requests) for kept in ours] == [8]


async def test_two_programs_at_the_same_time_have_each_its_own_batch(
    provider: str, server: BatchServer, tmp_path: Path
) -> None:
    await lose_the_note(provider, server, tmp_path / "a.db")  # the one looks for its batch while the other makes one
    texts = [f"mail other{number}" for number in range(8)]
    server.looks = 1
    found: dict[str, list[Row[Any]]] = {}
    async with anyio.create_task_group() as group:

        async def run(name: str, texts: list[str]) -> None:
            found[name] = await collect(provider, server, texts, tmp_path / name)

        group.start_soon(run, "a.db", [f"mail k{number}" for number in range(8)])
        group.start_soon(run, "b.db", texts)
    assert [row.value and row.value.kind for row in found["a.db"]] == [f"k{number}" for number in range(8)]
    assert [row.value and row.value.kind for row in found["b.db"]] == [f"other{number}" for number in range(8)]
    assert len(server.batches) == 2


async def test_a_batch_that_was_not_noted_is_cancelled_by_its_name_or_as_one_of_the_candidates(
    provider: str, server: BatchServer, tmp_path: Path
) -> None:
    path = tmp_path / "run.db"
    texts = await lose_the_note(provider, server, path)
    theirs = keep_foreign(server, "theirs")
    backend = make_backend(provider, server.address)
    [found] = await acancel_batches(path, backend=backend)
    if provider == "anthropic":  # keeps no name of ours
        assert (found.id, found.state, sorted(found.candidates)) == (None, "unknown", ["b0", "b1"])
        assert not any(kept.is_cancelled for kept in server.batches)
        with pytest.raises(UsageError, match=r"'b7' can't be a batch of the journal .*; candidates are: 'b0', 'b1'"):
            await acancel_batches(path, backend=backend, ids=["b7"])
        [found] = await acancel_batches(path, backend=backend, ids=["b0"])
    assert (found.id or "").endswith("b0")
    assert found.candidates == ()
    assert (server.batches[0].is_cancelled, theirs.is_cancelled) == (True, False)
    server.looks = 0
    rows = await collect(provider, server, texts, path)
    assert [row.error for row in rows] == [None] * 8
    assert len(server.batches) == 2, "what it had answered was fetched"


async def test_a_batch_that_was_not_noted_and_has_ended_is_told_by_the_names_of_its_requests(
    provider: str, server: BatchServer, tmp_path: Path
) -> None:
    await lose_the_note(provider, server, tmp_path / "run.db")
    keep_foreign(server, "theirs")
    server.looks = -1
    [found] = await acancel_batches(tmp_path / "run.db", backend=make_backend(provider, server.address))
    assert (found.id or "").endswith("b0")


async def test_without_batches_every_row_is_asked_for_live(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    backend = ScriptedBackend("x")
    session = mellea.MelleaSession(backend)
    rows = [row async for row in amap(session.instruct, ["a", "b"], journal=tmp_path / "run.db", batch=True)]
    assert [row.value and row.value.value for row in rows] == ["x", "x"]
    # Once, since it costs twice as much.
    [warning] = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert "no batches for 'scripted'" in warning and "ordinary price" in warning


def test_batches_need_a_journal() -> None:
    with pytest.raises(UsageError, match="journal="):
        mellea.map(lambda n: n, [1], batch=True)


def test_the_documentation_gives_the_limits_of_the_codecs() -> None:
    page = Path(__file__).parents[2] / "docs/scale.md"
    if not page.exists():
        pytest.skip("the documentation isn't here: the wheel is tested on its own")
    words = " ".join(page.read_text().split())
    named = {"openai": "for OpenAI", "anthropic": "for Anthropic", "gemini": "for Gemini"}
    for provider, place in named.items():
        codec = make_backend(provider, "http://127.0.0.1:9").batches
        assert codec is not None
        size = round(codec.most_bytes / 10**6)
        shown = f"{size // 1000} GB" if size >= 1000 else f"{size} MB"
        assert f"{codec.most_requests:,} or {shown} {place}" in words
