//! Where numbers and health are read: on this machine only, or nowhere.

use super::{Layers, Paths, address, kind::Kind, one};
use crate::{error::ConfigError, transport::Address};

/// Reads the key `admin`.
///
/// # Errors
/// It is no address, or others than this machine reach it.
pub(super) fn read(layers: &Layers, paths: &Paths) -> Result<Option<Address>, ConfigError> {
    one(layers, "admin", |options, key| {
        let Some(text) = options.take(key)? else { return Ok(None) };
        let kind = if text.starts_with(['/', '.', '@']) || *text == "none" { Kind::Unix } else { Kind::Tcp };
        // What is said about addresses is said about those of clients.
        let address = address::parse(&text, kind, paths, &mut Vec::new())?;
        match &address {
            Some(far) if !address::is_local(far) => {
                let fix = "write 127.0.0.1:PORT, [::1]:PORT or the path of a Unix socket";
                Err(options.error(key, "others than this machine would reach it", fix))
            }
            _ => Ok(address),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_reaches_it() {
        let paths = Paths::new(true, "/etc/c", "/run/c", "/var/lib/c");
        let read = |text: &str| {
            let mut layers = Layers::default();
            layers.flag("admin", text).unwrap();
            read(&layers, &paths)
        };
        assert_eq!(read("none").unwrap(), None);
        assert_eq!(read("/run/c/admin").unwrap(), Some(Address::Unix("/run/c/admin".into())));
        for near in ["127.0.0.1:9464", "[::1]:9464", "localhost:9464", ":9464"] {
            assert!(matches!(read(near).unwrap(), Some(Address::Tcp { port: 9464, .. })), "{near}");
        }
        for far in ["0.0.0.0:9464", "[::]:9464", "192.0.2.1:9464", "*:9464", "gate.example:9464"] {
            let error = read(far).unwrap_err();
            assert!(error.to_string().contains("others than this machine"), "{far}: {error}");
        }
        assert!(read("").is_err());
    }
}
