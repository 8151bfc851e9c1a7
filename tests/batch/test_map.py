"""Mapping: outcomes in order, from the journal, within bounds, and ended at once."""

from __future__ import annotations

import csv
import functools
import gc
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

import mellea
import mellea.core
from mellea import prices
from mellea.batch import Budget, BudgetExceededError, Journal, RateLimits, Row, amap
from mellea.batch import map as map_rows
from mellea.core.backend import Request
from mellea.errors import (
    AuthError,
    ConfigurationError,
    ConnectError,
    NotFoundError,
    OverloadedError,
    ParseError,
    RateLimitError,
    StateError,
    UsageError,
)
from mellea.stdlib.agents import AgentRun
from mellea.testing import Gate, Pause, ScriptedBackend
from tests.waiting import cancel_once, quickest, until_here

pytestmark = pytest.mark.anyio


@dataclass
class Mail:
    """A classified mail."""

    kind: str
    urgency: int


def mail(request: Request) -> str:
    """Answer with a mail whose kind is the last word of the prompt."""
    return json.dumps({"kind": request.messages[-1].text.split()[-1], "urgency": 3})


def make_classify(backend: ScriptedBackend) -> Any:
    session = mellea.MelleaSession(backend)

    @mellea.generative(session=session)
    def classify(text: str) -> Mail:
        """Classify a mail."""

    return classify


def echo(request: Request) -> str:
    return request.messages[-1].text


def repr_of(value: Any) -> str:
    return repr(value)


async def collect(rows: AsyncIterator[Row[Any]]) -> list[Row[Any]]:
    return [row async for row in rows]


def values(rows: list[Row[Any]]) -> list[Any]:
    return [row.value for row in rows]


# -- outcomes ---------------------------------------------------------------------------------------------


async def test_outcomes_come_in_the_order_of_the_rows() -> None:
    backend = ScriptedBackend(lambda request: [Pause(0.001 * (len(backend.requests) % 5)), mail(request)])
    rows = await collect(amap(make_classify(backend), [f"mail k{number}" for number in range(300)]))
    assert [row.index for row in rows] == list(range(300))
    assert values(rows) == [Mail(f"k{number}", 3) for number in range(300)]
    assert {row.error for row in rows} == {None}
    assert [row.id for row in rows[:2]] == ["0", "1"]


async def test_outcomes_come_as_they_are_done_where_that_is_asked_for() -> None:
    gate = Gate()
    backend = ScriptedBackend(lambda request: [gate, "late"] if "first" in echo(request) else "soon")
    session = mellea.MelleaSession(backend)
    rows = amap(session.instruct, ["first", "second", "third"], ordered=False)
    assert {(await anext(rows)).index, (await anext(rows)).index} == {1, 2}
    gate.open()
    assert (await anext(rows)).index == 0


def test_plain_code_reads_the_same_rows() -> None:
    classify = make_classify(ScriptedBackend(mail))
    rows = list(map_rows(classify, (f"mail k{number}" for number in range(300))))
    assert values(rows) == [Mail(f"k{number}", 3) for number in range(300)]


def test_no_rows_give_no_outcomes() -> None:
    assert list(mellea.map(make_classify(ScriptedBackend("x")), [])) == []


async def test_a_row_that_fails_is_an_outcome_in_its_place() -> None:
    backend = ScriptedBackend(lambda request: "?" if "bad" in echo(request) else mail(request))
    rows = await collect(amap(make_classify(backend), ["mail a", "mail bad", "mail c"]))
    assert values(rows) == [Mail("a", 3), None, Mail("c", 3)]
    assert isinstance(rows[1].error, ParseError)


async def test_a_row_says_what_it_took() -> None:
    prices.set_prices({"scripted/script": prices.Price(input=1.0, output=2.0)})
    try:
        backend = ScriptedBackend("?", '{"kind": "a", "urgency": 1}', usage=mellea.core.Usage(10, 5))
        [row] = await collect(amap(make_classify(backend), ["x"]))
    finally:
        prices.reset_prices()
    assert row.usage is not None
    assert (row.usage.input_tokens, row.usage.output_tokens) == (20, 10), "both attempts count"
    assert row.cost == pytest.approx(2 * (10 * 1 + 5 * 2) / 1e6)


