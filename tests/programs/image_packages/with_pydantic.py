# preload: import pydantic, typing
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError, field_validator


class Item(BaseModel):
    name: Annotated[str, Field(min_length=2, pattern="^[a-z]+$")]
    price: float = Field(gt=0)
    kind: Literal["a", "b"] = "a"
    when: datetime | None = None

    @field_validator("name")
    @classmethod
    def upper(cls, value):
        return value.upper()


class Order(BaseModel):
    items: list[Item]
    parent: "Order | None" = None


order = Order.model_validate_json(
    '{"items": [{"name": "ab", "price": "3.5", "when": "2024-01-02T03:04:05Z"}],'
    ' "parent": {"items": []}}'
)
print(order, order.model_dump_json())
try:
    Order(items=[{"name": "A", "price": -1, "kind": "c"}])
except ValidationError as error:
    print(error)
print(Order.model_json_schema())
print(TypeAdapter(dict[str, list[int]]).validate_python({"x": ["1", 2]}))
