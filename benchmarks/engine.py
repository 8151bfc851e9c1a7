"""The embedded model's figures: tokens per second through `m.stream` against the engine driven directly.

Both use one loaded engine with one set of settings, one prompt and one seed, and take their turns. The clock
is the wall's: the engine's own threads do nearly all of the work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import perf_counter
from typing import Any

import anyio

from benchmarks.pairs import Samples, Setting, interleave
from mellea import MelleaSession, ModelOption
from mellea.backends.llama_cpp import LlamaCppBackend
from mellea.backends.llama_cpp.encode import encode
from mellea.core.backend import Request
from mellea.core.messages import Message

PROMPTS = [f"Write a long story about {hero} at sea." for hero in ("a lighthouse", "a whale", "a cook", "a mutiny")]

Speak = Callable[[str], tuple[int, str]]
"""Answers a prompt; returns how many tokens that took, and the text."""


def speed(streams: int) -> Callable[[Setting], Samples]:
    """Tokens per second of so many streams at once."""

    def measure(setting: Setting) -> Samples:
        backend = LlamaCppBackend(context_window=512)
        engine = anyio.run(backend.engine)
        engine.load()
        options: dict[str, Any] = {
            str(ModelOption.TEMPERATURE): 0,
            str(ModelOption.SEED): 7,
            str(ModelOption.MAX_NEW_TOKENS): setting.size(64, 8),
        }
        session = MelleaSession(backend, model_options=options)
        said: dict[str, set[str]] = {}

        def ours(prompt: str) -> tuple[int, str]:
            stream = session.stream(prompt)
            text = "".join(stream)
            usage = stream.usage
            assert usage is not None and usage.output_tokens is not None
            return usage.output_tokens, text

        def bare(prompt: str) -> tuple[int, str]:
            return _bare(engine.server, encode(Request((Message("user", prompt),), options=options)))

        pairs = min(setting.pairs, 7)
        samples = interleave(lambda: _rate(bare, streams, said), lambda: _rate(ours, streams, said), pairs)
        assert all(len(texts) == 1 for texts in said.values()), "the two don't say the same"
        return samples

    return measure


def _bare(server: Any, payload: dict[str, Any]) -> tuple[int, str]:
    pieces: list[str] = []
    tokens = 0

    def put(chunk: dict[str, Any]) -> None:
        nonlocal tokens
        for choice in chunk.get("choices", ()):
            if text := choice["delta"].get("content"):
                pieces.append(text)
        if usage := chunk.get("usage"):
            tokens = usage["completion_tokens"]

    server.handle_chat_completions(payload, put)
    return tokens, "".join(pieces)


def _rate(speak: Speak, streams: int, said: dict[str, set[str]]) -> float:
    """Have each prompt answered in a thread of its own; returns tokens per second of all together."""
    answers: dict[str, tuple[int, str]] = {}

    def answer(prompt: str) -> None:
        answers[prompt] = speak(prompt)

    threads = [threading.Thread(target=answer, args=(prompt,)) for prompt in PROMPTS[:streams]]
    before = perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = perf_counter() - before
    assert len(answers) == streams, "a stream failed; its error stands above"
    for prompt, (_, text) in answers.items():
        said.setdefault(prompt, set()).add(text)
    return sum(tokens for tokens, _ in answers.values()) / seconds
