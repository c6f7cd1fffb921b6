# Every check by name; the same recipes run in the checks of each change.

# Everything: what is missing is installed, then every check and every test.
default: test

test:
    cargo xtask test

deps:
    cargo xtask deps

fmt:
    cargo xtask fmt

clippy:
    cargo xtask clippy

doc:
    cargo xtask doc

doctest:
    cargo xtask doctest

# The test suite alone; arguments go to the runner: `just suite -p countersign-proto`.
suite *arguments:
    cargo xtask suite {{arguments}}

# The tests against real programs alone.
interop *arguments:
    cargo xtask suite -p countersign-interop {{arguments}}

# Each fuzz target for 10 seconds.
fuzz-smoke:
    cargo xtask fuzz

bench *arguments:
    cargo xtask bench {{arguments}}

# The manual pages and the table of modules, written anew.
generate:
    cargo xtask generate

# The oldest compiler we promise (`rust-version` in Cargo.toml).
msrv:
    cargo +1.89 check --workspace --all-targets

# The oldest dependencies we promise.
minimal-versions:
    cargo +nightly update -Z direct-minimal-versions
    cargo check --workspace
    git checkout Cargo.lock

# The rules alone, for a system that has no files, clock or sockets.
wasm:
    cargo check --package countersign-proto --target wasm32-unknown-unknown

# Licences, known defects, sources (cargo-deny).
deny:
    cargo deny check

# Spelling (typos).
typos:
    typos

# Whether the libraries' interfaces keep their promise (cargo-semver-checks).
semver:
    cargo semver-checks --package countersign-proto --package countersign

# Line coverage (cargo-llvm-cov).
coverage:
    cargo llvm-cov nextest --workspace --html

# What would be published.
package:
    cargo package --package countersign-proto --package countersign --package countersign-cli
