#!/usr/bin/env bash
# Make .venv and install the project with everything its tests and its demo need.
#
#   requirements/install.sh            make or update .venv; does nothing if it is up to date
#   PYTHON=python3.12 requirements/install.sh
#
# Everything comes from hash-pinned lists (requirements/pyXYZ.txt), then the project itself without
# dependencies: pip refuses hashes and an editable install in one step. uv is used where it is found.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'install: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
    # Run it: a version manager's shim may stand on PATH for a version that is not there.
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
      2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  die "no Python 3.11, 3.12 or 3.13 was found; install one (Debian, Ubuntu: apt install python3.11 python3.11-venv) or name it: PYTHON=/path/to/python make …"
}

# Run a command with its output kept aside; if it fails, say in one sentence why.
attempt() {
  local what=$1 log
  shift
  log=$(mktemp) || die "no temporary file can be made; is the disk full?"
  if "$@" >"$log" 2>&1; then
    rm -f "$log"
    return
  fi
  tail -n 15 "$log" >&2
  if grep -qiE 'no space left|disk quota|errno 28' "$log"; then
    die "$what failed: the disk is full; free some space and run this again"
  elif grep -qiE 'ensurepip|python3-venv' "$log"; then
    die "$what failed: this Python lacks venv; install it (Debian, Ubuntu: apt install python3-venv) and run this again"
  elif grep -qiE 'connection|resolve|timed out|network|proxy|dns|unreachable|certificate|no matching distribution|error sending request' "$log"; then
    die "$what failed: the package index cannot be reached or lacks a package; check the network and run this again"
  fi
  die "$what failed, see the lines above ($log has them all)"
}

python=$(find_python)
version=$("$python" -c 'import sys; print("%d%d" % sys.version_info[:2])')
list=requirements/py$version.txt
uv=$(command -v uv || true)

digest=$("$python" - "$list" requirements/data.txt pyproject.toml <<'PY'
import hashlib, pathlib, sys
print(hashlib.sha256(b"".join(pathlib.Path(p).read_bytes() for p in sys.argv[1:])).hexdigest())
PY
)
stamp=.venv/installed-$digest
if [ -e "$stamp" ] && .venv/bin/python -c 'import tritonbulk' 2>/dev/null; then
  say ".venv is up to date"
  exit 0
fi

if ! .venv/bin/python -c "import sys; sys.exit('%d%d' % sys.version_info[:2] != '$version')" 2>/dev/null; then
  say "making .venv with $("$python" --version)"
  if [ -e .venv ] && [ ! -e .venv/made-by-tritonbulk ]; then
    die ".venv is there, is not for Python ${version:0:1}.${version:1}, and was not made by this script; move it away or name its Python: PYTHON=.venv/bin/python make …"
  fi
  rm -rf .venv
  if [ -n "$uv" ]; then
    attempt "making .venv" "$uv" venv --quiet --python "$python" .venv
  else
    attempt "making .venv" "$python" -m venv .venv
  fi
fi
rm -f .venv/installed-*
touch .venv/made-by-tritonbulk

if [ -n "$uv" ]; then
  install=("$uv" pip install --quiet --python .venv/bin/python)
else
  install=(.venv/bin/python -m pip install --quiet --disable-pip-version-check)
fi
say "installing $(grep -c '==' "$list") pinned packages from $list (about 800 MB on disk)"
attempt "installing packages" "${install[@]}" --require-hashes --no-deps --requirement "$list"
say "installing the flights data and the project"
attempt "installing the data" \
  "${install[@]}" --require-hashes --no-deps --no-build-isolation --requirement requirements/data.txt
attempt "installing the project" "${install[@]}" --no-deps --no-build-isolation --editable .
touch "$stamp" || die "the disk is full; free some space and run this again"
say ".venv is ready"
