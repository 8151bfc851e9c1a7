"""What one state of a run has that an earlier one hasn't, as JSON values; and the later state, made of the earlier one.

Rules:

- Messages and steps are told by how many are kept and which are added, so that the size of a change is that of what is
  new; results, answers and the states of sub-agents by their keys. The other fields are small, and told again.
- What comes of a change is checked by `load_state`; here it is only checked that there is something to change.
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

# Which JSON type each part of a change has; a change can come from anywhere, so this is checked first.
_CHANGES: dict[str, type] = {
    **dict.fromkeys(("messages", "starts", "outputs", "answers", "nested"), dict),
    **dict.fromkeys(FIELDS, list),
}


def diff_states(before: LoopState, after: LoopState) -> dict[str, Any]:
    """Return what a state has that an earlier one of the run hasn't, as JSON values for `apply_change`.

    Its size is that of what is new, however long the conversation is.

    Raises:
        UsageError: something in it has no JSON form.
    """
    change: dict[str, Any] = {}
    if before.messages is not after.messages:
        change["messages"] = _diff_lists(before.messages, after.messages, dump_messages)
    if before.starts != after.starts:
        change["starts"] = _diff_lists(before.starts, after.starts, list)
    # No test for equality before these: `_diff_maps` compares by identity and costs no more than the test would.
    change["outputs"] = _diff_maps(before.outputs, after.outputs, to_jsonable)
    change["answers"] = _diff_maps(before.answers, after.answers, dump_answer)
    change["nested"] = _diff_maps(before.nested, after.nested, dump_state, diff_states)
    for name, dump in FIELDS.items():
        if getattr(before, name) != getattr(after, name):
            change[name] = [dump(getattr(after, name))]
    return {name: value for name, value in change.items() if value}


def apply_change(data: dict[str, Any], change: Any, path: str) -> None:
    """Change a state, which is JSON values, as `diff_states` says; what comes of it is checked by `load_state`.

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
            # An empty value is removed, as `dump_state` leaves it out: applied changes give the document that is
            # written whole.
            data.update({name: value[0]}) if value[0] else data.pop(name, None)
        else:
            _apply_map(data.setdefault(name, {}), value, f"{path}.{name}")


def _diff_lists(before: Sequence[T], after: Sequence[T], dump: Callable[[Sequence[T]], Any]) -> dict[str, Any]:
    kept = 0
    for old, new in zip(before, after, strict=False):
        # By identity: messages are never changed in place, and comparing their texts would cost as much as writing
        # them.
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
    # A sub-agent's state is told as a change as well; else each of its steps would repeat its whole conversation.
    there = {key: value for key, value in changed.items() if diff is not None and key in before}
    data = {
        "drop": [key for key in before if key not in after],
        "set": {key: dump(value) for key, value in changed.items() if key not in there},
        "change": {key: diff(before[key], value) for key, value in there.items()} if diff is not None else {},
    }
    return {name: value for name, value in data.items() if value}


def _apply_list(values: Any, change: Any, path: str) -> None:
    check_fields(change, path, {"keep": int, "add": list}, {})
    # A negative number would be a valid slice, and cut from the end.
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
        # A sub-agent's state changes only where there is one.
        if not isinstance(values.get(key), dict):
            raise StateError(f"{path} changes a value that the state before it doesn't have")
        apply_change(values[key], inner, f"{path}[{key!r}]")
