"""The request behind an answer, for `thunk.request`."""

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
    """The request that was sent for an answer, without keys. Its attributes are computed when they are read.

    Args:
        backend: the backend that it was sent to.
        request: the request, before it was encoded for a provider.
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
        """The requested model."""
        return self._backend.model_id

    @property
    def server(self) -> tuple[str, int | None] | None:
        """Host and port of the server; `None` for a model in this process."""
        return self._backend.server

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation, oldest first."""
        return self._request.messages

    @property
    def tools(self) -> tuple[ToolSpec | BuiltinTool, ...]:
        """The tools offered to the model."""
        return tuple(
            replace(tool, config=hide_keys(tool.config)) if isinstance(tool, BuiltinTool) else tool
            for tool in self._request.tools
        )

    @property
    def output_schema(self) -> OutputSchema | None:
        """The schema that the answer had to match."""
        return self._request.output_schema

    @property
    def options(self) -> Mapping[str, Any]:
        """The model options, merged."""
        options = self._request.options
        return {name: hide_keys(value) if name in MAY_HOLD_KEYS else value for name, value in options.items()}

    @property
    def deadlines(self) -> Deadlines:
        """The deadlines of the request."""
        return self._request.deadlines

    @property
    def payload(self) -> Mapping[str, Any] | None:
        """The JSON body in the provider's own format; `None` if the backend sends none."""
        return self._backend.wire_payload(self._request)

    def __repr__(self) -> str:
        names = ", ".join(self._request.options)
        return (
            f"<SentRequest to {self.backend}/{self.model}: {len(self.messages)} messages, "
            f"{len(self._request.tools)} tools, options: {names or 'none'}>"
        )
