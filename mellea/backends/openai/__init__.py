"""OpenAI and the many services that speak its formats, chat completions and responses."""

# What lives here imports `mellea.core`, `mellea.errors` and `backends.http`; the codecs do no I/O. Read `backend.py`
# first, then `services.py`, then `chat/decode.py`.

from mellea.backends.openai import tools
from mellea.backends.openai.backend import OpenAIBackend
from mellea.backends.openai.services import SERVICES, Service

__all__ = ["SERVICES", "OpenAIBackend", "Service", "tools"]
