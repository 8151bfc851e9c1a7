"""Output formats: from a Python type to a JSON Schema, and from the model's text to a value of the type."""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FunctionType
from typing import Annotated, Any, Generic, TypeVar, cast, get_args, get_origin

from mellea.core.accumulator import Generation
from mellea.core.backend import OutputSchema
from mellea.core.structured.bundle import bundle_schema
from mellea.core.structured.core_schema import calls_user_code, explain_unreadable
from mellea.core.structured.document import Search
from mellea.core.structured.extract import read_candidates
from mellea.core.structured.kinds import format_type, is_same_json
from mellea.core.structured.satisfiable import explain_impossible
from mellea.core.structured.scanner import Scanner
from mellea.core.structured.schema import Shape, get_shapes, list_branches
from mellea.core.structured.schema_check import MismatchError, check
from mellea.core.structured.strict import make_strict
from mellea.core.structured.visibility import strip_marks
from mellea.core.structured.wellformed import find_schema_problem
from mellea.errors import OutputError, ParseError, UsageError

__all__ = [
    "OutputFormat",
    "SeveralError",
    "calls_user_code",
    "explain_error",
    "get_step_texts",
    "make_output_format",
    "make_validator",
]

T = TypeVar("T")

_CUTS = {
    "length": ("at the token limit", "raise model_options={'max_tokens': …}"),
    "content_filter": ("by the provider's content filter", "ask for something else"),
}
"""Where an answer ends that isn't complete: what cut it off, and what to do."""


_MISTAKES = (NameError, ImportError, AttributeError, TypeError)
"""Exceptions that show a mistake in a validator, whatever the model wrote; others say that the value isn't valid."""


