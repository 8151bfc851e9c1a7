"""`mellea.serve.Chat(program)`: the server's side of `useChat`, with approvals, resuming and stopping.

Rules:

- A chat has one answer at a time: a new message stops the one that is being written.
- The state of a run that waits for approvals stays on the server. The client's data only answers its questions, each of
  them once; the agent's policy is asked again when the run continues.
- Several workers share a file, `store`; without one a chat's answers and states live in this process.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, cast

import anyio

from mellea.core.runtime.loop import launch
from mellea.core.runtime.tasks import run_in_thread
from mellea.errors import StateError, UsageError
from mellea.serve.ai_sdk.messages import LARGEST_BODY, ChatRequest, chat_request
from mellea.serve.ai_sdk.parts import Version
from mellea.serve.ai_sdk.running import RunningAnswer
from mellea.serve.ai_sdk.store import ChatStore, LogPage, Waiting
from mellea.serve.ai_sdk.ui_stream import UI_HEADERS, UiEncoder, approval_id
from mellea.serve.event_stream import DONE, write_data
from mellea.serve.response import (
    Encoder,
    Ending,
    ErrorText,
    FixedResponse,
    Receive,
    Scope,
    Send,
    StreamResponse,
    describe_error,
    read_body,
)
from mellea.serve.served_stream import ServedStream, Streamable
from mellea.stdlib.agents import Agent, Pending
from mellea.stdlib.agents.signing import find_secret
from mellea.stdlib.session import MelleaSession
from mellea.stdlib.tools import Deny, Question

__all__ = ["Chat", "ChatProgram"]

_log = logging.getLogger("mellea.serve")

ChatProgram = Agent[Any] | MelleaSession | Callable[[ChatRequest], Any]
"""What answers: an agent, a session's model, or a function of a `ChatRequest` that returns one of them, or a stream."""

_NEVER_SECONDS = 1e9
_QUICK_LENGTH = 32 * 1024
"""Bytes that are parsed on the loop."""

_LOOK_SECONDS = 0.05
"""How often written data is copied for other workers, and polled by them."""

_IDLE_SECONDS = 0.5
"""How often a worker checks whether another one wants an answer stopped."""


