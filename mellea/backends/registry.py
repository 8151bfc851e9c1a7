"""From a model's name to its backend: `"provider/model"`, the environment, and chains of models."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

from mellea.backends.model_names import advice_for_argument, advice_for_model
from mellea.core.backend import Backend
from mellea.core.options import ModelOption
from mellea.core.results import Probe
from mellea.core.tracebacks import short_errors
from mellea.errors import ConfigurationError, UsageError

__all__ = ["DEFAULT_MODEL", "PROVIDERS", "get_backend", "list_models", "probe", "providers"]

DEFAULT_MODEL = "llama_cpp/smollm2-135m"
"""The embedded model, which is there without a key, a server or a network."""

PROVIDERS: Mapping[str, str] = {
    "anthropic": "mellea.backends.anthropic:AnthropicBackend",
    "gemini": "mellea.backends.gemini:GeminiBackend",
    "llama_cpp": "mellea.backends.llama_cpp:LlamaCppBackend",
    "ollama": "mellea.backends.ollama:OllamaModelBackend",
    "openai": "mellea.backends.openai:OpenAIBackend",
}
"""The providers with a room of their own, and the class that reaches each."""

_REMOTE = frozenset({"api_key", "base_url", "headers", "client", "retries"})
"""Arguments that the embedded model has no use for."""


@short_errors
def get_backend(
    model: str | os.PathLike[str] | Sequence[str] | None = None, model_id: str | None = None, **backend_kwargs: Any
) -> Backend:
    """Make the backend of a model. Nothing is loaded or connected to.

    Args:
        model: `"provider/model"`, the provider alone, or the path of a `.gguf` file; or several of them, where
            the next one is asked if the one before it can't answer. `MELLEA_MODEL` in the environment stands in
            for it, and else it is the embedded model.
        model_id: the model, where `model` is the provider alone.
        backend_kwargs: for the backend's class, such as `base_url`.

    Raises:
        ConfigurationError: the provider is unknown, or its model isn't named.
        UsageError: an argument is of a wrong type.
    """
    if isinstance(model, (list, tuple)):
        return _chain(model, model_id, backend_kwargs)
    model, model_id = _text("model", model), _text("model_id", model_id)
    full = model or os.environ.get("MELLEA_MODEL", "").strip() or DEFAULT_MODEL
    if full == DEFAULT_MODEL and not model and (given := sorted(_REMOTE & backend_kwargs.keys())):
        raise ConfigurationError(
            f"{given[0]}= was given, but not whose it is: name the provider and the model, as in "
            f"start_session('openai/gpt-5', {given[0]}=…), or set MELLEA_MODEL"
        )
    if full.lower().endswith(".gguf") and not full.startswith("llama_cpp/"):
        full = f"llama_cpp/{full}"
    provider, _, named = full.partition("/")
    if provider not in PROVIDERS:
        if provider not in providers():
            raise ConfigurationError(f"unknown model {full!r}: {advice_for_model(full, providers(), DEFAULT_MODEL)}")
        backend_kwargs["service"], provider = provider, "openai"
    module, _, cls = PROVIDERS[provider].partition(":")
    factory = getattr(importlib.import_module(module), cls)  # lazy: a provider costs only those who use it
    chosen = model_id or named
    if not chosen and provider in ("anthropic", "gemini", "ollama"):
        raise ConfigurationError(f"{full!r} names no model; say which, as in '{provider}/…', or with model_id=")
    _check_arguments(factory, backend_kwargs)
    return cast("Backend", factory(chosen, **backend_kwargs) if chosen else factory(**backend_kwargs))


async def list_models(provider: str, **backend_kwargs: Any) -> list[str]:
    """Return the names of the models that a provider offers.

    Raises:
        ConfigurationError: the provider is unknown.
        BackendError: it can't be reached, or refuses.
    """
    backend = get_backend(provider, None if provider == "llama_cpp" else "any", **backend_kwargs)
    try:
        return await backend.list_models()
    finally:
        await backend.aclose()


async def probe(model: str, **backend_kwargs: Any) -> Probe:
    """Tell whether a model can be reached, and why not.

    Raises:
        ConfigurationError: the provider is unknown.
    """
    backend = get_backend(model, **backend_kwargs)
    try:
        return await backend.probe()
    finally:
        await backend.aclose()


def providers() -> list[str]:
    """Return the names of all providers that a model can be asked of."""
    services = importlib.import_module("mellea.backends.openai.services").SERVICES  # lazy: see above
    return sorted({*PROVIDERS, *services})


def _chain(models: Sequence[Any], model_id: str | None, backend_kwargs: Mapping[str, Any]) -> Backend:
    if model_id is not None or backend_kwargs:
        given = [*(["model_id"] if model_id is not None else []), *backend_kwargs]
        raise UsageError(
            f"a chain of models takes no {given[0]!r}, which would be for one of them; make the backends by "
            "get_backend(…) and chain them by mellea.backends.FallbackBackend([…])"
        )
    fallback = importlib.import_module("mellea.backends.fallback")  # lazy: see above
    return cast("Backend", fallback.FallbackBackend([get_backend(model) for model in models]))


def _text(name: str, value: Any) -> str | None:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if value is None or (isinstance(value, str) and value.strip()):
        return value
    shown = f"the class {value.__name__}" if isinstance(value, type) else repr(value)
    raise UsageError(f"{name} takes a text such as {DEFAULT_MODEL!r}, not {shown}")


def _check_arguments(factory: Any, arguments: Mapping[str, Any]) -> None:
    taken: set[str] = set()
    for cls in factory.__mro__:  # a class hands on to the one above it what it doesn't take itself
        parameters = inspect.signature(cls.__init__).parameters
        taken |= {name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY}
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            break
    for name in sorted(arguments.keys() - taken):
        raise UsageError(
            f"{factory.__name__} takes no argument {name!r}; "
            f"{advice_for_argument(name, taken, frozenset(map(str, ModelOption)))}"
        )
