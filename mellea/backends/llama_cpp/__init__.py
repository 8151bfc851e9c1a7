"""The embedded model: llama.cpp in this process, with `xllamacpp`."""

# What lives here imports `mellea.core` and `mellea.errors`; `engine.py` alone touches the engine. Read `backend.py`
# first, then `engine.py` with its rules.

from mellea.backends.llama_cpp.backend import LlamaCppBackend
from mellea.backends.llama_cpp.engine import unload
from mellea.backends.llama_cpp.weights import DEFAULT_MODEL

__all__ = ["DEFAULT_MODEL", "LlamaCppBackend", "unload"]