class Chat:
    """A chat endpoint for the AI SDK's clients: an ASGI application, whose three operations are also methods.

    As an application it accepts `POST` with a chat, `GET …/ID/stream` to resume an answer, and `DELETE …/ID/stream` to
    stop it.

    Args:
        program: an agent; a session, whose model gets the messages; or a function of a `ChatRequest`, sync or async,
            that returns one of these, or a stream. An agent's questions can only be answered if the function returns
            the agent itself, not a stream of it.
        version: the major version of the clients' package `ai`: 5, 6 or 7.
        secret: signs questions about approvals, so that an answer counts only with the server's signature; by default
            `MELLEA_SECRET` from the environment.
        store: an SQLite file that the workers of a server share; it holds the answers that are being written, and the
            states of runs that wait.
        grace: seconds for which an answer continues without a reader, for clients that come back; then the model is
            stopped. With 0 it is stopped as soon as the client leaves.
        data: a name under which the typed result is sent; see `ui`.
        trusts_system: whether system prompts in a client's history are kept.
        limit: the maximum size of a request in bytes.
        most: how many answers may be written at the same time; further requests get the status 503.
        shows_attempts: whether clients are notified of rejected attempts.
        error_text: makes the text of an error for the client; see `ui`.

    Raises:
        UsageError: an argument is wrong.
    """

    def __init__(
        self,
        program: ChatProgram,
        *,
        version: Version = 6,
        secret: str | bytes | None = None,
        store: str | os.PathLike[str] | None = None,
        grace: float = 30.0,
        data: str | None = None,
        trusts_system: bool = False,
        limit: int = LARGEST_BODY,
        most: int = 1000,
        shows_attempts: bool = False,
        error_text: ErrorText = None,
    ) -> None:
        if not (isinstance(program, (Agent, MelleaSession)) or callable(program)):
            raise UsageError(f"Chat takes an agent, a session or a function of a ChatRequest, not {program!r}")
        if isinstance(grace, bool) or not isinstance(grace, (int, float)) or not grace >= 0:
            raise UsageError(f"grace takes a number of seconds from 0, not {grace!r}")
        self._program = program
        self._secret = find_secret(secret)
        self._make_encoder = partial(
            UiEncoder,
            version,
            data=data,
            secret=self._secret,
            shows_attempts=shows_attempts,
            error_text=error_text,
        )
        self._make_encoder()  # a wrong argument is an error now
        self._store = ChatStore(":memory:" if store is None else store)
        self._is_shared = store is not None
        self._grace, self._trusts_system, self._limit, self._most = grace, trusts_system, limit, most
        self._error_text = error_text
        self._answers: dict[str, RunningAnswer] = {}

    # -- what it does ---------------------------------------------------------------------------------

    async def answer(
        self, request: bytes | str | Mapping[str, Any] | ChatRequest, *, owner: str = ""
    ) -> StreamResponse | FixedResponse:
        """Return the response to a `POST`.

        Args:
            request: the body, its JSON, or the result of `chat_request`.
            owner: whose chat it is. Clients choose the ids of chats, so a server with several users passes the user
                here; no owner can reach another's chats.
        """
        try:
            asked = request if isinstance(request, ChatRequest) else await self._read(request)
        except UsageError as error:
            return _refuse(400, str(error))
        if len(self._answers) >= self._most:
            return _refuse(503, "too many answers are being written; try again later", {"retry-after": "5"})
        chat = _make_key(owner, asked.id)
        # Before the new one begins: both would write about the same history.
        self._stop_earlier(chat)
        try:
            stream, encoder = await self._begin(chat, asked)
        except UsageError as error:
            return _refuse(409, str(error))
        self._stop_earlier(chat)  # which may have arrived in the meantime
        # Its reader is the log, which always takes at once; keep-alives are sent by the responses that read the log.
        response = StreamResponse(stream, encoder, keep_alive=_NEVER_SECONDS, stall=_NEVER_SECONDS)
        answer = RunningAnswer(response, self._grace, partial(self._forget, chat))
        self._answers[chat] = answer
        if self._is_shared:
            name = uuid.uuid4().hex
            await run_in_thread(self._store.begin, chat, name)
            # In a task of its own, so that a slow disk doesn't slow the answer.
            launch(partial(self._mirror, chat, name, answer), _do_nothing)
        answer.start()
        return self._respond(answer.read())

    async def resume(self, chat_id: str, *, owner: str = "") -> StreamResponse | FixedResponse:
        """Return the response to a `GET`: the whole answer that is being written, or 204 if there is none.

        Args:
            chat_id: the chat.
            owner: see `answer`.
        """
        chat = _make_key(owner, chat_id)
        # The answer of this worker is in memory, which is faster than the file, and complete.
        if (answer := self._answers.get(chat)) is not None:
            return self._respond(answer.read())
        page = await run_in_thread(self._store.read, chat) if self._is_shared else None
        if page is None or page.is_broken:
            return FixedResponse(204)
        return self._respond(_SharedReader(self._store, chat, page))

    async def stop(self, chat_id: str, *, owner: str = "") -> bool:
        """Stop the answer that is being written, on whichever worker; its readers get `abort`.

        Args:
            chat_id: the chat.
            owner: see `answer`.

        Returns:
            Whether there was one.
        """
        chat = _make_key(owner, chat_id)
        if (answer := self._answers.get(chat)) is not None and not answer.has_ended:
            answer.stop()
            return True
        return self._is_shared and await run_in_thread(self._store.stop, chat)

    # -- as an application ----------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            raise UsageError(f"a chat answers HTTP requests, not {scope['type']!r}")
        response = await self._handle(scope, receive)
        await response(scope, receive, send)

    async def _handle(self, scope: Scope, receive: Receive) -> StreamResponse | FixedResponse:
        if scope["method"] == "POST":
            if _read_media_type(scope) != "application/json":  # another site's form can't send this unasked
                return _refuse(415, "the request has to be application/json")
            body = await read_body(receive, self._limit)
            return (
                _refuse(413, "the request is too long, or took too long") if body is None else await self.answer(body)
            )
        chat = _find_chat_id(scope)
        if chat is None:
            return _refuse(404, "there is nothing at this path")
        if scope["method"] == "GET":
            return await self.resume(chat)
        if scope["method"] == "DELETE":
            return FixedResponse(204) if await self.stop(chat) else _refuse(404, "no answer is being written")
        return _refuse(405, "the method isn't supported", {"allow": "POST, GET, DELETE"})

    # -- inside ---------------------------------------------------------------------------------------

    async def _read(self, request: bytes | str | Mapping[str, Any]) -> ChatRequest:
        read = partial(chat_request, secret=self._secret, trusts_system=self._trusts_system, limit=self._limit)
        if isinstance(request, (bytes, str)) and len(request) <= _QUICK_LENGTH:
            return read(request)
        return await run_in_thread(read, request)  # which may take a while

    async def _begin(self, chat: str, asked: ChatRequest) -> tuple[Streamable, UiEncoder]:
        """Return what answers, and what writes it.

        Raises:
            UsageError: the request answers a question that wasn't asked.
        """
        message_id = asked.message_id or f"msg-{uuid.uuid4().hex}"
        make = partial(self._make_encoder, message_id=message_id, keep=partial(self._keep, chat))
        # Before the state is taken: a function that fails must not use up the state of a run that waits.
        program = await self._choose(asked)
        waiting = await run_in_thread(self._store.take, chat)
        if waiting is not None and isinstance(program, Agent):
            pending = Pending.from_json(waiting.state)
            answers, denied = _find_answers(pending, waiting, asked)
            if answers:
                stream = await program.aresume_stream(pending, answers)
                return stream, make(denied=denied, calls=waiting.calls)
            if asked.message_id is not None:  # otherwise the user has written something new, which drops the questions
                # Restored: a request that matches nothing mustn't cost the user the run.
                await run_in_thread(self._store.keep, chat, waiting)
                raise UsageError("the chat is waiting for answers to its questions, and the request has none of them")
        elif asked.replies:
            raise UsageError("the question is unknown, was answered before, or is too old")
        if not isinstance(program, (Agent, MelleaSession)):
            return program, make()
        if not asked.messages:
            raise UsageError("the request has no message to answer")
        return program.astream(list(asked.messages)), make()

    async def _choose(self, asked: ChatRequest) -> Agent[Any] | MelleaSession | Streamable:
        """Return what answers; a function may choose an agent or a session, or make the stream itself."""
        if isinstance(self._program, (Agent, MelleaSession)):
            return self._program
        try:
            if inspect.iscoroutinefunction(self._program):
                chosen = await self._program(asked)
            else:
                chosen = await run_in_thread(self._program, asked)
                chosen = await chosen if inspect.iscoroutine(chosen) else chosen  # a stream isn't awaited
        except Exception as error:  # noqa: BLE001 - of the user's function; it is the stream that fails
            return _Failing(error)
        return cast("Agent[Any] | MelleaSession | Streamable", chosen)

    def _stop_earlier(self, chat: str) -> None:
        if (earlier := self._answers.pop(chat, None)) is not None:
            earlier.stop()

    async def _keep(self, chat: str, pending: Pending, calls: Mapping[str, str]) -> None:
        await run_in_thread(self._store.keep, chat, Waiting(pending.to_json(), dict(calls)))

    def _respond(self, pieces: AsyncIterator[bytes]) -> StreamResponse:
        return StreamResponse(pieces, _LogEncoder(self._error_text))

    def _forget(self, chat: str, answer: RunningAnswer) -> None:
        # A newer answer of the chat may be here by now.
        if self._answers.get(chat) is answer:
            del self._answers[chat]

    async def _mirror(self, chat: str, name: str, answer: RunningAnswer) -> None:
        """Copy an answer into the file for other workers, until it is over."""
        number = taken = 0
        try:
            while True:
                # In this order: the event first, so that nothing written after the check is missed.
                news, is_over, has_ended = answer.news(), answer.is_over, answer.has_ended
                pieces = answer.pieces[taken:]
                taken += len(pieces)
                is_stopped, is_read = await run_in_thread(
                    self._store.write, chat, name, number, b"".join(pieces), has_ended
                )
                number += bool(pieces)
                answer.count(elsewhere=is_read)
                if is_stopped:
                    answer.stop()
                if is_over:
                    break
                # The minimum time between two writes, since all workers share the file.
                await anyio.sleep(_LOOK_SECONDS)
                with anyio.move_on_after(_IDLE_SECONDS):
                    await news.wait()
            await run_in_thread(self._store.forget, chat, name)
        except anyio.get_cancelled_exc_class():
            raise
        except Exception:  # noqa: BLE001 - a task of its own; the answer goes on without it
            _log.exception("an answer can't be shared with other workers")


