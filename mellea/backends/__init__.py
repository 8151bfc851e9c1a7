"""Backends: each one reaches models of one kind, and turns a `Request` into events."""

# What lives here imports `mellea.core` and `mellea.errors` only; backends don't know each other. Read
# `mellea/core/backend.py` first, then the room of one backend.

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mellea._lazy_exports import lazily
from mellea.core.backend import (
    Backend,
    BuiltinTool,
    Capabilities,
    OutputSchema,
    Request,
    ToolExample,
    ToolSpec,
    check_supported,
    set_provider_finder,
)
from mellea.core.options import Deadlines, ModelOption

if TYPE_CHECKING:
    from mellea.backends.fallback import FallbackBackend as FallbackBackend
    from mellea.backends.registry import get_backend as get_backend
    from mellea.backends.registry import list_models as list_models
    from mellea.backends.registry import probe as probe
    from mellea.backends.wrapped import WrappedBackend as WrappedBackend
    from mellea.backends.wrapped import open_stream as open_stream

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

__getattr__ = lazily(
    __name__,
    {
        "FallbackBackend": "mellea.backends.fallback",
        "WrappedBackend": "mellea.backends.wrapped",
        "get_backend": "mellea.backends.registry",
        "list_models": "mellea.backends.registry",
        "open_stream": "mellea.backends.wrapped",
        "probe": "mellea.backends.registry",
    },
)


def _find_providers(capability: str) -> Sequence[str]:
    from mellea.backends.registry import list_providers_with  # lazy: only errors need it

    return list_providers_with(capability)


set_provider_finder(_find_providers)  # the core says which backends have a feature, and names no provider itself