# -- rows of all kinds ------------------------------------------------------------------------------------


async def say(**fields: Any) -> dict[str, Any]:
    return fields


async def join(*texts: str) -> str:
    return "-".join(texts)


async def test_a_dict_is_named_arguments_a_tuple_positional_ones_and_anything_else_the_only_one() -> None:
    assert values(await collect(amap(say, [{"a": 1, "b": 2}]))) == [{"a": 1, "b": 2}]
    assert values(await collect(amap(join, [("a", "b"), "c"]))) == ["a-b", "c"]
    assert values(await collect(amap(lambda row: row, [[1, 2]]))) == [[1, 2]]


async def test_the_field_of_the_id_is_an_argument_only_where_the_function_has_it() -> None:
    def length(text: str) -> int:
        return len(text)

    [row] = await collect(amap(length, [{"number": "T-7", "text": "four"}], id="number"))
    assert (row.id, row.value, row.error) == ("T-7", 4, None)
    [other] = await collect(amap(length, [{"text": "four"}], id=lambda row: row["text"]))
    assert other.id == "four"


async def test_a_row_without_its_id_is_an_outcome_with_an_error() -> None:
    [row] = await collect(amap(say, [{"text": "four"}], id="number"))
    assert isinstance(row.error, UsageError)
    assert "'number'" in str(row.error)


def test_rows_come_from_files(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["a", "b"], ["1", "two, three"]])
    lines = tmp_path / "rows.jsonl"
    lines.write_text('{"a": 1}\n\n{"a": 2}\n')
    assert values(list(map_rows(say, table))) == [{"a": "1", "b": "two, three"}]
    assert values(list(map_rows(say, str(lines)))) == [{"a": 1}, {"a": 2}]
    with pytest.raises(UsageError, match=r"the rows of .*none\.csv' can't be read: No such file"):
        map_rows(say, tmp_path / "none.csv")
    with pytest.raises(UsageError, match=r"\.txt"):
        map_rows(say, "rows.txt")


def test_a_line_that_is_not_json_ends_the_rows_after_those_before_it(tmp_path: Path) -> None:
    lines = tmp_path / "rows.jsonl"
    lines.write_text('{"a": 1}\n{"a": \n')
    rows = map_rows(say, lines)
    assert next(rows).value == {"a": 1}
    with pytest.raises(UsageError, match="line 2"):
        next(rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,a\n1,2,3\n", "has the name 'a' twice"),
        (",text\n0,a\n", "column 1 of .* has no name"),
        ('a,b\n1,"2\n3,4\n5,6\n', "unexpected end of data"),
        ('a,b\n1,"2\n\n"\n3,4,5\n', "line 5 of"),
    ],
)
def test_a_table_that_would_be_misread_is_refused(tmp_path: Path, text: str, message: str) -> None:
    table = tmp_path / "rows.csv"
    table.write_text(text)
    with pytest.raises(UsageError, match=message):
        list(map_rows(say, table))


def test_a_cursor_is_read_in_the_thread_that_it_belongs_to() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE mails (a, b)")
    connection.executemany("INSERT INTO mails VALUES (?, ?)", [(str(number), "x") for number in range(1000)])
    rows = list(map_rows(join, connection.execute("SELECT a, b FROM mails")))
    assert values(rows) == [f"{number}-x" for number in range(1000)]
    connection.row_factory = sqlite3.Row
    assert values(list(map_rows(say, connection.execute("SELECT * FROM mails LIMIT 1")))) == [{"a": "0", "b": "x"}]
    connection.close()


async def test_a_cursor_is_read_on_the_loop_in_async_code() -> None:
    connection = sqlite3.connect(":memory:")
    rows = await collect(amap(join, connection.execute("SELECT 'a', 'b' UNION SELECT 'c', 'd'")))
    assert values(rows) == ["a-b", "c-d"]
    connection.close()


async def test_rows_come_from_async_iterables() -> None:
    async def source() -> AsyncIterator[int]:
        for number in range(20):
            await anyio.sleep(0)
            yield number

    assert values(await collect(amap(lambda row: row + 1, source()))) == list(range(1, 21))


def test_plain_code_reads_async_iterables_too() -> None:
    async def source() -> AsyncIterator[int]:
        yield 1

    assert values(list(map_rows(lambda row: row + 1, source()))) == [2]


