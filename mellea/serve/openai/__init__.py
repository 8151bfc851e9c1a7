"""OpenAI's HTTP API, as a server speaks it: models, chat completions and responses."""

# May import: `core`, `stdlib`, and in `serve` `response`, `served_models` and `server`. Read `failures.py`, then
# `chat_request.py` and `chat_response.py`; `responses_*.py` do the same for the other format.

__all__: list[str] = []
