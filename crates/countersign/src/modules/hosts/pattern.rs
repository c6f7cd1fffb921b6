//! One word of a client list, and whether a peer is meant by it.

use std::{
    cell::OnceCell,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::names::{HostName, Resolve};
use crate::Refusal;

/// What a word of a client list stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    All,
    Local,
    Known,
    Unknown,
    Paranoid,
    /// The address, masked, is this.
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
    /// The name, in lower case.
    Name(String),
    /// The name ends with this: a dot and a domain.
    Domain(String),
    /// `*` and `?`, against the address as text.
    AddressGlob(String),
    /// `*` and `?`, against the name.
    NameGlob(String),
    /// Any word of a file.
    File(Vec<Self>),
}

/// A peer, and its name if a pattern asks for it.
pub(super) struct Subject<'a> {
    pub(super) remote: IpAddr,
    /// Our own end of the connection.
    pub(super) local: SocketAddr,
    resolver: &'a dyn Resolve,
    name: OnceCell<HostName>,
}

impl<'a> Subject<'a> {
    pub(super) fn new(remote: IpAddr, local: SocketAddr, resolver: &'a dyn Resolve) -> Self {
        Self { remote, local, resolver, name: OnceCell::new() }
    }

    /// Looked up once, and only if needed: address rules work without a resolver.
    fn name(&self) -> Result<&HostName, Refusal> {
        if self.name.get().is_none() {
            let found = self.resolver.name_of(self.remote)?;
            return Ok(self.name.get_or_init(|| found));
        }
        self.name.get().ok_or_else(|| Refusal::module_failed("the peer's name was lost"))
    }

    fn name_is(&self, meant: impl FnOnce(&str) -> bool) -> Result<bool, Refusal> {
        Ok(matches!(self.name()?, HostName::Confirmed(name) if meant(name)))
    }
}

impl Pattern {
    /// Reads one word. `file` reads the words of a pattern file.
    pub(super) fn parse(
        word: &str,
        file: &mut dyn FnMut(&str) -> Result<Vec<Self>, String>,
    ) -> Result<Self, String> {
        if let Some(keyword) = keyword(word) {
            return Ok(keyword);
        }
        if word.starts_with('/') {
            return file(word).map(Self::File);
        }
        if word.starts_with('@') {
            return Err("netgroups are not read here: list the hosts, or name a file of them".into());
        }
        if let Some((user, host)) = word.split_once('@') {
            return match user.eq_ignore_ascii_case("ALL") {
                true => Self::parse(host, file),
                false => {
                    Err("the user at the client's machine is not asked for: write the host alone".into())
                }
            };
        }
        if let Some((net, mask)) = word.split_once('/') {
            return net_and_mask(net, mask);
        }
        if word.contains(['*', '?']) {
            return glob(&word.to_ascii_lowercase());
        }
        if let Some(address) = address(word) {
            return Ok(Self::one(address));
        }
        match word.strip_suffix('.') {
            Some(prefix) => address_prefix(prefix),
            None => name(&word.to_ascii_lowercase()),
        }
    }

    /// Whether the peer of `subject` is meant.
    ///
    /// # Errors
    /// It depends on the peer's name, and the resolver gave no answer (S-78).
    pub(super) fn matches(&self, subject: &Subject<'_>) -> Result<bool, Refusal> {
        match self {
            Self::Local if subject.remote.is_loopback() => Ok(true),
            Self::Local => subject.name_is(|name| !name.contains('.')),
            Self::Known => subject.name_is(|_| true),
            Self::Unknown => Ok(*subject.name()? == HostName::Missing),
            Self::Paranoid => Ok(*subject.name()? == HostName::Contradicted),
            Self::Name(wanted) => subject.name_is(|name| name == wanted),
            Self::Domain(domain) => {
                subject.name_is(|name| name.len() > domain.len() && name.ends_with(domain))
            }
            Self::NameGlob(glob) => subject.name_is(|name| fits(glob.as_bytes(), name.as_bytes())),
            Self::File(patterns) => {
                for pattern in patterns {
                    if pattern.matches(subject)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Self::All | Self::V4(..) | Self::V6(..) | Self::AddressGlob(_) => Ok(self.holds(subject.remote)),
        }
    }

    /// Whether an address is meant, of a pattern that [`Pattern::is_of_addresses`].
    pub(super) fn holds(&self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::All, _) => true,
            (Self::V4(net, mask), IpAddr::V4(address)) => address & *mask == *net,
            (Self::V6(net, mask), IpAddr::V6(address)) => address & *mask == *net,
            (Self::AddressGlob(glob), _) => fits(glob.as_bytes(), address.to_string().as_bytes()),
            _ => false,
        }
    }

