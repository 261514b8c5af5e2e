#!/usr/bin/env bash
# Make .venv-orchestrators/NAME for each orchestrator: they cannot live beside each other.
#
#   requirements/orchestrators.sh              make or update all
#   requirements/orchestrators.sh airflow      one
#
# About 250 MB each besides what tritonbulk needs (400 MB).
set -euo pipefail
cd "$(dirname "$0")/.."

declare -A packages=(
  [airflow]="apache-airflow==3.3.2"
  [dagster]="dagster==1.13.29"
  # Newer ones do not start with the FastAPI that they resolve to.
  [prefect]="prefect==3.7.2 fastapi<0.128"
  [kubeflow]="kfp==2.17.0"
  [metaflow]="metaflow==2.19.39"
)

python=${PYTHON:-python3.11}
digest=$(cat pyproject.toml "$0" | sha256sum | cut -d' ' -f1)
[ $# -gt 0 ] || set -- airflow dagster prefect kubeflow metaflow
for name in "$@"; do
  environment=.venv-orchestrators/$name
  [ -e "$environment/installed-$digest" ] && continue
  echo "orchestrators: making $environment" >&2
  rm -rf "$environment"
  "$python" -m venv "$environment"
  # shellcheck disable=SC2086  # words
  "$environment/bin/python" -m pip install --quiet --disable-pip-version-check ${packages[$name]} --editable .
  "$environment/bin/python" -m pip check
  touch "$environment/installed-$digest"
done
