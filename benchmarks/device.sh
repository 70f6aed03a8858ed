#!/usr/bin/env bash
# One machine with an NVIDIA card, PyTorch and no network: is everything right there, and how fast? (device.py says what.)
#
#   bash benchmarks/device.sh wheels    where there is a network: what such a machine may lack, into .whl (about 45 MB)
#   bash benchmarks/device.sh [...]     on the machine, with .whl beside the repository's files; options of device.py
#
# Figures go to $OUT (results/device): device.md is a section of docs/gpu.md.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}

if [ "${1:-}" = wheels ]; then
  # pinned here, but PyTorch, which has to suit the card's driver; and what these need that images with PyTorch lack
  mapfile -t pinned < <(grep -E '^(transformers|tokenizers|huggingface_hub|accelerate|safetensors|datasets|lm_eval|pandas|jsonschema|kneed)==' envs/requirements.txt)
  "$PYTHON" -m pip download -q --no-deps --only-binary=:all: --python-version "${FOR:-3.12}" --implementation cp \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    -d .whl "${pinned[@]}" dill multiprocess xxhash httpx2 httpcore2 truststore chardet \
    jsonschema-specifications referencing rpds-py
  du -sh .whl
  exit
fi

if compgen -G ".whl/*.whl" >/dev/null; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --target "$site" .whl/*.whl
  export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
fi
export HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
"$PYTHON" benchmarks/device.py "$@"
