//! The text of a configuration file: read into layers, with its sockets and their modules, and shown.
#![no_main]

use std::path::Path;

use countersign::{config::Layers, modules::Registry};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut layers = Layers::default();
    match layers.file(Path::new("fuzz.toml"), text) {
        Ok(()) => {
            for row in layers.effective(&Registry::builtin()) {
                assert!(!row.value.contains(SECRET), "the value of an option is shown: {}", row.key);
            }
        }
        Err(error) => assert!(!error.to_string().contains(SECRET), "the value of an option is told"),
    }
});

/// Stands in the seeds as the value of a module's option.
const SECRET: &str = "hunter2hunter2";
