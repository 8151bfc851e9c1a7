"""The services that speak OpenAI's chat format, as data: their URLs, keys and quirks.

A new one is a `Service` in `_ALL`, from which `SERVICES` is made. Anything that a service doesn't document is left as
in OpenAI's API. A model at an unknown URL gets the quirks of `COMPATIBLE`.

Looked up (2026-11): that Mistral answers 422 to `stream_options` and `max_completion_tokens`; that Cerebras answers
400 to the penalties; that Moonshot and Groq name the limit `max_completion_tokens`; DeepSeek's switch for thinking
(api-docs.deepseek.com, "Thinking Mode"), and that it and Moonshot want the reasoning back with calls. None of the
services was called from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, field
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from mellea.core.options import ModelOption
from mellea.core.values import quick_value

if TYPE_CHECKING:
    from mellea.backends.openai.schema import Holding

__all__ = ["COMPATIBLE", "OPENAI", "SERVICES", "Service", "find_service_at"]

Thinking = Literal["effort", "reasoning", "switch", "switch+effort", "enable", "template"]

_SAMPLING = {
    str(option): name
    for option, name in {
        ModelOption.TEMPERATURE: "temperature",
        ModelOption.MAX_NEW_TOKENS: "max_tokens",
        ModelOption.TOP_P: "top_p",
        ModelOption.SEED: "seed",
        ModelOption.STOP_SEQUENCES: "stop",
        ModelOption.FREQUENCY_PENALTY: "frequency_penalty",
        ModelOption.PRESENCE_PENALTY: "presence_penalty",
    }.items()
}
_NEW_LIMIT = {"max_tokens": "max_completion_tokens"}
_OPEN_WEIGHTS = {"top_k": "top_k", "min_p": "min_p", "repeat_penalty": "repetition_penalty"}
_LLAMA = {"top_k": "top_k", "min_p": "min_p", "repeat_penalty": "repeat_penalty"}


@quick_value
class Service:
    """One service, and how it differs from OpenAI.

    Args:
        name: the prefix of a model's name, as in `"groq/llama-3.3-70b-versatile"`.
        base_url: the base of its paths, `""` if each account has its own.
        key_variables: environment variables that may hold the key, the first one that is set.
        aliases: its other names, for "did you mean" in errors.
        model_patterns: patterns of its models' names, such as `"grok*"`, for the same.
        key_header: how the key is sent; a bearer token unless it is another header.
        url_variable: the environment variable for another URL.
        model_variable: the environment variable that names its model.
        is_local: whether it may be used without a key.
        options: the model options it accepts, and its names for them.
        thinking: how thinking is requested: an effort (OpenAI), an object (OpenRouter), a switch (Moonshot), a
            switch and an effort (DeepSeek), `enable_thinking` (Alibaba), or an argument of the chat template
            (vLLM); `None`: not at all.
        structured_output: whether the service enforces a schema, rather than the prompt asking for it.
        holding: whether it enforces any schema (`"whole"`), or only OpenAI's strict form (`"strict"`).
        has_stream_options: whether usage has to be, and can be, requested in a stream.
        has_tools: whether models can call tools.
        has_images: whether messages may contain images.
        has_files: whether messages may contain other files, as data.
        thinking_back: the field in which reasoning is sent back with the calls that it led to.
        has_cache_marks: whether `CBlock(cache=True)` is sent, as Anthropic's `cache_control`.
        has_responses: whether it has the Responses API too.
        makes_images: whether it has OpenAI's images API.
        changes_images: whether that API accepts images, too, as a form (`images/edits`).
        makes_videos: whether it has OpenAI's videos API.
        embeds: whether it has OpenAI's embeddings API.
    """

    name: str
    base_url: str = ""
    key_variables: tuple[str, ...] = ()
    _: KW_ONLY
    aliases: tuple[str, ...] = ()
    model_patterns: tuple[str, ...] = ()
    key_header: str = "authorization"
    url_variable: str | None = None
    model_variable: str | None = None
    is_local: bool = False
    options: Mapping[str, str] = field(default_factory=lambda: _SAMPLING)
    thinking: Thinking | None = "effort"
    structured_output: Literal["native", "prompt"] = "native"
    holding: Holding = "strict"
    has_stream_options: bool = True
    has_tools: bool = True
    has_images: bool = True
    has_files: bool = False
    thinking_back: str | None = None
    has_cache_marks: bool = False
    has_responses: bool = False
    makes_images: bool = False
    changes_images: bool = False
    makes_videos: bool = False
    embeds: bool = False


OPENAI = Service(
    "openai",
    "https://api.openai.com/v1",
    aliases=("chatgpt", "gpt", "openai_api"),
    model_patterns=("chatgpt*", "codex*", "dall-e*", "gpt*", "o1*", "o3*", "o4*", "sora*", "text-embedding*"),
    key_variables=("OPENAI_API_KEY",),
    url_variable="OPENAI_BASE_URL",
    options=_SAMPLING | _NEW_LIMIT,
    has_files=True,
    has_responses=True,
    makes_images=True,
    changes_images=True,
    makes_videos=True,
    embeds=True,
)

COMPATIBLE = Service(
    "compatible",
    key_variables=("OPENAI_API_KEY",),
    is_local=True,
    options=_SAMPLING | _OPEN_WEIGHTS,
    holding="unknown",
    has_responses=True,
    makes_images=True,
    changes_images=True,
    makes_videos=True,
    embeds=True,
)
"""An unknown server that speaks OpenAI's format."""

