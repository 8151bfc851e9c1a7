"""What models cost: short name for `mellea.core.prices`."""

from mellea.core.prices import *  # noqa: F403
from mellea.core.prices import __all__ as __all__
