"""`mellea.serve.app(…)`: sessions, agents and functions, served over HTTP as models.

Rules:

- Every request is checked by the guard before its body is read, and its body before anything is launched.
- A client learns what is wrong with its request, but about internal failures only that they happened. The log has no
  content.
- The number of concurrent requests is limited; further ones are immediately told to try again.
- At shutdown, uvicorn lets running answers continue for a moment, and then cancels them: their models are stopped, and
  their clients are notified.
"""

from __future__ import annotations

import functools
import logging
import os
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from mellea.core.entrance import entrance
from mellea.core.numbers import check_whole
from mellea.serve.chats import Chats
from mellea.serve.guard import ClientRequest, Guard, Refused
from mellea.serve.json_response import respond_json
from mellea.serve.openai.endpoints import OpenAIEndpoints
from mellea.serve.openai.failures import ApiError, to_api_error
from mellea.serve.openai.response_store import open_response_store
from mellea.serve.page.render import chat_page
from mellea.serve.response import (
    REQUEST_ID,
    FixedResponse,
    Receive,
    Scope,
    Send,
    StreamResponse,
    log_failure,
    unless_left,
)
from mellea.serve.served_models import make_models

__all__ = ["Application", "app"]

_log = logging.getLogger("mellea.serve")

MAX_BODY = 20_000_000
MAX_REQUESTS = 1_000

Handler = Callable[[ClientRequest], Awaitable[FixedResponse | StreamResponse]]


