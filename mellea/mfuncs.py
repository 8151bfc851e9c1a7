"""Short name for `mellea.stdlib.functional`."""

from mellea.stdlib.functional import *  # noqa: F403
from mellea.stdlib.functional import __all__ as __all__
