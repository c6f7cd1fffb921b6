//! `kerberos` and `gss`: a ticket of Kerberos for one service, by the names that Xpra's handlers know.
//!
//! ```text
//! kerberos:NAME@HOST    the token as base64 text
//! gss:NAME/HOST         the token as it is
//! ```
//!
//! What the two ends say beside the token is in `docs/protocol/xpra.md`, tickets. Both the modules and the
//! handlers of the library read and write the names here.

use std::fmt;

use super::Mechanism;

/// How a ticket travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a third would have an encoding of its own")]
pub enum Ticket {
    /// As base64 text, for a service that is written as one of a host.
    Kerberos,
    /// As bytes, for a service that is written as a principal.
    Gss,
}

impl Ticket {
    /// The wire name without its argument.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kerberos => "kerberos",
            Self::Gss => "gss",
        }
    }

    /// The wire name with the service, in the spelling that Xpra's handler of that name reads.
    pub fn mechanism(self, service: &Service) -> String {
        let Service { name, host } = service;
        match self {
            Self::Kerberos => format!("kerberos:{name}@{host}"),
            Self::Gss => format!("gss:{name}/{host}"),
        }
    }

    /// The service that a challenge of this kind asks a ticket for, in either spelling.
    ///
    /// # Errors
    /// It is another mechanism, or names no service of a host.
    pub fn service(self, asked: &Mechanism) -> Result<Service, &'static str> {
        let argument = asked.name().strip_prefix(self.name()).and_then(|rest| rest.strip_prefix(':'));
        Service::parse(argument.ok_or("it asks for another kind of proof")?)
    }
}

/// A service on a host: `xpra/host.example`, as a principal without its realm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    name: String,
    host: String,
}

impl Service {
    /// Reads `NAME/HOST` or `NAME@HOST`: letters, digits, `-`, `_` and `.`, 63 of them at most in the name
    /// and 253 in the host. No realm: which one the host is in is for `krb5.conf` to say.
    ///
    /// # Errors
    /// Why it is none, without repeating it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (name, host) = text.split_once(['/', '@']).ok_or("no host follows the name of the service")?;
        let is_plain = |part: &str, most: usize| {
            let mut bytes = part.bytes();
            (1..=most).contains(&part.len())
                && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        };
        if !is_plain(name, 63) || !is_plain(host, 253) {
            return Err("it is not the name of a service on a host");
        }
        Ok(Self { name: name.to_owned(), host: host.to_owned() })
    }

    /// The kind of service: `xpra`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host that it is on, as it is written.
    pub fn host(&self) -> &str {
        &self.host
    }
}

/// `NAME/HOST`.
impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.host)
    }
}

/// A `tls-exporter` channel binding as both ends give it to GSSAPI: its kind goes in front (RFC 5056
/// section 2.1).
pub fn binding(exported: &[u8]) -> Vec<u8> {
    [b"tls-exporter:", exported].concat()
}

/// What a client of ours says after the server's token proved that it has the service's key. Any bytes
/// would do: the conversation needs an answer to each question.
pub const SATISFIED: &[u8] = b"OK";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_the_spelling_of_its_handler_and_is_read_in_both() {
        let service = Service::parse("xpra/gate.example").unwrap();
        assert_eq!(Service::parse("xpra@gate.example").as_ref(), Ok(&service));
        assert_eq!(Ticket::Kerberos.mechanism(&service), "kerberos:xpra@gate.example");
        assert_eq!(Ticket::Gss.mechanism(&service), "gss:xpra/gate.example");
        for ticket in [Ticket::Kerberos, Ticket::Gss] {
            for spelled in ["xpra/gate.example", "xpra@gate.example"] {
                let asked = Mechanism::Other(format!("{}:{spelled}", ticket.name()));
                assert_eq!(ticket.service(&asked).as_ref(), Ok(&service));
            }
        }
        assert!(Ticket::Gss.service(&Mechanism::Other("kerberos:xpra@gate".to_owned())).is_err());
        assert!(Ticket::Gss.service(&Mechanism::Other("gss".to_owned())).is_err());
    }

    #[test]
    fn what_could_be_read_as_something_else_is_no_service() {
        let (long_name, long_host) = (format!("{}/h", "n".repeat(64)), format!("n/{}", "h".repeat(254)));
        for text in [
            "",
            "xpra",
            "xpra/",
            "/host",
            "a/b/c",
            "a/b@REALM",
            "a@b@c",
            "a b/c",
            "a\\/b",
            "a/b\n",
            "é/b",
            &long_name,
            &long_host,
        ] {
            assert!(Service::parse(text).is_err(), "{text:?}");
        }
    }
}