    /// Whether it can be judged without a name.
    pub(super) fn is_of_addresses(&self) -> bool {
        matches!(self, Self::All | Self::V4(..) | Self::V6(..) | Self::AddressGlob(_))
    }

    fn one(address: IpAddr) -> Self {
        // An IPv4 peer of an IPv6 socket is an IPv4 peer (S-24), so the pattern is too.
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address, Ipv4Addr::BROADCAST),
            IpAddr::V6(address) => Self::V6(address, Ipv6Addr::from_bits(u128::MAX)),
        }
    }
}

fn keyword(word: &str) -> Option<Pattern> {
    Some(match word.to_ascii_uppercase().as_str() {
        "ALL" => Pattern::All,
        "LOCAL" => Pattern::Local,
        "KNOWN" => Pattern::Known,
        "UNKNOWN" => Pattern::Unknown,
        "PARANOID" => Pattern::Paranoid,
        _ => return None,
    })
}

/// `10.0.0.5`, `[2001:db8::1]`, and in pattern files IPv6 without brackets.
fn address(word: &str) -> Option<IpAddr> {
    match word.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']')?.parse().ok().map(IpAddr::V6),
        None => word.parse().ok(),
    }
}

fn net_and_mask(net: &str, mask: &str) -> Result<Pattern, String> {
    let no_mask = || "what follows the slash is neither a mask nor a length".to_owned();
    let hosts = || "the network has bits outside of its mask, so nobody is in it: clear them".to_owned();
    match address(net) {
        Some(IpAddr::V4(net)) => {
            let mask = match mask.parse::<u32>() {
                Ok(length @ 0..=32) => Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - length).unwrap_or(0)),
                _ => mask.parse().map_err(|_| no_mask())?,
            };
            if net & mask == net { Ok(Pattern::V4(net, mask)) } else { Err(hosts()) }
        }
        Some(IpAddr::V6(net)) => match mask.parse::<u32>() {
            Ok(length @ 0..=128) => {
                let mask = Ipv6Addr::from_bits(u128::MAX.checked_shl(128 - length).unwrap_or(0));
                if net & mask == net { Ok(Pattern::V6(net, mask)) } else { Err(hosts()) }
            }
            _ => Err(no_mask()),
        },
        None => Err("what comes before the slash is no address (IPv6 needs brackets)".into()),
    }
}

/// `10.`, `10.0.`, `10.0.0.`: the first numbers of an IPv4 address.
fn address_prefix(prefix: &str) -> Result<Pattern, String> {
    let known = prefix.split('.').count();
    let padded = format!("{prefix}{}", ".0".repeat(4_usize.saturating_sub(known)));
    match padded.parse() {
        Ok(net) if known < 4 => Ok(Pattern::V4(net, Ipv4Addr::from_bits(u32::MAX << (32 - 8 * known)))),
        _ => Err("a word that ends with a dot is the start of an IPv4 address".into()),
    }
}

fn glob(word: &str) -> Result<Pattern, String> {
    // A pattern of digits and dots means addresses. Tried on names too, `10.*` would let in the owner of
    // the name 10.example.com.
    if word.bytes().all(|byte| byte.is_ascii_digit() || b".*?".contains(&byte)) {
        return Ok(Pattern::AddressGlob(word.to_owned()));
    }
    if let Some(inner) = word.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        let fine = inner.bytes().all(|byte| byte.is_ascii_hexdigit() || b":.*?".contains(&byte));
        return if fine { Ok(Pattern::AddressGlob(inner.to_owned())) } else { Err(NO_PATTERN.into()) };
    }
    if word.bytes().all(|byte| is_of_name(byte) || b"*?".contains(&byte)) {
        return Ok(Pattern::NameGlob(word.to_owned()));
    }
    Err(NO_PATTERN.into())
}

