"""Blocks that are hidden from users and have to be sent back unchanged, such as a compaction."""

from __future__ import annotations

import json
from dataclasses import dataclass

from mellea.backends.anthropic.wire import SIGNATURE, JsonObject

__all__ = ["KeptBlock", "read_kept_block"]

_PREFIX = f"{SIGNATURE}block:"


@dataclass(slots=True)
class KeptBlock:
    """A block that is being written.

    Args:
        block: as it began; the content of its deltas is appended.
    """

    block: JsonObject

    def add(self, delta: JsonObject) -> None:
        """Merge a delta: texts are appended, any other value replaces the old one."""
        for name, value in delta.items():
            if name == "type" or value is None:
                continue
            before = self.block.get(name)
            self.block[name] = before + value if isinstance(before, str) and isinstance(value, str) else value

    @property
    def signature(self) -> str:
        """The block as a signature, the form in which a message keeps it."""
        return _PREFIX + json.dumps(self.block, ensure_ascii=False)


def read_kept_block(signature: str) -> JsonObject | None:
    """Return the block in a signature, or `None`."""
    return dict(json.loads(signature.removeprefix(_PREFIX))) if signature.startswith(_PREFIX) else None
