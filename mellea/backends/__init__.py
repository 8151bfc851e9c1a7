"""Backends: each one reaches models of one kind, and turns a `Request` into events.

What lives here imports `mellea.core` and `mellea.errors` only; backends don't know each other. Read
`mellea/core/backend.py` first, then the room of one backend.
"""

from mellea.backends.fallback import FallbackBackend
from mellea.backends.registry import get_backend, list_models, probe
from mellea.backends.wrapped import WrappedBackend, open_stream
from mellea.core.backend import (
    Backend,
    BuiltinTool,
    Capabilities,
    OutputSchema,
    Request,
    ToolExample,
    ToolSpec,
    check_supported,
)
from mellea.core.options import Deadlines, ModelOption

__all__ = [
    "Backend",
    "BuiltinTool",
    "Capabilities",
    "Deadlines",
    "FallbackBackend",
    "ModelOption",
    "OutputSchema",
    "Request",
    "ToolExample",
    "ToolSpec",
    "WrappedBackend",
    "check_supported",
    "get_backend",
    "list_models",
    "open_stream",
    "probe",
]
