"""What all providers share: one HTTP backend, and the decoders of its two kinds of streams.

What lives here imports `mellea.core` and `mellea.errors`; `clients.py` alone names httpx, and imports it at the
first request. Read `backend.py` first, then `http.py`.
"""

from mellea.backends.http.codec import Decoder
from mellea.backends.http.jsonl import JsonLinesDecoder
from mellea.backends.http.sse import ServerSentEvent, SseDecoder

__all__ = ["Decoder", "JsonLinesDecoder", "ServerSentEvent", "SseDecoder"]
