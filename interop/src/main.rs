//! Prints `docs/interop.md`, for `cargo xtask generate`.

use std::io::{self, Write};

fn main() -> io::Result<()> {
    io::stdout().write_all(countersign_interop::grid::page().as_bytes())
}
