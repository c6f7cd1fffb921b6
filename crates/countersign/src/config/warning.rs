//! What is allowed and still worth saying, at start and in `explain`.

use std::fmt;

/// Something that a configuration may do and its writer may not have meant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// No chain is written and the socket is open to `Audience` (S-67).
    NoChain(Audience),
    /// The chain consists of modules that pass everybody: the named one and its like (S-67).
    Open(&'static str, Audience),
    /// One link of a chain passes everybody, so it adds nothing, or lets the client choose its name.
    Idle(&'static str),
    /// A link refuses everybody.
    NobodyGetsIn(&'static str),
    /// No link names anybody, and behind the socket are the sessions of users (S-68).
    NamesNobody,
    /// What its links ask for can be guessed, and nobody counts the guesses (S-21).
    NoPenalties,
    /// A link needs the password itself, or a token, and the socket takes connections without TLS (S-33).
    Cleartext(&'static str),
    /// An IPv6 address without brackets.
    Ipv6WithoutBrackets,
    /// A password or a key is written in an argument, which every local user can read (S-90, W12).
    SecretInArgument(&'static str),
}

impl Warning {
    /// Whether it is to be repeated for every connection: somebody was let in without a proof (S-67).
    pub fn at_each_connection(&self) -> bool {
        matches!(self, Self::NoChain(_) | Self::Open(..))
    }
}

/// A sentence or two.
impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoChain(audience) => {
                write!(
                    f,
                    "no authentication: {audience} gets in. Add auth=NAME, or auth=none if that is meant"
                )
            }
            Self::Open("allow", audience) => {
                write!(
                    f,
                    "allow takes every answer: {audience} gets in, under any name. It is for tests only"
                )
            }
            Self::Open(module, audience) => write!(f, "{module} proves nothing: {audience} gets in"),
            Self::Idle("allow") => {
                write!(
                    f,
                    "allow takes every answer and believes every name. Leave it out, or set identity=MODULE"
                )
            }
            Self::Idle(module) => write!(f, "{module} passes everybody, so it adds nothing to this chain"),
            Self::NobodyGetsIn(module) => write!(f, "{module} refuses everybody: this socket lets nobody in"),
            Self::Cleartext(module) => {
                let what = if TOKENS.contains(module) { "a token" } else { "the secret itself" };
                write!(
                    f,
                    "{module} needs {what}, which is refused without TLS. Add require-tls=yes, so that clients learn it \
                     before they try"
                )
            }
            Self::NamesNobody => f.write_str(
                "nobody is named by this chain, so nobody has a session behind it. Add a module that proves a name",
            ),
            Self::NoPenalties => f.write_str(
                "failed logins are not counted, so passwords can be guessed at full speed. Leave out penalties=no, or \
                 write ratelimit first",
            ),
            Self::Ipv6WithoutBrackets => {
                f.write_str("an IPv6 address is written without []. Write [ADDRESS]:PORT")
            }
            Self::SecretInArgument(name) => {
                let instead = if *name == "keydata" { "keyfile=FILE" } else { "file(filename=...)" };
                write!(
                    f,
                    "the value of {name} is an argument or in the environment, where others may read it. Use {instead}"
                )
            }
        }
    }
}

/// Who reaches a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Audience {
    /// Everybody who has an account on this machine: loopback, abstract and 0666 sockets.
    LocalUsers,
    /// Whoever the mode of the socket's file lets in.
    FileMode,
    /// Everybody who reaches the address.
    Network,
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LocalUsers => "every local user",
            Self::FileMode => "everybody who may open the socket's file",
            Self::Network => "everybody who reaches the address",
        })
    }
}

/// The modules that are sent what an issuer or a KDC made of a secret, and never the secret.
const TOKENS: [&str; 3] = ["gss", "kerberos-ticket", "oauth"];