class _LogEncoder(Encoder):
    """Passes on bytes that are already encoded."""

    headers: ClassVar[Mapping[str, str]] = UI_HEADERS

    def __init__(self, error_text: ErrorText) -> None:
        self._error_text = error_text

    def read(self, source: ServedStream) -> Sequence[AsyncIterator[Any]]:
        """Read the pieces of the log."""
        return [source.values()]

    def feed(self, value: bytes) -> bytes:
        """Return the piece."""
        return value

    def finish(self, ending: Ending) -> bytes:
        """Return nothing: the log has its own end, unless it broke off."""
        if ending.error is None:
            return b""
        return write_data({"type": "error", "errorText": describe_error(ending.error, self._error_text)}) + DONE


class _SharedReader(AsyncIterator[bytes]):
    """Reads an answer that another worker writes."""

    def __init__(self, store: ChatStore, chat: str, page: LogPage) -> None:
        self._store, self._chat = store, chat
        self._page: LogPage | None = page
        self._answer, self._number, self._has_ended = page.answer, page.number, False

    async def __anext__(self) -> bytes:
        while not self._has_ended:
            page, self._page = self._page, None
            # Polled: SQLite tells no other process that something was written.
            if page is None:
                await anyio.sleep(_LOOK_SECONDS)
                page = await run_in_thread(self._store.read, self._chat, self._answer, self._number)
            if page is None or page.is_broken:
                raise StateError("the answer was interrupted: the worker that wrote it is gone")
            self._number, self._has_ended = page.number, page.has_ended
            if page.data:
                return page.data
        raise StopAsyncIteration


