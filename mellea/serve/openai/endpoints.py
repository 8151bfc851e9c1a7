"""The endpoints of OpenAI's API."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from typing import Any

from mellea.core.events import Event
from mellea.core.messages import Message
from mellea.core.runtime.tasks import run_together
from mellea.serve.json_response import respond_json
from mellea.serve.openai.chat_request import read_chat_request
from mellea.serve.openai.chat_response import ChatEncoder, ChatFold, Choice
from mellea.serve.openai.failures import ApiError
from mellea.serve.openai.response_store import Kept, ResponseStore
from mellea.serve.openai.responses_request import ResponseRequest, read_response_request
from mellea.serve.openai.responses_response import ResponseEncoder, ResponseFold, Written
from mellea.serve.response import FixedResponse, StreamResponse
from mellea.serve.served_models import ServedModel

__all__ = ["OpenAIEndpoints"]

Answer = FixedResponse | StreamResponse


class OpenAIEndpoints:
    """Models, chat completions and responses.

    Args:
        models: the served models, by id.
        store: keeps responses.
    """

    def __init__(self, models: Mapping[str, ServedModel], store: ResponseStore) -> None:
        self._models = models
        self._store = store
        # The server's start time, since programs have no creation date.
        self._created = int(time.time())

    # -- models ---------------------------------------------------------------------------------------

    def list_models(self) -> FixedResponse:
        """Answer `GET /v1/models`."""
        return respond_json({"object": "list", "data": [self._describe(id) for id in self._models]})

    def show_model(self, id: str) -> FixedResponse:
        """Answer `GET /v1/models/ID`."""
        self._find(id)
        return respond_json(self._describe(id))

    def _describe(self, id: str) -> dict[str, Any]:
        return {"id": id, "object": "model", "created": self._created, "owned_by": "mellea"}

    def _find(self, id: str) -> ServedModel:
        model = self._models.get(id)
        if model is None:
            # Not all of them: a long list would fill the client's terminal.
            known = ", ".join(map(repr, list(self._models)[:10]))
            said = f"the model {id[:100]!r} doesn't exist; this server has {known}"
            raise ApiError(404, said, param="model", code="model_not_found")
        return model

    # -- chat completions -----------------------------------------------------------------------------

    async def complete_chat(self, body: Any) -> Answer:
        """Answer `POST /v1/chat/completions`.

        Raises:
            ApiError: the request is wrong.
            MelleaError: there is no answer.
        """
        request = read_chat_request(body)
        model = self._find(request.model)
        fold = ChatFold(request.model, request.choices)
        answers = [model.answer(request.asked) for _ in range(request.choices)]
        if request.is_stream:
            encoder = ChatEncoder(fold, request.choices, has_usage=request.has_usage, answers=answers)
            return StreamResponse(_Answers(answers), encoder)

        async def read(index: int, answer: AsyncGenerator[Event, None]) -> None:
            async with aclosing(answer):
                async for event in answer:
                    fold.feed(Choice(index, event))

        # Concurrently, since the response needs all of them.
        await run_together([_call(read, index, answer) for index, answer in enumerate(answers)])
        return respond_json(fold.write())

    # -- responses ------------------------------------------------------------------------------------

    async def respond(self, body: Any) -> Answer:
        """Answer `POST /v1/responses`.

        Raises:
            ApiError: the request is wrong.
            MelleaError: there is no answer.
        """
        request = read_response_request(body)
        model = self._find(request.model)
        # The earlier messages without their instructions, which OpenAI doesn't carry over either.
        earlier = await self._find_earlier(request)
        said = (*earlier, *request.messages)
        system = () if request.instructions is None else (Message("system", request.instructions),)
        asked = replace(request.asked, messages=(*system, *said))
        fold = ResponseFold(request.model, request.echo, is_stored=request.is_stored)
        written = self._write_response(model.answer(asked), fold, request, said)
        if request.is_stream:
            return StreamResponse(written, ResponseEncoder(fold))
        # Read to its end, since writing fills the fold, and stores the response.
        async for _ in written:
            pass
        return respond_json(fold.write(fold.status))

    async def _find_earlier(self, request: ResponseRequest) -> tuple[Message, ...]:
        if request.previous is None:
            return ()
        kept = await self._store.get(request.previous)
        if kept is None:
            said = (
                f"the response {request.previous[:100]!r} isn't stored here, or no longer; send the whole conversation"
            )
            raise ApiError(400, said, param="previous_response_id", code="previous_response_not_found")
        return kept.messages

    async def _write_response(
        self,
        answer: AsyncGenerator[Event, None],
        fold: ResponseFold,
        request: ResponseRequest,
        said: tuple[Message, ...],
    ) -> AsyncGenerator[Written, None]:
        """Write the events of a response; it is stored before its end is sent, so that it can be continued
        immediately."""
        async with aclosing(answer):
            async for event in answer:
                for written in fold.feed(event):
                    yield written
        for written in fold.close():
            yield written
        if request.is_stored:
            response = fold.write(fold.status)
            await self._store.put(fold.id, Kept(request.model, response, (*said, fold.message)))
        for written in fold.finish():
            yield written

    async def show_response(self, id: str) -> FixedResponse:
        """Answer `GET /v1/responses/ID`.

        Raises:
            ApiError: it isn't kept.
        """
        kept = await self._store.get(id)
        if kept is None:
            raise _make_not_kept_error(id)
        return respond_json(kept.response)

    async def delete_response(self, id: str) -> FixedResponse:
        """Answer `DELETE /v1/responses/ID`.

        Raises:
            ApiError: it isn't kept.
        """
        if not await self._store.delete(id):
            raise _make_not_kept_error(id)
        return respond_json({"id": id, "object": "response", "deleted": True})


def _make_not_kept_error(id: str) -> ApiError:
    return ApiError(404, f"the response {id[:100]!r} isn't stored here, or no longer", param="response_id")


class _Answers(AsyncIterator[Event]):
    """Several answers as one source, which a response stops together; its encoder reads them in parallel."""

    def __init__(self, answers: Sequence[AsyncGenerator[Event, None]]) -> None:
        self._answers = answers

    async def __anext__(self) -> Event:
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Stop all of them, even if one fails to stop."""
        async with AsyncExitStack() as stack:
            for answer in self._answers:
                stack.push_async_callback(answer.aclose)


def _call(function: Any, *args: Any) -> Any:
    return lambda: function(*args)
