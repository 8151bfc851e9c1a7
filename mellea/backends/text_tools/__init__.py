"""Tools for models that have none of their own: a JSON protocol in the text, and the same events as native tools.

What lives here imports `mellea.core`, `mellea.errors` and the rooms that all backends share. Read `encode.py` first,
which says what the protocol is, then `decode.py`.
"""

from mellea.backends.text_tools.backend import TextToolsBackend, with_tools

__all__ = ["TextToolsBackend", "with_tools"]
