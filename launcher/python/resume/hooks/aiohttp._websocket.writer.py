# Versions: aiohttp==3.14.5
"""The generator of masks, a default argument (aiohttp/_websocket/writer.py)."""


def resume():
    module.WebSocketWriter.__init__.__kwdefaults__["random"].seed()  # noqa: F821 - given by resume.py
