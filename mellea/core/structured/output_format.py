"""Output formats: turn a Python type into a JSON Schema, and the model's text into a value of the type."""

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
from mellea.core.structured.wellformed import find_schema_problem, has_keyword
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
"""For an answer that was cut off: where, and what to do about it."""


_MISTAKES = (NameError, ImportError, AttributeError, TypeError)
"""Exceptions that show a mistake in a validator, whatever the model wrote; others say that the value isn't valid."""


@dataclass(frozen=True, slots=True)
class OutputFormat(Generic[T]):
    """The requested type of an answer.

    Args:
        schema: its JSON Schema, which is sent to the backend.
        validator: pydantic's validator for the type; `None` for a plain JSON Schema.
        kind: the type or the JSON Schema as it was given.
        is_quick: whether validation calls no user code, so that it needs no worker thread.
        marked: the JSON Schema with the keywords of `HoldBack` and `Needed`.
        shapes: the possible shapes of an answer at the top level.
    """

    schema: OutputSchema
    validator: Any = field(repr=False)
    kind: Any = None
    marked: Mapping[str, Any] = field(default_factory=dict, repr=False)
    shapes: tuple[Shape, ...] = field(default=(), repr=False, compare=False)
    is_quick: bool = field(default=False, compare=False)

    @classmethod
    def of(cls, kind: Any, validator: Any) -> OutputFormat[Any]:
        """Make a format from a type and its validator, or from a JSON Schema and `None`.

        Raises:
            UsageError: no answer can be valid.
        """
        marked = bundle_schema(kind) if validator is None else _generate_schema(validator)
        # Checked now, while the program can still be fixed; later every answer would be paid for and then rejected.
        if (why := explain_impossible(marked)) is not None:
            raise UsageError(f"format can't be {format_type(kind)}: no answer can be a valid one, since {why}")
        name = str(kind.get("title", "output")) if validator is None else _make_wire_name(kind)
        # Decides where answers are parsed, since user code never runs on the loop.
        is_quick = validator is None or not calls_user_code(validator.core_schema)
        return cls(
            OutputSchema(name, strip_marks(marked)), validator, kind, marked, get_shapes(marked, marked), is_quick
        )

    @property
    def name(self) -> str:
        """The type as a person would write it, such as `list[Person]`; for error messages, not for the wire."""
        return self.schema.name if isinstance(self.kind, Mapping) else format_type(self.kind)

    def parse(self, generation: Generation) -> T:
        """Return the value that a complete answer stands for.

        That is the JSON document in the text, which `Search` finds for all readers; without a document it is the
        number, string or word that the text consists of. From an answer that was cut off, only a value that is
        certainly complete is accepted.

        Raises:
            ParseError: there is no valid value, or more than one; the message says whether the text was cut off.
            OutputError: a validator has a mistake in it.
        """
        return self.parse_with_text(generation)[0]

    def parse_with_text(self, generation: Generation) -> tuple[T, str]:
        """Return the value and its JSON text; raises as `parse` does."""
        is_cut = generation.finish_reason in _CUTS
        try:
            return self._read(get_step_texts(generation), is_cut=is_cut)
        except _NoValueError as error:
            why, said = _explain(self.name, generation, error.said), error.said
        raise ParseError(why, partial=generation.text) from said and said.with_traceback(None)

    def _read(self, texts: Sequence[str], *, is_cut: bool) -> tuple[T, str]:
        if not is_cut and len(texts) == 1 and (read := self._read_whole(texts[0])) is not None:
            return read
        # The search continues after the document it has found, since a second, different one makes the answer
        # ambiguous.
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
        # Only in the last step: a number in the text between two tools isn't the answer.
        return self._parse_scalar(texts[-1], search.problem, is_cut=is_cut)

    def _read_whole(self, text: str) -> tuple[T, str] | None:
        """Return the value of a text that is one JSON document and nothing else, as most answers are.

        `Search` would find the same one at ten times the cost. Validators that call user code are left to it, since
        such code may count its calls.
        """
        document = text.strip(" \t\r\n")
        if self.validator is None or not self.is_quick or not document.startswith(("{", "[")):
            return None
        try:
            return self.validate(document), document
        except ValueError:  # the search finds what is wrong, and also how to continue
            return None

    def _parse_document(self, search: Search, *, is_cut: bool) -> tuple[T, str]:
        text = search.document
        value, problem = self._try(text)
        if problem is not None:
            raise _NoValueError(problem)
        if is_cut and search.has_open_candidate:  # the document that was cut off may be the intended one
            raise _NoValueError
        # A repetition isn't another value, even if it is written differently; models repeat themselves.
        others = [other for other in search.others if not is_same_json(other, text) and self.validate(other) != value]
        if others:
            raise _make_several_error(len(others) + 1)
        return cast("T", value), text

    def find_scalar(self, text: str) -> str | None:
        """Return the JSON of the number, string or word that a text without a document stands for, or `None`.

        A user validator may accept more than the JSON Schema allows; such values are found as well.
        """
        try:
            return self._parse_scalar(text, None, is_cut=False)[1]
        except _NoValueError:
            return None

    def _parse_scalar(self, text: str, problem: Exception | None, *, is_cut: bool) -> tuple[T, str]:
        """Parse an answer without a document; raises `_NoValueError`."""
        said: Exception | None = None
        # Group by group: a valid reading in a likelier group ends the search, and the others aren't compared with it.
        for candidates in read_candidates(text, self.schema.schema, is_cut=is_cut):
            good, errors = self._validate_all(candidates)
            if len(good) > 1:
                raise _make_several_error(len(good))
            if good:
                return good[0]
            for error in errors:
                # An error inside the JSON is more helpful than "not JSON" because of the text around it.
                has_around = said is not None and _is_no_json(said) and not text.lstrip().startswith(("{", "["))
                said = error if said is None or has_around else said
        raise _NoValueError(problem or said)

    def find_problem(self, text: str) -> Exception | None:
        """Return why a JSON text isn't a value of the type, or `None`."""
        return self._try(text)[1]

    def is_item(self, text: str) -> bool:
        """Whether a JSON text is a possible element of the type's lists, at any index."""
        if self.validator is None:
            return _is_element(text, self.marked)
        from pydantic_core import ValidationError  # lazy: plain text needs no pydantic

        try:
            # As a list of one, so that the element is read as it is in the whole list.
            self.validator.validate_json(f"[{text}]")
        except ValidationError as error:
            return not _is_no_item(error)
        except _MISTAKES as error:
            raise _make_mistake_error(self.name, error) from error
        except Exception:  # noqa: BLE001 - user code: a validator may raise anything
            return False
        return True

    def _validate_all(self, candidates: Iterable[str]) -> tuple[list[tuple[T, str]], list[Exception]]:
        """Return the distinct valid values among some JSON texts, and the errors of the other ones."""
        good: list[tuple[T, str]] = []
        errors: list[Exception] = []
        for candidate in candidates:
            value, error = self._try(candidate)
            if error is None:
                good.append((cast("T", value), candidate))
            else:
                errors.append(error)
        if len(good) > 1:
            # Compared by their JSON: values of user types may be neither hashable nor comparable.
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

            # Python's parsers accept `NaN`, which JSON doesn't have.
            value = from_json(text, allow_inf_nan=False)
            check(value, self.marked, self.marked)
            return cast("T", value)
        try:
            return cast("T", self.validator.validate_json(text))
        except _MISTAKES as error:
            raise _make_mistake_error(self.name, error) from error

    def _try(self, text: str) -> tuple[T | None, Exception | None]:
        """Return the value of a JSON text, or why it has none."""
        try:
            return self.validate(text), None
        except OutputError:
            raise
        except Exception as error:  # noqa: BLE001 - user code: a validator may raise anything
            return None, error

    def __reduce__(self) -> Any:
        # Created again when it is unpickled, since pydantic's validators can't be pickled.
        return make_output_format, (self.kind,)


