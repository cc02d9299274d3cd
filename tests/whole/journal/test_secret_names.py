"""--record and the engine (tests/unit/image/secrets_test.cc) agree on which names may be secret."""

import sys

import pytest
from conftest import ROOT

LINES = (ROOT / "tests/unit/image/secret_names.txt").read_text().splitlines()
KINDS = dict(reversed(x.partition(" ")[::2]) for x in LINES if not x.startswith("#"))


@pytest.mark.parametrize(("name", "kind"), KINDS.items(), ids=KINDS)
def test_the_name_says_so(monkeypatch, name, kind):
    monkeypatch.syspath_prepend(ROOT / "launcher/python")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    from report.preload_file import is_private_name

    assert kind in {"secret", "private", "plain"}
    assert is_private_name(name) == (kind != "plain")
