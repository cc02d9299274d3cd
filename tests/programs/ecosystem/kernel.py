"""Starts an IPython kernel as Jupyter does and runs a cell in it."""

import os
import sys

from jupyter_client.manager import start_new_kernel

CELL = """
import os, sys
print(os.path.dirname(sys.executable))
%who_ls
raise KeyError(3)
"""


def show(message):
    content = message["content"]
    if message["msg_type"] == "error":
        print(content["ename"], content["evalue"])
    elif message["msg_type"] in ("stream", "execute_result"):
        print(content.get("text", content.get("data")))


# The kernel "python3" that ipykernel installs: jupyter_client starts it by its own sys.executable.
manager, client = start_new_kernel()
try:
    reply = client.execute_interactive(CELL, output_hook=show, timeout=60)
    print(reply["content"]["status"], os.path.dirname(sys.executable))
finally:
    client.stop_channels()
    manager.shutdown_kernel()
