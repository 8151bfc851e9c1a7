"""What was sent for an answer, as `thunk.request` shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mellea.core.backend import Backend, BuiltinTool, OutputSchema, Request, ToolSpec
from mellea.core.masking import hide_keys
from mellea.core.messages import Message
from mellea.core.options import MAY_HOLD_KEYS, Deadlines

__all__ = ["SentRequest"]


class SentRequest:
    """The request that an answer came from, without keys. It is put together when it is looked at.

    Args:
        backend: whom it was sent to.
        request: what was sent, in nobody's wire format.
    """

    __slots__ = ("_backend", "_request")

    def __init__(self, backend: Backend, request: Request) -> None:
        self._backend = backend
        self._request = request

    @property
    def backend(self) -> str:
        """Name of the provider that was asked."""
        return self._backend.name

    @property
    def model(self) -> str:
        """The model that was asked for."""
        return self._backend.model_id

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation, oldest first."""
        return self._request.messages

    @property
    def tools(self) -> tuple[ToolSpec | BuiltinTool, ...]:
        """The tools that the model was offered."""
        return tuple(
            replace(tool, config=hide_keys(tool.config)) if isinstance(tool, BuiltinTool) else tool
            for tool in self._request.tools
        )

    @property
    def output_schema(self) -> OutputSchema | None:
        """What the answer had to match."""
        return self._request.output_schema

    @property
    def options(self) -> Mapping[str, Any]:
        """The model options, merged."""
        options = self._request.options
        return {name: hide_keys(value) if name in MAY_HOLD_KEYS else value for name, value in options.items()}

    @property
    def deadlines(self) -> Deadlines:
        """How long was to be waited."""
        return self._request.deadlines

    @property
    def payload(self) -> Mapping[str, Any] | None:
        """The JSON body that went over the wire, in the provider's own format; `None` where there is no wire."""
        return self._backend.wire_payload(self._request)

    def __repr__(self) -> str:
        names = ", ".join(self._request.options)
        return (
            f"<SentRequest to {self.backend}/{self.model}: {len(self.messages)} messages, "
            f"{len(self._request.tools)} tools, options: {names or 'none'}>"
        )
