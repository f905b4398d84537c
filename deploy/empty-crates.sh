#!/bin/sh
# For deploy/Dockerfile: leaves of a checkout only what decides how the dependencies are compiled, with an empty file for
# every target that a manifest may name. Run it nowhere else: it deletes the sources below the current folder.
set -eu

[ -n "${CARGO_HOME:-}" ] && [ "$(pwd)" = /src ] || {
    echo "error: this deletes sources, and is for the image's build only" >&2
    exit 1
}

# Tests, benches and examples count only where a manifest names them: a new one must not cost the layer.
for manifest in crates/*/Cargo.toml tests/*/Cargo.toml bench/Cargo.toml; do
    crate=${manifest%/Cargo.toml}
    for kind in test bench example; do
        grep -q "^\[\[$kind\]\]" "$manifest" || rm -rf "$crate/${kind}s" "$crate/${kind}es"
    done
done
find crates tests bench -type f ! -name Cargo.toml \
    ! -path '*/src/lib.rs' ! -path '*/src/main.rs' ! -path '*/src/bin/*.rs' ! -name build.rs \
    ! -path '*/tests/*.rs' ! -path '*/benches/*.rs' ! -path '*/examples/*.rs' -delete
find crates tests bench -name '*.rs' | while read -r file; do
    case $file in
    */src/lib.rs) : >"$file" ;;
    *) echo 'fn main() {}' >"$file" ;;
    esac
done
find . -mindepth 1 -maxdepth 1 ! -name crates ! -name tests ! -name bench ! -name Cargo.toml ! -name Cargo.lock \
    ! -name rust-toolchain.toml -exec rm -rf {} +
