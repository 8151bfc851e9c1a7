"""Claude models: Anthropic's Messages format."""

# What lives here imports `mellea.core`, `mellea.errors` and `mellea.backends.http`. Read `backend.py` first, then
# `decode.py`.

from mellea.backends.anthropic import tools
from mellea.backends.anthropic.backend import AnthropicBackend

__all__ = ["AnthropicBackend", "tools"]
