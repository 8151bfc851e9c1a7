"""Digests of everything that affects an answer: equal in every process, and different as soon as the answer could be.

Rules:

- The digest of a model call is made from the function's name, `version=`, the rendered request (messages with the bytes
  of their files, tools, schema, provider, model, the options that shape the answer), the requirements and the strategy.
- The digest of any other function is made from its name, `version=`, its arguments and its own syntax tree without the
  docstring: comments, formatting and the functions that it calls don't count.
- Keys, addresses, headers and time-outs are never included.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import inspect
import json
import linecache
from collections.abc import Callable, Iterable, Mapping, Set
from types import CodeType, FunctionType, MethodType
from typing import Any

from mellea.core.backend import Backend, Request
from mellea.core.blocks import Block, CBlock
from mellea.core.fingerprint import find_message_form, find_options_form
from mellea.core.messages import Message
from mellea.core.serialise import json_value, to_jsonable
from mellea.errors import UsageError
from mellea.stdlib.session import MelleaSession

__all__ = ["RequestDigests", "find_form", "make_digest", "name_function", "parse_source"]

_FORM = "mellea map 1"
"""Part of every digest; it changes when the content of digests changes."""

_TEXT = frozenset({CBlock})

_BESIDE = frozenset({"lineno", "col_offset", "end_lineno", "end_col_offset", "ctx", "type_comment", "kind"})

_DEEPEST = 20
"""The maximum nesting in a user's object that has no form of its own."""

_DEEPEST_CLOSURE = 3
"""How many nested closures are examined; a recursive function is in its own closure."""


def make_digest(*parts: Any) -> bytes:
    """Return the digest of JSON values, in this order."""
    text = json.dumps([_FORM, *parts], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class RequestDigests:
    """Digests of requests that share most of their content: digests of shared parts are cached."""

    __slots__ = ("_backend", "_common", "_last")

    def __init__(self) -> None:
        self._backend: Backend | None = None
        self._last: Request | None = None
        self._common = hashlib.sha256()

    def add(self, request: Request, backend: Backend) -> Any:
        """Return a SHA-256 object updated with a request to a backend, to which more can be added.

        Raises:
            UsageError: the request contains something without a JSON form.
        """
        if not self._is_like_last(request, backend):
            bare = dataclasses.replace(request, messages=())
            self._common = hashlib.sha256(bare.fingerprint(backend.name, backend.model_id).encode("ascii"))
            self._backend, self._last = backend, bare
        found = self._common.copy()
        for message in request.messages:
            found.update(_write_message(message))
        return found

    def _is_like_last(self, request: Request, backend: Backend) -> bool:
        last = self._last
        return (
            last is not None
            and backend is self._backend
            and request.output_schema is last.output_schema
            and request.tools == last.tools
            and request.options == last.options
        )


def _write_message(message: Message) -> bytes:
    if _TEXT.issuperset(map(type, message.blocks)):  # as nearly all are
        pieces = [f"{len(block.value)}:{block.value}" for block in message.blocks]  # type: ignore[union-attr]
        return "\0".join([message.role, *pieces, ""]).encode("utf-8", "surrogatepass")
    text = json.dumps(
        find_message_form(message), sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_digest
    )
    return text.encode("utf-8", "surrogatepass")


def _digest(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray)):
        return {"sha256": hashlib.sha256(value).hexdigest()}
    return find_form(value)


# -- the forms of values ------------------------------------------------------------------------------