class Application:
    """An ASGI application; `app(…)` makes it."""

    def __init__(
        self,
        programs: Iterable[Any],
        guard: Guard,
        *,
        store: str | os.PathLike[str] | None,
        secret: str | bytes | None,
        title: str,
        max_requests: int,
    ) -> None:
        check_whole("max_requests", max_requests)
        self.models = make_models(programs)
        self.guard = guard
        self._openai = OpenAIEndpoints(self.models, open_response_store(store))
        # One store and secret for all chats, so that any worker can continue any of them.
        self._chats = Chats(self.models, store=store, secret=secret)
        self._page = chat_page(title, programs=list(self.models), needs_key=guard.has_key)
        self._max_requests = max_requests
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or take part in the server's start and end."""
        if scope["type"] == "lifespan":
            await _run_lifespan(receive, send)
        elif scope["type"] == "http":
            await self._answer(ClientRequest(scope, receive), send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _answer(self, request: ClientRequest, send: Send) -> None:
        request_id = request.scope[REQUEST_ID] = secrets.token_hex(8)
        send = functools.partial(_send_with_id, send, request_id)
        # Before the body is read: a full server shouldn't spend memory on requests that it rejects.
        if self._running >= self._max_requests:
            busy = ApiError(503, "the server is at its limit of concurrent requests; try again later", "server_error")
            await respond_json(busy.body, status=503, headers={"retry-after": "1"})(
                request.scope, request.receive, send
            )
            return
        # Checked and counted without an await in between, so the limit is exact on one loop.
        self._running += 1
        try:
            response = await self._respond(request, request_id)
            await response(request.scope, request.receive, send)
        finally:
            self._running -= 1

    async def _respond(self, request: ClientRequest, request_id: str) -> FixedResponse | StreamResponse:
        try:
            # Before the routes, since even the page and the list of models are hidden from other origins.
            self.guard.check_origin(request)
            return await self._route(request)
        except Refused as error:
            _log.info("%s: refused, %s", request_id, error.code)
            # OpenAI's clients choose their exception by the status, and show the type.
            kind = "authentication_error" if error.status == 401 else "invalid_request_error"
            return _respond_error(ApiError(error.status, error.message, kind, code=error.code))
        except ApiError as error:
            _log.info("%s: %d %s", request_id, error.status, error.code or error.type)
            return _respond_error(error)
        except Exception as error:  # noqa: BLE001 - from whatever the program serves
            # The traceback only goes into the log; it would show a client paths and data.
            log_failure(request_id, error)
            return _respond_error(to_api_error(error))

    async def _route(self, request: ClientRequest) -> FixedResponse | StreamResponse:
        head, _, rest = request.path.removeprefix("/").partition("/")
        # Without a key, for load balancers.
        if head == "health" and not rest:
            return respond_json({"status": "ok"})
        if request.path == "/" and request.method in ("GET", "HEAD"):
            return self._page
        if head == "v1":
            self.guard.check_key(request)
            return await self._route_openai(request, rest)
        if head == "api":
            self.guard.check_key(request)
            return await self._route_chats(request, rest)
        raise _make_not_found_error(request)

    async def _route_chats(self, request: ClientRequest, path: str) -> FixedResponse | StreamResponse:
        # `/api/chat` speaks the page's own version; others are named in the path.
        version, _, rest = path.partition("/") if path.startswith("v") else ("v7", "", path)
        place = rest.split("/")
        if version not in ("v5", "v6", "v7") or place[0] != "chat":
            raise _make_not_found_error(request)
        match request.method, place[1:]:
            case "POST", []:
                return await self._chats.answer(int(version[1:]), await self.guard.read_json(request))
            case "GET", [id, "stream"]:
                return await self._chats.resume(id)
            case "DELETE", [id, "stream"]:
                if await self._chats.stop(id):
                    return FixedResponse(204)
        raise _make_not_found_error(request)

    async def _route_openai(self, request: ClientRequest, path: str) -> FixedResponse | StreamResponse:
        kind, _, id = path.partition("/")
        match request.method, path:
            case "POST", "chat/completions":
                return await self._ask(request, self._openai.complete_chat)
            case "POST", "responses":
                return await self._ask(request, self._openai.respond)
            case "GET" | "HEAD", "models":
                return self._openai.list_models()
        match request.method, kind:
            case "GET" | "HEAD", "models" if id:
                return self._openai.show_model(id)
            case "GET", "responses" if id:
                return await self._openai.show_response(id)
            case "DELETE", "responses" if id:
                return await self._openai.delete_response(id)
        raise _make_not_found_error(request)

    async def _ask(
        self, request: ClientRequest, ask: Callable[[Any], Awaitable[FixedResponse | StreamResponse]]
    ) -> FixedResponse | StreamResponse:
        body = await self.guard.read_json(request)
        # An unstreamed answer sends nothing until its end, so nothing else would notice that the client has gone.
        answer = await unless_left(request.receive, functools.partial(ask, body))
        if answer is None:
            # 499 is nginx's code for this; the client is gone, but the log has it.
            raise Refused(499, "the client has left", "client_left")
        return answer


@entrance(
    "app",
    **dict.fromkeys(("api_key", "token", "password"), "it is 'key' here: key=…"),
    **dict.fromkeys(("host", "port"), "the server takes it: uvicorn.run(mellea.serve.app(…), host=…, port=…)"),
    **dict.fromkeys(("cors", "allow_origins"), "put a middleware around it, such as Starlette's CORSMiddleware"),
    name="it is 'title' here: title=…",
    path="it is 'store' here: store=…",
)
def app(
    *programs: Any,
    key: str | None = None,
    store: str | os.PathLike[str] | None = None,
    secret: str | bytes | None = None,
    title: str = "Chat",
    allowed_hosts: Iterable[str] = (),
    max_body: int = MAX_BODY,
    max_requests: int = MAX_REQUESTS,
) -> Application:
    """Serve sessions, agents and functions: as the models of an OpenAI-compatible server, and on a chat page.

    It is an ASGI application: `uvicorn.run(mellea.serve.app(m, agent))`. Chat completions, responses and the list of
    models are under `/v1`, and a chat page is at `/`. `/api/chat` is the page's `Chat`, in version 7, which clients of
    the AI SDK can use as well; `/api/v6/chat` and `/api/v5/chat` are for clients of earlier versions.

    A model's id is the name of the function or agent, or of a session's model; `{"id": program}` sets another one. A
    function with one string parameter gets the user's last message, one with a `list[Message]` gets all messages, and
    for one with several arguments the last message has to be a JSON object with them. Typed answers are JSON. Only the
    model and the options of a session are used.

    Args:
        programs: sessions, agents, prompt functions and your own functions, or dicts of these by id.
        key: what clients have to send as their API key; without one, everybody who can reach the server gets answers.
        store: an SQLite file for the state that later requests continue from, for several workers; by default it is in
            memory.
        secret: signs questions about approvals, as in `Chat`; by default `MELLEA_SECRET` from the environment.
        title: the title at the top of the chat page.
        allowed_hosts: names of the server besides `localhost` and IP addresses; `"*"` allows all.
        max_body: the maximum size of a request in bytes.
        max_requests: the maximum number of concurrent requests.

    Raises:
        UsageError: an argument is wrong, or one of the programs can't be served.
    """
    guard = Guard(key=key, allowed_hosts=allowed_hosts, max_body=max_body)
    return Application(programs, guard, store=store, secret=secret, title=title, max_requests=max_requests)


def _respond_error(error: ApiError) -> FixedResponse:
    return respond_json(error.body, status=error.status, headers=error.headers)


def _make_not_found_error(request: ClientRequest) -> ApiError:
    return ApiError(404, f"nothing is served at {request.method} {request.path[:100]!r}", code="not_found")


async def _send_with_id(send: Send, request_id: str, message: MutableMapping[str, Any]) -> None:
    """Send a message; the headers with the id of the request, which clients show in their errors."""
    if message["type"] == "http.response.start":
        # A copy: headers of a fixed response, such as the page, are shared by all requests.
        message = {**message, "headers": [*message["headers"], (b"x-request-id", request_id.encode())]}
    await send(message)


async def _run_lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
