//! `hosts`: lets in the addresses that the tables of TCP wrappers let in.
//!
//! | file | holds |
//! |---|---|
//! | `rules.rs` | the two tables: lines, daemon lists, `EXCEPT`, options |
//! | `pattern.rs` | one word of a client list, and whether a peer is meant |
//! | `names.rs` | the confirmed name of a peer, within two seconds |
//! | `files.rs` | the tables as they are on disk now |

mod files;
mod names;
mod pattern;
mod rules;

use std::{net::SocketAddr, path::PathBuf};

use self::{
    files::{Files, Tables},
    names::{Resolve, SystemResolver},
    pattern::Subject,
    rules::Says,
};
use super::{Context, Module, OptionSpec, Options};
use crate::{
    Claim, Identity, Peer, Refusal, Verifier,
    error::ConfigError,
    proto::{chain::CheckPeer, peer::Origin},
};

pub(super) struct Hosts;

impl Module for Hosts {
    fn name(&self) -> &'static str {
        "hosts"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["tcp-hosts"]
    }

    fn summary(&self) -> &'static str {
        "lets in the addresses that hosts.allow and hosts.deny let in"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "Reads the tables of TCP wrappers (hosts_access(5)) itself: a rule that matches in the allow file lets in, \
         else one in the deny file refuses, else the client is let in; a missing file is an empty one. Rules for the \
         daemons `countersign`, `xpra` and `ALL` apply. It names nobody and asks nothing.\n\n\
         Write addresses where you can. A name, domain, KNOWN, UNKNOWN or PARANOID makes a look-up of two seconds at \
         most; the name counts only if it leads back to the address, and without an answer the client is refused. \
         LOCAL means loopback, and confirmed names without a dot.\n\n\
         Of hosts_options(5) allow, deny and severity are understood. What cannot be done or decided here is an error \
         with its line: commands (spawn, twist), netgroups, user@host, a network with bits outside of its mask. At \
         start an error stops the gateway; later, when a file has changed, it is logged and refuses everybody until \
         it is mended. Unlike the system's library, a last line without a newline counts, the mask 255.255.255.255 \
         means one address, and a pattern of digits and stars is never compared with names. On a Unix socket, which \
         has no address, everybody is refused."
    }

    fn example(&self) -> &'static str {
        "hosts(deny=/etc/hosts.deny)"
    }

    fn configure(&self, options: &mut Options, _: &Context) -> Result<Verifier, ConfigError> {
        Ok(Verifier::Peer(Box::new(Wrapped::configure(options)?)))
    }
}

/// The tables and the resolver.
struct Wrapped {
    files: Files,
    resolver: Box<dyn Resolve>,
}

impl Wrapped {
    fn configure(options: &mut Options) -> Result<Self, ConfigError> {
        let mut path = |name: &str, default: &str| -> Result<PathBuf, ConfigError> {
            match options.take(name)? {
                None => Ok(PathBuf::from(default)),
                Some(path) if !path.is_empty() => Ok(PathBuf::from(path.as_str())),
                Some(_) => Err(options.error(name, "its value is empty", "write the path of a file")),
            }
        };
        let allow = path("allow", "/etc/hosts.allow")?;
        let deny = path("deny", "/etc/hosts.deny")?;
        let names = match options.take("daemon")? {
            None => vec!["countersign".to_owned(), "xpra".to_owned()],
            Some(name) if is_daemon(&name) => vec![name.to_string()],
            Some(_) => {
                let fix = "write the word that stands before the colon in the tables";
                return Err(options.error("daemon", "it is no daemon's name", fix));
            }
        };
        let files = Files::load(allow, deny, names).map_err(|mistakes| {
            ConfigError::new("module hosts", mistakes, "mend the line, or take it out")
        })?;
        Ok(Self { files, resolver: Box::new(SystemResolver::new()) })
    }
}

impl CheckPeer for Wrapped {
    fn check(&self, peer: &Peer, _: &Claim) -> Result<Option<Identity>, Refusal> {
        let Origin::Tcp { remote, local } = peer.origin else {
            return Err(Refusal::peer_denied("a Unix socket has no address that hosts could judge"));
        };
        let tables = self.files.current().map_err(Refusal::module_failed)?;
        judge(&tables, remote, local, &*self.resolver).map(|()| None)
    }
}

/// The search of hosts_access(5): allow, then deny, else in.
fn judge(
    tables: &Tables,
    remote: SocketAddr,
    local: SocketAddr,
    resolver: &dyn Resolve,
) -> Result<(), Refusal> {
    let subject = Subject::new(remote.ip().to_canonical(), local, resolver);
    for (table, file, lets_in) in [(&tables.allow, "allow", true), (&tables.deny, "deny", false)] {
        let Some((line, says)) = table.first_match(&subject)? else { continue };
        return match says {
            Says::Allow => Ok(()),
            Says::AsItsFile if lets_in => Ok(()),
            Says::AsItsFile | Says::Deny => {
                Err(Refusal::peer_denied(format!("line {line} of the {file} file refuses this address")))
            }
        };
    }
    Ok(())
}

