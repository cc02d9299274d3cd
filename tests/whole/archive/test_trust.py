# ruff: noqa: E501 - programs in strings and tables read better on long lines.
"""Code comes from archives that nobody else could have written, as far as a user namespace lets one know."""

import os
import subprocess

import pytest

STRANGER = 1234  # Whom no namespace here maps.
# Who the user is in a namespace of its own, where the stranger is nobody.
NAMESPACES = {
    "none": [],
    "not mapped": ["unshare", "-U"],
    "as root": ["unshare", "-U", "--map-root-user"],
    "as another": ["unshare", "-U", "--map-user=1000"],
}
# A folder that has no writable one above it, unlike pytest's in /tmp.
AT_MNT = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /mnt && exec "$@"']
PROGRAM = "import wave, colorsys; print(wave.__name__)"
FLAGS = ["--explain", "--cache-mode=readonly"]  # Root would replace what it does not trust.


@pytest.fixture(params=NAMESPACES)
def who(request):
    if os.geteuid() != 0:
        pytest.skip("only root can give files away and mount")
    probe = ["unshare", "-m", *NAMESPACES[request.param], "true"]
    if subprocess.run(probe, check=False, capture_output=True).returncode != 0:
        pytest.skip("user namespaces are forbidden here")
    return request.param


IN_NAMESPACES = pytest.mark.parametrize(
    "who", [x for x in NAMESPACES if x != "none"], indirect=True
)


@pytest.fixture
def cache(ours):
    """Of `ours`: an archive, and a folder, that everybody may read."""
    assert ours.warm("-c", PROGRAM).code == 0
    ours.warm_cache.chmod(0o755)
    (archive,) = ours.warm_cache.glob("*.pla")
    archive.chmod(0o644)
    return archive


def run(ours, who, at_mnt):
    """The warnings, and whether the archive was used."""
    launch, cache = ours.launch, ours.warm_cache
    wrap = [*([*AT_MNT, cache] if at_mnt else []), *NAMESPACES[who]]
    if at_mnt:
        ours.launch = lambda _: launch("/mnt")
    try:
        result = ours.again("-c", PROGRAM, flags=FLAGS, wrap=wrap)
    finally:
        ours.launch = launch
    assert (result.code, result.out) == (0, "wave\n"), result
    return result.warnings(), result.archive_counts()[0] > 0


def give_away(archive):
    os.chown(archive, STRANGER, STRANGER)
    os.chown(archive.parent, STRANGER, STRANGER)


def test_own_archive_is_used_wherever_it_lies(ours, cache, who):
    for at_mnt in (False, True):
        assert run(ours, who, at_mnt) == ([], True)


def test_strangers_archive_is_not_used_where_the_stranger_is_known(ours, cache):
    if os.geteuid() != 0:
        pytest.skip("only root can give files away and mount")
    give_away(cache)
    for at_mnt in (False, True):
        warnings, used = run(ours, "none", at_mnt)
        assert len(warnings) == 1 and ": belongs to another user; " in warnings[0] and not used


@IN_NAMESPACES
def test_archive_of_a_user_that_the_namespace_does_not_know(ours, cache, who):
    """Root's, in a layer or in a sandbox's /opt, looks like that."""
    give_away(cache)
    assert run(ours, who, at_mnt=True) == ([], True)
    # Below /tmp, anybody could have made the folder that it lies in.
    warnings, used = run(ours, who, at_mnt=False)
    said = ": belongs to a user that this user namespace does not know, and others can write /tmp; "
    assert len(warnings) == 1 and said in warnings[0] and not used
    for mode in (0o775, 0o757, 0o1777):
        cache.parent.chmod(mode)
        warnings, used = run(ours, who, at_mnt=True)
        assert len(warnings) == 1 and "and others can write /mnt; " in warnings[0] and not used
    cache.parent.chmod(0o755)
    for mode in (0o664, 0o646):
        cache.chmod(mode)
        warnings, used = run(ours, who, at_mnt=True)
        assert len(warnings) == 1 and ": is writable by others; " in warnings[0] and not used


@IN_NAMESPACES
def test_link_to_a_folder_is_seen_through(ours, cache, who):
    """The path that counts is the one that the file lies at."""
    give_away(cache)
    (ours.base / "outside").mkdir()
    (ours.base / "outside/link").symlink_to(ours.warm_cache)
    launch = ours.launch
    ours.launch = lambda _: launch("/mnt/link")
    wrap = [*AT_MNT, ours.base / "outside", *NAMESPACES[who]]
    result = ours.again("-c", PROGRAM, flags=FLAGS, wrap=wrap)
    assert "and others can write /tmp; " in result.err and result.archive_counts()[0] == 0
