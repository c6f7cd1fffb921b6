//! Sockets and modules as they are written on the command line, and addresses of servers and daemons.
#![no_main]

use countersign::{
    backend::Backend,
    config::{ModuleSpec, SocketSpec},
    connect::Uri,
    modules::Registry,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let registry = Registry::builtin();
    if let Ok(socket) = SocketSpec::parse(text, &registry) {
        let written = socket.expose();
        let again = SocketSpec::parse(&written, &registry).expect("what was written can be read");
        assert!(again == socket, "{socket:?} as {again:?}");
    }
    if let Ok(module) = ModuleSpec::parse(text, &registry) {
        let written = module.expose();
        let again = ModuleSpec::parse(&written, &registry).expect("what was written can be read");
        assert!(again == module, "{module:?} as {again:?}");
    }
    let _ = text.parse::<Uri>();
    let _ = text.parse::<Backend>();
});
