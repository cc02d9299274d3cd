# Versions: transformers==4.57.1,4.57.3,4.57.6
"""The session's number that transformers sends to the hub, drawn when it is imported."""

import uuid


def resume():
    module.SESSION_ID = uuid.uuid4().hex  # noqa: F821 - given by resume.py
