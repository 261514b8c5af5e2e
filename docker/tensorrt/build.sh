#!/bin/sh
# Builds the plans of a kit in the container of the server that will serve them.
#   docker/tensorrt/build.sh KIT TAG        for example: docker/tensorrt/build.sh kit 26.07
# TRITON_IMAGE names another image, which must hold trtexec and python3. Not verified on a GPU.
set -eu
if [ $# -ne 2 ]; then
  echo "usage: $0 KIT TAG, for example $0 kit 26.07; TRITON_IMAGE names another image" >&2
  exit 2
fi
kit=$(realpath "$1")
image=${TRITON_IMAGE:-nvcr.io/nvidia/tritonserver:$2-py3}
exec docker run --rm --gpus all --network none --user "$(id -u):$(id -g)" \
  --volume "$kit:/kit" "$image" python3 /kit/build_plan.py /kit
