#!/usr/bin/env bash
# Make .venv-export: the project with every framework that export knows (3 GB on disk).
#
#   requirements/frameworks.sh                        make or update it; does nothing if up to date
#   PYTHON=python3.12 requirements/frameworks.sh
#
# The frameworks are too large for .venv. All come from hash-pinned lists but torch, which is named by
# version alone: an index may have a build for CPUs, for CUDA, or both, under other hashes.
set -euo pipefail
cd "$(dirname "$0")/.."

TORCH=torch==2.13.0
ENVIRONMENT=.venv-export

python=${PYTHON:-python3.11}
version=$("$python" -c 'import sys; print("%d%d" % sys.version_info[:2])')
project=requirements/py$version.txt
frameworks=requirements/frameworks.txt
digest=$(cat "$project" "$frameworks" pyproject.toml "$0" | sha256sum | cut -d' ' -f1)
stamp=$ENVIRONMENT/installed-$digest
if [ -e "$stamp" ] && "$ENVIRONMENT/bin/python" -c 'import tritonbulk' 2>/dev/null; then
  echo "frameworks: $ENVIRONMENT is up to date" >&2
  exit 0
fi

echo "frameworks: making $ENVIRONMENT (some minutes, 3 GB)" >&2
rm -rf "$ENVIRONMENT"
"$python" -m venv "$ENVIRONMENT"
install=("$ENVIRONMENT/bin/python" -m pip install --quiet --disable-pip-version-check)
"${install[@]}" "$TORCH"
"${install[@]}" --require-hashes --no-deps --requirement "$project"
"${install[@]}" --require-hashes --no-deps --requirement "$frameworks"
"${install[@]}" --no-deps --no-build-isolation --editable .
touch "$stamp"
echo "frameworks: $ENVIRONMENT is ready" >&2
