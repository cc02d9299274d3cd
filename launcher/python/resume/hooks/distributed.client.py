# Versions: distributed==2026.8.0
"""What dask.distributed tells the futures of different processes apart by.

`Future._uid` in distributed/client.py is drawn when the class is made.
"""

import uuid


def resume():
    module.Future._uid = uuid.uuid4().hex  # noqa: F821 - given by resume.py
