#!/usr/bin/env bash
# Type-checks what is compiled for Apple's GPUs, on any machine: the backend, its tests, and `ptser` with `metal` and
# `candle-metal`, for aarch64-apple-darwin. Nothing can be linked or run so. Where the toolchain has that target
# (`rustup target add aarch64-apple-darwin`) it is used; elsewhere the standard library is compiled from source by
# Debian's rustc-web, which is downloaded below the target folder (130 MB, 900 MB unpacked) and not installed.
# The first run takes some five minutes on two cores beside the download, later ones seconds.
set -euo pipefail
cd "$(dirname "$0")/.."
target=aarch64-apple-darwin
work=$(mkdir -p "${CARGO_TARGET_DIR:-target}/metal" && cd "${CARGO_TARGET_DIR:-target}/metal" && pwd)
export CARGO_TARGET_DIR=$work/target CARGO_INCREMENTAL=0
std=()

step() { printf '\n== %s (%s s)\n' "$*" "$SECONDS"; }
missing() { echo "check-metal: $*" >&2; exit 1; }

apt() { "apt-$1" -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" "${@:2}"; }

# Unpacks Debian's rustc and its source into $work/rust.
debian_rustc() {
    local program packages
    for program in apt-get apt-cache dpkg-deb; do
        command -v "$program" >/dev/null ||
            missing "no $program here: add the target with rustup, or run this on Debian"
    done
    mkdir -p "$work"/lists/partial "$work"/cache/archives/partial "$work"/packages
    # A list that another source of this machine refuses is none that is needed.
    apt get -qq update || true
    packages=$(apt cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
        --no-enhances rustc-web | grep -E '^(rustc-web|libstd-rust-web[-.0-9a-z]*|libllvm[0-9]+)$' | sort -u) ||
        missing "apt knows no package rustc-web: Debian 12 and its security updates have it"
    # shellcheck disable=SC2086
    (cd "$work/packages" && apt get -qq download $packages rust-web-src)
    rm -rf "$work/unpacking"
    for package in "$work"/packages/*.deb; do dpkg-deb -x "$package" "$work/unpacking"; done
    rm -rf "$work/packages"
    mv "$work/unpacking" "$work/rust"
}

if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
    step "Debian's rustc"
    [ -d "$work/rust" ] || debian_rustc
    export RUSTC=$work/rust/usr/bin/rustc RUSTC_BOOTSTRAP=1
    export LD_LIBRARY_PATH=$work/rust/usr/lib/x86_64-linux-gnu
    "$RUSTC" --version || missing "a library of LLVM is not installed:$(ldd "$RUSTC" | grep 'not found' || true)"
    std=(-Zbuild-std=std,panic_abort)
fi

step "backend-metal and its tests"
cargo check "${std[@]}" --target "$target" -p ptser-backend-metal --all-targets
step "ptser with metal and candle-metal"
cargo check "${std[@]}" --target "$target" -p ptser --features metal,candle-metal
step done
