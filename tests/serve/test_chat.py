"""The server's side of `useChat`: answers that outlive their readers, stopping, approvals, several workers."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import mellea
from mellea import serve
from mellea.core.messages import Message
from mellea.errors import UsageError
from mellea.serve.ai_sdk.running import RunningAnswer
from mellea.serve.response import read_body
from mellea.stdlib.tools import Ask, Deny, ToolLoop
from mellea.testing import ScriptedBackend
from mellea.testing.scripted import Gate, Pause
from tests.serve import ui_protocol
from tests.serve.asgi import Answer, ask
from tests.serve.ui_streams import SECRET, call, describe, session

pytestmark = pytest.mark.anyio

FOREVER = Pause(float("inf"))
JSON = {"content-type": "application/json"}


def hello(*more: Any, **fields: Any) -> bytes:
    messages = [{"id": "u1", "role": "user", "parts": [{"type": "text", "text": "Hello"}]}, *more]
    return json.dumps({"id": "chat", "messages": messages, **fields}).encode()


async def post(chat: Any, body: bytes | None = None, **how: Any) -> Answer:
    with anyio.fail_after(30):
        return await ask(chat, method="POST", path="/api/chat", body=body or hello(), **{"headers": JSON, **how})


async def get(chat: Any, **how: Any) -> Answer:
    with anyio.fail_after(30):
        return await ask(chat, path="/api/chat/chat/stream", **how)


async def delete(chat: Any) -> Answer:
    return await ask(chat, method="DELETE", path="/api/chat/chat/stream")


async def until(check: Callable[[], Any]) -> None:
    with anyio.fail_after(30):
        while not check():
            await anyio.sleep(0.005)


# -- answers ------------------------------------------------------------------------------------------


async def test_a_session_answers_with_what_was_said_before() -> None:
    backend = ScriptedBackend(["Hi"])
    chat = serve.Chat(mellea.start_session(backend))
    earlier = {"id": "a1", "role": "assistant", "parts": [{"type": "text", "text": "Yes?"}]}
    again = {"id": "u2", "role": "user", "parts": [{"type": "text", "text": "Bye"}]}
    answer = await post(chat, hello(earlier, again))
    message = ui_protocol.read(answer.body, 6)
    assert describe(message.parts) == ["step", "text: Hi"] and message.ending == "finish stop"
    assert message.id and message.id.startswith("msg-")
    assert backend.requests[0].messages == (
        Message("user", "Hello"),
        Message("assistant", "Yes?"),
        Message("user", "Bye"),
    )


async def test_a_function_makes_a_stream_of_the_request() -> None:
    m = session(["Hi"])

    def plain(asked: serve.ChatRequest) -> Any:
        assert asked.extra == {"mood": "good"}
        return m.stream(asked.messages[-1].text)

    async def native(asked: serve.ChatRequest) -> Any:
        return m.astream(asked.messages[-1].text)

    def plain_async(asked: serve.ChatRequest) -> Any:
        return m.astream(asked.messages[-1].text)

    def chosen(asked: serve.ChatRequest) -> Any:
        return m

    def returned(asked: serve.ChatRequest) -> Any:
        return native(asked)

    for program in (plain, native, plain_async, chosen, returned):
        answer = await post(serve.Chat(program), hello(mood="good"))
        assert describe(ui_protocol.read(answer.body, 6).parts) == ["step", "text: Hi"]


async def test_a_function_that_fails_is_an_error_of_the_stream() -> None:
    def broken(asked: Any) -> Any:
        raise KeyError("secret")

    answer = await post(serve.Chat(broken))
    assert ui_protocol.read(answer.body, 6).ending == "error" and b"secret" not in answer.body


async def test_a_new_message_stops_the_answer_to_the_one_before() -> None:
    backend = ScriptedBackend(["one ", FOREVER], ["two"])
    chat = serve.Chat(mellea.start_session(backend))
    answers: dict[str, Answer] = {}

    async def first() -> None:
        answers["first"] = await post(chat)

    async with anyio.create_task_group() as group:
        group.start_soon(first)
        await until(lambda: backend.requests)
        answers["second"] = await post(chat)
    assert ui_protocol.read(answers["first"].body, 6).ending == "abort"
    assert ui_protocol.read(answers["second"].body, 6).ending == "finish stop"
    backend.assert_closed()


# -- leaving, resuming, stopping ----------------------------------------------------------------------


async def test_a_client_that_comes_back_gets_the_whole_answer() -> None:
    gate = Gate()
    backend = ScriptedBackend(["Once ", gate, "upon"])
    chat = serve.Chat(mellea.start_session(backend))
    await post(chat, leave_after=2)
    assert backend.closed == [False]
    answers: list[Answer] = []

    async def resume() -> None:
        answers.append(await get(chat, on_piece=lambda piece: gate.open() if b"Once" in piece else None))

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(resume)
    for answer in answers:
        message = ui_protocol.read(answer.body, 6)
        assert describe(message.parts) == ["step", "text: Once upon"] and message.ending == "finish stop"
    assert len({ui_protocol.read(answer.body, 6).id for answer in answers}) == 1
    await until(lambda: not chat._answers)
    assert (await get(chat)).status == 204


async def test_an_answer_that_nobody_has_read_to_its_end_is_kept_for_a_while() -> None:
    gate = Gate()
    chat = serve.Chat(session(["Once ", gate, "upon"]), grace=0.3)
    await post(chat, leave_after=2)
    gate.open()
    await until(lambda: all(answer.has_ended for answer in chat._answers.values()))
    assert ui_protocol.read((await get(chat)).body, 6).ending == "finish stop"
    await until(lambda: not chat._answers)
    assert (await get(chat)).status == 204


async def test_without_grace_the_model_stops_when_the_client_leaves() -> None:
    backend = ScriptedBackend(["Once ", FOREVER])
    chat = serve.Chat(mellea.start_session(backend), grace=0)
    await post(chat, leave_after=2)
    await until(lambda: all(backend.closed) and not chat._answers)


async def test_after_the_grace_the_model_stops() -> None:
    backend = ScriptedBackend(["Once ", FOREVER])
    chat = serve.Chat(mellea.start_session(backend), grace=0.05)
    await post(chat, leave_after=2)
    await until(lambda: all(backend.closed) and not chat._answers)


async def test_a_stop_ends_the_answer_for_all_its_readers() -> None:
    backend = ScriptedBackend(["Once ", FOREVER])
    chat = serve.Chat(mellea.start_session(backend))
    answers: list[Answer] = []

    async def read(how: Any) -> None:
        answers.append(await how(chat))

    async with anyio.create_task_group() as group:
        group.start_soon(read, post)
        await until(lambda: chat._answers and next(iter(chat._answers.values())).pieces[1:])
        group.start_soon(read, get)
        assert (await delete(chat)).status == 204
    assert [ui_protocol.read(answer.body, 6).ending for answer in answers] == ["abort", "abort"]
    backend.assert_closed()
    assert (await delete(chat)).status == 404


async def test_an_answer_that_is_too_long_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mellea.serve.ai_sdk.running._LARGEST_ANSWER", 10_000)
    backend = ScriptedBackend(["x" * 1000, Pause(0)] * 100)
    chat = serve.Chat(mellea.start_session(backend), grace=0.05)
    await post(chat)
    await until(lambda: all(backend.closed) and not chat._answers)


async def test_chats_of_other_owners_are_out_of_reach() -> None:
    gate = Gate()
    chat = serve.Chat(session(["Once ", gate]))
    response = await chat.answer(hello(), owner="ann")
    assert (await chat.resume("chat", owner="bob")).status_code == 204
    assert not await chat.stop("chat", owner="bob")
    assert (await chat.resume("chat", owner="ann")).status_code == 200
    gate.open()
    assert ui_protocol.read((await ask(response)).body, 6).ending == "finish stop"


# -- approvals ----------------------------------------------------------------------------------------

done: list[str] = []


@mellea.tool(requires_approval=True)
def remove(path: str) -> str:
    """Remove a file."""
    done.append(path)
    return f"{path} is gone"


@mellea.tool(runs="outside")
def locate() -> str:
    """Find out where the user is."""
    raise AssertionError("it runs outside")


class Client:
    """As much of `useChat` as answers questions."""

    def __init__(self, chat: Any, version: int = 6) -> None:
        self.chat, self.version = chat, version
        self.parts: list[Any] = []
        self.id: str | None = None
        self.ending = ""

    async def send(self, **fields: Any) -> Answer:
        last = {"id": self.id, "role": "assistant", "parts": self.parts}
        answer = await post(self.chat, hello(*([last] if self.id else []), **fields))
        if answer.status == 200:
            message = ui_protocol.read(answer.body, self.version, self.parts)
            assert self.id in (None, message.id)
            self.parts, self.id, self.ending = message.parts, message.id, message.ending
        return answer

    def reply(self, approved: Any, reason: str | None = None) -> None:
        """Answer all questions."""
        for part in self.parts:
            if part.get("state") == "approval-requested":
                part["state"] = "approval-responded"
                part["approval"] |= {"approved": approved} | ({"reason": reason} if reason else {})

    @property
    def said(self) -> list[str]:
        return describe(self.parts)


def agent(*replies: Any, **arguments: Any) -> mellea.Agent[str]:
    done.clear()
    return mellea.Agent(session(*replies), [remove, locate], **arguments)


CALL = call(1, "remove", '{"path":"x"}')


@pytest.mark.parametrize("secret", [None, SECRET])
async def test_an_approved_call_runs_and_the_answer_goes_on(secret: Any) -> None:
    client = Client(serve.Chat(agent(["Careful. ", *CALL], ["Gone."]), secret=secret))
    await client.send()
    assert client.said[-1] == "tool-remove c1 approval-requested" and client.ending == "finish tool-calls"
    assert not done
    client.reply(True)
    await client.send()
    assert client.said == [
        "step",
        "text: Careful. ",
        'tool-remove c1 output-available "x is gone"',
        "step",
        "text: Gone.",
    ]
    assert done == ["x"] and client.ending == "finish stop"


@pytest.mark.parametrize("version", [6, 7])
async def test_a_denied_call_is_denied_and_the_model_is_told_why(version: Any) -> None:
    done.clear()
    backend = ScriptedBackend(CALL, ["Then not."])
    client = Client(serve.Chat(mellea.Agent(mellea.start_session(backend), [remove]), version=version), version)
    await client.send()
    client.reply(False, "not today")
    await client.send()
    assert client.said == ["step", "tool-remove c1 output-denied", "step", "text: Then not."]
    (output,) = backend.requests[1].messages[-1].blocks
    assert output.result == "not today" and not done


async def test_version_5_asks_and_is_answered_by_data() -> None:
    client = Client(serve.Chat(agent(CALL, ["Gone."]), version=5, secret=SECRET), 5)
    await client.send()
    (question,) = [part for part in client.parts if part["type"] == "data-approval"]
    assert question["data"]["toolName"] == "remove" and question["data"]["input"] == {"path": "x"}
    await client.send(approvals=[{"id": question["id"], "approved": True}])
    assert done == ["x"] and client.said[-1] == "text: Gone."


async def test_an_answer_counts_once() -> None:
    chat = serve.Chat(agent(CALL, ["Gone."]), secret=SECRET)
    client = Client(chat)
    await client.send()
    client.reply(True)
    again = json.loads(json.dumps(client.parts))
    await client.send()
    client.parts = again
    refused = await client.send()
    assert refused.status == 409 and done == ["x"]


@pytest.mark.parametrize(
    "forge",
    [
        lambda part: part["approval"].update(id="0" * 32 + ":c1"),
        lambda part: part["approval"].update(id="c1"),
        lambda part: part["approval"].update(id=part["approval"]["id"] + "x"),
    ],
)
async def test_a_question_that_nobody_asked_is_not_answered(forge: Any) -> None:
    client = Client(serve.Chat(agent(CALL, ["Gone."])))
    await client.send()
    right = json.loads(json.dumps(client.parts))
    client.reply(True)
    forge(client.parts[1])
    assert (await client.send()).status == 409 and not done
    client.parts = right  # the question is still there
    client.reply(True)
    assert (await client.send()).status == 200 and done == ["x"]


async def test_arguments_that_the_client_has_changed_are_not_run() -> None:
    client = Client(serve.Chat(agent(CALL, ["Gone."])))
    await client.send()
    client.reply(True)
    client.parts[1]["input"] = {"path": "/"}
    await client.send()
    assert done == ["x"]
    client = Client(serve.Chat(agent(CALL, ["Gone."]), secret=SECRET))
    await client.send()
    client.reply(True)
    client.parts[1]["input"] = {"path": "/"}
    assert (await client.send()).status == 400 and not done


async def test_the_policy_is_asked_again() -> None:
    verdicts: list[Any] = [Ask("Really?"), Deny("it is too late")]
    loop = ToolLoop(policy=lambda call: verdicts.pop(0))
    client = Client(serve.Chat(agent(CALL, ["Well."], loop=loop)))
    await client.send()
    client.reply(True)
    await client.send()
    assert not done and not verdicts and client.said[-1] == "text: Well."


async def test_a_new_message_drops_the_question() -> None:
    chat = serve.Chat(agent(CALL, ["Well then."], ["Gone."]))
    client = Client(chat)
    await client.send()
    last = {"id": client.id, "role": "assistant", "parts": client.parts}
    more = {"id": "u2", "role": "user", "parts": [{"type": "text", "text": "Never mind"}]}
    answer = await post(chat, hello(last, more))
    assert describe(ui_protocol.read(answer.body, 6).parts) == ["step", "text: Well then."]
    client.reply(True)
    assert (await client.send()).status == 409 and not done


async def test_a_tool_that_runs_outside_gets_its_result_from_the_client() -> None:
    backend = ScriptedBackend(call(1, "locate", "{}"), ["In Ulm."])
    client = Client(serve.Chat(mellea.Agent(mellea.start_session(backend), [locate])))
    await client.send()
    assert client.said == ["step", "tool-locate c1 input-available"]
    client.parts[1] |= {"state": "output-available", "output": {"city": "Ulm"}}
    await client.send()
    assert client.said[-1] == "text: In Ulm."
    (output,) = backend.requests[1].messages[-1].blocks
    assert output.result == {"city": "Ulm"}


async def test_questions_of_sub_agents_are_asked_and_answered() -> None:
    done.clear()
    inner = mellea.Agent(session(CALL, ["Cleaned."]), [remove], name="cleaner")
    outer = mellea.Agent(session(call(7, "cleaner", '{"task":"clean"}'), ["Done."]), [inner])
    client = Client(serve.Chat(outer, secret=SECRET))
    await client.send()
    assert client.said == ["step", "tool-cleaner c7 approval-requested"]
    client.reply(True)
    await client.send()
    assert done == ["x"] and client.said[-1] == "text: Done."


async def test_of_two_questions_one_may_be_answered_first() -> None:
    two = [*CALL, *call(2, "remove", '{"path":"y"}')]
    client = Client(serve.Chat(agent(two, ["Gone."]), secret=SECRET))
    await client.send()
    first = client.parts[1]
    first["state"] = "approval-responded"
    first["approval"]["approved"] = True
    await client.send()
    assert done == ["x"] and client.said[-1] == "tool-remove c2 approval-requested"
    client.reply(True)
    await client.send()
    assert done == ["x", "y"] and client.said[-1] == "text: Gone."


async def test_calls_with_the_same_id_keep_their_names_when_the_run_goes_on() -> None:
    replies = (call(1, "add", '{"a":1,"b":2}'), CALL, ["Gone."])
    from tests.serve.ui_streams import add

    done.clear()
    client = Client(serve.Chat(mellea.Agent(session(*replies), [remove, add]), secret=SECRET))
    await client.send()
    assert client.said[-1] == "tool-remove c1#2 approval-requested"
    client.reply(True)
    await client.send()
    assert done == ["x"] and 'tool-remove c1#2 output-available "x is gone"' in client.said


# -- requests that are refused ------------------------------------------------------------------------


async def test_what_is_no_request_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    chat = serve.Chat(session(["Hi"]), limit=1000, most=1)
    assert (await post(chat, headers={"content-type": "text/plain"})).status == 415
    assert (await post(chat, headers={})).status == 415
    with caplog.at_level(logging.WARNING, "mellea.serve"):
        assert (await post(chat, b'{"private": "words"}')).status == 400
    assert "private" not in caplog.text and "refused with 400" in caplog.text
    assert (await post(chat, b"x" * 2000)).status == 413
    assert (await post(chat, json.dumps({"id": "c", "messages": []}).encode())).status == 409
    for path in ("/", "/stream", "/api/chat/stream/x", "//stream"):
        assert (await ask(chat, path=path)).status == 404
    assert (await ask(chat, method="PUT", path="/api/chat/c/stream")).status == 405
    refused = await post(chat, b"[]")
    assert refused.headers["content-type"] == "application/json" and "error" in json.loads(refused.body)


async def test_a_body_that_comes_too_slowly_is_refused() -> None:
    async def trickle() -> Any:
        await anyio.sleep(0.02)
        return {"type": "http.request", "body": b" ", "more_body": True}

    assert await read_body(trickle, 1000, seconds=0.1) is None
    assert await read_body(trickle, 2) is None


async def test_more_answers_than_there_may_be_are_refused() -> None:
    gate = Gate()
    chat = serve.Chat(session(["Once ", gate]), most=1)
    await post(chat, leave_after=2)
    refused = await post(chat, hello(id="other"))
    assert refused.status == 503 and refused.headers["retry-after"] == "5"
    gate.open()


@pytest.mark.parametrize(
    "arguments",
    [{"program": 3}, {"version": 4}, {"grace": -1}, {"grace": True}, {"data": "a b"}, {"secret": ""}],
)
async def test_wrong_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        serve.Chat(**{"program": session(["x"]), **arguments})


# -- several workers ----------------------------------------------------------------------------------


@pytest.fixture
def workers(tmp_path: Path) -> Callable[..., tuple[serve.Chat, serve.Chat, ScriptedBackend]]:
    def make(*replies: Any, tools: Any = (remove,)) -> tuple[serve.Chat, serve.Chat, ScriptedBackend]:
        done.clear()
        backend = ScriptedBackend(*replies)
        program = mellea.Agent(mellea.start_session(backend), tools)
        one, other = (serve.Chat(program, store=tmp_path / "chats.db", secret=SECRET) for _ in range(2))
        return one, other, backend

    return make


async def test_another_worker_gives_the_whole_answer(workers: Any) -> None:
    gate = Gate()
    one, other, _ = workers(["Once ", "🐟 ", gate, "upon"])
    await post(one, leave_after=2)
    seen = anyio.Event()
    answer = Answer()

    async def resume() -> None:
        nonlocal answer
        answer = await get(other, on_piece=lambda piece: seen.set() if "🐟".encode() in piece else None)

    async with anyio.create_task_group() as group:
        while (await other.resume("chat")).status_code == 204:
            await anyio.sleep(0.01)
        group.start_soon(resume)
        await seen.wait()
        gate.open()
    message = ui_protocol.read(answer.body, 6)
    assert describe(message.parts) == ["step", "text: Once 🐟 upon"] and message.ending == "finish stop"


async def test_another_worker_stops_the_answer(workers: Any) -> None:
    one, other, backend = workers(["Once ", FOREVER])
    answers: list[Answer] = []

    async def read() -> None:
        answers.append(await post(one))

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await until(lambda: backend.requests)
        assert (await delete(other)).status == 204
    assert ui_protocol.read(answers[0].body, 6).ending == "abort"
    backend.assert_closed()
    assert not await other.stop("nobody's")


async def test_another_worker_goes_on_after_an_approval(workers: Any) -> None:
    one, other, _ = workers(CALL, ["Gone."])
    client = Client(one)
    await client.send()
    client.reply(True)
    client.chat = other
    again = json.loads(json.dumps(client.parts))
    await client.send()
    assert done == ["x"] and client.said[-1] == "text: Gone."
    client.chat, client.parts = one, again
    assert (await client.send()).status == 409


async def test_an_answer_whose_worker_has_died_is_over(workers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other, _ = workers(["Once ", FOREVER])
    monkeypatch.setattr(serve.Chat, "_mirror", lambda *_: anyio.sleep_forever())
    await post(one, leave_after=2)
    assert (await other.resume("chat")).status_code == 200
    monkeypatch.setattr("mellea.serve.ai_sdk.store.DEAD_SECONDS", 0.0)
    assert (await other.resume("chat")).status_code == 204
    monkeypatch.setattr("mellea.serve.ai_sdk.store.DEAD_SECONDS", 0.2)
    answer = await get(other)
    assert answer.status == 204 or ui_protocol.read(b'data: {"type":"start"}\n\n' + answer.body, 6).ending == "error"
    await one.stop("chat")


async def test_nothing_is_left_in_the_file(workers: Any, tmp_path: Path) -> None:
    one, _, _ = workers(["Once upon"])
    await post(one)
    for table in ("answers", "pieces"):
        left = 1
        while left:
            await anyio.sleep(0.01)
            with one._store._database.read() as connection:
                (left,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()


async def test_an_answer_that_is_stopped_before_it_begins_ends_with_abort() -> None:
    response = serve.ui(session(["Once ", FOREVER]).astream("Write"))
    over: list[RunningAnswer] = []
    answer = RunningAnswer(response, 0.01, over.append)
    answer.stop()
    answer.start()
    await until(lambda: over)
    assert ui_protocol.read(b"".join(answer.pieces), 6).ending == "abort"
