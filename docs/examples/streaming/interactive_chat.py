"""Chat with a model that answers while it writes.

Run it: uv run docs/examples/streaming/interactive_chat.py
Needs: the embedded model

At a terminal: /reset starts over, /quit leaves, Ctrl-C stops an answer, or leaves if there is none.
With piped input, every line is a message: printf 'Hello!\\nTell me a joke.\\n' | python interactive_chat.py

The embedded model makes up most of what it says. A bigger model remembers what you told it, and says so when it
doesn't know something.
"""

import sys

import mellea


def answer(m: mellea.MelleaSession, message: str) -> None:
    """Print the answer as it arrives; leaving the `with` block early cancels it."""
    try:
        with m.stream(mellea.user_message(message)) as pieces:
            for piece in pieces:
                print(piece, end="", flush=True)
        print()
    except mellea.MelleaError as error:
        print(f"\n[no more of that answer: {error}]", file=sys.stderr)


def chat(m: mellea.MelleaSession, *, is_person: bool) -> None:
    while True:
        message = input("> " if is_person else "").strip()
        if message == "/quit":
            return
        if message == "/reset":
            m.reset()
        elif message:
            try:
                answer(m, message)
            except KeyboardInterrupt:
                if not is_person:
                    raise
                print(" [stopped]")  # and the model forgets this turn


def main() -> None:
    is_person = sys.stdin.isatty()
    if is_person:
        print("Say something. /reset starts over, /quit leaves, Ctrl-C stops an answer.")
    # A turn is a question and its answer; the model sees the last four before the new one.
    context = mellea.ChatContext(window_size=4)
    options = {"seed": 1, "temperature": 0.6, "max_tokens": 200}
    with mellea.start_session(ctx=context, model_options=options) as m:
        try:
            chat(m, is_person=is_person)
        except (EOFError, KeyboardInterrupt):
            if is_person:
                print()


if __name__ == "__main__":
    main()
