# Sourced by the scripts here: what they share. REQUIRES: bash, `set -euo pipefail`, the repository root as working directory.

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

as_root() { if [[ $(id -u) == 0 ]]; then "$@"; else sudo "$@"; fi; }

# Installs the packages that third_party/versions.cmake lists for the uses given: build, test, fuzz.
install_dependencies() {
  local use listed packages=()
  for use in "$@"; do
    mapfile -t listed < <(awk -v first="third_party_needs($use" '$1 == first { print $2 }' third_party/versions.cmake)
    ((${#listed[@]})) || { say "error: third_party/versions.cmake lists nothing for '$use'"; return 1; }
    packages+=("${listed[@]}")
  done
  install_debian_packages "${packages[@]}"
}

# Asks dpkg first: quick, and no root needed, when there is nothing to do.
install_debian_packages() {
  local missing=() package
  for package in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null) == ii* ]] || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  say "installing ${missing[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# True if $1 is a CPython 3.11 or newer with its headers, which the engine and the pinned packages need.
usable_python() {
  "$1" - <<'PYTHON' 2>/dev/null
import os, sys, sysconfig
header = os.path.join(sysconfig.get_path("include"), "Python.h")
sys.exit(not ((3, 11) <= sys.version_info[:2] <= (3, 13) and os.path.exists(header)))
PYTHON
}

# The executable of $1, seen through environments and pyenv's shims.
base_python() { "$1" -I -c 'import sys; print(getattr(sys, "_base_executable", sys.executable))'; }

# The executable of the python3 on PATH, else Debian's.
choose_python() {
  local python
  for python in python3 /usr/bin/python3; do
    if usable_python "$python"; then
      base_python "$python"
      return
    fi
  done
  say "error: neither python3 on PATH nor /usr/bin/python3 is a CPython 3.11 to 3.13 with headers"
  return 1
}

# Makes .venv and installs what the given requirement files say, unless that is what it holds already.
make_environment() {
  local stamp
  [[ -x .venv/bin/python ]] || "$(choose_python)" -m venv .venv
  stamp=".venv/.installed-$(cat "$@" | sha256sum | cut -c1-16)"
  [[ -e $stamp ]] && return
  say "installing Python packages into .venv"
  .venv/bin/python -m pip install --quiet "${@/#/--requirement=}"
  touch "$stamp"
}

# pytest in the root $1 on its Python $2, with the arguments that follow. This folder has its own path there.
pytest_in_root() {
  as_root unshare --mount --propagation private bash -euc '
    root=$1 python=$2 here=$3
    shift 3
    mount --bind "$root" "$root"  # unshare(1) wants its root to be a mount.
    mkdir -p "$root$here"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount --rbind /sys "$root/sys"
    mount --bind "$here" "$root$here"
    exec chroot "$root" env -i PATH=/usr/bin:/bin HOME=/root PYTHONDONTWRITEBYTECODE=1 PYLAUNCH_TEST_PYTHON="$python" \
      sh -c "cd \"\$0\" && exec \"\$@\"" "$here" \
      "$python" -m pytest -p no:cacheprovider --numprocesses=$((3 * $(nproc))) "$@"
  ' "${0##*/}" "$1" "$2" "$PWD" "${@:3}"
}
