"""OpenAI's chat completions, the format that most other services speak too: bytes and requests, no I/O."""

# What lives here imports `mellea.core`, `backends.http`'s codec and status parts, and its own room. Read `wire.py`
# first, then `decode.py` with its rules.

from mellea.backends.openai.chat.decode import Decoder
from mellea.backends.openai.chat.encode import encode

__all__ = ["Decoder", "encode"]
