#!/usr/bin/env bash
# Checks the feature `candle-cuda` where there is neither a GPU nor a CUDA toolkit: candle's kernels are not compiled
# (`nvcc-typecheck` takes nvcc's place), and nothing is linked or run. Takes two to four minutes from an empty folder,
# seconds after that. With arguments it is `cargo` with them, in the same surroundings: `tools/check-candle-cuda.sh doc`.
set -euo pipefail
cd "$(dirname "$0")/.."
export NVCC="$PWD/tools/nvcc-typecheck" CUDARC_CUDA_VERSION=13020 CUDA_COMPUTE_CAP=80 CARGO_TERM_COLOR=never
# A folder of its own: these settings would have everything else built anew.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/candle-cuda" CARGO_INCREMENTAL=0
# What a CUDA toolkit would bring is not looked for.
unset CUDA_HOME CUDA_PATH CUDA_ROOT CUDA_TOOLKIT_ROOT_DIR

if [ $# -gt 0 ]; then
    exec cargo "$@"
fi
cargo clippy --quiet -p ptser --features candle-cuda --lib --test candle -- -D warnings
echo "candle-cuda: checked"