class _Failing(AsyncIterator[Any]):
    def __init__(self, error: Exception) -> None:
        self._error = error

    async def __anext__(self) -> Any:
        # Raised from a stream, so that the error reaches the client and the log in the usual way.
        raise self._error


def _find_answers(pending: Pending, waiting: Waiting, asked: ChatRequest) -> tuple[dict[str, Any], set[str]]:
    """Return the answers to the questions of a run, by their ids, and the calls that were declined."""
    answers: dict[str, Any] = {}
    denied: set[str] = set()
    for question in pending.questions:
        answer = _find_answer(pending, question, waiting, asked)
        if answer is None:
            continue
        answers[question.id] = answer
        if question.kind == "approval" and answer is not True and not question.path:
            denied.add(question.call.tool_call_id)
    return answers, denied


def _find_answer(pending: Pending, question: Question, waiting: Waiting, asked: ChatRequest) -> Any:
    # In versions 5 to 7 alike, an approval is identified by the ids of the state and the question.
    if question.kind == "approval":
        reply = asked.replies.get(approval_id(pending, question))
        if reply is None or reply.approved:
            return None if reply is None else True
        return Deny(reply.reason) if reply.reason else False
    call = question.call.tool_call_id
    output = asked.results.get(waiting.calls.get(call, call))
    if output is None:
        return None
    return Deny(str(output.result)) if output.is_error else output.result


def _make_key(owner: str, chat_id: str) -> str:
    # As JSON, so that no combination of owner and chat produces another pair's key.
    return json.dumps([owner, chat_id])


def _find_chat_id(scope: Scope) -> str | None:
    """Return the chat's id in a path that ends with `/ID/stream`."""
    given = scope.get("path_params", {}).get("id")
    if isinstance(given, str):
        return given
    *_, chat, last = ["", "", *str(scope["path"]).split("/")]
    return chat if chat and last == "stream" else None


def _read_media_type(scope: Scope) -> str:
    given = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    return str(given.decode("latin-1").partition(";")[0].strip().lower())


def _refuse(status: int, why: str, headers: Mapping[str, str] | None = None) -> FixedResponse:
    _log.warning("a request was refused with %d: %s", status, why)
    return FixedResponse(status, json.dumps({"error": why}).encode(), headers=headers)


def _do_nothing() -> None:
    """Nobody waits for the copy."""
