"""Answer questions from your own documents: find the passage nearest to the question, and name its file.

Run it: uv run docs/examples/chat_with_documents.py
Needs: the embedded model

Both the vectors and the answers come from the embedded model. It wasn't trained for search, so the words that question
and passage share count as well. With a model for embeddings, such as `start_session("openai/text-embedding-3-small")`,
the vectors are enough. A bigger model reads several passages at once and says which of them it used.
"""

import json
import math
import re
import sqlite3
from collections.abc import Sequence

import mellea

PASSAGES = {
    "tea.txt": "The tea house in Bergen opens at nine in the morning and closes at six. Green tea costs four euros.",
    "boat.txt": "The boat to the island leaves at ten from pier three. The crossing takes forty minutes.",
    "dogs.txt": "Dogs are allowed in the garden, but not inside the house.",
}
QUESTIONS = ["When does the tea house open?", "How long does the crossing take?", "Are dogs allowed inside?"]


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))


def shared_words(question: str, text: str) -> float:
    asked, there = (set(re.findall(r"\w{3,}", each.lower())) for each in (question, text))
    return len(asked & there) / len(asked)


def make_index(m: mellea.MelleaSession) -> sqlite3.Connection:
    index = sqlite3.connect(":memory:")
    index.execute("CREATE TABLE passage (file TEXT PRIMARY KEY, text TEXT, vector TEXT)")
    vectors = m.embed(list(PASSAGES.values())).vectors
    rows = [(file, text, json.dumps(vector)) for (file, text), vector in zip(PASSAGES.items(), vectors, strict=True)]
    index.executemany("INSERT INTO passage VALUES (?, ?, ?)", rows)
    return index


def find_passage(index: sqlite3.Connection, m: mellea.MelleaSession, question: str) -> tuple[str, str]:
    (vector,) = m.embed([question]).vectors

    def score(row: tuple[str, str, str]) -> float:
        return cosine(vector, json.loads(row[2])) + shared_words(question, row[1])

    file, text, _ = max(index.execute("SELECT file, text, vector FROM passage"), key=score)
    return file, text


def main() -> None:
    with mellea.start_session(model_options={"temperature": 0, "max_tokens": 40}) as m:
        index = make_index(m)
        for question in QUESTIONS:
            file, text = find_passage(index, m, question)
            print(f"{question}  [{file}]")
            prompt = "Answer from the text.\n\nText: {{text}}\n\nQuestion: {{question}}"
            for piece in m.stream(prompt, user_variables={"text": text, "question": question}):
                print(piece, end="", flush=True)
            print("\n")
        index.close()


if __name__ == "__main__":
    main()