fn name(word: &str) -> Result<Pattern, String> {
    let labels = word.strip_prefix('.').unwrap_or(word);
    let last = labels.rsplit('.').next().unwrap_or_default();
    let fine = labels.bytes().all(is_of_name) && !labels.split('.').any(str::is_empty);
    // No domain is a number: this is an address with a mistake in it.
    if !fine || last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NO_PATTERN.into());
    }
    Ok(if word.starts_with('.') { Pattern::Domain(word.to_owned()) } else { Pattern::Name(word.to_owned()) })
}

const NO_PATTERN: &str = "it is neither a name nor an address nor a pattern";

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
}

/// Whether `text` is what `glob` describes; `*` is any text, `?` any one byte. Takes at most the
/// product of the lengths.
pub(super) fn fits(glob: &[u8], text: &[u8]) -> bool {
    let (mut at_glob, mut at_text) = (0, 0);
    // Where the last star was, and where the text that it swallows ends.
    let mut star: Option<(usize, usize)> = None;
    while at_text < text.len() {
        match glob.get(at_glob) {
            Some(b'*') => {
                star = Some((at_glob, at_text));
                at_glob += 1;
            }
            Some(&wanted) if wanted == b'?' || text.get(at_text) == Some(&wanted) => {
                at_glob += 1;
                at_text += 1;
            }
            _ => {
                let Some((position, swallowed)) = star else { return false };
                star = Some((position, swallowed + 1));
                (at_glob, at_text) = (position + 1, swallowed + 1);
            }
        }
    }
    glob.iter().skip(at_glob).all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(word: &str) -> Result<Pattern, String> {
        Pattern::parse(word, &mut |_| Err("no file".into()))
    }

    struct Named(HostName);

    impl Resolve for Named {
        fn name_of(&self, _: IpAddr) -> Result<HostName, Refusal> {
            Ok(self.0.clone())
        }
    }

    struct Broken;

    impl Resolve for Broken {
        fn name_of(&self, _: IpAddr) -> Result<HostName, Refusal> {
            Err(Refusal::module_failed("no server"))
        }
    }

    fn judged(word: &str, address: &str, resolver: &dyn Resolve) -> Result<bool, Refusal> {
        let local = "192.0.2.1:10000".parse().unwrap();
        parse(word).unwrap().matches(&Subject::new(address.parse().unwrap(), local, resolver))
    }

    fn means(word: &str, address: &str) -> bool {
        // A pattern of addresses must not ask for a name at all.
        judged(word, address, &Broken).unwrap()
    }

    fn means_named(word: &str, name: HostName) -> bool {
        judged(word, "192.0.2.7", &Named(name)).unwrap()
    }

    fn host(name: &str) -> HostName {
        HostName::Confirmed(name.into())
    }

    #[test]
    fn s_078_addresses_are_judged_without_a_resolver() {
        for (word, inside, outside) in [
            ("10.0.0.5", "10.0.0.5", "10.0.0.50"),
            ("10.0.0.", "10.0.0.255", "10.0.1.0"),
            ("10.", "10.9.9.9", "110.0.0.1"),
            ("10.0.0.0/24", "10.0.0.7", "10.0.1.7"),
            ("10.0.0.0/255.255.255.0", "10.0.0.7", "10.0.1.7"),
            ("10.0.0.1/255.0.0.255", "10.9.9.1", "10.9.9.2"),
            ("10.0.0.5/255.255.255.255", "10.0.0.5", "10.0.0.6"),
            ("[2001:db8::]/32", "2001:db8:1::1", "2001:db9::1"),
            ("[2001:db8::1]", "2001:db8::1", "2001:db8::2"),
            ("2001:db8::1", "2001:db8::1", "2001:db8::2"),
            ("[::ffff:10.0.0.5]", "10.0.0.5", "10.0.0.6"),
            ("10.*.5", "10.1.2.5", "10.1.2.6"),
            ("10.0.0.?", "10.0.0.5", "10.0.0.55"),
            ("[2001:db8:*]", "2001:db8::9", "2001:db9::9"),
            ("all@10.0.0.5", "10.0.0.5", "10.0.0.6"),
        ] {
            assert!(means(word, inside), "{word} {inside}");
            assert!(!means(word, outside), "{word} {outside}");
            assert!(!means(word, "fe80::7"), "{word}");
        }
        for word in ["ALL", "all", "*", "LOCAL"] {
            assert!(means(word, "127.0.0.1") && means(word, "::1"), "{word}");
        }
        assert!(means("0.0.0.0/0", "203.0.113.9") && !means("0.0.0.0/0", "::1") && means("[::]/0", "::1"));
    }

    #[test]
    fn names_are_matched_whole_by_domain_or_by_glob_in_any_case() {
        assert!(means_named("Host.Example.com", host("host.example.com")));
        assert!(means_named(".example.com", host("a.b.example.com")));
        assert!(means_named("*.Example.com", host("host.example.com")));
        for (word, name) in [
            ("host.example.com", "xhost.example.com"),
            (".example.com", "example.com"),
            (".example.com", "badexample.com"),
            (".example.com", "host.example.com.evil.org"),
            ("host?.example.com", "host.example.com"),
        ] {
            assert!(!means_named(word, host(name)), "{word} {name}");
        }
    }

    #[test]
    fn w21_local_means_loopback_and_real_names_without_a_dot() {
        assert!(means_named("LOCAL", host("desk")));
        for name in [host("desk.example.com"), HostName::Missing, HostName::Contradicted] {
            assert!(!means_named("LOCAL", name));
        }
        assert!(!judged("LOCAL", "2001:db8::1", &Named(HostName::Missing)).unwrap());
    }

    #[test]
    fn keywords_tell_what_is_known_of_a_name() {
        let all = [host("a.example"), HostName::Missing, HostName::Contradicted];
        for (word, meant) in [("KNOWN", 0), ("unknown", 1), ("PARANOID", 2)] {
            for (position, name) in all.iter().enumerate() {
                assert_eq!(means_named(word, name.clone()), position == meant, "{word} {name:?}");
            }
        }
        for word in ["host.example.com", ".example.com", "*.example.com"] {
            assert!(!means_named(word, HostName::Missing) && !means_named(word, HostName::Contradicted));
        }
    }

    #[test]
    fn s_078_a_resolver_that_fails_refuses_whoever_needs_a_name() {
        for word in ["host.example.com", ".example.com", "*x*", "LOCAL", "KNOWN", "UNKNOWN", "PARANOID"] {
            assert!(judged(word, "192.0.2.7", &Broken).is_err(), "{word}");
        }
    }

    #[test]
    fn digits_with_stars_never_match_a_name() {
        assert!(!means_named("10.*", host("10.example.com")));
        assert!(means_named("*.7", host("10.example.com")));
    }

    #[test]
    fn what_cannot_be_decided_or_is_no_pattern_is_an_error() {
        for word in [
            "@office",
            "alice@10.0.0.5",
            "UNKNOWN@10.0.0.5",
            "10.0.0.5/24",
            "[2001:db8::1]/32",
            "10.0.0.0/33",
            "10.0.0.0/x",
            "[2001:db8::]/255.0.0.0",
            "host/24",
            "10.0.0.256",
            "10.0.0",
            "010.0.0.",
            "10.0.0.5.",
            "host.",
            ".5",
            ".",
            "..example.com",
            "a..b",
            "a,b",
            "ho st",
            "[host*]",
            "h\u{fffd}st",
            "",
        ] {
            assert!(parse(word).is_err_and(|why| !why.is_empty()), "{word}");
        }
        assert_eq!(parse("/etc/some-file").unwrap_err(), "no file");
    }

    #[test]
    fn globs_take_no_longer_than_they_are_long() {
        let (glob, text) = ("*a".repeat(2000) + "b", "a".repeat(4000));
        let start = std::time::Instant::now();
        assert!(!fits(glob.as_bytes(), text.as_bytes()));
        assert!(start.elapsed().as_secs() < 5);
        assert!(fits(b"*", b"") && fits(b"a*b*c", b"aXbYc") && !fits(b"a*b*c", b"aXbY") && !fits(b"", b"a"));
    }
}
