"""The last conversation of `mellea ask`, which `--continue` continues: a file that only this user can read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mellea.core.messages import Message
from mellea.core.serialise import from_json, to_json
from mellea.errors import ConfigurationError, UsageError

__all__ = ["load", "save"]


def save(messages: Sequence[Message]) -> None:
    """Save a conversation; if that fails, it can't be continued."""
    try:
        path = _path()
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.{os.getpid()}")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(to_json(list(messages)))
        new.replace(path)
    except (OSError, ConfigurationError):
        return


def load() -> list[Message]:
    """Return the last conversation.

    Raises:
        UsageError: there is none.
        StateError: it can't be read.
    """
    try:
        text = _path().read_text("utf-8")
    except OSError:
        raise UsageError("there is no conversation to continue; ask something without --continue first") from None
    messages: list[Message] = from_json(text, Message)
    return messages


def _path() -> Path:
    from mellea.backends.llama_cpp.weights import find_models_dir  # lazy: other models don't need the embedded one

    return find_models_dir().parent / "conversation.json"
