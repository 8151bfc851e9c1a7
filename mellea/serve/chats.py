"""The chats of a server's models: a `Chat` for each model and each version of the AI SDK, behind one address."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, cast

from mellea.serve.ai_sdk.chat import Chat
from mellea.serve.ai_sdk.parts import Version
from mellea.serve.json_response import respond_json
from mellea.serve.response import FixedResponse, StreamResponse
from mellea.serve.served_models import ServedModel

__all__ = ["Chats"]


class Chats:
    """Answers chats; the request's `model` names who answers, by default the first model.

    Args:
        models: the served models, by id.
        store: the file that workers share.
        secret: signs questions about approvals.
    """

    def __init__(
        self, models: Mapping[str, ServedModel], *, store: str | os.PathLike[str] | None, secret: str | bytes | None
    ) -> None:
        self._models = models
        self._store, self._secret = store, secret
        self._chats: dict[tuple[int, str], Chat] = {}
        self._find_chat(7, next(iter(models)))  # reports a wrong secret now

    async def answer(self, version: int, body: Any) -> FixedResponse | StreamResponse:
        """Return the response to a request of a client of that version."""
        name = body.get("model") if isinstance(body, Mapping) else None
        model = next(iter(self._models)) if name is None else name
        if not isinstance(model, str) or model not in self._models:
            return respond_json({"error": f"there is no model {str(name)[:100]!r} here"}, status=404)
        return await self._find_chat(version, model).answer(body, owner=model)

    async def resume(self, chat: str) -> FixedResponse | StreamResponse:
        """Return the running answer of a chat, or 204."""
        # The request doesn't name the version of the chat, so all are tried. A copy, since chats may be added during
        # a wait.
        for (_, model), each in list(self._chats.items()):
            response = await each.resume(chat, owner=model)
            if not isinstance(response, FixedResponse):
                return response
        return FixedResponse(204)

    async def stop(self, chat: str) -> bool:
        """Stop the running answer of a chat; returns whether there was one."""
        stopped = [await each.stop(chat, owner=model) for (_, model), each in list(self._chats.items())]
        return any(stopped)

    def _find_chat(self, version: int, model: str) -> Chat:
        chat = self._chats.get((version, model))
        if chat is None:
            served = self._models[model]
            chat = self._chats[version, model] = Chat(
                served.chat_program(),
                version=cast("Version", version),
                store=self._store,
                secret=self._secret,
                data="result" if served.has_type else None,
            )
        return chat
