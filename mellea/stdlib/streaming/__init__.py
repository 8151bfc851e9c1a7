"""Streams: generations that are read while they are written, from async and from plain code.

May import: core, stdlib.call and what is below it. Read `stream.py` first.
"""

from mellea.stdlib.streaming.stream import AsyncStream, Stream

__all__ = ["AsyncStream", "Stream"]