class _NoValueError(Exception):
    """A text doesn't stand for exactly one value.

    Args:
        said: why; `None` if the only reason is that it was cut off.
    """

    def __init__(self, said: Exception | None = None) -> None:
        super().__init__(said)
        self.said = said


class SeveralError(ValueError):
    """A text has several different values where one was requested."""


def _make_mistake_error(name: str, error: Exception) -> OutputError:
    return OutputError(f"a validator of the format {name!r} failed: {type(error).__name__}: {error}")


def _make_several_error(count: int) -> _NoValueError:
    return _NoValueError(SeveralError(f"it has {count} values, but one was requested"))


def get_step_texts(generation: Generation) -> list[str]:
    """Return the text of each step of an answer; without tool calls there is one step."""
    texts = [message.content for message in generation.messages if message.role == "assistant"]
    return texts or [generation.text]


def _make_scanner() -> Scanner:
    return Scanner(0)


def _is_no_item(error: Any) -> bool:
    """Whether the validation error of a one-element list is about the element, not about the list, such as its length.

    For a union there are errors under each member; it is enough if one member accepts the element.
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
    # For a union, one member is enough.
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
    """Make an output format from a type, or from a JSON Schema as a dict; a format is returned as it is.

    Dataclasses and TypedDicts reject unknown keys and wrong JSON types; pydantic classes follow their configuration.

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
            # `[Person]`, as in other libraries, would become a list that contains a class.
            raise TypeError("list[…] stands for a list, Literal[…] for a choice")
        return _make_cached(format) if _is_settled(format) else OutputFormat.of(format, make_validator(format))
    except (PydanticUserError, TypeError, NameError) as error:
        raise UsageError(
            f"format can't be {format_type(format)}: {_shorten_error(error)}; it takes a pydantic model, a dataclass, "
            "a TypedDict, list[…], dict[str, …], a Literal, an enum, a union, a builtin such as int, or a JSON Schema "
            "as a dict"
        ) from error.with_traceback(None)


