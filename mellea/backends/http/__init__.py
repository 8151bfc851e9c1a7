"""For authors of providers: one HTTP backend to fill in, and the decoders of the two kinds of streams.

A provider is a class on `HttpBackend` with `encode` and `make_decoder`, and a decoder on `SseWireDecoder` or
`JsonLinesWireDecoder` with `read_chunk`; `docs/add_a_provider.md` shows one. All names here are loaded at their first
use, so that a decoder can be used without the transport.
"""

# What lives here imports `mellea.core` and `mellea.errors`; `pool.py` alone names httpcore and `httpx_clients.py`
# httpx, and both are imported at the first request at the earliest. Read `backend.py` first, then `decoding.py`.

from typing import TYPE_CHECKING

from mellea._lazy_exports import lazily

if TYPE_CHECKING:
    from mellea.backends.http.backend import MAX_ANSWER_BYTES as MAX_ANSWER_BYTES
    from mellea.backends.http.backend import HttpArguments as HttpArguments
    from mellea.backends.http.backend import HttpBackend as HttpBackend
    from mellea.backends.http.call_ids import ANY_ID as ANY_ID
    from mellea.backends.http.call_ids import CallIds as CallIds
    from mellea.backends.http.call_ids import IdShape as IdShape
    from mellea.backends.http.call_ids import fit_ids as fit_ids
    from mellea.backends.http.codec import Decoder as Decoder
    from mellea.backends.http.codec import Filter as Filter
    from mellea.backends.http.decoding import ServerSentEvent as ServerSentEvent
    from mellea.backends.http.decoding import SseDecoder as SseDecoder
    from mellea.backends.http.decoding import SseWireDecoder as SseWireDecoder
    from mellea.backends.http.decoding import WireDecoder as WireDecoder
    from mellea.backends.http.exchange import Attempts as Attempts
    from mellea.backends.http.fields import find_int as find_int
    from mellea.backends.http.fields import find_text as find_text
    from mellea.backends.http.fields import make_type_error as make_type_error
    from mellea.backends.http.fields import read_arguments as read_arguments
    from mellea.backends.http.fields import read_mapping as read_mapping
    from mellea.backends.http.fields import read_mappings as read_mappings
    from mellea.backends.http.fields import read_text as read_text
    from mellea.backends.http.jsonl import JsonLinesDecoder as JsonLinesDecoder
    from mellea.backends.http.jsonl import JsonLinesWireDecoder as JsonLinesWireDecoder
    from mellea.backends.http.outgoing import HTTP_OPTIONS as HTTP_OPTIONS
    from mellea.backends.http.outgoing import Outgoing as Outgoing
    from mellea.backends.http.report import is_error_report as is_error_report
    from mellea.backends.http.secret import make_missing_key_error as make_missing_key_error
    from mellea.backends.http.status import make_status_error as make_status_error
    from mellea.backends.http.thoughts import ThoughtTags as ThoughtTags

_HOMES = {
    "ANY_ID": "call_ids",
    "Attempts": "exchange",
    "CallIds": "call_ids",
    "Decoder": "codec",
    "Filter": "codec",
    "HTTP_OPTIONS": "outgoing",
    "HttpArguments": "backend",
    "HttpBackend": "backend",
    "IdShape": "call_ids",
    "JsonLinesDecoder": "jsonl",
    "JsonLinesWireDecoder": "jsonl",
    "MAX_ANSWER_BYTES": "backend",
    "Outgoing": "outgoing",
    "ServerSentEvent": "decoding",
    "SseDecoder": "decoding",
    "SseWireDecoder": "decoding",
    "ThoughtTags": "thoughts",
    "WireDecoder": "decoding",
    "read_arguments": "fields",
    "make_status_error": "status",
    "is_error_report": "report",
    "find_int": "fields",
    "find_text": "fields",
    "read_mapping": "fields",
    "read_mappings": "fields",
    "make_missing_key_error": "secret",
    "read_text": "fields",
    "fit_ids": "call_ids",
    "make_type_error": "fields",
}

__all__ = [
    "ANY_ID",
    "HTTP_OPTIONS",
    "MAX_ANSWER_BYTES",
    "Attempts",
    "CallIds",
    "Decoder",
    "Filter",
    "HttpBackend",
    "IdShape",
    "JsonLinesDecoder",
    "JsonLinesWireDecoder",
    "Outgoing",
    "ServerSentEvent",
    "SseDecoder",
    "SseWireDecoder",
    "ThoughtTags",
    "WireDecoder",
    "find_int",
    "find_text",
    "fit_ids",
    "is_error_report",
    "make_missing_key_error",
    "make_status_error",
    "make_type_error",
    "read_arguments",
    "read_mapping",
    "read_mappings",
    "read_text",
]

__getattr__ = lazily(__name__, {name: f"{__name__}.{home}" for name, home in _HOMES.items()})