def test_data_frames_are_known_by_their_methods() -> None:
    class Polars:
        columns = ("a",)

        def iter_rows(self, *, named: bool) -> Iterator[dict[str, Any]]:
            return iter([{"a": 1}, {"a": 2}])

        def __len__(self) -> int:
            return 2

    class Pandas:
        columns = ("a", "b c")

        def itertuples(self, *, index: bool, name: None) -> Iterator[tuple[Any, ...]]:
            return iter([(1, 2)])

        def __len__(self) -> int:
            return 1

    class Batch:
        def to_pylist(self) -> list[dict[str, Any]]:
            return [{"a": 1}]

    class Arrow:
        num_rows = 2

        def to_batches(self) -> list[Batch]:
            return [Batch(), Batch()]

    assert values(list(map_rows(say, Polars()))) == [{"a": 1}, {"a": 2}]
    assert values(list(map_rows(say, Pandas()))) == [{"a": 1, "b c": 2}]
    assert values(list(map_rows(say, Arrow()))) == [{"a": 1}, {"a": 1}]


async def test_a_source_that_fails_ends_the_rows_after_those_before_it() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise LookupError("gone")

    rows = amap(lambda row: row, source())
    assert (await anext(rows)).value == 1
    with pytest.raises(LookupError, match="gone"):
        await anext(rows)
    with pytest.raises(StopAsyncIteration):
        await anext(rows)


# -- programs of all kinds ------------------------------------------------------------------------------


async def test_verbs_of_a_session_neither_read_nor_extend_its_context(tmp_path: Path) -> None:
    backend = ScriptedBackend(lambda request: f"{len(request.messages)} {echo(request)}")
    session = mellea.MelleaSession(backend, mellea.ChatContext())
    await session.achat("before")
    turns = len(session.ctx.turns())
    for verb, rows in (
        (session.chat, ["hi"]),
        (session.instruct, ["hi"]),
        (session.act, ["hi"]),
        (session.query, [("a thing", "hi")]),
        (functools.partial(session.instruct, user_variables={"name": "Bo"}), ["hi {{name}}"]),
    ):
        first = await collect(amap(verb, rows, journal=tmp_path / "run.db"))
        again = await collect(amap(verb, rows, journal=tmp_path / "run.db"))
        assert first[0].value.value.startswith("1 ")
        assert again[0].cached and not first[0].cached
        assert again[0].value.value == first[0].value.value
        assert again[0].value.is_computed()
    assert len(session.ctx.turns()) == turns
    chat = (await collect(amap(session.chat, ["hi"], journal=tmp_path / "run.db")))[0].value
    assert chat.parsed == mellea.Message("assistant", "1 hi")


async def test_a_session_counts_what_its_rows_cost() -> None:
    prices.set_prices({"scripted/script": prices.Price(input=1.0, output=1.0)})
    try:
        session = mellea.MelleaSession(ScriptedBackend("x", usage=mellea.core.Usage(10, 10)))
        rows = await collect(amap(session.instruct, ["a", "b"]))
        assert session.cost == pytest.approx(40 / 1e6)
        assert sum(row.cost or 0 for row in rows) == pytest.approx(40 / 1e6)
    finally:
        prices.reset_prices()


async def test_an_unmet_requirement_stays_unmet_in_the_journal(tmp_path: Path) -> None:
    session = mellea.MelleaSession(ScriptedBackend("no"))
    never = mellea.core.Requirement("is yes", validation_fn=lambda context: (str(context) == "yes", "it is no"))
    instruct = functools.partial(session.instruct, requirements=[never])
    [first] = await collect(amap(instruct, ["x"], journal=tmp_path / "run.db"))
    [again] = await collect(amap(instruct, ["x"], journal=tmp_path / "run.db"))
    assert (first.value.success, again.value.success, again.cached) == (False, False, True)
    assert again.value.sampling.attempts[0].failures[0][1].reason == "it is no"


