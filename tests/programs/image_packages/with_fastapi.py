# varies: HTTP_PROXY=http://127.0.0.1:9: print(httpx._utils.get_environment_proxies())
# draws: import httpx._multipart; print(httpx._multipart.MultipartStream({}, {}).boundary)
# preload: import fastapi, fastapi.testclient, httpx
import asyncio

from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException
from fastapi.testclient import TestClient
from pydantic import BaseModel

app = FastAPI()
done = []


class Item(BaseModel):
    name: str
    price: float


@app.post("/items")
async def create(item: Item, later: BackgroundTasks, factor: int = Depends(lambda: 2)):
    await asyncio.sleep(0)
    later.add_task(done.append, item.name)
    return {"twice": item.price * factor}


@app.get("/plain/{number}")
def plain(number: int):  # On a worker thread.
    if number == 0:
        raise HTTPException(404, "none")
    return number


with TestClient(app) as client:
    print(client.post("/items", json={"name": "a", "price": 2.5}).json(), done)
    print(client.post("/items", json={"name": "a"}).json())
    print(client.get("/plain/3").json(), client.get("/plain/0").status_code)
    print(len(client.get("/openapi.json").text))
    for _ in range(20):
        assert client.get("/plain/1").json() == 1
