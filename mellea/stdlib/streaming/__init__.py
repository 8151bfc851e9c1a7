"""Streams: generations that are read while they are written, and checked while they are written."""

# May import: core, stdlib.requirements and what is below it. Read `streams.py` first, then `sampling_work.py`.

from typing import TYPE_CHECKING

from mellea._lazy_exports import lazily

if TYPE_CHECKING:
    from mellea.core.structured import HoldBack as HoldBack
    from mellea.core.structured import Needed as Needed
    from mellea.core.structured import Partial as Partial
    from mellea.stdlib.streaming.chunks import ChunkFold as ChunkFold
    from mellea.stdlib.streaming.chunks import StreamChunk as StreamChunk
    from mellea.stdlib.streaming.merged import AsyncMergedStream as AsyncMergedStream
    from mellea.stdlib.streaming.merged import MergedStream as MergedStream
    from mellea.stdlib.streaming.merged import amerge as amerge
    from mellea.stdlib.streaming.merged import merge as merge
    from mellea.stdlib.streaming.sampling_work import check_release as check_release
    from mellea.stdlib.streaming.sampling_work import launch_sampled as launch_sampled
    from mellea.stdlib.streaming.streams import AsyncStream as AsyncStream
    from mellea.stdlib.streaming.streams import Stream as Stream

__all__ = [
    "AsyncMergedStream",
    "AsyncStream",
    "ChunkFold",
    "HoldBack",
    "MergedStream",
    "Needed",
    "Partial",
    "Stream",
    "StreamChunk",
    "amerge",
    "check_release",
    "launch_sampled",
    "merge",
]

__getattr__ = lazily(
    __name__,
    {
        "AsyncMergedStream": "mellea.stdlib.streaming.merged",
        "AsyncStream": "mellea.stdlib.streaming.streams",
        "ChunkFold": "mellea.stdlib.streaming.chunks",
        "HoldBack": "mellea.core.structured",
        "MergedStream": "mellea.stdlib.streaming.merged",
        "Needed": "mellea.core.structured",
        "Partial": "mellea.core.structured",
        "Stream": "mellea.stdlib.streaming.streams",
        "StreamChunk": "mellea.stdlib.streaming.chunks",
        "amerge": "mellea.stdlib.streaming.merged",
        "check_release": "mellea.stdlib.streaming.sampling_work",
        "launch_sampled": "mellea.stdlib.streaming.sampling_work",
        "merge": "mellea.stdlib.streaming.merged",
    },
)