@functools.lru_cache(maxsize=128)
def _make_cached(kind: Any) -> OutputFormat[Any]:
    """Make a format once per type, because making a validator takes about a millisecond."""
    return OutputFormat.of(kind, make_validator(kind))


def _is_settled(kind: Any) -> bool:
    """Whether a type consists of classes only, so that it always means the same and can be cached."""
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
        if has_keyword(format):
            raise UsageError(f"format can't be the JSON Schema {dict(format)!r}: {problem}")
        raise UsageError(
            f"format can't be {dict(format)!r}: a dict has to be a JSON Schema, such as {{'type': 'object', "
            f"'properties': {{…}}}}, but {problem}; a TypedDict or a dataclass can name fields and their types instead"
        )
    return dict(format)


def _is_instance(format: Any) -> bool:
    """Whether a value was given whose class would be a valid format."""
    cls = type(format)
    return isinstance(format, enum.Enum) or dataclasses.is_dataclass(cls) or hasattr(cls, "model_fields")


def _shorten_error(error: Exception) -> str:
    """Return pydantic's error for a type, without the advice that only applies to callers of pydantic."""
    return str(error).splitlines()[0].partition(". Set `arbitrary_types_allowed")[0]


def make_validator(kind: Any, *, owner_config: Mapping[str, Any] | None = None) -> Any:
    """Make pydantic's validator for a type; types other than pydantic's classes are validated strictly.

    Args:
        kind: the type.
        owner_config: the configuration of the pydantic class that has a field of this type; it then applies instead.
    """
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter  # lazy: plain text needs no pydantic

    rewritten = make_strict(kind) if owner_config is None else kind
    config = ConfigDict(strict=True) if owner_config is None else cast("ConfigDict", owner_config)
    adapter: TypeAdapter[Any] | None = None
    try:
        adapter = TypeAdapter(rewritten, config=config)
    except PydanticUserError as error:
        if error.code != "type-adapter-config-unused":
            raise
    if adapter is None:  # it has a configuration of its own, and pydantic allows only one
        # Not in the handler: an adapter keeps the variables of the function that makes it, with the error among them
        # also the frames of the program, whose streams then wouldn't be dropped.
        adapter = TypeAdapter(rewritten)
    if (why := explain_unreadable(adapter.core_schema)) is not None:
        raise UsageError(
            f"format can't be {format_type(kind)}: {why}, so no answer would be valid; annotate it with the enum "
            "itself, or with the values that JSON has"
        )
    return adapter


def _make_wire_name(kind: Any) -> str:
    """Return a name for the schema that providers accept: up to 64 letters, digits, `_` and `-`."""
    while get_origin(kind) is Annotated:
        kind = kind.__origin__
    name = getattr(kind, "__name__", "output")
    return "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in name)[:64]


def explain_error(error: Exception | None) -> str:
    """Return a validation error as one line with the first three places and what is wrong there."""
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
