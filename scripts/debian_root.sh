# Sourced by scripts that test in another system than this machine's: roots made by debootstrap, kept in build/. REQUIRES: common.sh.

# Makes build/$1, a root of suite $2 with the packages $3 (a comma-separated list), unless it is there. Other arguments go to
# debootstrap, before the suite and, after "--", behind the root. Fails where none can be made: no debootstrap, or a mirror that lacks
# a package; build/$1.log then says why.
make_debian_root() {
  local root=$PWD/build/$1 suite=$2 packages=$3 before=()
  shift 3
  while (($#)) && [[ $1 != -- ]]; do before+=("$1"); shift; done
  [[ -e $root/complete && $(<"$root/complete") == "$packages" ]] && return
  install_debian_packages debootstrap
  as_root rm -rf "$root"
  mkdir -p build
  say "making a root of $suite"
  as_root debootstrap --variant=minbase --include="$packages" "${before[@]}" "$suite" "$root" "${@:2}" >"$root.log" || return 1
  as_root sh -c "rm -rf '$root'/var/cache/apt/archives/*.deb; echo '$packages' >'$root/complete'"
}

# The roots of Debian that several scripts share.
make_debian13_root() { make_debian_root debian13 trixie python3,python3-pytest,python3-pytest-xdist,python3-venv,procps; }
make_sid_root() {
  local packages=python3-pytest,python3-pytest-xdist,procps,cmake,gcc minor
  for minor in 3.14 3.15; do packages+=,python$minor-dev,python$minor-venv; done
  make_debian_root sid sid "$packages"
}

# Runs a command in root build/$1, at this repository's own place there, with the environment that comes before it (NAME=VALUE...).
in_debian_root() {
  as_root unshare --mount --propagation private bash -euc '
    root=$1 here=$2
    shift 2
    mount --bind "$root" "$root"  # unshare(1) wants its root to be a mount.
    mkdir -p "$root$here"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount --rbind /sys "$root/sys"
    mount --bind "$here" "$root$here"
    exec chroot "$root" env -i --chdir="$here" PATH=/usr/bin:/bin HOME=/root PYTHONDONTWRITEBYTECODE=1 "$@"
  ' in_debian_root "$PWD/build/$1" "$PWD" "${@:2}"
}

# Runs pytest of root build/$1 in it by $2, a path in the root, which is also the Python under test. The other arguments go to pytest.
pytest_in_debian_root() {
  in_debian_root "$1" PYLAUNCH_TEST_PYTHON="$2" PYLAUNCH_TEST_MODES="${PYLAUNCH_TEST_MODES:-stock,off,cold,warm}" \
    "$2" -m pytest -p no:cacheprovider "${@:3}"
}