@dataclass(frozen=True, slots=True)
class OutputFormat(Generic[T]):
    """A type that the answer is to have.

    Args:
        schema: its JSON Schema, which goes to the backend.
        validator: pydantic's validator of the type, `None` for a plain JSON Schema.
        kind: the type, or the JSON Schema, as it was given.
        is_quick: whether validating a value calls nobody's code.
        marked: the JSON Schema with the marks of `HoldBack` and `Needed`.
        shapes: what an answer looks like at the top.
    """

    schema: OutputSchema
    validator: Any = field(repr=False)
    kind: Any = None
    marked: Mapping[str, Any] = field(default_factory=dict, repr=False)
    shapes: tuple[Shape, ...] = field(default=(), repr=False, compare=False)
    is_quick: bool = field(default=False, compare=False)

    @classmethod
    def of(cls, kind: Any, validator: Any) -> OutputFormat[Any]:
        """Make a format of a type and its validator, or of a JSON Schema and `None`.

        Raises:
            UsageError: no answer can be a value of it.
        """
        marked = bundle_schema(kind) if validator is None else _generate_schema(validator)
        if (why := explain_impossible(marked)) is not None:
            raise UsageError(f"format can't be {format_type(kind)}: no answer can be a valid one, since {why}")
        name = str(kind.get("title", "output")) if validator is None else _make_wire_name(kind)
        is_quick = validator is None or not calls_user_code(validator.core_schema)
        return cls(
            OutputSchema(name, strip_marks(marked)), validator, kind, marked, get_shapes(marked, marked), is_quick
        )

    @property
    def name(self) -> str:
        """The type as a person would write it: `list[Person]`, which no wire takes as a name."""
        return self.schema.name if isinstance(self.kind, Mapping) else format_type(self.kind)

    def parse(self, generation: Generation) -> T:
        """Make a value of the type out of the complete answer.

        It is made of the document in the text, as `Search` finds it for all readers; where there is no document, of
        the number, text or word that the text stands for. Of an answer that was cut off only a value that is surely
        complete is taken.

        Raises:
            ParseError: there is no such value, or there are several; the message says whether the text was cut off.
        """
        return self.parse_with_text(generation)[0]

    def parse_with_text(self, generation: Generation) -> tuple[T, str]:
        """Return the value that `parse` makes, and the JSON that it is made of; raises like `parse`."""
        is_cut = generation.finish_reason in _CUTS
        try:
            return self._read(get_step_texts(generation), is_cut=is_cut)
        except _NoValueError as error:
            why, said = _explain(self.name, generation, error.said), error.said
        raise ParseError(why, partial=generation.text) from said and said.with_traceback(None)

    def _read(self, texts: Sequence[str], *, is_cut: bool) -> tuple[T, str]:
        if not is_cut and len(texts) == 1 and (read := self._read_whole(texts[0])) is not None:
            return read
        search = Search(self, _make_scanner, looks_on=True)
        for number, text in enumerate(texts):
            if number:
                search.end_step()
            search.feed(text)
        search.close()
        if search.has_document:
            return self._parse_document(search, is_cut=is_cut)
        if is_cut and search.has_open_candidate:
            raise _NoValueError
        return self._parse_scalar(texts[-1], search.problem, is_cut=is_cut)

    def _read_whole(self, text: str) -> tuple[T, str] | None:
        """Return the value of a text that is one JSON document and nothing else, as most answers are.

        `Search` would find the same one at ten times the cost. A validator that calls code of the user's is left to
        it, since such code may count its calls.
        """
        document = text.strip(" \t\r\n")
        if self.validator is None or not self.is_quick or not document.startswith(("{", "[")):
            return None
        try:
            return self.validate(document), document
        except ValueError:  # what is wrong is found by the search, which also knows how to go on
            return None

    def _parse_document(self, search: Search, *, is_cut: bool) -> tuple[T, str]:
        text = search.document
        value, problem = self._try(text)
        if problem is not None:
            raise _NoValueError(problem)
        if is_cut and search.has_open_candidate:  # the one that was cut off may be what is meant
            raise _NoValueError
        others = [other for other in search.others if not is_same_json(other, text) and self.validate(other) != value]
        if others:
            raise _make_several_error(len(others) + 1)
        return cast("T", value), text

    def find_scalar(self, text: str) -> str | None:
        """Return the JSON that a text without a document stands for, if it does.

        It is a number, text or word; or what a validator of the user's takes though its JSON Schema doesn't say so.
        """
        try:
            return self._parse_scalar(text, None, is_cut=False)[1]
        except _NoValueError:
            return None

    def _parse_scalar(self, text: str, problem: Exception | None, *, is_cut: bool) -> tuple[T, str]:
        """Read an answer without a document; raises what is wrong with it."""
        said: Exception | None = None
        for candidates in read_candidates(text, self.schema.schema, is_cut=is_cut):
            good, errors = self._validate_all(candidates)
            if len(good) > 1:
                raise _make_several_error(len(good))
            if good:
                return good[0]
            for error in errors:
                # What is wrong with the JSON says more than that there is something around it.
                has_around = said is not None and _is_no_json(said) and not text.lstrip().startswith(("{", "["))
                said = error if said is None or has_around else said
        raise _NoValueError(problem or said)

    def find_problem(self, text: str) -> Exception | None:
        """Return why a JSON text isn't a value of the type, or `None`."""
        return self._try(text)[1]

    def is_item(self, text: str) -> bool:
        """Whether a JSON text is an element of the lists that the type takes, wherever in them it may stand."""
        if self.validator is None:
            return _is_element(text, self.marked)
        from pydantic_core import ValidationError  # lazy: plain text needs no pydantic

        try:
            self.validator.validate_json(f"[{text}]")
        except ValidationError as error:
            return not _is_no_item(error)
        except _MISTAKES as error:
            raise _make_mistake_error(self.name, error) from error
        except Exception:  # noqa: BLE001 - user code: a validator may raise anything
            return False
        return True

    def _validate_all(self, candidates: Iterable[str]) -> tuple[list[tuple[T, str]], list[Exception]]:
        """Return the different values among some JSON texts, and what is wrong with the other texts."""
        good: list[tuple[T, str]] = []
        errors: list[Exception] = []
        for candidate in candidates:
            value, error = self._try(candidate)
            if error is None:
                good.append((cast("T", value), candidate))
            else:
                errors.append(error)
        if len(good) > 1:
            good = list({json.dumps(json.loads(pair[1]), sort_keys=True): pair for pair in good}.values())
        return good, errors

    def validate(self, text: str) -> T:
        """Make a value of the type from a text that is JSON and nothing else.

        Raises:
            OutputError: a validator has a mistake in it, such as an unknown name; no other answer would do better.
            Exception: whatever else the validator raises, because the text isn't a value of the type.
        """
        if self.validator is None:
            from pydantic_core import from_json  # lazy: plain text needs no pydantic

            value = from_json(text, allow_inf_nan=False)
            check(value, self.marked, self.marked)
            return cast("T", value)
        try:
            return cast("T", self.validator.validate_json(text))
        except _MISTAKES as error:
            raise _make_mistake_error(self.name, error) from error

    def _try(self, text: str) -> tuple[T | None, Exception | None]:
        """Return the value that a JSON text stands for, or why it stands for none."""
        try:
            return self.validate(text), None
        except OutputError:
            raise
        except Exception as error:  # noqa: BLE001 - user code: a validator may raise anything
            return None, error

    def __reduce__(self) -> Any:
        return make_output_format, (self.kind,)


