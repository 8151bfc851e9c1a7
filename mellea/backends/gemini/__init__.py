"""Gemini models: the generateContent format of Google's Gemini API."""

# What lives here imports `mellea.core`, `mellea.errors` and `mellea.backends.http`. Read `backend.py` first, then
# `decode.py`.

from mellea.backends.gemini import tools
from mellea.backends.gemini.backend import GeminiBackend

__all__ = ["GeminiBackend", "tools"]
