"""Any other function as a program, sync (it runs in worker threads) or async."""

from __future__ import annotations

import functools
import inspect
import json
import reprlib
from collections.abc import Mapping
from typing import Any

from mellea.batch.identity import find_form, make_digest, name_function, parse_source
from mellea.batch.program import Program, Work, dump_typed
from mellea.core.runtime.ledger import Meter, current_ledger
from mellea.core.runtime.tasks import find_outcome
from mellea.core.structured.kinds import format_type
from mellea.core.structured.output_format import explain_error
from mellea.core.surrogates import replace_surrogates_in
from mellea.core.thunk import ModelOutputThunk
from mellea.errors import StateError, UsageError
from mellea.stdlib.tools.signature import resolve_type_hints

__all__ = ["PlainProgram"]


class _PlainWork(Work):
    __slots__ = ("_args", "_kwargs", "_program")

    def __init__(self, program: PlainProgram, args: tuple[Any, ...], kwargs: Mapping[str, Any], digest: bytes) -> None:
        self._program, self._args, self._kwargs, self.digest = program, args, kwargs, digest
        self.backend = None

    async def ask(self, meter: Meter) -> Any:
        token = current_ledger.set(meter)
        try:
            return await find_outcome(functools.partial(self._program.function, *self._args, **self._kwargs))
        finally:
            current_ledger.reset(token)

    def dump(self, value: Any) -> str:
        return self._program.dump(value)

    async def load(self, text: str) -> Any:
        return self._program.load(text)


class PlainProgram(Program):
    """Any other function, sync (it runs in worker threads) or async."""

    def __init__(self, function: Any, version: str | None) -> None:
        super().__init__(function, version, name_function(function))
        self._source: str | None = None
        bare = function.func if isinstance(function, functools.partial) else function
        called = bare if inspect.isroutine(bare) else getattr(bare, "__call__", bare)  # noqa: B004
        try:
            hints = resolve_type_hints(called, self.name, of=("return",))
        except UsageError:  # a name that isn't known here
            hints = {}
        self._type: Any = hints.get("return")
        self._format: Any = None
        self.read_signature(function)

    async def prepare(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Work:
        """Return the work of a row."""
        digest = b""
        if self.is_keyed:
            digest = make_digest(self.name, self.version, self._find_source(), find_form(args), find_form(dict(kwargs)))
        return _PlainWork(self, args, kwargs, digest)

    def check(self) -> None:
        """Reject a function whose source can't be read, unless it has a version."""
        self._find_source()

    def _find_source(self) -> Any:
        """Return the function's own part of digests: nothing if `version=` is given."""
        if self._source is None:
            self._source = "" if self.version is not None else json.dumps(find_form(self._find_code()), sort_keys=True)
        return self._source

    def _find_code(self) -> Any:
        function = self.function
        if isinstance(function, functools.partial) or inspect.ismethod(function) or inspect.isfunction(function):
            return function
        if inspect.isroutine(function) or inspect.isclass(function):
            return parse_source(function)  # raises, and says what to do
        return [find_form(function), parse_source(type(function).__call__)]

    def dump(self, value: Any) -> str:
        """Return a value as JSON."""
        if isinstance(value, ModelOutputThunk):
            raise UsageError(
                f"{self.name}() returned a thunk, which a journal can't store; return thunk.value or thunk.parsed"
            )
        text = dump_typed(value)
        if self._type is not None and self._type is not Any:
            self._check_type(text, value)
            return text
        if json.loads(text) != value or not _is_json(value):
            raise UsageError(
                f"{self.name}() returned a {type(value).__name__}, which a journal can't restore without its "
                "type; annotate the function with the type that it returns"
            )
        return text

    def _check_type(self, text: str, value: Any) -> None:
        """Reject a value that couldn't be read back, now rather than in the next run, after it has been paid for."""
        try:
            self._read(text)
        except ValueError as error:
            raise UsageError(
                f"{self.name}() returned {reprlib.repr(value)}, which is not a valid {format_type(self._type)}, and a "
                f"journal can't restore it: {explain_error(error)}; correct the annotation"
            ) from None

    def load(self, text: str) -> Any:
        """Return the value that `dump` wrote."""
        if self._type is None or self._type is Any:
            return json.loads(text)
        try:
            return self._read(text)
        except ValueError as error:
            raise StateError(
                f"the journal's value of {self.name}() no longer fits its return type: {explain_error(error)}"
            ) from None

    def _read(self, text: str) -> Any:
        if self._format is None:
            from pydantic import TypeAdapter  # lazy: only functions with a type need it

            self._format = TypeAdapter(self._type)
        if "\\ud" in text:  # a lone surrogate, which pydantic refuses in JSON
            text = json.dumps(replace_surrogates_in(json.loads(text)))
        return self._format.validate_json(text)


def _is_json(value: Any) -> bool:
    """Whether a value consists of JSON's own types, which are restored unchanged."""
    if isinstance(value, dict):
        return all(type(name) is str for name in value) and all(map(_is_json, value.values()))
    if isinstance(value, list):
        return all(map(_is_json, value))
    return value is None or type(value) in (str, int, float, bool)
