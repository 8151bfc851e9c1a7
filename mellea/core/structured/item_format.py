"""The items of a format: where the sequence is in the answer, the type of its elements, and how one is validated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_origin

from mellea.core.structured.core_schema import calls_user_code
from mellea.core.structured.kinds import ItemSequence, Path, find_sequence, unwrap_type
from mellea.core.structured.output_format import OutputFormat, make_output_format, make_validator
from mellea.core.structured.schema import Elements, Schema, follow_references, get_elements, get_openings, list_branches
from mellea.core.structured.schema_check import check
from mellea.errors import UsageError

__all__ = ["ItemFormat", "make_item_format"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ItemFormat(Generic[T]):
    """The items of a format.

    Args:
        paths: the alternative paths from the top of the JSON to the sequence; `((),)` if it is the whole answer.
        name: the name of one item in error messages.
        validate: makes an item from its JSON and its index; raises what its validator raises.
        is_quick: validating an item calls no user code.
        may_be_list: an item may itself be a list.
        is_set: the result is a set, without the order and the duplicates of the text.
        find_items: returns the items of a parsed value.
        whole: the format of the complete answer.
    """

    paths: tuple[Path, ...]
    name: str
    validate: Callable[[str, int], T]
    is_quick: bool
    may_be_list: bool
    is_set: bool
    find_items: Callable[[Any], list[T]]
    whole: OutputFormat[Any]


def make_item_format(format: OutputFormat[Any] | None) -> ItemFormat[Any]:
    """Describe the items of a format.

    A format has items if it is a sequence, such as `list[T]`, `Sequence[T]`, `Iterable[T]` or `set[T]`, or an object
    with exactly one such field among its fields.

    Raises:
        UsageError: the format has no items, or several sequences.
    """
    if format is None:
        raise UsageError("items() reads the elements of a sequence; ask for one with format=list[…]")
    made: ItemFormat[Any] | None = None
    if isinstance(format.kind, Mapping):
        if (found := _find_elements(format.marked)) is not None:
            made = _make_for_schema(*found, format)
    elif (items := find_sequence(format.kind)) is not None and _is_array(items, format.marked):
        made = _make_for_type(items, format)
    if made is None:
        raise UsageError(
            f"items() reads the elements of a sequence, and {format.name} has none, or several; ask for one with "
            "format=list[…], Sequence[…] or Iterable[…], or an object that has exactly one such field; partials() "
            "reads an object while it is written"
        )
    return made


def _is_array(items: ItemSequence, schema: Schema) -> bool:
    """Whether the schema has an array there, too: a validator may make a list from something else, such as a string."""
    parts: list[Schema] = [schema]
    for step in items.paths[0]:
        found = [branch.get("properties", {}).get(step) for part in parts for branch in list_branches(part, schema)]
        parts = [part for part in found if isinstance(part, Mapping)]
    # If the schema doesn't say where the items are, the type decides.
    return not parts or any("[" in get_openings(part, schema) for part in parts) or len(items.paths[0]) > 1


def _make_for_type(items: ItemSequence, whole: OutputFormat[Any]) -> ItemFormat[Any]:
    """Make the format of an item; an item of a pydantic class is validated with that class's configuration."""
    owner = unwrap_type(whole.kind)
    owner = get_origin(owner) or owner
    # An item must be read as within the whole value, including strictness and aliases.
    if hasattr(owner, "__pydantic_validator__"):
        config = getattr(owner, "model_config", None) or getattr(owner, "__pydantic_config__", {})
        one = OutputFormat.of(items.element, make_validator(items.element, owner_config=config))
    else:
        one = make_output_format(items.element)
    openings = get_openings(one.schema.schema)
    return ItemFormat(
        paths=items.paths,
        name=one.name,
        validate=lambda raw, index: one.validate(raw),
        is_quick=not calls_user_code(one.validator.core_schema),
        may_be_list=not openings or "[" in openings,
        is_set=items.is_set,
        find_items=items.find_items,
        whole=whole,
    )


def _find_elements(root: Schema) -> tuple[str | None, Elements] | None:
    if (elements := get_elements(root, root)) is not None:
        return None, elements
    properties = [branch.get("properties", {}) for branch in list_branches(root, root)]
    if len(properties) != 1:
        return None
    lists = [(key, found) for key, part in properties[0].items() if (found := get_elements(part, root)) is not None]
    # With several, nobody could say which one is meant.
    return lists[0] if len(lists) == 1 else None


def _make_for_schema(key: str | None, elements: Elements, whole: OutputFormat[Any]) -> ItemFormat[Any]:
    from pydantic_core import from_json  # lazy: plain text needs no pydantic

    root = whole.marked

    def validate(raw: str, index: int) -> Any:
        found = from_json(raw)
        check(found, elements.first[index] if index < len(elements.first) else elements.others, root)
        return found

    def find_items(parsed: Any) -> list[Any]:
        found = parsed if key is None else parsed.get(key) if isinstance(parsed, dict) else None
        return list(found) if isinstance(found, list) else []

    parts = [part for part in (*elements.first, elements.others) if part is not False]
    openings = [get_openings(part, root) if isinstance(part, Mapping) else "" for part in parts]
    title = follow_references(elements.others, root).get("title") if isinstance(elements.others, Mapping) else None
    return ItemFormat(
        paths=((),) if key is None else ((key,),),
        name=str(title or "output"),
        validate=validate,
        is_quick=True,
        may_be_list=any(not found or "[" in found for found in openings),
        is_set=False,
        find_items=find_items,
        whole=whole,
    )
