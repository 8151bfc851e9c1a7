"""Blocks that say nothing to a user and have to go back as they came, such as a compaction of the conversation."""

from __future__ import annotations

import json
from dataclasses import dataclass

from mellea.backends.anthropic.wire import SIGNATURE, JsonObject

__all__ = ["KeptBlock", "kept_block"]

_PREFIX = f"{SIGNATURE}block:"


@dataclass(slots=True)
class KeptBlock:
    """A block that is being written.

    Args:
        block: as it began; what its deltas hold is put behind.
    """

    block: JsonObject

    def add(self, delta: JsonObject) -> None:
        """Take more of it: texts go behind what there is, anything else takes its place."""
        for name, value in delta.items():
            if name == "type" or value is None:
                continue
            before = self.block.get(name)
            self.block[name] = before + value if isinstance(before, str) and isinstance(value, str) else value

    @property
    def signature(self) -> str:
        """What it is kept as in a message."""
        return _PREFIX + json.dumps(self.block, ensure_ascii=False)


def kept_block(signature: str) -> JsonObject | None:
    """Return the block that a signature is, `None` if it is none."""
    return dict(json.loads(signature.removeprefix(_PREFIX))) if signature.startswith(_PREFIX) else None
