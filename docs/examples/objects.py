"""Ask a model about your own objects, and have it change them.

Run it: uv run docs/examples/objects.py
Needs: the embedded model

The embedded model answers in whole sentences and forgets things. A bigger model answers "Ann" and "North", and returns
beans, soil and seeds.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from pydantic import Field

import mellea
from mellea import mify
from mellea.stdlib.components import Table, get_tools


@mify(fields_exclude={"card"})
@dataclass(frozen=True)
class Order:
    customer: str
    card: str  # excluded above: the model never sees it
    things: list[str] = field(default_factory=list)

    def with_thing(self, thing: str) -> "Order":
        """Add a thing to the order."""
        return replace(self, things=[*self.things, thing])


Things = Annotated[list[Annotated[str, Field(max_length=20)]], Field(min_length=1, max_length=4)]


def main() -> None:
    order = Order("Ann", "4929 1234", ["beans", "soil"])
    stores = Table([{"store": "North", "visitors": 250}, {"store": "South", "visitors": 80}], title="Stores in May")
    with mellea.start_session(model_options={"seed": 1, "temperature": 0, "max_tokens": 40}) as m:
        print("query:    ", m.query(order, "Who is the customer? Answer with the name.").value)
        print("query:    ", m.query(stores, "Which store had more visitors?", format=Literal["North", "South"]).parsed)

        # The model may call methods that have a docstring. With `format=` it writes the new value itself instead.
        print("methods:  ", [tool.name for tool in get_tools(order)])
        changed = m.transform(order, "Add seeds to the things.", format=Things)
        print("transform:", changed.parsed)
        print("untouched:", order.things)


if __name__ == "__main__":
    main()
