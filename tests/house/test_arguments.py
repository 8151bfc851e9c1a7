"""Arguments that an editor can follow: what is taken as `**name` is declared, unless it is the user's own."""

from __future__ import annotations

import ast
import inspect
import typing
from collections.abc import Iterator

from mellea.backends.http import HttpArguments, HttpBackend
from mellea.core.options import ModelOption, OptionValues
from mellea.core.runtime import LaunchArguments, launch
from tests.house.tree import PACKAGE, name, parse, python_files

_ENGINE = "the engine's own parameters, by its own names"
_FUNCTION = "the arguments of the user's function, whose signature the caller sees"
_PROVIDER = "options by the provider's own names, which change without us"
_SELECTED = "the arguments of a class that is chosen by a name when the program runs"

UNTYPED = {
    "mellea/_shapes_08.py:start_backend": _SELECTED,
    "mellea/backends/ai_gateway/tools.py:exa_search": _PROVIDER,
    "mellea/backends/ai_gateway/tools.py:parallel_search": _PROVIDER,
    "mellea/backends/ai_gateway/tools.py:perplexity_search": _PROVIDER,
    "mellea/backends/ai_gateway/tools.py:tako_search": _PROVIDER,
    "mellea/backends/fallback.py:FallbackBackend.embed": _PROVIDER,
    "mellea/backends/openai/backend.py:OpenAIBackend.embed": _PROVIDER,
    "mellea/backends/openai/tools.py:code_interpreter": _PROVIDER,
    "mellea/backends/openai/tools.py:file_search": _PROVIDER,
    "mellea/backends/openai/tools.py:image_generation": _PROVIDER,
    "mellea/backends/openai/tools.py:mcp": _PROVIDER,
    "mellea/backends/openai/tools.py:web_search": _PROVIDER,
    "mellea/backends/registry.py:get_backend": _SELECTED,
    "mellea/backends/registry.py:list_models": _SELECTED,
    "mellea/backends/registry.py:probe": _SELECTED,
    "mellea/backends/wrapped.py:WrappedBackend.embed": _PROVIDER,
    "mellea/core/entrance.py:wrap_entrance.call": _FUNCTION,
    "mellea/core/entrance.py:wrap_entrance.call_async": _FUNCTION,
    "mellea/core/tracing.py:_TracedObject.__call__": _FUNCTION,
    "mellea/core/tracing.py:_wrap.call": _FUNCTION,
    "mellea/core/tracing.py:_wrap.call_async": _FUNCTION,
    "mellea/core/tracing.py:_wrap_async_generator.generate": _FUNCTION,
    "mellea/core/tracing.py:_wrap_generator.generate": _FUNCTION,
    "mellea/serve/openai/responses_response.py:ResponseFold._say": "an event's fields, by OpenAI's names",
    "mellea/serve/programs.py:_stream_answer.stream": _FUNCTION,
    "mellea/serve/served_models.py:_Binding.__init__.capture": _FUNCTION,
    "mellea/stdlib/components/simple.py:SimpleComponent.__init__": "the user's values, by the user's names",
    "mellea/stdlib/generative/function.py:AsyncPromptFunction.__call__": _FUNCTION,
    "mellea/stdlib/generative/function.py:PromptFunction.__call__": _FUNCTION,
    "mellea/stdlib/generative/function.py:_Prompted.astream": _FUNCTION,
    "mellea/stdlib/generative/function.py:_Prompted.stream": _FUNCTION,
    "mellea/stdlib/session/start.py:start_session": _SELECTED,
    "mellea/stdlib/tools/mcp/remote_tool.py:McpTool.__call__": "the arguments of a server's tool, by its schema",
    "mellea/testing/contract.py:BackendContract.request": "model options, checked by their backend",
    "mellea/testing/contract.py:_no_io.refuse.called": "whatever the refused function takes",
    "mellea/testing/engine_server.py:engine_server": _ENGINE,
}
"""Where `**name: Any` stays, and why."""


def test_only_the_users_own_data_is_taken_as_any_keyword() -> None:
    found = {where for where, _, annotation in _keyword_parameters() if annotation in (None, "Any")}
    assert found - UNTYPED.keys() == set(), "declare these in a TypedDict (`Unpack[…]`), or say why not in UNTYPED"
    assert UNTYPED.keys() - found == set(), "these are typed now; take them out of UNTYPED"


def test_public_functions_say_what_their_open_keywords_are() -> None:
    silent = []
    for where, function, annotation in _keyword_parameters():
        is_public = not any(part.startswith("_") or part == "called" for part in where.partition(":")[2].split("."))
        if annotation not in (None, "Any") or not is_public or UNTYPED.get(where) == _FUNCTION:
            continue
        keywords = function.args.kwarg
        doc = ast.get_docstring(function) or ""
        # `@verb` adds the line of `options` from its declaration.
        if keywords is not None and f"{keywords.arg}: " not in doc and not _is_verb(function):
            silent.append(where)
    assert silent == []


def test_declared_arguments_are_those_of_the_functions_that_take_them() -> None:
    taken = inspect.signature(HttpBackend.__init__).parameters
    assert [*typing.get_type_hints(HttpArguments)] == [key for key in taken if key not in ("self", "model_id")]
    assert inspect.signature(launch).parameters.keys() >= LaunchArguments.__annotations__.keys()
    assert [*OptionValues.__annotations__] == [str(option) for option in ModelOption]


def _is_verb(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(ast.unparse(each).startswith("verb(") for each in function.decorator_list)


def _keyword_parameters() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef, str | None]]:
    """Yield every function with `**name`, by file and qualified name, with the annotation."""
    for path in python_files(PACKAGE):
        yield from _walk(parse(path), f"{name(path)}:")


def _walk(node: ast.AST, where: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef, str | None]]:
    for child in ast.iter_child_nodes(node):
        inner = where
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            inner = f"{where}{'' if where.endswith(':') else '.'}{child.name}"
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) and (keywords := child.args.kwarg) is not None:
            yield inner, child, ast.unparse(keywords.annotation) if keywords.annotation is not None else None
        yield from _walk(child, inner)
