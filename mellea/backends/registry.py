"""From a model's name to its backend: `"provider/model"`, and the environment."""

from __future__ import annotations

import difflib
import importlib
import os
from typing import Any, cast

from mellea.core.backend import Backend
from mellea.errors import ConfigurationError, UsageError

__all__ = ["DEFAULT_MODEL", "PROVIDERS", "get_backend"]

DEFAULT_MODEL = "llama_cpp/smollm2-135m"
"""The embedded model, which is there without a key, a server or a network."""

PROVIDERS: dict[str, str] = {
    "llama_cpp": "mellea.backends.llama_cpp:LlamaCppBackend",
}
"""Names of the providers, and the class that reaches each."""


def get_backend(model: str | None = None, model_id: str | None = None, **backend_kwargs: Any) -> Backend:
    """Make the backend of a model. Nothing is loaded or connected to.

    Args:
        model: `"provider/model"`, or the provider alone. `MELLEA_MODEL` in the environment stands in for
            it, and else it is the embedded model.
        model_id: the model, where `model` is the provider alone.
        backend_kwargs: for the backend's class, such as `base_url`.

    Raises:
        ConfigurationError: the provider is unknown.
    """
    for name, value in (("model", model), ("model_id", model_id)):
        if value is not None and (not isinstance(value, str) or not value.strip()):
            raise UsageError(f"{name} takes a text such as {DEFAULT_MODEL!r}, not {value!r}")
    provider, _, named = (model or os.environ.get("MELLEA_MODEL") or DEFAULT_MODEL).partition("/")
    if provider not in PROVIDERS:
        raise ConfigurationError(f"unknown model {model or os.environ.get('MELLEA_MODEL')!r}: {_advice(provider)}")
    module, _, cls = PROVIDERS[provider].partition(":")
    factory = getattr(importlib.import_module(module), cls)  # lazy: a provider costs only those who use it
    chosen = model_id or named
    return cast("Backend", factory(chosen, **backend_kwargs) if chosen else factory(**backend_kwargs))


def _advice(provider: str) -> str:
    near = difflib.get_close_matches(provider, PROVIDERS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    known = ", ".join(map(repr, sorted(PROVIDERS)))
    return f"there is no provider {provider!r}; {hint}a model is named 'provider/model', and the providers are {known}"
