#!/usr/bin/env bash
# Makes .venv with Python 3.10 and installs the locked requirements into it.
# Needs Python 3.10 with venv and pip, or any Python >= 3.8 with pip and network:
# then uv fetches Python 3.10.
set -euo pipefail
cd "$(dirname "$0")"

fail() { echo "setup: $*" >&2; exit 1; }

[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || fail \
  "Cairn needs x86-64 Linux, because Launchpad's and Reverb's binaries are" \
  "built for nothing else; this is $(uname -s) on $(uname -m)."

# Only a Python 3.10 that can make a virtual environment with pip will do.
usable() { "$1" -c 'import sys, ensurepip, venv
sys.exit(sys.version_info[:2] != (3, 10))' 2>/dev/null; }

candidates() {
  echo python3.10
  echo python3
  echo "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.10.*/bin/python3.10
}

found=
for candidate in $(candidates); do
  if command -v "$candidate" >/dev/null && usable "$candidate"; then
    found=$candidate
    break
  fi
done

if [ -n "$found" ]; then
  "$found" -m venv --clear .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --no-deps -r requirements.txt
else
  any=$(command -v python3 || command -v python) || fail \
    "no Python was found; install Python 3.10, or any Python >= 3.8 with pip."
  tools=$(mktemp -d)
  trap 'rm -rf "$tools"' EXIT
  # --target needs no virtual environment and touches no system package.
  "$any" -m pip install --quiet --disable-pip-version-check \
    --target "$tools" uv || fail \
    "there is no Python 3.10, and '$any -m pip' could not install uv to fetch" \
    "it (Debian, Ubuntu: 'apt install python3-pip')."
  "$tools/bin/uv" venv --clear --seed --python 3.10 .venv || fail \
    "uv could not fetch Python 3.10; install it and run this again."
  "$tools/bin/uv" pip install --quiet --python .venv/bin/python \
    --no-deps -r requirements.txt
fi

.venv/bin/python -m pip install --quiet --disable-pip-version-check \
  --no-deps --no-build-isolation -e .
.venv/bin/python -c '
from launch import native
native.preload()
import launchpad, reverb'
echo "setup: .venv is ready"
