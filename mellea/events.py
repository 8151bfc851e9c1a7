"""The events of a running generation: short name for `mellea.core.events`."""

from mellea.core.events import *  # noqa: F403
from mellea.core.events import __all__ as __all__
