"""Vercel's AI Gateway: the tools that it runs itself, for any model.

The models themselves are reached by `"ai_gateway/provider/model"`, in OpenAI's chat format.
"""

# What lives here imports `mellea.core` only. Read `tools.py` first.

from mellea.backends.ai_gateway import tools

__all__ = ["tools"]
