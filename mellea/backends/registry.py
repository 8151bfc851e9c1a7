"""From a model's name to its backend: `"provider/model"`, the environment, and chains of models."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

from mellea.core.backend import Backend
from mellea.core.results import Probe
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


def get_backend(
    model: str | Sequence[str] | None = None, model_id: str | None = None, **backend_kwargs: Any
) -> Backend:
    """Make the backend of a model. Nothing is loaded or connected to.

    Args:
        model: `"provider/model"`, or the provider alone; or several of them, where the next one is asked if
            the one before it can't answer. `MELLEA_MODEL` in the environment stands in for it, and else it
            is the embedded model.
        model_id: the model, where `model` is the provider alone.
        backend_kwargs: for the backend's class, such as `base_url`.

    Raises:
        ConfigurationError: the provider is unknown, or its model isn't named.
        UsageError: an argument is of a wrong type.
    """
    if isinstance(model, (list, tuple)):
        return _chain(model, model_id, backend_kwargs)
    for name, value in (("model", model), ("model_id", model_id)):
        if value is not None and (not isinstance(value, str) or not value.strip()):
            raise UsageError(f"{name} takes a text such as {DEFAULT_MODEL!r}, not {value!r}")
    full = cast("str", model) or os.environ.get("MELLEA_MODEL") or DEFAULT_MODEL
    if full.lower().endswith(".gguf") and not full.startswith("llama_cpp/"):
        full = f"llama_cpp/{full}"
    provider, _, named = full.partition("/")
    if provider not in PROVIDERS:
        if provider not in providers():
            raise ConfigurationError(f"unknown model {full!r}: {_advice(full)}")
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


def _check_arguments(factory: Any, arguments: Mapping[str, Any]) -> None:
    taken: set[str] = set()
    for cls in factory.__mro__:  # a class hands on to the one above it what it doesn't take itself
        parameters = inspect.signature(cls.__init__).parameters
        taken |= {name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY}
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            break
    for name in arguments.keys() - taken:
        near = difflib.get_close_matches(name, taken, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(
            f"{factory.__name__} takes no argument {name!r}; {hint}it takes {', '.join(sorted(taken))}, and the "
            "options of a model go into model_options={…}"
        )


def _advice(model: str) -> str:
    known = providers()
    provider, divider, rest = model.partition("/" if "/" in model or ":" not in model else ":")
    near = difflib.get_close_matches(provider, known, n=1)
    if near and divider:
        hint = f"did you mean {f'{near[0]}/{rest}'!r}? "
    elif model == DEFAULT_MODEL.partition("/")[2]:
        hint = f"did you mean {DEFAULT_MODEL!r}? "
    else:
        hint = f"did you mean {near[0]!r}? " if near else ""
    return f"there is no provider {provider!r}; {hint}a model is named 'provider/model', and the providers are " + (
        ", ".join(map(repr, known))
    )
