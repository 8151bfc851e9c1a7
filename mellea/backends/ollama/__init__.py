"""Models behind an Ollama server: its own chat format.

What lives here imports `mellea.core`, `mellea.errors` and `mellea.backends.http`. Read `backend.py`
first, then `decode.py`.
"""

from mellea.backends.ollama.backend import OllamaModelBackend

__all__ = ["OllamaModelBackend"]
