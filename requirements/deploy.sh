#!/usr/bin/env bash
# Make .venv-deploy: what `make test-deploy` checks container and Kubernetes files with (250 MB).
#
# Prometheus and promtool are taken from where they are installed, or unpacked from Debian's package into
# .venv-deploy, without installing it (its service would start). kubectl is used where it is found.
set -euo pipefail
cd "$(dirname "$0")/.."

ENVIRONMENT=.venv-deploy
say() { printf 'deploy: %s\n' "$*" >&2; }

python=${PYTHON:-$(pwd)/.venv/bin/python}
stamp=$ENVIRONMENT/installed-$(cat requirements/deploy.txt "$0" | sha256sum | cut -d' ' -f1)
if [ ! -e "$stamp" ]; then
  say "making $ENVIRONMENT"
  rm -rf "$ENVIRONMENT"
  "$python" -m venv "$ENVIRONMENT"
  "$ENVIRONMENT/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
    --requirement requirements/deploy.txt
  touch "$stamp"
fi

if ! command -v promtool >/dev/null && [ ! -x "$ENVIRONMENT/bin/promtool" ]; then
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  get() { (cd "$folder" && apt-get download prometheus >/dev/null 2>&1); }
  if command -v apt-get >/dev/null && { get || { apt-get update >/dev/null 2>&1 && get; }; }; then
    dpkg -x "$folder"/prometheus_*.deb "$folder/unpacked"
    cp "$folder"/unpacked/usr/bin/{prometheus,promtool} "$ENVIRONMENT/bin/"
  else
    say "no Prometheus, so tests that need it are skipped (Debian, Ubuntu: apt install prometheus)"
  fi
fi