async def test_agents_are_mapped(tmp_path: Path) -> None:
    def look(place: str) -> str:
        """Look."""
        return f"a cat in {place}"

    call = mellea.events.ToolEnd(mellea.core.ToolCall("c", "look", {"place": "Rome"}))
    backend = ScriptedBackend(
        lambda request: [call] if len(request.messages) == 1 else '{"kind": "cat", "urgency": 1}',
        usage=mellea.core.Usage(1, 1),
    )
    agent = mellea.Agent(backend, [look], output=Mail)
    [first] = await collect(amap(agent, ["What is there?"], journal=tmp_path / "run.db"))
    [again] = await collect(amap(agent.run, ["What is there?"], journal=tmp_path / "run.db"))
    assert isinstance(first.value, AgentRun)
    assert again.cached
    assert again.value == first.value
    assert again.value.output == Mail("cat", 1)
    assert again.usage == first.usage == mellea.core.Usage(2, 2)


async def test_commands_are_mapped(tmp_path: Path) -> None:
    session = mellea.MelleaSession(ScriptedBackend(echo))

    @mellea.command(session=session)
    def greet(name: str) -> str:
        return f"Greet {name}."

    rows = await collect(amap(greet, ["Ann", "Bo"], journal=tmp_path / "run.db"))
    assert values(rows) == ["Greet Ann.", "Greet Bo."]


async def test_plain_functions_run_in_threads_and_their_calls_are_counted() -> None:
    session = mellea.MelleaSession(ScriptedBackend("x", usage=mellea.core.Usage(1, 2)))

    def ask_twice(text: str) -> str:
        assert threading.current_thread() is not threading.main_thread()
        return str(session.instruct(text)) + str(session.instruct(text))

    [row] = await collect(amap(ask_twice, ["x"]))
    assert (row.value, row.usage) == ("xx", mellea.core.Usage(2, 4))


# -- the journal --------------------------------------------------------------------------------------------


async def test_what_the_journal_has_is_not_asked_again(tmp_path: Path) -> None:
    backend = ScriptedBackend(mail, usage=mellea.core.Usage(10, 5))
    classify = make_classify(backend)
    texts = [f"mail k{number}" for number in range(50)]
    first = await collect(amap(classify, texts, journal=tmp_path / "run.db"))
    again = await collect(amap(classify, texts, journal=tmp_path / "run.db"))
    assert len(backend.requests) == 50
    assert all(row.cached for row in again)
    assert [(row.index, row.id, row.value, row.usage) for row in again] == [
        (row.index, row.id, row.value, row.usage) for row in first
    ]


async def test_what_decides_the_answer_is_asked_anew_when_it_changes(tmp_path: Path) -> None:
    backend = ScriptedBackend(mail)
    classify, path = make_classify(backend), tmp_path / "run.db"

    async def asks(function: Any, text: str = "mail a", **options: Any) -> bool:
        [row] = await collect(amap(function, [text], journal=path, **options))
        assert row.error is None
        return not row.cached

    assert await asks(classify)
    assert not await asks(classify)
    assert await asks(classify, "mail b"), "the prompt"
    assert not await asks(classify)
    assert await asks(classify, version="2")
    assert await asks(classify.with_options(model_options={"temperature": 0.5}))
    assert await asks(classify.with_options(requirements=[mellea.core.Requirement("x", validation_fn=lambda _: True)]))
    assert await asks(classify, id=lambda row: "another id")
    backend.model_id = "other"
    assert await asks(classify)


async def test_keys_headers_and_deadlines_decide_no_answer(tmp_path: Path) -> None:
    backend = ScriptedBackend(mail)
    classify, path = make_classify(backend), tmp_path / "run.db"
    for options in ({}, {"timeout": 5}, {"extra_headers": {"x-api-key": "secret"}}, {"stream": False}):
        [row] = await collect(amap(classify.with_options(model_options=options), ["mail a"], journal=path))
        assert row.error is None
    assert len(backend.requests) == 1
    assert b"secret" not in path.read_bytes()


async def test_the_answers_of_a_failed_row_are_asked_for_again_and_the_failure_is_kept(tmp_path: Path) -> None:
    answers = iter(["?", "?", '{"kind": "a", "urgency": 1}'])
    backend = ScriptedBackend(lambda request: next(answers))
    classify = make_classify(backend)
    path = tmp_path / "run.db"
    [first] = await collect(amap(classify, [{"text": "mail a"}], journal=path))
    assert first.error is not None
    [failure] = Journal(path).failures()
    assert (failure["id"], failure["row"], failure["error"]) == ("0", {"text": "mail a"}, "ParseError")
    [again] = await collect(amap(classify, [{"text": "mail a"}], journal=path))
    assert again.value == Mail("a", 1)
    assert list(Journal(path).failures()) == [], "it was answered"


