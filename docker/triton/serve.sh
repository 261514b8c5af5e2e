#!/bin/sh
# Starts tritonserver for bulk scoring. Its flags stand here alone, for Compose and Kubernetes.
#
#   MODEL_REPOSITORY    the repository, default /models
#   MODEL_CONTROL       none (default), or explicit: whoever knows the secret loads and unloads models
#   ADMIN_SECRET_FILE   holds that secret; without it there is one that nobody knows
#   EXIT_TIMEOUT_SECS   how long requests in flight may take when the server is stopped, default 60
#
# Arguments are passed on, come last and win.
set -eu

control=${MODEL_CONTROL:-none}
if [ -n "${ADMIN_SECRET_FILE:-}" ]; then
  secret=$(cat "$ADMIN_SECRET_FILE")
  # Triton cuts the flag at ":" and "=".
  case $secret in
    '' | *[!A-Za-z0-9_-]*)
      echo "serve.sh: $ADMIN_SECRET_FILE must hold letters, digits, - and _ alone" >&2
      exit 2
      ;;
  esac
elif [ "$control" = explicit ]; then
  echo "serve.sh: MODEL_CONTROL=explicit needs ADMIN_SECRET_FILE, or nobody could load a model" >&2
  exit 2
else
  secret=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
fi

# HTTP stays off: most of the server's known vulnerabilities were there. Model configuration,
# metadata and statistics stay open, for the client's checks and reports.
exec tritonserver \
  --model-repository="${MODEL_REPOSITORY:-/models}" \
  --model-control-mode="$control" \
  --allow-http=false \
  --grpc-address=0.0.0.0 --grpc-port=8001 \
  --metrics-address=0.0.0.0 --metrics-port=8002 \
  --grpc-restricted-protocol="model-repository,shared-memory,trace,logging:admin=$secret" \
  --exit-on-error=true \
  --strict-readiness=true \
  --exit-timeout-secs="${EXIT_TIMEOUT_SECS:-60}" \
  --log-format=ISO8601 \
  "$@"
