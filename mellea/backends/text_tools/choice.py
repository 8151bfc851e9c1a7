"""Chooses between native tools and the protocol."""

from __future__ import annotations

from mellea.core.backend import Backend

__all__ = ["with_tools"]


def with_tools(backend: Backend) -> Backend:
    """Return the backend if its model calls tools natively, else a wrapper that uses a JSON protocol."""
    if backend.capabilities.tools:
        return backend
    from mellea.backends.text_tools.backend import TextToolsBackend  # lazy: most models have tools

    return TextToolsBackend(backend)
