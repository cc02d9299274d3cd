"""The same answer by WSGI and by ASGI."""

import json
import sys

BODY = json.dumps([sys.version, sorted(x for x in sys.modules if x.startswith("json"))]).encode()


def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [BODY]


async def asgi(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": BODY})
