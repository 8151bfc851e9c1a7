"""Keeps text from outside from becoming a model's control tokens and role marks.

The engine tokenises the whole rendered conversation at once, so that a control token's text in a message would become
that token, and the text that a chat template writes before an answer would start one. Therefore an invisible
character, U+2060 (word joiner), goes after the first character of every such text in a message: it reads the same,
but is no longer a mark. This doesn't depend on the tokeniser or the template.

The marks are read from the model's file: the control tokens of its vocabulary, and what is in its
chat template in the form of a mark.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from mellea.backends.llama_cpp.gguf import read_metadata
from mellea.errors import ConfigurationError

__all__ = ["JOINER", "Marks", "find_marks", "read_marks"]

JOINER = "\u2060"

_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4
"""Kinds of tokens in `tokenizer.ggml.token_type`."""

# The engine treats these as the end of an answer, whatever their kind in the file.
_ENDS = frozenset(
    {"<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>"}
    | {"<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<｜end▁of▁sentence｜>"}
    | {"<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>"}
)
_PIPED = re.compile(r"<[|｜][^<>]*[|｜]?>|<[^<>]*[|｜]>")
_CHATML = "<|im_start|> <|im_end|>"
"""The engine's default for files without a template."""

# Marks that a template writes, whether or not they are tokens of their own.
_IN_TEMPLATE = re.compile(
    r"""<[^<>\s{}'"]{1,64}>                 # <|user|>, <start_of_turn>, </s>; also the inner part of <<SYS>>
    |\[/?[A-Z][A-Z_]{2,40}\]                # [INST]
    |\#{2,6}[ ]?[A-Z][A-Za-z]*(?:[ ][A-Za-z]+)?:    # ### Response:
    |\b(?i:user|assistant|system|human|gpt|ai|bot|question|answer|instruction|response|input|output):""",
    re.VERBOSE,
)
# A mark that a template builds from the role: '<|' + message['role'] + '|>'.
_AROUND_ROLE = re.compile(
    r"""(['"])(?P<before>[^'"\s]{1,12})\1\s*[+~]\s*\w+(?:\.role|\[['"]role['"]\])\s*[+~]\s*(['"])(?P<after>[^'"\s\\]{1,12})"""
)
_ROLES = ("system", "user", "assistant", "tool")
_CALLS = ("<tool_call>", "</tool_call>")
"""The marks that `encode` puts around the calls of a history."""


class Marks:
    """A set of marks, and how to break them.

    Args:
        texts: the marks.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = frozenset(texts) - {""}
        # One character can't be broken: it is replaced.
        self._lone = str.maketrans({text: "\N{REPLACEMENT CHARACTER}" for text in self.texts if len(text) == 1})
        rest: dict[str, list[str]] = {}
        for text in sorted(self.texts):
            if len(text) > 1:
                rest.setdefault(text[0], []).append(text[1:])
        # Only the first character is consumed, so that marks which overlap are all broken.
        pieces = [f"{re.escape(first)}(?={_match_any_of(texts)})" for first, texts in rest.items()]
        self._pattern = re.compile("|".join(pieces)) if pieces else None

    def guard(self, text: str) -> str:
        """Return the text with every mark in it broken; it takes linear time."""
        if self._lone:
            text = text.translate(self._lone)
        # A joiner is invisible, and no tokeniser merges the two parts again.
        return text if self._pattern is None else self._pattern.sub(rf"\g<0>{JOINER}", text)


def _match_any_of(texts: list[str]) -> str:
    """Return a regular expression for any of the sorted texts that examines each character once."""
    if not texts[0]:
        return ""  # the shortest is enough
    rest: dict[str, list[str]] = {}
    for text in texts:
        rest.setdefault(text[0], []).append(text[1:])
    pieces = [re.escape(first) + _match_any_of(texts) for first, texts in rest.items()]
    return pieces[0] if len(pieces) == 1 else f"(?:{'|'.join(pieces)})"


def find_marks(metadata: Mapping[str, Any]) -> Marks:
    """Return the marks of the model whose GGUF metadata this is."""
    names = [name for name in metadata if name.startswith("tokenizer.chat_template")]
    template = "\n".join(str(metadata[name]) for name in names) or _CHATML
    tokens: list[str] = metadata.get("tokenizer.ggml.tokens", [])
    kinds: list[int] = metadata.get("tokenizer.ggml.token_type", [])
    # Tokens that the file names as beginning or end, whatever their kind.
    named = [value for name, value in metadata.items() if name.endswith("_token_id") and isinstance(value, int)]
    texts = {tokens[number] for number in named if 0 <= number < len(tokens)}
    for text, kind in zip(tokens, kinds, strict=False):
        # User-defined tokens may be ordinary words; only those that look like marks, or are in the template, are.
        if kind in (_UNKNOWN, _CONTROL) or (kind == _USER_DEFINED and _is_mark(text, template)):
            texts.add(text)
    texts |= _ENDS.intersection(tokens).union(_CALLS)
    texts.update(_IN_TEMPLATE.findall(template))
    for found in _AROUND_ROLE.finditer(template):
        for role in _ROLES:
            texts |= {found["before"] + name + found["after"] for name in (role, role.title(), role.upper())}
    return Marks(text for text in texts if not text.isspace())


def _is_mark(text: str, template: str) -> bool:
    return bool(_PIPED.fullmatch(text)) or (not text.isspace() and len(text) > 1 and text in template)


def read_marks(file: Path) -> Marks:
    """Return the marks of the model in a file; it takes some 0.1 s, and no time for the same file again.

    Raises:
        ConfigurationError: the file can't be read, or isn't GGUF.
    """
    try:
        state = file.stat()
        return _read(file, state.st_size, state.st_mtime_ns)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{str(file)!r} can't be read as a GGUF file: {error}") from error


@lru_cache(maxsize=8)
def _read(file: Path, size: int, changed: int) -> Marks:
    return find_marks(read_metadata(file, lambda name: name.startswith("tokenizer.")))
