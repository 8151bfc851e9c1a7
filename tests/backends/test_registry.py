"""From a model's name to its backend."""

from typing import Any

import pytest

import mellea
from mellea.backends import FallbackBackend, get_backend
from mellea.backends.built_in import PROVIDERS
from mellea.backends.ollama import OllamaModelBackend
from mellea.backends.registry import list_provider_names
from mellea.errors import ConfigurationError, MelleaError, UsageError
from mellea.testing import ScriptedBackend

KEY = "sk-planted-0123456789"

NAMES: list[tuple[str, str, str, str | None]] = [
    ("openai/gpt-5", "openai", "gpt-5", "https://api.openai.com/v1"),
    ("anthropic/claude-sonnet-4-5", "anthropic", "claude-sonnet-4-5", "https://api.anthropic.com/v1"),
    (
        "ai_gateway/anthropic/claude-sonnet-4",
        "ai_gateway",
        "anthropic/claude-sonnet-4",
        "https://ai-gateway.vercel.sh/v1",
    ),
    ("gemini/gemini-3-flash", "gemini", "gemini-3-flash", None),
    ("ollama/llama3.2:1b", "ollama", "llama3.2:1b", "http://127.0.0.1:11434"),
    ("lmstudio/some/model", "lmstudio", "some/model", "http://localhost:1234/v1"),
    ("groq/openai/gpt-oss-20b", "groq", "openai/gpt-oss-20b", "https://api.groq.com/openai/v1"),
    ("llama_cpp/smollm2-135m", "llama_cpp", "smollm2-135m", None),
]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MELLEA_MODEL", "OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "OLLAMA_HOST", "LMSTUDIO_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("name", "provider", "model", "url"), NAMES, ids=[name for name, *_ in NAMES])
def test_a_name_finds_its_backend(name: str, provider: str, model: str, url: str | None) -> None:
    backend = get_backend(name)
    assert (backend.name, backend.model_id) == (provider, model)
    if url is not None:
        assert getattr(backend, "base_url").rstrip("/") == url  # noqa: B009


def test_the_environment_moves_and_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMSTUDIO_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("LMSTUDIO_MODEL", "my-model")
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:7")
    monkeypatch.setenv("MELLEA_MODEL", "ollama/llama3.2")
    studio: Any = get_backend("lmstudio")
    assert (studio.base_url.rstrip("/"), studio.model_id) == ("http://127.0.0.1:9/v1", "my-model")
    default: Any = get_backend()
    assert (default.model_id, default.base_url.rstrip("/")) == ("llama3.2", "http://127.0.0.1:7")


def test_a_session_at_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    m = mellea.start_session(backend_name="openai", model_id="x", base_url="http://127.0.0.1:1234/v1")
    assert (m.backend.name, m.backend.model_id) == ("lmstudio", "x") or m.backend.model_id == "x"
    assert mellea.start_session("ollama", "llama3.2").backend.model_id == "llama3.2"


@pytest.mark.parametrize("name", ["openai/gpt-5", "anthropic/claude-sonnet-4-5", "gemini/gemini-3-flash", "groq/x"])
def test_a_missing_key_is_said_when_the_session_starts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "GROQ_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    variable = {"openai": "OPENAI", "anthropic": "ANTHROPIC", "gemini": "GEMINI", "groq": "GROQ"}[name.split("/")[0]]
    with pytest.raises(MelleaError, match=f"{variable}_API_KEY"):
        mellea.start_session(name)


def test_the_missing_key_of_each_way_names_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("ANTHROPIC_API_KEY", "AI_GATEWAY_API_KEY", "VERCEL_OIDC_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(MelleaError, match="ai_gateway/anthropic/"):
        mellea.start_session("anthropic/claude-sonnet-4")
    with pytest.raises(MelleaError, match="'anthropic/claude-sonnet-4'"):
        mellea.start_session("ai_gateway/anthropic/claude-sonnet-4")


@pytest.mark.parametrize("provider", list_provider_names())
def test_no_key_in_any_repr(provider: str) -> None:
    if provider == "llama_cpp":
        pytest.skip("the embedded model takes no key")
    extra = {"base_url": "https://example.invalid/v1"} if provider == "azure" else {}
    m = mellea.start_session(provider, "m", api_key=KEY, **extra)
    for thing in (m, m.backend, vars(m.backend)):
        assert KEY not in repr(thing)


def test_what_is_unknown_says_what_is_known() -> None:
    with pytest.raises(ConfigurationError, match=r"did you mean 'openai/gpt-5'\?.*`mellea models list --all`"):
        get_backend("opnai/gpt-5")
    with pytest.raises(ConfigurationError, match="no provider 'llama_home'; similar are '") as caught:
        get_backend("llama_home/x")
    assert 1 <= sum(f"'{name}'" in str(caught.value) for name in list_provider_names()) <= 3
    for provider in sorted({"anthropic", "gemini", "openai"} & set(PROVIDERS)):
        with pytest.raises(ConfigurationError, match="model"):
            get_backend(provider)


def test_ollama_has_a_model_where_none_is_named() -> None:
    assert get_backend("ollama").model_id == get_backend("ollama", base_url="http://127.0.0.1:1").model_id != ""


def test_a_list_of_names_is_a_chain() -> None:
    backend = get_backend(["openai/gpt-5", "ollama/llama3.2"])
    assert isinstance(backend, FallbackBackend)
    assert backend.model_id == "openai/gpt-5, ollama/llama3.2"
    with pytest.raises(UsageError, match="doesn't take 'base_url'"):
        get_backend(["openai/gpt-5"], base_url="http://127.0.0.1:1")
    with pytest.raises(UsageError, match="at least one"):
        get_backend([])
    with pytest.raises(UsageError, match="at least one"):
        FallbackBackend([ScriptedBackend("x"), "openai/gpt-5"])  # type: ignore[list-item]


class ShoutingBackend(OllamaModelBackend):
    """Its key's header has capitals, as providers' pages write it."""

    requires_key = True
    key_header = "X-Shout-Key"


def test_the_case_of_a_key_header_does_not_matter() -> None:
    backend = ShoutingBackend("m", headers={"X-SHOUT-key": "k"})
    assert not backend.is_key_needed()
    assert ShoutingBackend("m").is_key_needed()
