"""Names and arguments as users of other libraries write them: the hint leads to the right place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mellea
from mellea.backends import get_backend
from mellea.errors import AuthError, ConfigurationError, UsageError

NAMES = [
    ("gpt-4o", "'openai/gpt-4o'"),
    ("o3-mini", "'openai/o3-mini'"),
    ("claude-sonnet-4-5", "'anthropic/claude-sonnet-4-5'"),
    ("gemini-2.5-flash", "'gemini/gemini-2.5-flash'"),
    ("grok-4", "'xai/grok-4'"),
    ("llama3.2:1b", "'ollama/llama3.2:1b'"),
    ("qwen3", "'ollama/qwen3'"),
    ("mistral-large-latest", "'mistral/mistral-large-latest'"),
    ("OpenAI/gpt-4o", "'openai/gpt-4o'"),
    ("openai:gpt-4o", "'openai/gpt-4o'"),
    ("google/gemini-2.5-pro", "'gemini/gemini-2.5-pro'"),
    ("llama-cpp/x", "'llama_cpp/x'"),
    ("LM-Studio/x", "'lmstudio/x'"),
    ("azure_openai/x", "'azure/x'"),
    ("opnai/gpt-5", "'openai/gpt-5'"),
    ("meta-llama/Llama-3.1-8B-Instruct", "'huggingface/meta-llama/Llama-3.1-8B-Instruct'"),
    ("smollm2-135m", "'llama_cpp/smollm2-135m'"),
]


@pytest.mark.parametrize(("name", "meant"), NAMES, ids=[name for name, _ in NAMES])
def test_a_name_without_its_provider_is_told_with_it(name: str, meant: str) -> None:
    with pytest.raises(ConfigurationError, match="did you mean") as caught:
        mellea.start_session(name)
    assert meant in str(caught.value)


def test_an_unknown_model_out_of_the_environment_is_told_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELLEA_MODEL", "nonsense")
    with pytest.raises(ConfigurationError, match=r"^MELLEA_MODEL names an unknown model: 'nonsense': "):
        mellea.start_session()
    with pytest.raises(ConfigurationError, match=r"^unknown model 'humbug': "):
        mellea.start_session("humbug")


def test_a_folder_and_a_file_are_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    for place in (str(tmp_path), f"{tmp_path}/", tmp_path):
        with pytest.raises(ConfigurationError, match=r"folder.*'\.gguf'"):
            mellea.start_session(place)
    with pytest.raises(ConfigurationError, match=r"is a file.*'\.gguf'"):
        mellea.start_session(tmp_path / "notes.txt")


def test_the_path_of_a_model_may_be_a_path(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    assert get_backend(file).model_id == get_backend(str(file)).model_id


@pytest.mark.parametrize("argument", [{"api_key": "x"}, {"base_url": "http://h"}, {"headers": {}}])
def test_what_is_a_providers_wants_a_provider(argument: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MELLEA_MODEL", raising=False)
    with pytest.raises(ConfigurationError, match="name the provider"):
        mellea.start_session(**argument)


ARGUMENTS = [
    ("key", "'api_key'"),
    ("api_base", "'base_url'"),
    ("host", "'base_url'"),
    ("max_retries", "'retries'"),
    ("default_headers", "'headers'"),
    ("http_client", "'client'"),
    ("temperature", "model_options={'temperature': …}"),
    ("timeout", "model_options={'timeout': …}"),
    ("max_tokens", "model_options={'max_tokens': …}"),
    ("system", "model_options={'system_prompt': …}"),
    ("stream", "model_options={'stream': …}"),
    ("retrys", "did you mean 'retries'"),
    ("nonsense", "it takes api"),
]


@pytest.mark.parametrize(("argument", "meant"), ARGUMENTS, ids=[name for name, _ in ARGUMENTS])
def test_an_argument_is_told_by_its_name_here(argument: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"takes no argument '{argument}'") as caught:
        mellea.start_session("openai/gpt-5", api_key="k", **{argument: 1})
    assert meant in str(caught.value)


@pytest.mark.parametrize("wrong", [3, mellea.MelleaSession, b"openai", ""])
def test_something_else_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match="takes a string"):
        mellea.start_session(wrong)


def test_a_chain_needs_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    mellea.start_session(["openai/gpt-5", "llama_cpp"])
    with pytest.raises(AuthError, match="ANTHROPIC_API_KEY") as caught:
        mellea.start_session(["openai/gpt-5", "anthropic/claude-sonnet-4-5"])
    assert "OPENAI_API_KEY" in "".join(caught.value.__notes__)


@pytest.mark.parametrize(
    "name", ["sk-proj-short", "sk-proj-S3CRETS3CRETS3CRET12", "hf_S3CRETS3CRETS3CRETS3CRETS3CRET", " sk-x"]
)
def test_a_key_in_the_place_of_the_model_is_shown_nowhere(name: str) -> None:
    for given in (name, f"nobody/{name}") if len(name) > 15 else (name,):
        with pytest.raises(ConfigurationError, match="looks like a key") as caught:
            mellea.start_session(given)
        assert name.strip() not in str(caught.value) and "S3CRET" not in str(caught.value)
        assert "api_key=" in str(caught.value)


def test_the_key_of_the_environment_is_hidden_whatever_it_looks_like(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "quite-ordinary-words")
    with pytest.raises(ConfigurationError) as caught:
        mellea.start_session("quite-ordinary-words")
    assert "ordinary" not in str(caught.value)
