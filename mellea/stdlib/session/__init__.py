"""Sessions, which most programs use: a backend and a context, with the verbs as methods."""

# May import: everything below it, stdlib.functional first of all. Read `session.py` first.

from mellea._lazy_exports import lazily
from mellea.stdlib.session.session import MelleaSession
from mellea.stdlib.session.start import current_session, start_session

__all__ = ["MelleaSession", "current_session", "start_session"]

__getattr__ = lazily(__name__, {})  # only a Mellea 0.8 name for one of them is loaded later
