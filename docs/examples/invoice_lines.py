"""Store the lines of an invoice in SQLite while the model still writes: each as soon as it is complete.

Run it: uv run docs/examples/invoice_lines.py
Needs: the embedded model

Each item begins with a copy of the invoice's line. A model reads a line better after it has copied it. A copy that
isn't on the invoice is left out, so nothing invented gets into the table. The embedded model needs an example in the
prompt. A bigger model needs none, and reads invoices that have no columns.
"""

import sqlite3
from dataclasses import dataclass
from time import perf_counter
from typing import Annotated

from pydantic import Field

import mellea

PROMPT = """Lines:
3 x plate, blue: 7.50
1 x spoon: 2.00
JSON: [{"line": "3 x plate, blue: 7.50", "quantity": 3, "article": "plate, blue", "price": 7.50}, \
{"line": "1 x spoon: 2.00", "quantity": 1, "article": "spoon", "price": 2.00}]

Lines:
{{invoice}}
JSON:"""
INVOICE = "2 x kettle, red: 49.00\n6 x cup, small: 4.50\n1 x tea tray: 18.00"


@dataclass
class Line:
    line: Annotated[str, Field(max_length=30)]
    quantity: Annotated[int, Field(ge=1, le=99)]
    article: Annotated[str, Field(max_length=20)]
    price: Annotated[float, Field(ge=0, le=999)]


def main() -> None:
    table = sqlite3.connect(":memory:")
    table.execute("CREATE TABLE line (article TEXT, quantity INTEGER, price REAL)")
    count = len(INVOICE.splitlines())
    form = Annotated[list[Line], Field(min_length=count, max_length=count)]
    # A penalty for repeated words would keep the model from copying.
    options = {"temperature": 0, "max_tokens": 250, "frequency_penalty": 0}
    started = perf_counter()
    with mellea.start_session(model_options=options) as m:
        for item in m.stream(PROMPT, user_variables={"invoice": INVOICE}, format=form).items():
            is_there = item.line in INVOICE.splitlines()
            if is_there:
                table.execute("INSERT INTO line VALUES (?, ?, ?)", (item.article, item.quantity, item.price))
            (rows,) = table.execute("SELECT count(*) FROM line").fetchone()
            said = "in the table" if is_there else "left out: there is no such line"
            print(f"{perf_counter() - started:4.1f} s  {item.line!r}: {said}; {rows} so far", flush=True)
    for article, quantity, total in table.execute("SELECT article, quantity, quantity * price FROM line"):
        print(f"{quantity:3} {article:20} {total:8.2f}")
    table.close()


if __name__ == "__main__":
    main()
