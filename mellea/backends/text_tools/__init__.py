"""Tools for models that have none of their own: a JSON protocol in the text, and the same events as native tools."""

# What lives here imports `mellea.core`, `mellea.errors` and the rooms that all backends share. Read `encode.py` first,
# which says what the protocol is, then `decode.py`.

from typing import TYPE_CHECKING

from mellea._lazy_exports import lazily
from mellea.backends.text_tools.choice import with_tools

if TYPE_CHECKING:
    from mellea.backends.text_tools.backend import TextToolsBackend as TextToolsBackend

__all__ = ["TextToolsBackend", "with_tools"]

__getattr__ = lazily(__name__, {"TextToolsBackend": f"{__name__}.backend"})
