"""What somebody may have meant by the name of a model that isn't one: names without a provider, files, folders."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection, Mapping, Sequence

__all__ = ["advice_for_argument", "advice_for_model"]

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

_ARGUMENTS: Mapping[str, str] = {
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


def advice_for_model(model: str, known: Collection[str], default: str) -> str:
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


def advice_for_argument(name: str, taken: Collection[str], options: Collection[str]) -> str:
    """Return what to give in place of an argument that a backend's class doesn't take.

    Args:
        name: the argument.
        taken: those that it takes.
        options: the model options, which go elsewhere.
    """
    ours = _ARGUMENTS.get(name.lower(), name)
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