_ALL = (
    OPENAI,
    Service(
        "azure",
        aliases=("azure_ai", "azure_openai"),
        key_variables=("AZURE_OPENAI_API_KEY",),
        key_header="api-key",
        url_variable="AZURE_OPENAI_BASE_URL",  # https://<resource>.openai.azure.com/openai/v1
        options=_SAMPLING | _NEW_LIMIT,
        has_files=True,
        has_responses=True,
        makes_images=True,
        changes_images=True,
        makes_videos=True,
        embeds=True,
    ),
    Service(
        "ai_gateway",
        "https://ai-gateway.vercel.sh/v1",
        aliases=("vercel",),
        key_variables=("AI_GATEWAY_API_KEY", "VERCEL_OIDC_TOKEN"),
        thinking="reasoning",
        has_files=True,
        has_cache_marks=True,
        has_responses=True,
        makes_images=True,
        embeds=True,
    ),
    Service(
        "openrouter",
        "https://openrouter.ai/api/v1",
        key_variables=("OPENROUTER_API_KEY",),
        options=_SAMPLING | _OPEN_WEIGHTS,
        thinking="reasoning",
        has_files=True,
        has_cache_marks=True,
        has_responses=True,
        embeds=True,
    ),
    Service(
        "groq",
        "https://api.groq.com/openai/v1",
        key_variables=("GROQ_API_KEY",),
        options=_SAMPLING | _NEW_LIMIT,
        has_responses=True,
    ),
    Service(
        "mistral",
        "https://api.mistral.ai/v1",
        aliases=("mistralai",),
        model_patterns=("codestral*", "magistral*", "ministral*", "mistral-*"),
        key_variables=("MISTRAL_API_KEY",),
        options=_SAMPLING | {"seed": "random_seed"},
        has_stream_options=False,  # usage is always sent, and unknown fields are rejected
        embeds=True,
    ),
    Service(
        "deepseek",
        "https://api.deepseek.com/v1",
        model_patterns=("deepseek*",),
        key_variables=("DEEPSEEK_API_KEY",),
        options={name: wire for name, wire in _SAMPLING.items() if name != "seed"},
        thinking="switch+effort",
        structured_output="prompt",
        has_images=False,
        thinking_back="reasoning_content",
    ),
    Service(
        "xai",
        "https://api.x.ai/v1",
        aliases=("grok",),
        model_patterns=("grok*",),
        key_variables=("XAI_API_KEY",),
        has_responses=True,
        makes_images=True,
    ),
    Service(
        "together",
        "https://api.together.xyz/v1",
        aliases=("together_ai",),
        key_variables=("TOGETHER_API_KEY",),
        options=_SAMPLING | _OPEN_WEIGHTS,
        makes_images=True,
        embeds=True,
    ),
    Service(
        "fireworks",
        "https://api.fireworks.ai/inference/v1",
        key_variables=("FIREWORKS_API_KEY",),
        options=_SAMPLING | _OPEN_WEIGHTS,
        has_responses=True,
        embeds=True,
    ),
    Service(
        "alibaba",
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        aliases=("alibaba_cloud", "dashscope", "qwen"),
        key_variables=("DASHSCOPE_API_KEY", "ALIBABA_API_KEY"),
        url_variable="DASHSCOPE_BASE_URL",
        options=_SAMPLING | {"top_k": "top_k"},
        thinking="enable",
        structured_output="prompt",
        embeds=True,
    ),
    Service(
        "moonshot",
        "https://api.moonshot.ai/v1",
        aliases=("kimi", "moonshot_ai"),
        model_patterns=("kimi*", "moonshot*"),
        key_variables=("MOONSHOT_API_KEY",),
        options=_SAMPLING | _NEW_LIMIT,
        thinking="switch",
        structured_output="prompt",
        thinking_back="reasoning_content",
    ),
    Service(
        "zai",
        "https://api.z.ai/api/paas/v4",
        aliases=("zhipu",),
        model_patterns=("glm*",),
        key_variables=("ZAI_API_KEY",),
        options={name: _SAMPLING[name] for name in ("temperature", "max_tokens", "top_p", "stop")},
        thinking="switch",
        structured_output="prompt",
        thinking_back="reasoning_content",
    ),
    Service(
        "cerebras",
        "https://api.cerebras.ai/v1",
        key_variables=("CEREBRAS_API_KEY",),
        options={name: wire for name, wire in (_SAMPLING | _NEW_LIMIT).items() if not name.endswith("_penalty")},  # 400
    ),
    Service(
        "perplexity",
        "https://api.perplexity.ai",
        model_patterns=("sonar*",),
        key_variables=("PERPLEXITY_API_KEY",),
        has_tools=False,
    ),
    Service(
        "huggingface",
        "https://router.huggingface.co/v1",
        aliases=("hf",),
        model_patterns=("*/*",),
        key_variables=("HF_TOKEN",),
        thinking=None,
    ),
    Service(
        "nvidia",
        "https://integrate.api.nvidia.com/v1",
        key_variables=("NVIDIA_API_KEY",),
        thinking="template",
        embeds=True,
    ),
    Service(
        "lmstudio",
        "http://localhost:1234/v1",
        key_variables=("LMSTUDIO_API_KEY",),
        url_variable="LMSTUDIO_BASE_URL",
        model_variable="LMSTUDIO_MODEL",
        is_local=True,
        holding="whole",
        options=_SAMPLING | _LLAMA,
        has_responses=True,
        embeds=True,
    ),
    Service(
        "vllm",
        "http://localhost:8000/v1",
        model_patterns=("*/*",),
        key_variables=("VLLM_API_KEY",),
        url_variable="VLLM_BASE_URL",
        model_variable="VLLM_MODEL",
        is_local=True,
        holding="whole",
        options=_SAMPLING | _OPEN_WEIGHTS,
        thinking="template",
        has_responses=True,
        embeds=True,
    ),
    Service(
        "llama_server",
        "http://localhost:8080/v1",
        aliases=("llama_cpp_server",),
        key_variables=("LLAMA_API_KEY",),
        url_variable="LLAMA_SERVER_BASE_URL",
        model_variable="LLAMA_SERVER_MODEL",
        is_local=True,
        holding="whole",
        options=_SAMPLING | _LLAMA,
        thinking="template",
        has_responses=True,
        embeds=True,
    ),
    Service(
        "sglang",
        "http://localhost:30000/v1",
        key_variables=("SGLANG_API_KEY",),
        url_variable="SGLANG_BASE_URL",
        model_variable="SGLANG_MODEL",
        is_local=True,
        holding="whole",
        options=_SAMPLING | _OPEN_WEIGHTS,
        thinking="template",
        embeds=True,
    ),
)

SERVICES: dict[str, Service] = {service.name: service for service in _ALL}
"""The services by their names."""


def find_service_at(base_url: str) -> Service:
    """Return the service at a URL, `COMPATIBLE` if it is unknown."""
    host = urlsplit(base_url).netloc.rpartition("@")[2].lower()
    if host.endswith((".openai.azure.com", ".services.ai.azure.com")):
        return SERVICES["azure"]
    found = (each for each in _ALL if each.base_url and urlsplit(each.base_url).netloc == host)
    return next(found, COMPATIBLE)
