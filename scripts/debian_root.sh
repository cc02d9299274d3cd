# Sourced by scripts that test in another Debian than this machine's: roots made by debootstrap, kept in build/. REQUIRES: common.sh.

# Makes build/$1, a root of Debian's suite $2 with the packages $3 (a comma-separated list), unless it is there. Fails where none can be
# made: no debootstrap, or a mirror that lacks a package; build/$1.log then says why.
make_debian_root() {
  local root=$PWD/build/$1 packages=$3
  [[ -e $root/complete && $(<"$root/complete") == "$packages" ]] && return
  install_debian_packages debootstrap
  as_root rm -rf "$root"
  mkdir -p build
  say "making a root of Debian $2"
  as_root debootstrap --variant=minbase --include="$packages" "$2" "$root" >"build/$1.log" || return 1
  as_root sh -c "rm -rf '$root'/var/cache/apt/archives/*.deb; echo '$packages' >'$root/complete'"
}

# Runs pytest of root build/$1 in it, at this repository's own place there, by $2, a path in the root, which is also the Python under
# test. The other arguments go to pytest.
pytest_in_debian_root() {
  as_root unshare --mount --propagation private bash -euc '
    root=$1 here=$2 python=$3
    shift 3
    mount --bind "$root" "$root"  # unshare(1) wants its root to be a mount.
    mkdir -p "$root$here"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount --rbind /sys "$root/sys"
    mount --bind "$here" "$root$here"
    exec chroot "$root" env -i PATH=/usr/bin:/bin HOME=/root PYTHONDONTWRITEBYTECODE=1 PYLAUNCH_TEST_PYTHON="$python" \
      PYLAUNCH_TEST_MODES="${PYLAUNCH_TEST_MODES:-stock,off,cold,warm}" \
      sh -c "cd \"\$0\" && exec \"\$PYLAUNCH_TEST_PYTHON\" -m pytest -p no:cacheprovider \"\$@\"" "$here" "$@"
  ' pytest_in_debian_root "$PWD/build/$1" "$PWD" "${@:2}"
}
