"""What all providers share: one HTTP backend, and the decoders of its two kinds of streams.

What lives here imports `mellea.core` and `mellea.errors`; `pool.py` alone names httpcore and `httpx_clients.py` httpx,
and both are imported at the first request at the earliest. Read `backend.py` first, then `send.py` and `pool.py`.
"""

from mellea.backends.http.codec import Decoder
from mellea.backends.http.jsonl import JsonLinesDecoder
from mellea.backends.http.sse import ServerSentEvent, SseDecoder

__all__ = ["Decoder", "JsonLinesDecoder", "ServerSentEvent", "SseDecoder"]
