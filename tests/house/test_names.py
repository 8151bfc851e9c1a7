"""The names that users of Mellea type already, and where they import them from."""

from __future__ import annotations

from importlib import import_module

import pytest

NAMES = {
    "mellea": [
        "start_session",
        "MelleaSession",
        "generative",
        "command",
        "ask",
        "mify",
        "mfuncs",
        "events",
        "get_backend",
    ],
    "mellea.core": [
        "CBlock",
        "Component",
        "ComputedModelOutputThunk",
        "Context",
        "ImageBlock",
        "ModelOutputThunk",
        "Requirement",
        "SamplingResult",
        "TemplateRepresentation",
        "ValidationResult",
    ],
    "mellea.backends": ["Backend", "ModelOption"],
    "mellea.backends.openai": ["OpenAIBackend"],
    "mellea.backends.anthropic": ["AnthropicBackend"],
    "mellea.backends.gemini": ["GeminiBackend"],
    "mellea.backends.ollama": ["OllamaModelBackend"],
    "mellea.mfuncs": ["act", "chat", "instruct", "query", "transform", "validate", "aact", "ainstruct", "avalidate"],
    "mellea.stdlib.functional": ["act", "chat", "instruct", "query", "transform", "validate"],
    "mellea.stdlib.session": ["MelleaSession", "start_session"],
    "mellea.stdlib.context": ["ChatContext", "SimpleContext"],
    "mellea.stdlib.requirements": ["check", "req", "simple_validate", "tool_arg_validator", "uses_tool"],
    "mellea.stdlib.sampling": [
        "BestOfNStrategy",
        "MajorityVotingStrategy",
        "MultiTurnStrategy",
        "RejectionSamplingStrategy",
        "RepairTemplateStrategy",
    ],
    "mellea.stdlib.components": ["Document", "Instruction", "MObject", "Message", "Query", "Transform", "mify"],
}


@pytest.mark.parametrize("module", NAMES)
def test_the_names_that_users_type_are_there(module: str) -> None:
    room = import_module(module)
    missing = [name for name in NAMES[module] if not hasattr(room, name)]
    assert not missing


def test_the_front_door_stays_a_door() -> None:
    import mellea

    assert len(mellea.__all__) <= 40
    assert all(hasattr(mellea, name) for name in mellea.__all__)
