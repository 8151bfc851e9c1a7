"""What programs are written with: components, contexts, calls, requirements, strategies, streams, sessions."""

# May import: backends, core, templates; each room here only those below it. Read `session/session.py` first.

__all__: list[str] = []
