"""Store traces in a file: `mellea traces` shows what the program did, afterwards or while it runs.

Run it: uv run docs/examples/recorded_runs.py
Needs: mellea[cli] and the embedded model

The embedded model repeats itself. A bigger model answers the question; the record looks the same.
"""

import mellea
from mellea import trace, traces


@trace
def stream_answer(m: mellea.MelleaSession, question: str) -> str:
    response_text = ""
    for chunk in m.stream(
        "Answer the question: {{question}}", name="answer_question", user_variables={"question": question}
    ):
        response_text += chunk
        print(chunk, end="", flush=True)
    print()
    return response_text


def main() -> None:
    m = mellea.start_session(model_options={"max_tokens": 60})
    with traces.record("runs.db", content=True):
        with traces.start("streaming_qa"):
            stream_answer(m, "What is machine learning?")
        with traces.start("counting"), m.stream("Count from one to a thousand.", name="count") as chunks:
            print(next(iter(chunks)), "…")  # leaving the block cancels the stream, which the record shows

    print()
    for run in traces.read_runs("runs.db", limit=2):
        print(f"run {run['id']}: {run['name']}, {run['spans']} spans, {run['seconds']:.1f} s")
        for span in traces.read_run("runs.db", run["id"]):
            print(f"  {span['name']} ({span['kind']}, {span['status']})")
    print("\nMore of it: mellea traces show 1")


if __name__ == "__main__":
    main()
