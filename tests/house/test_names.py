"""The names that users of Mellea type already, and where they import them from."""

from __future__ import annotations

import ast
from importlib import import_module

import pytest

from tests.house.tree import PACKAGE, name, parse, python_files

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
        "telemetry",
        "trace",
        "traces",
    ],
    "mellea.telemetry": ["enable", "disable"],
    "mellea.traces": ["Observer", "add_observer", "observe", "remove_observer", "start"],
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


SHARED = {"Decoder"}
"""Each provider's `decode.py` has a `Decoder`, as the protocol is called."""


def test_no_two_public_classes_share_a_name() -> None:
    places: dict[str, list[str]] = {}
    for path in python_files(PACKAGE):
        for node in parse(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(name(path))
    assert {each: found for each, found in places.items() if len(found) > 1 and each not in SHARED} == {}
