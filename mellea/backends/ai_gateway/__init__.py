"""Vercel's AI Gateway: the tools that it runs itself, for any model.

What lives here imports `mellea.core` only. The models themselves are reached by `"ai_gateway/provider/model"`,
in OpenAI's chat format. Read `tools.py` first.
"""

from mellea.backends.ai_gateway import tools

__all__ = ["tools"]
