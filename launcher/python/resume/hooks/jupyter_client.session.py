# Versions: jupyter-client==8.10.0
"""The key that the option --secure means (jupyter_client/session.py)."""


def resume():
    module.session_flags["secure"][0]["Session"]["key"] = module.new_id_bytes()  # noqa: F821 - given by resume.py
