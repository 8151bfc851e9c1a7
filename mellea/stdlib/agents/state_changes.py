"""The difference between two states of a run as JSON values, and how to apply it.

Rules:

- Messages and steps are given as the number kept and those added, so that a change is only as large as what is new;
  results, answers and the states of sub-agents by their keys. The other fields are small, and repeated.
- `load_state` checks the result of a change; here it is only checked that the changed value exists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from mellea.core.serialise import to_jsonable
from mellea.errors import StateError
from mellea.stdlib.agents.state_json import FIELDS, check_fields, dump_answer, dump_messages, dump_state
from mellea.stdlib.tools import LoopState

__all__ = ["apply_change", "diff_states"]

T = TypeVar("T")

# The JSON type of each part of a change; a change can come from anywhere, so this is checked first.
_CHANGES: dict[str, type] = {
    **dict.fromkeys(("messages", "starts", "outputs", "answers", "nested"), dict),
    **dict.fromkeys(FIELDS, list),
}


def diff_states(before: LoopState, after: LoopState) -> dict[str, Any]:
    """Return the difference between a state and an earlier one of the run, as JSON values for `apply_change`.

    It is only as large as what is new, however long the conversation is.

    Raises:
        UsageError: something in it has no JSON form.
    """
    change: dict[str, Any] = {}
    if before.messages is not after.messages:
        change["messages"] = _diff_lists(before.messages, after.messages, dump_messages)
    if before.starts != after.starts:
        change["starts"] = _diff_lists(before.starts, after.starts, list)
    # No equality test before these: `_diff_maps` compares by identity and costs no more than the test.
    change["outputs"] = _diff_maps(before.outputs, after.outputs, to_jsonable)
    change["answers"] = _diff_maps(before.answers, after.answers, dump_answer)
    change["nested"] = _diff_maps(before.nested, after.nested, dump_state, diff_states)
    for name, dump in FIELDS.items():
        if getattr(before, name) != getattr(after, name):
            change[name] = [dump(getattr(after, name))]
    return {name: value for name, value in change.items() if value}


def apply_change(data: dict[str, Any], change: Any, path: str) -> None:
    """Apply a change made by `diff_states` to a state as JSON values; `load_state` checks the result.

    Args:
        data: the state.
        change: from anywhere.
        path: where it is, for errors.

    Raises:
        StateError: it isn't a change of that state.
    """
    check_fields(change, path, {}, _CHANGES)
    for name, value in change.items():
        if name in ("messages", "starts"):
            _apply_list(data.setdefault(name, []), value, f"{path}.{name}")
        elif name in FIELDS:
            if len(value) != 1:
                raise StateError(f"{path}.{name} should be a list with one value, not {value!r:.80}")
            # An empty value is removed, as `dump_state` leaves it out, so that applied changes give the same
            # document as a full dump.
            data.update({name: value[0]}) if value[0] else data.pop(name, None)
        else:
            _apply_map(data.setdefault(name, {}), value, f"{path}.{name}")


def _diff_lists(before: Sequence[T], after: Sequence[T], dump: Callable[[Sequence[T]], Any]) -> dict[str, Any]:
    kept = 0
    for old, new in zip(before, after, strict=False):
        # By identity: messages are never changed in place, and comparing texts would cost as much as writing them.
        if old is not new:
            break
        kept += 1
    return {} if kept == len(before) == len(after) else {"keep": kept, "add": dump(after[kept:])}


def _diff_maps(
    before: Mapping[str, T],
    after: Mapping[str, T],
    dump: Callable[[T], Any],
    diff: Callable[[T, T], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    changed = {key: value for key, value in after.items() if key not in before or before[key] is not value}
    # A sub-agent's state is diffed, too; else each of its steps would repeat its whole conversation.
    there = {key: value for key, value in changed.items() if diff is not None and key in before}
    data = {
        "drop": [key for key in before if key not in after],
        "set": {key: dump(value) for key, value in changed.items() if key not in there},
        "change": {key: diff(before[key], value) for key, value in there.items()} if diff is not None else {},
    }
    return {name: value for name, value in data.items() if value}


def _apply_list(values: Any, change: Any, path: str) -> None:
    check_fields(change, path, {"keep": int, "add": list}, {})
    # A negative number would be a valid slice that cuts from the end.
    if not isinstance(values, list) or not 0 <= change["keep"] <= len(values):
        raise StateError(f"{path} changes a value that the state before it doesn't have")
    del values[change["keep"] :]
    values += change["add"]


def _apply_map(values: Any, change: Any, path: str) -> None:
    check_fields(change, path, {}, {"drop": list, "set": dict, "change": dict})
    if not isinstance(values, dict):
        raise StateError(f"{path} changes a value that the state before it doesn't have")
    for key in change.get("drop", ()):
        if not isinstance(key, str) or key not in values:
            raise StateError(f"{path} changes a value that the state before it doesn't have")
        del values[key]
    values.update(change.get("set", {}))
    for key, inner in change.get("change", {}).items():
        # A sub-agent's state can only change if it exists.
        if not isinstance(values.get(key), dict):
            raise StateError(f"{path} changes a value that the state before it doesn't have")
        apply_change(values[key], inner, f"{path}[{key!r}]")
