"""A backend that adds tools to a model without native ones."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

from mellea.backends.http.call_ids import CallIds
from mellea.backends.text_tools.decode import ProtocolDecoder, ProtocolRules
from mellea.backends.text_tools.encode import correct, encode, needs_protocol, without_choice
from mellea.backends.wrapped import WrappedBackend, open_stream
from mellea.core.backend import Backend, Request, check_supported
from mellea.core.events import Event, KeepAlive, StreamEnd, TextDelta, Usage, UsageEvent
from mellea.core.options import ModelOption
from mellea.errors import ParseError, UnsupportedError

__all__ = ["TextToolsBackend"]


class TextToolsBackend(WrappedBackend):
    """Lets a model without native tool support call tools, by a JSON protocol in its text.

    Calls use it automatically if a backend's capabilities have no tools. Create one yourself for a model without
    tools whose provider's other models have them.

    The events are those of native tools. A text that breaks the protocol is rejected without being shown, and the
    model is asked once more.

    Args:
        backend: the model's backend.
        model_options: defaults for every request, before those of the backend.

    Raises:
        UsageError: there is no backend, or an option has a bad value.
    """

    def __init__(self, backend: Backend, *, model_options: Mapping[str, Any] | None = None) -> None:
        super().__init__(backend, model_options=model_options)
        can = backend.capabilities
        self.capabilities = replace(can, tools=True, options=can.options | {str(ModelOption.TOOL_CHOICE)})

    def run(self, request: Request) -> AsyncIterator[Event]:
        """Yield the model's events; it is asked once more if its text breaks the protocol.

        Raises:
            ParseError: the second text breaks it, too.
            UnsupportedError: the request asks for something else that the backend can't do.
        """
        if not needs_protocol(request):
            return self.backend.run(without_choice(request))
        check_supported(self, request)
        return self._speak(request)

    def wire_payload(self, request: Request) -> Mapping[str, Any] | None:
        """Return what the backend sends for a request in the protocol."""
        if not needs_protocol(request):
            return self.backend.wire_payload(without_choice(request))
        try:
            return self.backend.wire_payload(self._encode(request, self._can_hold(request))[0])
        except UnsupportedError:
            return self.backend.wire_payload(self._encode(request, False)[0])

    def _encode(self, request: Request, is_held: bool) -> tuple[Request, ProtocolRules | None]:
        return encode(request, is_held=is_held, defaults=self.backend.model_options)

    def _can_hold(self, request: Request) -> bool:
        is_begun = bool(request.messages) and request.messages[-1].role == "assistant"
        return self.backend.capabilities.structured_output == "native" and not is_begun

    async def _speak(self, request: Request) -> AsyncGenerator[Event, None]:
        has_begun, is_held = False, self._can_hold(request)
        try:
            async with aclosing(self._converse(request, is_held)) as events:
                async for event in events:
                    has_begun = True
                    yield event
            return
        except UnsupportedError:
            if has_begun or not is_held:
                raise
        # A tool has a schema that can't be enforced, or there are too many: the prompt only describes it.
        async with aclosing(self._converse(request, False)) as events:
            async for event in events:
                yield event

    async def _converse(self, request: Request, is_held: bool) -> AsyncGenerator[Event, None]:
        """Send the request, and once more if the text breaks the protocol."""
        encoded, rules = self._encode(request, is_held)
        if rules is None:
            async with open_stream(self.backend, encoded) as plain:
                async for event in plain:
                    yield event
            return
        seed = f"{len(request.messages)} {request.messages[-1].text if request.messages else ''}"
        make_id = partial(CallIds().make_id, "", seed)
        first = _Attempt(ProtocolDecoder(rules, make_id))
        async with aclosing(first.read(self.backend, encoded)) as events:
            async for event in events:
                yield event
        if (problem := first.problem) is None:
            return
        yield KeepAlive(is_restart=True)
        second = _Attempt(ProtocolDecoder(rules, make_id), first.usage)
        async with aclosing(second.read(self.backend, correct(encoded, rules.begun + first.text, problem))) as events:
            async for event in events:
                yield event
        if second.problem is not None:
            raise ParseError(
                f"the model {self.model_id!r} was asked twice and wrote neither a tool call nor an answer: "
                f"{second.problem} It wrote {_shorten(second.text)!r}; give it fewer or simpler tools, or use a model "
                "with tools of its own",
                raw=second.text,
            )


class _Attempt:
    """One answer of the model, which isn't shown if it breaks the protocol.

    Attributes:
        text: what the model wrote, where it breaks the protocol.
        usage: tokens used, including those of the previous attempt.
    """

    def __init__(self, decoder: ProtocolDecoder, before: Usage | None = None) -> None:
        self._decoder = decoder
        self._before = before
        self._texts: list[str] = []
        self.usage = before

    @property
    def problem(self) -> str | None:
        return self._decoder.problem

    @property
    def text(self) -> str:
        return "".join(self._texts)

    async def read(self, backend: Backend, request: Request) -> AsyncGenerator[Event, None]:
        """Yield the events, up to a breach of the protocol."""
        own = Usage()
        async with open_stream(backend, request) as events:
            async for event in events:
                if isinstance(event, UsageEvent):
                    own = own.merge(event.usage)
                    self.usage = own if self._before is None else self._before + own
                    yield UsageEvent(self.usage)
                    continue
                shown = self._decode(event)
                for each in shown:
                    yield each
                # The rest isn't needed; usage comes before the end, if at all.
                if self.problem is not None:
                    return
                if not shown:
                    yield KeepAlive()  # the model is writing, but there is nothing to show yet

    def _decode(self, event: Event) -> list[Event]:
        if isinstance(event, TextDelta):
            self._texts.append(event.chunk)
            return self._decoder.feed(event.chunk)
        if not isinstance(event, StreamEnd):
            return [event]
        last = self._decoder.close(event.finish_reason)
        if self.problem is not None:
            return []
        if self._decoder.has_called and event.finish_reason == "stop":
            event = replace(event, finish_reason="tool_call")
        return [*last, event]


def _shorten(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"
