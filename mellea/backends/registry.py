"""From a model's name to its backend: `"provider/model"`, the environment, and chains of models."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

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

_ALIASES: Mapping[str, str] = {
    "aigateway": "ai_gateway",
    "alibabacloud": "alibaba",
    "azureai": "azure",
    "azureopenai": "azure",
    "chatgpt": "openai",
    "claude": "anthropic",
    "dashscope": "alibaba",
    "google": "gemini",
    "googleai": "gemini",
    "googlegenai": "gemini",
    "gpt": "openai",
    "grok": "xai",
    "hf": "huggingface",
    "kimi": "moonshot",
    "llamacpp": "llama_cpp",
    "llamacppserver": "llama_server",
    "local": "llama_cpp",
    "lmstudio": "lmstudio",
    "mistralai": "mistral",
    "moonshotai": "moonshot",
    "openaiapi": "openai",
    "qwen": "alibaba",
    "togetherai": "together",
    "vercel": "ai_gateway",
    "vertexai": "gemini",
    "zhipu": "zai",
}
"""What others call a provider, in lower case and without marks."""

_FAMILIES: Sequence[tuple[str, str]] = (
    ("gpt-oss", "ollama"),
    ("gpt", "openai"),
    ("chatgpt", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("codex", "openai"),
    ("text-embedding", "openai"),
    ("dall-e", "openai"),
    ("claude", "anthropic"),
    ("gemini", "gemini"),
    ("imagen", "gemini"),
    ("grok", "xai"),
    ("deepseek", "deepseek"),
    ("kimi", "moonshot"),
    ("moonshot", "moonshot"),
    ("glm", "zai"),
    ("sonar", "perplexity"),
    ("codestral", "mistral"),
    ("ministral", "mistral"),
    ("mistral-", "mistral"),
    ("magistral", "mistral"),
    ("smollm2", "llama_cpp"),
    ("granite", "ollama"),
    ("llama", "ollama"),
    ("qwen", "ollama"),
    ("gemma", "ollama"),
    ("phi", "ollama"),
    ("mistral", "ollama"),
    ("mixtral", "ollama"),
    ("smollm", "ollama"),
    ("olmo", "ollama"),
)
"""How the names of models begin, and who offers them, the first match counts."""

_FOREIGN: Mapping[str, str] = {
    **dict.fromkeys(("key", "apikey", "token", "access_token", "auth", "auth_token", "secret"), "api_key"),
    **dict.fromkeys(("url", "host", "endpoint", "api_base", "base", "server", "address", "azure_endpoint"), "base_url"),
    **dict.fromkeys(("max_retries", "num_retries", "retry"), "retries"),
    **dict.fromkeys(("default_headers", "extra_headers"), "headers"),
    **dict.fromkeys(("http_client", "async_client", "http_async_client", "session"), "client"),
    **dict.fromkeys(("body", "extra_params", "extra"), "extra_body"),
    **dict.fromkeys(("n_ctx", "num_ctx", "context_length", "max_seq_length", "context_size"), "context_window"),
    **dict.fromkeys(("system", "system_message", "instructions"), "system_prompt"),
    **dict.fromkeys(("options", "generation_config", "config", "params", "settings"), "model_options"),
    **dict.fromkeys(("context", "history", "memory"), "ctx"),
    **dict.fromkeys(("request_timeout", "deadline", "deadlines"), "timeout"),
}
"""What others call an argument or an option."""


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
            raise ConfigurationError(f"unknown model {full!r}: {_advice_for_model(full, providers(), DEFAULT_MODEL)}")
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
            f"{_advice_for_argument(name, taken, frozenset(map(str, ModelOption)))}"
        )


def _advice_for_model(model: str, known: Collection[str], default: str) -> str:
    """Return what to give in place of a model's name that names no known provider.

    Args:
        model: what was given.
        known: the providers.
        default: the full name of the embedded model.
    """
    if os.path.isdir(model):
        return "it is a folder; give the path of a model's file in it, which ends in '.gguf'"
    if os.path.isfile(model):
        return "it is a file, but no model's; the name of a model's file ends in '.gguf'"
    provider, divider, rest = model.partition("/" if "/" in model or ":" not in model else ":")
    meant = _provider(provider, known)
    if meant is not None:
        named = f"{meant}/{rest}" if divider and rest else meant
        return f"did you mean {named!r}? {_form(known)}"
    ways = [f"{family}/{model}" for family in _families(model)]
    if model == default.partition("/")[2]:
        ways = [default]
    if divider == "/" and not model.startswith(("/", ".", "~")):  # as on Hugging Face
        ways += [f"huggingface/{model}", f"vllm/{model}"]
    hint = f"did you mean {' or '.join(map(repr, ways))}? " if ways else ""
    return f"there is no provider {provider!r}; {hint}{_form(known)}"


def _advice_for_argument(name: str, taken: Collection[str], options: Collection[str]) -> str:
    """Return what to give in place of an argument that a backend's class doesn't take.

    Args:
        name: the argument.
        taken: those that it takes.
        options: the model options, which go elsewhere.
    """
    ours = _FOREIGN.get(name.lower(), name)
    if ours in taken and ours != name:
        return f"it is {ours!r} here"
    if ours in options or ours == "model_options":
        inside = "…" if ours == "model_options" else f"{ours!r}: …"
        return f"model options go into model_options={{{inside}}}"
    near = difflib.get_close_matches(name, taken, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}it takes {', '.join(sorted(taken))}, and model options go into model_options={{…}}"


def _provider(name: str, known: Collection[str]) -> str | None:
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    by_plain = {re.sub(r"[^a-z0-9]", "", one): one for one in known}
    found = by_plain.get(plain) or _ALIASES.get(plain)
    if found is not None:
        return found
    near = difflib.get_close_matches(name.lower()[:40], known, n=1, cutoff=0.75)
    return near[0] if near else None


def _families(model: str) -> list[str]:
    name = model.rpartition("/")[2].lower()
    found = next((provider for start, provider in _FAMILIES if name.startswith(start)), None)
    if found is None and ":" in name and "/" not in model:  # as Ollama's names with their tags
        found = "ollama"
    return [found] if found else []


def _form(known: Collection[str]) -> str:
    return f"a model is named 'provider/model', and the providers are {', '.join(map(repr, known))}"