fn is_daemon(name: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty() && name.bytes().all(fine) && !name.bytes().all(|byte| byte.is_ascii_digit())
}

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("allow", "FILE", "/etc/hosts.allow", "the table of those to let in"),
    OptionSpec::new("deny", "FILE", "/etc/hosts.deny", "the table of those to refuse"),
    OptionSpec::new("daemon", "NAME", "countersign and xpra", "the daemon name whose rules apply"),
];

#[cfg(test)]
mod tests {
    use std::{fs, net::IpAddr, path::Path, process::Command};

    use super::{names::HostName, *};
    use crate::proto::error::Reason;

    /// Knows no name, as `tcpdmatch` does when it is given an address.
    struct Nameless;

    impl Resolve for Nameless {
        fn name_of(&self, _: IpAddr) -> Result<HostName, Refusal> {
            Ok(HostName::Missing)
        }
    }

    fn wrapped(folder: &Path, daemon: Option<&str>) -> Result<Wrapped, ConfigError> {
        let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let mut values =
            vec![("allow".to_owned(), path("hosts.allow")), ("deny".to_owned(), path("hosts.deny"))];
        values.extend(daemon.map(|name| ("daemon".to_owned(), name.to_owned())));
        let wrapped = Wrapped::configure(&mut Options::new("hosts", values))?;
        Ok(Wrapped { resolver: Box::new(Nameless), ..wrapped })
    }

