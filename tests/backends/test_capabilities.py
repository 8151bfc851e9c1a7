"""What errors say that others can do is what they say of themselves."""

import pytest

import mellea
from mellea.backends import Capabilities, get_backend
from mellea.backends.built_in import PROVIDERS
from mellea.backends.registry import list_providers_with
from mellea.core.backend import FEATURES
from mellea.errors import UnsupportedError
from mellea.testing import ScriptedBackend

MODELS = {"anthropic": "claude-sonnet-4-5", "llama_cpp": "smollm2-135m"}


@pytest.mark.parametrize("capability", FEATURES.values())
def test_the_advice_is_true(capability: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_BASE_URL", "OLLAMA_HOST", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    able = {
        provider
        for provider in PROVIDERS
        if getattr(get_backend(provider, MODELS.get(provider, "m")).capabilities, capability)
    }
    assert set(list_providers_with(capability)) == able


def test_an_error_names_who_can() -> None:
    m = mellea.start_session(ScriptedBackend("x", capabilities=Capabilities()))
    with pytest.raises(UnsupportedError, match=r"structured output; leave out format=, or use a model of anthropic, "):
        m.instruct("x", format=int)
    with pytest.raises(UnsupportedError, match="embeddings; use a model of gemini"):
        m.embed("x")
