//! The text of a configuration file: read into layers, with its sockets and their modules, and shown.
#![no_main]

use std::path::Path;

use countersign::{config::Layers, modules::Registry};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut layers = Layers::default();
    if layers.file(Path::new("fuzz.toml"), text).is_ok() {
        let rows = layers.effective(&Registry::builtin());
        assert!(rows.iter().all(|row| !row.key.is_empty()));
    }
});