class _NoValueError(Exception):
    """A text stands for no value, or for several.

    Args:
        said: what is wrong with it; `None` where there is no more to say than that it was cut off.
    """

    def __init__(self, said: Exception | None = None) -> None:
        super().__init__(said)
        self.said = said


class SeveralError(ValueError):
    """A text has several values, and one was asked for."""


def _make_mistake_error(name: str, error: Exception) -> OutputError:
    return OutputError(f"a validator of the format {name!r} failed: {type(error).__name__}: {error}")


def _make_several_error(count: int) -> _NoValueError:
    return _NoValueError(SeveralError(f"it holds {count} values, and one was asked for"))


def get_step_texts(generation: Generation) -> list[str]:
    """Return the text of each step of an answer; one where no tools ran in between."""
    texts = [message.content for message in generation.messages if message.role == "assistant"]
    return texts or [generation.text]


def _make_scanner() -> Scanner:
    return Scanner(0)


def _is_no_item(error: Any) -> bool:
    """Whether a list of one element is refused for the element; not for the list, as for its length.

    Of a union, what is wrong stands under each of its members; one that has nothing against the element does.
    """
    inside: dict[Any, bool] = {}
    for each in error.errors(include_url=False, include_context=False, include_input=False):
        member, *place = each["loc"] if each["loc"] and each["loc"][0] != 0 else ((), *each["loc"])
        inside[member] = inside.get(member, False) or bool(place) or each["type"].endswith("_type")
    return all(inside.values())


def _is_element(text: str, root: Mapping[str, Any]) -> bool:
    from pydantic_core import from_json  # lazy: plain text needs no pydantic

    try:
        value = from_json(text)
    except ValueError:
        return False
    for branch in list_branches(root, root):
        elements = branch.get("items", True)
        if _opens_list(branch) and not branch.get("prefixItems"):
            try:
                check(value, elements, root)
            except MismatchError:
                continue
            return True
    return False


def _opens_list(branch: Mapping[str, Any]) -> bool:
    return branch.get("type", "array") == "array" or "array" in branch["type"]


def _generate_schema(validator: Any) -> dict[str, Any]:
    from mellea.core.structured.generator import MarkedJsonSchema  # lazy: plain text needs no pydantic

    schema: dict[str, Any] = validator.json_schema(schema_generator=MarkedJsonSchema)
    return schema


def make_output_format(format: Any) -> OutputFormat[Any]:
    """Take a type, or a JSON Schema as a dict, as an output format.

    Dataclasses and TypedDicts refuse unknown keys and wrong JSON types; pydantic's own classes do as they
    are configured.

    Raises:
        UsageError: it is neither, or a name in its annotations can't be found.
    """
    if isinstance(format, OutputFormat):
        return format
    if isinstance(format, Mapping):
        return OutputFormat.of(_check_json_schema(format), None)
    from pydantic import PydanticUserError  # lazy: plain text needs no pydantic

    try:
        if isinstance(format, (str, FunctionType)) or _is_instance(format):
            raise TypeError("it is not a type")
        if isinstance(format, list):
            raise TypeError("list[…] stands for a list")
        return _make_cached(format) if _is_settled(format) else OutputFormat.of(format, make_validator(format))
    except (PydanticUserError, TypeError, NameError) as error:
        raise UsageError(
            f"format can't be {format_type(format)}: {_shorten_error(error)}; it takes a pydantic model, a dataclass, "
            "a TypedDict, list[…], dict[str, …], a Literal, an enum, a union, a builtin such as int, or a JSON Schema "
            "as a dict"
        ) from error.with_traceback(None)


