"""No text costs the library's own patterns more than linear time: each is tried with what is worst for it."""

from __future__ import annotations

import contextlib
import inspect
import time
from collections.abc import Callable
from itertools import product
from typing import Any

import anyio
import pytest

from mellea.core.chunkers import SCOPES, make_text_chunker
from mellea.core.requirement import run_validation
from mellea.core.thunk import ComputedModelOutputThunk
from mellea.errors import MelleaError
from mellea.stdlib import requirements as room
from mellea.stdlib.components import Instruction, Table
from mellea.stdlib.context import ChatContext
from mellea.stdlib.tools.docstring import parse_docstring
from mellea.templates import fill
from tests.soak import is_thorough

SIZE = 64 * 1024

PIECES = [
    *" \t\n.,:;!?|-*+_`~#><\\'\"()[]{}aA1é。",
    "- ", "* ", "1. ", "1) ", "- -", "> ", "|-", "| -", "-:|", "\\|", "``` \n",
    "```\n", "~~~\n", "`a", "a ", " a", "a,", "a , ",
    ":a ", ":param ", "a(", "a (b) ", "{{", "{{ ", "}}", "{%", "http://", "A. ", "e.g.",
    "Mr", " \n", "\n \n", "a\n", "a\n\n",
    "red ", "wine ", "red wine ", "red  ", "[1,", '{"a":', "<think>",
]  # fmt: skip


def texts() -> list[str]:
    repeated = [(piece * (SIZE // len(piece) + 1))[:SIZE] for piece in PIECES]
    begun = [f"{start}{' ' * SIZE}" for start in ("a", "- a", ":a", "|", "```", "{{")]
    return [f"{text}{end}" for text, end in [*((text, "x") for text in repeated), *product(begun, ["x", ":", ""])]]


CHECKS = {
    "length": room.length("sentences", max=3),
    "paragraphs": room.length("paragraphs", max=3),
    "contains": room.contains("red  wine", "C++", "日本"),
    "excludes": room.excludes("red wine", "bad"),
    "matches": room.matches(r"^- ", each_line=True),
    "markdown_list": room.markdown_list(),
    "markdown_table": room.markdown_table(),
    "valid_json": room.valid_json(),
    "language": room.language("German"),
}


def _check(name: str) -> Callable[[str], Any]:
    async def look(text: str) -> Any:
        return await run_validation(CHECKS[name], ChatContext().add("task").add(ComputedModelOutputThunk(text)))

    return lambda text: anyio.run(look, text)


def _chunks(scope: Any) -> Callable[[str], Any]:
    def divide(text: str) -> None:
        chunker = make_text_chunker(scope)
        assert "".join([*chunker.feed(text), *chunker.close()]) in (text, "")

    return divide


def _instruct(text: str) -> Any:
    return Instruction("{{name}}", prefix=text or "x", requirements=(text,), user_variables={"name": 1})


READERS: dict[str, Callable[[str], Any]] = {
    **{name: _check(name) for name in CHECKS},
    **{f"{scope}s": _chunks(scope) for scope in SCOPES if scope != "item"},
    "a docstring": parse_docstring,
    "sections": lambda text: parse_docstring(f"Do it.\n\nArgs:\n    {text}\n    a: {text}\n\nParameters\n---\n{text}"),
    "a Markdown table": lambda text: Table.from_markdown(f"|{text}\n|---|\n|{text}"),
    "a table's cells": lambda text: Table([[text]], ["a"]).to_markdown(),
    "a variable's value": lambda text: fill("{{ x|trim }} {{ x|block }}", {"x": text}),
    "an instruction": _instruct,
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.sample(9)
def test_the_worst_text_of_64_kib_is_read_in_no_time(name: str) -> None:
    for text in texts()[:: 1 if is_thorough() else 3]:
        began = time.process_time()
        with contextlib.suppress(MelleaError):
            READERS[name](text)
        took = time.process_time() - began
        assert took < 2, f"{took:.1f} s for {text[:20]!r}…{text[-3:]!r}"


def test_every_requirement_with_patterns_of_ours_is_tried() -> None:
    others = {"Judge", "Requirement", "ValidationResult", "check", "req", "simple_validate", "validate_all"}
    others |= {"tool_arg_validator", "uses_tool", "python_syntax", "no_match"}  # no pattern of ours, or a parser's
    tried = set(CHECKS) - {"paragraphs"}
    assert set(room.__all__) - others == tried
    assert inspect.ismodule(room)