def find_form(value: Any, depth: int = 0) -> Any:
    """Return a value as JSON values that are equal if the values are; only for digests.

    Functions become their names and syntax trees, backends their names and models, and other objects their class and
    contents.

    Raises:
        UsageError: it has no such form.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return {"float": repr(value)}  # its text alone would look like a string
    if depth > _DEEPEST:
        raise UsageError(f"a {type(value).__name__} is nested too deeply, or contains itself; give plain arguments")
    inner = functools.partial(find_form, depth=depth + 1)
    if isinstance(value, Mapping):
        if all(isinstance(name, str) for name in value):
            return {str(name): inner(item) for name, item in value.items()}
        return {"map": _sort_forms([inner(name), inner(item)] for name, item in value.items())}
    if isinstance(value, (list, tuple)):
        return [inner(item) for item in value]
    if isinstance(value, Set):
        return {"set": _sort_forms(inner(item) for item in value)}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"sha256": hashlib.sha256(value).hexdigest()}
    return _find_object_form(value, inner)


def _sort_forms(forms: Iterable[Any]) -> list[Any]:
    return sorted(forms, key=lambda form: json.dumps(form, sort_keys=True))


def _find_object_form(value: Any, inner: Callable[[Any], Any]) -> Any:
    match value:
        case functools.partial():
            return {"partial": inner(value.func), "args": inner(value.args), "kwargs": inner(value.keywords)}
        case MethodType():
            return {"method": inner(value.__func__), "of": inner(value.__self__)}
        case FunctionType():
            return {"function": name_function(value), "tree": parse_source(value)}
        case type():
            return {"class": f"{value.__module__}.{value.__qualname__}"}
        case _:
            return _find_instance_form(value, inner)


def _find_instance_form(value: Any, inner: Callable[[Any], Any]) -> Any:
    if isinstance(value, Backend):
        return {"backend": value.name, "model": value.model_id}
    if isinstance(value, MelleaSession):
        return {"session": inner(value.backend), "options": find_options_form(value.model_options)}
    if isinstance(value, (Message, *Block.__args__)):
        return to_jsonable(value)
    own = type(value)
    name = f"{own.__module__}.{own.__qualname__}"
    if hasattr(own, "model_fields"):  # pydantic
        return {"class": name, "value": json_value(value)}
    state = _find_state(value)
    if state is None:
        try:
            return {"class": name, "value": json_value(value)}  # a date, a path, an enum's member
        except UsageError:
            raise UsageError(
                f"a {own.__name__} can't be identified in a journal; give a plain value in its place, such as its id"
            ) from None
    return {"class": name, "state": inner(state)}


def _find_state(value: Any) -> dict[str, Any] | None:
    """Return the contents of an object of an ordinary Python class, `None` for others."""
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    own = type(value)
    if own.__module__ in ("builtins", "datetime", "decimal", "pathlib", "uuid") or hasattr(own, "__members__"):
        return None
    slots = [name for base in own.__mro__ for name in getattr(base, "__slots__", ()) if isinstance(name, str)]
    if not hasattr(value, "__dict__") and not slots:
        return None
    held = {name: getattr(value, name) for name in slots if hasattr(value, name) and not name.startswith("__")}
    return {**held, **getattr(value, "__dict__", {})}


# -- the syntax tree of a function --------------------------------------------------------------------


def name_function(function: Any) -> str:
    """Return the qualified name of a function, with its module."""
    while isinstance(function, functools.partial):
        function = function.func
    found = getattr(function, "__qualname__", None) or type(function).__qualname__
    module = getattr(function, "__module__", None) or type(function).__module__
    return f"{module}.{found}"


def parse_source(function: Callable[..., Any], depth: int = 0) -> str:
    """Return a digest of the syntax tree of a function, with the plain values and functions of its closure.

    Raises:
        UsageError: its source can't be read.
    """
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None)
    if code is None:
        raise UsageError(f"the source of {name_function(function)}() can't be read, so give version=")
    held: dict[str, Any] = {}
    for name, cell in zip(code.co_freevars, getattr(function, "__closure__", None) or (), strict=False):
        try:
            value = cell.cell_contents
        except ValueError:  # not set yet
            continue
        if value is None or isinstance(value, (bool, int, float, str, bytes)):
            held[name] = find_form(value)
        elif isinstance(value, FunctionType):  # such as the one that `simple_validate` wraps
            held[name] = parse_source(value, depth + 1) if depth < _DEEPEST_CLOSURE else name_function(value)
    return make_digest(_write_tree(code, name_function(function)), held).hex()


@functools.lru_cache(maxsize=512)
def _write_tree(code: CodeType, name: str) -> str:
    node = _find_node(code)
    if node is None:
        raise UsageError(
            f"the source of {name}() can't be read, so give version=, and change it to request the rows again"
        )
    return json.dumps(_find_node_form(node), separators=(",", ":"), ensure_ascii=True)


def _find_node(code: CodeType) -> ast.AST | None:
    lines = linecache.getlines(code.co_filename)
    if not lines:
        return None
    module = _parse_module(code.co_filename, "".join(lines))
    if module is None:
        return None
    kind = ast.Lambda if code.co_name == "<lambda>" else (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    found: list[Any] = [
        node
        for node in ast.walk(module)
        if isinstance(node, kind)
        and _find_first_line(node) == code.co_firstlineno
        and getattr(node, "name", "<lambda>") == code.co_name
    ]
    if len(found) > 1:  # lambdas on one line
        columns = {position[2] for position in code.co_positions() if position[0] is not None and position[2]}
        first = min(columns, default=0)
        found = [node for node in found if node.body.col_offset <= first <= (node.end_col_offset or first)]
        found.sort(key=lambda node: node.col_offset)
    return found[-1] if found else None


@functools.lru_cache(maxsize=64)
def _parse_module(name: str, source: str) -> ast.Module | None:
    try:
        return ast.parse(source, name)
    except (SyntaxError, ValueError):  # the file has been changed since
        return None


def _find_first_line(node: Any) -> int:
    decorators = getattr(node, "decorator_list", ())
    return int(decorators[0].lineno if decorators else node.lineno)


def _find_node_form(node: Any) -> Any:
    """Return a node as lists; empty parts are left out, since Python versions differ in them."""
    if isinstance(node, list):
        return [_find_node_form(each) for each in node]
    if not isinstance(node, ast.AST):
        return node if node is None or isinstance(node, (bool, int, str)) else repr(node)
    fields = {
        name: _find_node_form(_drop_docstring(node, name, value))
        for name, value in ast.iter_fields(node)
        if name not in _BESIDE and value is not None and value != []
    }
    return [type(node).__name__, fields]


def _drop_docstring(node: ast.AST, name: str, value: Any) -> Any:
    if name != "body" or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return value
    return value[1:] if ast.get_docstring(node, clean=False) is not None else value
