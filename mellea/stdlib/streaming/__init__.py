"""Streams: generations that are read while they are written, and checked while they are written.

May import: core, stdlib.requirements and what is below it. Read `stream.py` first, then `sampling_work.py`.
"""

from typing import TYPE_CHECKING

from mellea._lazy_exports import lazily
from mellea.stdlib.streaming.chunks import ChunkFold, StreamChunk
from mellea.stdlib.streaming.release import check_release
from mellea.stdlib.streaming.sampling_work import launch_sampled
from mellea.stdlib.streaming.stream import AsyncStream, Stream

if TYPE_CHECKING:
    from mellea.core.structured import HoldBack as HoldBack
    from mellea.core.structured import Needed as Needed
    from mellea.core.structured import Partial as Partial

__all__ = [
    "AsyncStream",
    "ChunkFold",
    "HoldBack",
    "Needed",
    "Partial",
    "Stream",
    "StreamChunk",
    "check_release",
    "launch_sampled",
]

__getattr__ = lazily(__name__, dict.fromkeys(("HoldBack", "Needed", "Partial"), "mellea.core.structured"))