@functools.lru_cache(maxsize=128)
def _make_cached(kind: Any) -> OutputFormat[Any]:
    """Make a format once: to make a validator takes a millisecond."""
    return OutputFormat.of(kind, make_validator(kind))


def _is_settled(kind: Any) -> bool:
    """Whether a type means the same wherever it stands: it is made of classes, not of names or unions."""
    args = get_args(kind)
    if not args:
        return isinstance(kind, type)
    return get_origin(kind) in (list, dict, Sequence, Iterable) and all(_is_settled(arg) for arg in args)


def _check_json_schema(format: Mapping[str, Any]) -> dict[str, Any]:
    problem = None
    try:
        problem = find_schema_problem(format)
        json.dumps(dict(format))
        if problem is None:
            bundle_schema(format)
    except (TypeError, ValueError, RecursionError) as error:
        problem = problem or str(error)
    if problem is not None:
        raise UsageError(
            f"format can't be {dict(format)!r}: as a dict it takes a JSON Schema, such as {{'type': 'object', "
            f"'properties': {{…}}}}, and {problem}; a TypedDict or a dataclass names fields and their types"
        )
    return dict(format)


def _is_instance(format: Any) -> bool:
    """Whether it is a value of a class that would do as a format."""
    cls = type(format)
    return isinstance(format, enum.Enum) or dataclasses.is_dataclass(cls) or hasattr(cls, "model_fields")


def _shorten_error(error: Exception) -> str:
    """Say what pydantic has against a type, without its advice to those who call pydantic themselves."""
    return str(error).splitlines()[0].partition(". Set `arbitrary_types_allowed")[0]


def make_validator(kind: Any, *, owner_config: Mapping[str, Any] | None = None) -> Any:
    """Make pydantic's validator of a type.

    Args:
        kind: what isn't a class of pydantic's is validated strictly.
        owner_config: that of the pydantic class which the type stands in; pydantic validates it then as it does there.
    """
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter  # lazy: plain text needs no pydantic

    rewritten = make_strict(kind) if owner_config is None else kind
    config = ConfigDict(strict=True) if owner_config is None else cast("ConfigDict", owner_config)
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(rewritten, config=config)
    except PydanticUserError as error:
        if error.code != "type-adapter-config-unused":
            raise
        adapter = TypeAdapter(rewritten)  # it has a configuration of its own
    if (why := explain_unreadable(adapter.core_schema)) is not None:
        raise UsageError(
            f"format can't be {format_type(kind)}: {why}, so no answer would be valid; annotate it with the enum "
            "itself, or with the values that JSON has"
        )
    return adapter


def _make_wire_name(kind: Any) -> str:
    """Return a name that a wire takes."""
    while get_origin(kind) is Annotated:
        kind = kind.__origin__
    name = getattr(kind, "__name__", "output")
    return "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in name)[:64]


def explain_error(error: Exception | None) -> str:
    """Say in a line what a validator has against a text: the first few places, and what is wrong there."""
    errors = getattr(error, "errors", None)
    if not callable(errors):
        said = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        return "; ".join(line.strip() for line in said.splitlines()[:3])
    found = [(".".join(map(str, each["loc"])), each["msg"]) for each in errors(include_url=False)]
    said = "; ".join(f"{place}: {message}" if place else message for place, message in found[:3])
    return said + (f"; and {len(found) - 3} more" if len(found) > 3 else "")


def _is_no_json(error: Exception) -> bool:
    errors = getattr(error, "errors", None)
    if isinstance(error, MismatchError):
        return False
    return not callable(errors) or any(each.get("type") == "json_invalid" for each in errors())


def _explain(name: str, generation: Generation, error: Exception | None) -> str:
    if generation.finish_reason in _CUTS:
        where, advice = _CUTS[generation.finish_reason]
        return f"the answer was cut off {where} before the {name!r} was complete: {generation.text[-80:]!r}; {advice}"
    return f"the answer is not a valid {name!r}: {explain_error(error)}; the text is {generation.text[:120]!r}"
