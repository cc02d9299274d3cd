# preload: import pydantic
import pydantic


class Thing(pydantic.BaseModel):
    name: str
    parts: list["Thing"] = []


print(Thing(name="a", parts=[{"name": "b"}]).model_dump_json())
