#!/usr/bin/env bash
# Make .venv-engines: the project with Ray, Spark and Daft (2 GB on disk), and the Java that Spark wants.
#
#   requirements/engines.sh        make or update it; does nothing if it is up to date
#
# Daft wants an older Arrow than the project's lists have, and gets it here.
set -euo pipefail
cd "$(dirname "$0")/.."

PACKAGES=("ray[data]==2.60.0" pyspark==4.3.0 daft==0.7.26 pandas==3.1.1)
ENVIRONMENT=.venv-engines

python=${PYTHON:-python3.11}
version=$("$python" -c 'import sys; print("%d%d" % sys.version_info[:2])')
project=requirements/py$version.txt
digest=$(cat "$project" pyproject.toml "$0" | sha256sum | cut -d' ' -f1)
stamp=$ENVIRONMENT/installed-$digest
if [ ! -e "$stamp" ] || ! "$ENVIRONMENT/bin/python" -c 'import tritonbulk' 2>/dev/null; then
  echo "engines: making $ENVIRONMENT (some minutes, 2 GB)" >&2
  rm -rf "$ENVIRONMENT"
  "$python" -m venv "$ENVIRONMENT"
  install=("$ENVIRONMENT/bin/python" -m pip install --quiet --disable-pip-version-check)
  "${install[@]}" --require-hashes --no-deps --requirement "$project"
  "${install[@]}" "${PACKAGES[@]}"
  "${install[@]}" --no-deps --no-build-isolation --editable .
  touch "$stamp"
fi

command -v java >/dev/null && exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
  export DEBIAN_FRONTEND=noninteractive
  get() { apt-get install -y --no-install-recommends openjdk-17-jre-headless >/dev/null 2>&1; }
  get || { apt-get update >/dev/null 2>&1 && get; } && exit 0
fi
echo "engines: Java is not installed, so Spark's tests are skipped (Debian, Ubuntu: apt install openjdk-17-jre-headless)" >&2