    fn tables(allow: &str, deny: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("hosts.allow"), allow).unwrap();
        fs::write(folder.path().join("hosts.deny"), deny).unwrap();
        folder
    }

    fn from(address: &str) -> Peer {
        let local = "192.0.2.1:10000".parse().unwrap();
        Peer::tcp(SocketAddr::new(address.parse().unwrap(), 50000), local)
    }

    fn check(module: &Wrapped, address: &str) -> Result<Option<Identity>, Refusal> {
        module.check(&from(address), &Claim::named("mallory").unwrap())
    }

    #[test]
    fn allow_is_asked_first_then_deny_and_who_is_in_neither_gets_in() {
        let folder = tables("xpra: 10.0.0.5\n", "ALL: 10.\n");
        let module = wrapped(folder.path(), None).unwrap();
        assert_eq!(check(&module, "10.0.0.5"), Ok(None));
        let refusal = check(&module, "10.0.0.6").unwrap_err();
        assert_eq!(
            (refusal.reason, refusal.cause.as_ref()),
            (Reason::PeerDenied, "line 1 of the deny file refuses this address")
        );
        assert_eq!(check(&module, "11.0.0.1"), Ok(None));
        // S-24: an IPv4 peer of an IPv6 socket is judged as IPv4.
        assert!(check(&module, "::ffff:10.0.0.6").is_err());
        let other = wrapped(folder.path(), Some("mydaemon")).unwrap();
        assert!(check(&other, "10.0.0.5").is_err());
    }

    #[test]
    fn s_078_a_unix_socket_is_refused_with_a_clear_cause() {
        let folder = tables("ALL: ALL\n", "");
        let module = wrapped(folder.path(), None).unwrap();
        let refusal = module.check(&Peer::unix(None), &Claim::anonymous()).unwrap_err();
        assert_eq!(refusal.cause, "a Unix socket has no address that hosts could judge");
    }

    #[test]
    fn s_065_mistakes_are_start_errors_with_their_lines_and_without_the_options() {
        let folder = tables("ALL: 10.\nALL: 10.0.0\n", "ALL: ALL: twist /bin/x\n");
        let error = wrapped(folder.path(), None).err().unwrap().to_string();
        assert!(error.contains("the allow file, line 2: `10.0.0`"), "{error}");
        assert!(error.contains("the deny file, line 1: `twist` would run a command"), "{error}");
        assert!(!error.contains(folder.path().to_str().unwrap()));
        for daemon in ["", "a b", "22", "x:y", "*"] {
            assert!(wrapped(tables("", "").path(), Some(daemon)).is_err(), "{daemon}");
        }
    }

    /// Where we differ from the system's library, on purpose (see the manual above):
    ///
    /// - what it skips with a warning (a missing colon, a network with bits outside of its mask, a
    ///   missing pattern file, an empty list) is an error;
    /// - a last line without a newline counts;
    /// - the length 0 means every IPv4 address, the mask 255.255.255.255 means one, and `.5` is no suffix of addresses;
    /// - `LOCAL` means loopback and confirmed names, never "an IPv6 address has no dot" (W21); the
    ///   oracle is asked about names nowhere, as it is not given any;
    /// - netgroups, `user@host` and commands are errors; a port number means that port of ours.
    const AGREED: &[(&str, &str)] = &[
        ("", ""),
        ("", "ALL: ALL\n"),
        ("ALL: ALL\n", "ALL: ALL\n"),
        ("countersign: 10.0.0.\n", "ALL: ALL\n"),
        ("COUNTERSIGN: 10.0.0.5, [2001:db8::1]\n", "all: all\n"),
        ("sshd: 10.0.0.5\n", "countersign, sshd: 10. [fe80::]/16\n"),
        ("ALL: 10.0.0.0/255.255.255.0\n", "ALL: ALL\n"),
        ("ALL: 10.0.0.0/24 192.168.0.0/16\n", "ALL: ALL\n"),
        ("ALL: 0.0.0.0/1\n", "ALL: ALL\n"),
        ("ALL: 10.0.0.5/255.0.0.255\n", "ALL: ALL\n"),
        ("ALL: 10.0.0.1/255.0.0.255\n", "ALL: ALL\n"),
        ("ALL: [2001:db8::]/32 [::1]\n", "ALL: ALL\n"),
        ("ALL: [::]/0\n", "ALL: ALL\n"),
        ("ALL: 10.0.0.*\n", "ALL: ALL\n"),
        ("ALL: 10.?.0.5\n", "ALL: ALL\n"),
        ("ALL: *\n", "ALL: ALL\n"),
        ("", "ALL: ALL EXCEPT 10.\n"),
        ("", "ALL: ALL EXCEPT 10. EXCEPT 10.0.0.5\n"),
        ("ALL: 10. EXCEPT 10.0. EXCEPT 10.0.0. EXCEPT 10.0.0.5\n", "ALL: ALL\n"),
        ("", "ALL EXCEPT countersign: ALL\n"),
        ("", "ALL EXCEPT sshd: ALL\n"),
        ("ALL EXCEPT sshd EXCEPT sshd: 10.\n", "ALL: ALL\n"),
        ("counter*: 10.\n", "c?untersign: ALL\n"),
        ("# x \\\nALL: ALL\n", "ALL: \\\n 10. \\\n  127.\n"),
        ("\n \t\nALL: 10.0.0.5\n#ALL: ALL\n", "ALL: ALL\n"),
        ("ALL: 10.: deny\nALL: ALL\n", "ALL: ALL\n"),
        ("ALL: 10. : severity notice : allow\n", "ALL: ALL\n"),
        ("", "ALL: 10.0.0.: allow\nALL: ALL\n"),
        ("ALL: UNKNOWN\n", "ALL: ALL\n"),
        ("ALL: KNOWN\n", "ALL: ALL\n"),
        ("ALL: PARANOID\n", "ALL: ALL\n"),
        ("ALL: host.example.com .example.com\n", "ALL: ALL\n"),
        ("", "ALL: .example.com host.example.com *.example.org\n"),
        ("ALL: ALL@10.0.0.5\n", "ALL: ALL\n"),
        ("ALL: /PATTERNS\n", "ALL: ALL\n"),
        ("", "ALL: ALL EXCEPT /PATTERNS\n"),
    ];

    const ADDRESSES: &[&str] = &[
        "10.0.0.5",
        "10.0.0.50",
        "10.0.1.5",
        "10.1.0.5",
        "10.9.9.1",
        "110.0.0.5",
        "192.168.7.7",
        "127.0.0.1",
        "203.0.113.9",
        "::1",
        "2001:db8::1",
        "2001:db8:0:1::1",
        "2001:db9::1",
        "fe80::1",
    ];

    /// What the system's library says. `None` if `tcpdmatch` is not installed.
    fn oracle(folder: &Path, address: &str) -> Option<bool> {
        let search = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin";
        let run = Command::new("tcpdmatch")
            .args(["-d", "countersign", address])
            .current_dir(folder)
            .env("PATH", search)
            .output();
        let output = match run {
            Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => panic!("tcpdmatch: {error}"),
        };
        match output.split_once("access:").map(|(_, verdict)| verdict.trim()) {
            Some("granted") => Some(true),
            Some("denied") => Some(false),
            _ => panic!("tcpdmatch says for {address}: {output}"),
        }
    }

    #[test]
    fn it_agrees_with_the_systems_own_library() {
        if oracle(tables("", "").path(), "::1").is_none() {
            assert!(std::env::var_os("CI").is_none(), "the package tcpd is missing: nothing was compared");
            println!("tcpdmatch is not installed (package tcpd): nothing was compared");
            return;
        }
        let mut disagreed = Vec::new();
        for (allow, deny) in AGREED {
            let folder = tables("", "");
            let at = |name: &str| folder.path().join(name);
            let patterns = at("patterns");
            fs::write(&patterns, "10.0.0. 192.168.0.0/16\n[2001:db8::]/48\n").unwrap();
            let fill = |text: &str| text.replace("/PATTERNS", patterns.to_str().unwrap());
            fs::write(at("hosts.allow"), fill(allow)).unwrap();
            fs::write(at("hosts.deny"), fill(deny)).unwrap();
            let module = wrapped(folder.path(), Some("countersign")).unwrap();
            for address in ADDRESSES {
                let ours = check(&module, address).is_ok();
                if Some(ours) != oracle(folder.path(), address) {
                    disagreed.push(format!("{allow:?} {deny:?} {address}: we say {ours}"));
                }
            }
        }
        assert!(disagreed.is_empty(), "{disagreed:#?}");
    }
}
