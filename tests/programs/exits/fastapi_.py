# preload: import fastapi
# preload: import fastapi.testclient
import fastapi
import fastapi.testclient
import pydantic

app = fastapi.FastAPI()


class Thing(pydantic.BaseModel):
    name: str


@app.post("/")
def post(thing: Thing) -> Thing:
    return thing


print(fastapi.testclient.TestClient(app).post("/", json={"name": "x"}).json())
