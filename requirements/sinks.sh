#!/usr/bin/env bash
# Make .venv-sinks: the project with every package that sinks need (1 GB on disk).
#
#   requirements/sinks.sh        make or update it; does nothing if it is up to date
#
# lancedb is there to read what was published as its users would.
set -euo pipefail
cd "$(dirname "$0")/.."

PACKAGES=(adbc-driver-manager==1.13.0 adbc-driver-postgresql==1.13.0 deltalake==1.6.6 duckdb==2.0.1
  lancedb==0.40.0 "pyiceberg[pyarrow,sql-sqlite]==0.12.0" pylance==14.0.2)
ENVIRONMENT=.venv-sinks

python=${PYTHON:-python3.11}
version=$("$python" -c 'import sys; print("%d%d" % sys.version_info[:2])')
project=requirements/py$version.txt
digest=$(cat "$project" pyproject.toml "$0" | sha256sum | cut -d' ' -f1)
stamp=$ENVIRONMENT/installed-$digest
if [ ! -e "$stamp" ] || ! "$ENVIRONMENT/bin/python" -c 'import tritonbulk' 2>/dev/null; then
  echo "sinks: making $ENVIRONMENT (some minutes, 1 GB)" >&2
  rm -rf "$ENVIRONMENT"
  "$python" -m venv "$ENVIRONMENT"
  install=("$ENVIRONMENT/bin/python" -m pip install --quiet --disable-pip-version-check)
  "${install[@]}" --require-hashes --no-deps --requirement "$project"
  "${install[@]}" "${PACKAGES[@]}"
  "${install[@]}" --no-deps --no-build-isolation --editable .
  touch "$stamp"
fi

command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null && exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
  export DEBIAN_FRONTEND=noninteractive
  get() { apt-get install -y --no-install-recommends postgresql >/dev/null 2>&1; }
  get || { apt-get update >/dev/null 2>&1 && get; } && exit 0
fi
echo "sinks: PostgreSQL is not installed, so its tests are skipped (Debian, Ubuntu: apt install postgresql)" >&2