async def test_an_answer_is_in_the_journal_before_it_is_handed_out(tmp_path: Path) -> None:
    backend = ScriptedBackend(mail)
    path = tmp_path / "run.db"
    async with amap(make_classify(backend), [f"mail {number}" for number in range(40)], journal=path) as rows:
        async for row in rows:
            ids = {answer["id"] for answer in Journal(path).answers()}
            assert row.id in ids


async def test_a_plain_function_is_known_by_its_source(tmp_path: Path) -> None:
    calls: list[int] = []
    module = tmp_path / "module.py"
    path = tmp_path / "run.db"

    async def run(source: str, **options: Any) -> bool:
        module.write_text(textwrap.dedent(source))
        import linecache

        linecache.checkcache(str(module))
        names: dict[str, Any] = {"calls": calls, "__name__": "module"}
        exec(compile(module.read_text(), str(module), "exec"), names)
        [row] = await collect(amap(names["double"], [21], journal=path, **options))
        assert row.value in (42, 43)
        return row.cached

    assert not await run("def double(n):\n    return n * 2\n")
    assert await run("# a comment\ndef double(n):\n    '''A docstring.'''\n    return (n\n    * 2)\n")
    assert not await run("def double(n):\n    return n * 2 + 1\n")
    assert not await run("def double(n):\n    return n * 2\n", version="1")
    assert await run("def double(n):\n    return 2 * n\n", version="1"), "the version stands for the source"


async def test_arguments_of_different_types_are_told_apart(tmp_path: Path) -> None:
    alike: list[Any] = ["1.0", 1.0, {1: 2}, {"1": 2}, [1, 2], {1, 2}]
    for one in alike:
        [row] = await collect(amap(repr_of, [{"value": one}], journal=tmp_path / "run.db"))
        assert (row.value, row.cached) == (repr(one), False)


async def test_lambdas_on_one_line_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    one, two = (lambda n: n + 1), (lambda n: n + 2)
    assert values(await collect(amap(one, [1], journal=path))) == [2]
    assert values(await collect(amap(two, [1], journal=path))) == [3]


async def test_functions_that_differ_in_what_they_enclose_are_told_apart(tmp_path: Path) -> None:
    def make(step: int) -> Callable[[int], int]:
        return lambda n: n + step

    path = tmp_path / "run.db"
    assert values(await collect(amap(make(1), [1], journal=path))) == [2]
    assert values(await collect(amap(make(2), [1], journal=path))) == [3]


async def test_a_value_comes_back_as_its_type_or_is_refused(tmp_path: Path) -> None:
    def typed(n: int) -> list[Mail]:
        return [Mail("a", n)]

    def untyped(n):  # type: ignore[no-untyped-def]
        return Mail("a", n)

    path = tmp_path / "run.db"
    for _ in range(2):
        assert values(await collect(amap(typed, [1], journal=path))) == [[Mail("a", 1)]]
    with pytest.raises(UsageError, match="annotate"):
        await collect(amap(untyped, [1], journal=path))
    assert values(await collect(amap(untyped, [1]))) == [Mail("a", 1)]


