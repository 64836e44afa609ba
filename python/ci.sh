#!/usr/bin/env bash
# Builds the Python package's wheel, installs it as a user would, and tests it: with numpy alone, then with torch and
# transformers. Installs what is missing (Debian or Ubuntu, with Rust). Run it from anywhere, as often as you like.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# What the root has built of the dependencies is not built again.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
export STITCHPACK_TARGET="$CARGO_TARGET_DIR"
venvs="$CARGO_TARGET_DIR/python"
stage() { printf '\n-- [%4ds] python: %s\n' "$SECONDS" "$*"; }

as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi; }

apt_install() {
    as_root apt-get update -qq >&2
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >"$venvs/apt.log" 2>&1 ||
        { cat "$venvs/apt.log" >&2; return 1; }
}

# fresh_venv FOLDER PYTHON [OPTION...]
fresh_venv() {
    local folder=$1 python=$2
    shift 2
    "$python" -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
    rm -rf "$folder"
    "$python" -m venv "$@" "$folder"
}

install() { "$1" -m pip install --quiet --disable-pip-version-check "${@:2}"; }

mkdir -p "$venvs"
cargo=(--manifest-path python/Cargo.toml)

stage "format and clippy"
cargo fmt --manifest-path python/Cargo.toml --check
cargo clippy "${cargo[@]}" -- -D warnings

stage "wheel"
cargo build --release --quiet # the command, which the tests compare with
fresh_venv "$venvs/numpy" python3
plain="$venvs/numpy/bin/python"
install "$plain" maturin pytest numpy
rm -rf "$venvs/wheels"
"$venvs/numpy/bin/maturin" build --quiet --release "${cargo[@]}" --out "$venvs/wheels"
install "$plain" "$venvs"/wheels/*.whl
ls -sh "$venvs/wheels"

stage "tests with numpy alone"
"$plain" -m pytest -q python/tests

stage "torch and transformers"
# Debian's torch is for the CPU, and a tenth of the one that pip would bring.
debian=/usr/bin/python3
"$debian" -c 'import torch' 2>/dev/null || apt_install python3-torch || debian=python3
fresh_venv "$venvs/torch" "$debian" --system-site-packages
torch="$venvs/torch/bin/python"
"$torch" -c 'import torch' 2>/dev/null || install "$torch" torch
if "$torch" -c 'import sys, torch; sys.exit(int(torch.__version__.split(".")[0]) >= 2)'; then
    # The last that go with torch 1.
    install "$torch" pytest 'numpy<2' 'ml_dtypes<0.6' 'transformers>=4.40,<4.45'
else
    install "$torch" pytest ml_dtypes transformers
fi
install "$torch" --no-deps "$venvs"/wheels/*.whl

stage "tests with torch and transformers"
# With this set, a test that would be skipped for want of a package fails.
STITCHPACK_NEEDS_ALL=1 "$torch" -m pytest -q python/tests

stage "all passed"