def test_a_function_without_a_source_needs_a_version(tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    exec("def f(n):\n    return n", names)
    with pytest.raises(UsageError, match="version="):
        map_rows(names["f"], [1], journal=tmp_path / "run.db")
    assert values(list(map_rows(names["f"], [1], journal=tmp_path / "run.db", version="1"))) == [1]


def test_another_file_is_no_journal(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (x)")
    connection.commit()
    connection.close()
    with pytest.raises(StateError):
        list(map_rows(lambda n: n, [1], journal=path))


def test_compaction_keeps_the_latest_answers(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    for version in ("1", "2"):
        list(map_rows(lambda n: n, range(100), journal=path, version=version))
    journal = Journal(path)
    assert len(list(journal.answers())) == 200
    assert journal.compact() == 100
    assert len(list(journal.answers())) == 100
    assert all(row.cached for row in map_rows(lambda n: n, range(100), journal=path, version="2"))


def test_several_writers_share_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "run.db"

    def same(n: int) -> int:
        return n

    def run(part: int) -> None:
        list(map_rows(same, range(part * 300, part * 300 + 300), id=str, journal=path))

    threads = [threading.Thread(target=run, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(answer["id"]) for answer in Journal(path).answers()) == list(range(1200))
    assert all(row.cached for row in map_rows(same, range(1200), id=str, journal=path))


# -- bounds -------------------------------------------------------------------------------------------------


async def test_no_more_rows_are_in_flight_than_there_are_places() -> None:
    now, most, are_all_there = 0, 0, anyio.Event()

    async def work(n: int) -> int:
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == 7:
            are_all_there.set()
        await are_all_there.wait()
        await anyio.sleep(0.001)
        now -= 1
        return n

    with anyio.fail_after(30):
        await collect(amap(work, range(100), concurrency=7))
    assert most == 7


async def test_who_reads_slowly_holds_the_rows_up() -> None:
    begun = 0

    async def work(n: int) -> int:
        nonlocal begun
        begun += 1
        return n

    rows = amap(work, iter(range(100_000)), concurrency=2)
    await anext(rows)
    await anyio.sleep(0.3)
    assert begun <= 600
    await rows.aclose()


async def test_a_slow_first_row_holds_the_others_up_instead_of_filling_memory() -> None:
    gate = anyio.Event()
    begun = 0

    async def work(n: int) -> int:
        nonlocal begun
        begun += 1
        if n == 0:
            await gate.wait()
        return n

    rows = amap(work, range(100_000), concurrency=2)
    async with anyio.create_task_group() as group:

        async def read() -> None:
            await anext(rows)
            group.cancel_scope.cancel()

        group.start_soon(read)
        await anyio.sleep(0.3)
        assert begun <= 600
        gate.set()
    await rows.aclose()


async def test_failures_that_may_pass_are_tried_again() -> None:
    failures = [OverloadedError("busy", is_retryable=True), RateLimitError("slow", retry_after=0.01, is_retryable=True)]
    backend = ScriptedBackend(*failures, "fine")
    [row] = await collect(amap(mellea.MelleaSession(backend).instruct, ["x"]))
    assert row.value is not None
    assert row.value.value == "fine"
    failing = ScriptedBackend(OverloadedError("busy", is_retryable=True))
    [row] = await collect(amap(mellea.MelleaSession(failing).instruct, ["x"], retries=1))
    assert isinstance(row.error, OverloadedError)
    assert len(failing.requests) == 2


async def test_a_provider_that_asks_for_a_day_does_not_hold_a_row_up_for_a_day(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mellea.batch.attempts.LONGEST_HOLD", 0.01)
    asked: list[str] = []

    async def refuse_once(text: str) -> str:
        asked.append(text)
        if len(asked) == 1:
            raise RateLimitError("too many", status=429, retry_after=86_400.0, is_retryable=True)
        return text

    with anyio.fail_after(20):
        [row] = await collect(amap(refuse_once, ["a"]))
    assert (row.value, len(asked)) == ("a", 2)


async def test_a_refused_key_ends_it_at_once() -> None:
    backend = ScriptedBackend(AuthError("wrong key"))
    with pytest.raises(AuthError):
        await collect(amap(mellea.MelleaSession(backend).instruct, ["x"] * 1000, concurrency=3))
    assert len(backend.requests) <= 3


@pytest.mark.parametrize("error", [NotFoundError("no such model"), ConnectError("is the server running?")])
async def test_a_model_that_no_row_reaches_ends_it_soon(error: Exception) -> None:
    backend = ScriptedBackend(error)
    with pytest.raises(type(error)):
        await collect(amap(mellea.MelleaSession(backend).instruct, ["x"] * 1000, concurrency=2, retries=0))
    assert len(backend.requests) <= 4


async def test_a_row_that_finds_nothing_does_not_end_it() -> None:
    # One file may be gone; and a server that has answered may come back.
    first = ScriptedBackend(NotFoundError("gone"), NotFoundError("gone"), "a", *[NotFoundError("gone")] * 5, "b")
    rows = await collect(amap(mellea.MelleaSession(first).instruct, ["x"] * 9, concurrency=1, retries=0))
    texts = [row.value and str(row.value) for row in rows]
    assert texts == [None, None, "a", None, None, None, None, None, "b"]


async def test_the_end_does_not_wait_for_a_source_that_has_no_row_just_now() -> None:
    async def source() -> AsyncIterator[str]:
        yield "x"
        await anyio.sleep(60)

    with anyio.fail_after(10), pytest.raises(AuthError):
        await collect(amap(mellea.MelleaSession(ScriptedBackend(AuthError("no"))).instruct, source()))


# -- budgets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("places", [1, 7, None])
async def test_a_budget_ends_the_rows_after_those_that_it_was_enough_for(tmp_path: Path, places: int | None) -> None:
    backend = ScriptedBackend(lambda request: [Pause(0.001), mail(request)], usage=mellea.core.Usage(60, 40))
    classify, path = make_classify(backend), tmp_path / "run.db"
    rows: list[Row[Any]] = []
    with pytest.raises(BudgetExceededError) as caught:
        async for row in amap(
            classify, [f"mail {n}" for n in range(100)], budget=Budget(tokens=1000), concurrency=places, journal=path
        ):
            rows.append(row)
    assert [row.index for row in rows] == list(range(10))
    assert caught.value.spent["tokens"] == 1000
    assert caught.value.done == 10
    assert "run.db" in str(caught.value)
    more = []
    with pytest.raises(BudgetExceededError):
        async for row in amap(classify, [f"mail {n}" for n in range(100)], budget=Budget(tokens=500), journal=path):
            more.append(row)
    assert [row.cached for row in more] == [True] * 10 + [False] * 5
    assert len(backend.requests) == 15


async def test_a_budget_that_is_enough_is_no_error() -> None:
    backend = ScriptedBackend("x", usage=mellea.core.Usage(60, 40))
    session = mellea.MelleaSession(backend)
    assert len(await collect(amap(session.instruct, ["x"] * 10, budget=Budget(tokens=1000)))) == 10


async def test_a_budget_of_time_ends_the_rows() -> None:
    async def work(n: int) -> int:
        await anyio.sleep(0.01)
        return n

    rows = []
    with pytest.raises(BudgetExceededError):
        async for row in amap(work, iter(range(10**9)), budget=Budget(seconds=0.1)):
            rows.append(row)
    assert [row.index for row in rows] == list(range(len(rows)))


async def test_a_budget_for_the_cost_needs_a_price() -> None:
    backend = ScriptedBackend("x", usage=mellea.core.Usage(1, 1))
    session = mellea.MelleaSession(backend)
    with pytest.raises(ConfigurationError, match="scripted/script"):
        await collect(amap(session.instruct, ["x"], budget=Budget(cost=1)))
    with pytest.raises(ConfigurationError, match="scripted/script"):
        await collect(amap(make_classify(backend), ["x"], budget=Budget(cost=1)))
    assert not backend.requests
    prices.set_prices({"scripted/script": prices.Price(input=1e6, output=0.0)})
    try:
        with pytest.raises(BudgetExceededError) as caught:
            await collect(amap(session.instruct, ["x"] * 10, budget=Budget(cost=3)))
        assert caught.value.spent["cost"] == 3
    finally:
        prices.reset_prices()


async def test_a_budget_that_cannot_be_kept_asks_for_one_row_alone() -> None:
    backend = ScriptedBackend("no usage")
    session = mellea.MelleaSession(backend)
    with pytest.raises(ConfigurationError, match="can't be enforced"):
        await collect(amap(session.instruct, ["x"] * 50, budget=Budget(tokens=1000)))
    assert len(backend.requests) == 1


# -- ends ---------------------------------------------------------------------------------------------------


async def test_leaving_the_loop_ends_what_is_in_flight() -> None:
    backend = ScriptedBackend(lambda request: "x" if "first" in echo(request) else [Pause(float("inf"))])
    session = mellea.MelleaSession(backend)
    rows = amap(session.instruct, ["first", *["never"] * 100])
    async for row in rows:
        assert row.index == 0
        break
    await rows.aclose()
    assert all(backend.closed)
    with pytest.raises(StopAsyncIteration):
        await anext(rows)


def test_dropping_the_iterator_ends_what_is_in_flight() -> None:
    backend = ScriptedBackend(lambda request: "x" if "first" in echo(request) else [Pause(float("inf"))])
    session = mellea.MelleaSession(backend)
    for _ in mellea.map(session.instruct, ["first", *["never"] * 100]):
        break
    gc.collect()
    until_here(lambda: all(backend.closed))
    assert len(backend.requests) > 1


async def test_cancelling_the_wait_for_a_row_ends_what_is_in_flight() -> None:
    backend = ScriptedBackend([Pause(float("inf"))])
    rows = amap(mellea.MelleaSession(backend).instruct, ["never"] * 20)
    await cancel_once(lambda: backend.requests, lambda: anext(rows))
    await rows.aclose()
    assert all(backend.closed)


def test_no_thread_is_left(tmp_path: Path) -> None:
    for _ in range(3):
        with mellea.map(lambda n: n, range(100), journal=tmp_path / "run.db", version="1") as rows:
            next(rows)
    until_here(lambda: not any(thread.name == "mellea-journal" for thread in threading.enumerate()))


PROGRAM = """
import sys, time
import mellea
import mellea.core
from mellea.testing import Pause, ScriptedBackend

backend = ScriptedBackend(lambda request: "x" if len(backend.requests) < 20 else [Pause(float("inf"))])
session = mellea.MelleaSession(backend)

@mellea.generative(session=session)
def f(text: str) -> str:
    "Say x."

for row in mellea.map(f, [str(n) for n in range(1000)], journal=sys.argv[1], concurrency=8):
    print(row.index, flush=True)
    if sys.argv[2] == "body" and row.index == 11:
        time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT for a child")
@pytest.mark.parametrize("place", ["wait", "body"])
def test_an_interrupt_ends_it_and_says_how_to_go_on(place: str, tmp_path: Path) -> None:
    paths = (tmp_path / f"run{number}.db" for number in itertools.count())
    assert quickest(lambda: _interrupted(next(paths), place), 2.5) < 2.5


def _interrupted(path: Path, place: str) -> float:
    """Interrupt the program, and return how many seconds it takes to end."""
    command = [sys.executable, "-c", PROGRAM, str(path), place]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        for _ in range(12):
            assert process.stdout.readline()
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        message = process.stderr.read()
        process.wait(30)
        took = time.monotonic() - began
    assert "KeyboardInterrupt" in message
    assert message.count("run the same program again") == 1
    assert len(list(Journal(path).answers())) >= 12
    return took


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_limits_are_shared_and_kept() -> None:
    async def work(n: int) -> float:
        return time.monotonic()

    session = mellea.MelleaSession(ScriptedBackend("x"))
    began = time.monotonic()
    rows = list(map_rows(session.instruct, ["x"] * 60, limits=RateLimits(requests=3000)))
    took = time.monotonic() - began
    assert len(rows) == 60
    assert took > 0.5, "60 requests at 50 a second, of which 25 may go at once"


def test_arguments_are_checked() -> None:
    for options in (
        {"concurrency": 0},
        {"concurrency": True},
        {"ordered": 1},
        {"budget": 5},
        {"limits": 5},
        {"retries": -1},
        {"version": 1},
        {"id": 5},
        {"journal": 5},
    ):
        with pytest.raises(UsageError):
            map_rows(lambda n: n, [1], **options)  # type: ignore[call-overload]
    with pytest.raises(UsageError):
        map_rows(5, [1])
    with pytest.raises(UsageError):
        map_rows(say, 5)  # type: ignore[call-overload]
    with pytest.raises(UsageError):
        Budget(cost=0)
    with pytest.raises(UsageError):
        RateLimits(requests=-1)


async def test_rows_that_are_asked_anew_because_of_a_change_are_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [f"mail k{number}" for number in range(20)]

    async def run(model: str, texts: list[str]) -> int:
        caplog.clear()
        backend = ScriptedBackend(mail)
        backend.model_id = model
        await collect(amap(make_classify(backend), texts, journal=tmp_path / "run.db"))
        return len([record for record in caplog.records if "is requested again" in record.message])

    assert await run("small", texts) == 0
    assert await run("small", [*texts, "mail new"]) == 0, "new rows are no change"
    assert await run("large", texts) == 1
    assert "has answers to 21 rows of " in caplog.text
    assert "classify(), but row '" in caplog.text
    assert await run("large", texts) == 0
    assert await run("small", ["mail other", *texts[1:]]) == 1, "another row of the same id"
