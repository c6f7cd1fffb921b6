//! `ratelimit`: a gate in front of other links that turns guessers away before they are asked.
//!
//! The link itself asks nothing. It follows each login that it lets go on ([`Watch`]) and counts how
//! it ended in its ledger (`ledger.rs`), which is shared by the connections of the socket.

mod ledger;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use self::ledger::{Account, Fault, Ledger, Limits, Source};
use super::{Context, Module, OptionSpec, Options, network::Network};
use crate::{
    Claim, Grant, Identity, Peer, Refusal, Secret, Verifier,
    error::ConfigError,
    proto::{
        chain::{CheckPeer, Watch},
        error::Reason,
        mechanism::Mechanism,
    },
    trust::{Standing, Trust},
};

pub(super) struct RateLimit;

impl Module for RateLimit {
    fn name(&self) -> &'static str {
        "ratelimit"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["rate-limit"]
    }

    fn summary(&self) -> &'static str {
        "turns away who failed too often a moment ago; put it first"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "Every socket counts failed logins without it (penalties, penalty-min, penalty-max), and keeps the counts over a \
         restart. This gate has numbers of its own for one socket, those of Xpra's module, beside or, with penalties=no, \
         instead of them.\n\n\
         It names nobody and asks nothing. It learns how each login behind it ends: a refusal counts one \
         failure, whatever the link that refused; a client that leaves instead of answering, or breaks the protocol, \
         counts half. A source with max-failures in the window is refused before it is asked, and what it answers on \
         connections that it opened before is not judged; its right password is refused too, and refusals of this \
         link prolong nothing. Before that, each login is held up: by delay after one failure, twice as long after \
         each further one, max-delay at most. All that the client is told is `session busy`.\n\n\
         A source is an IPv4 address, an IPv6 network of ipv6-prefix bits, on a Unix socket a uid. The loopback is \
         not exempt; users of this machine share its address, so there the claimed name is part of the source. \
         Whoever holds an accepted certificate is a source of its own, whatever the address. A login that succeeds \
         takes back the failures that its source made with the same name, not those with others.\n\n\
         An account that failed account-failures times in a row, over all sources, is judged once in 30 seconds for \
         each source until it succeeds: nobody can lock it out from elsewhere. Each socket counts by itself, in \
         memory; beyond max-tracked sources those with the fewest failures are forgotten first."
    }

    fn example(&self) -> &'static str {
        "ratelimit(max-failures=5, window=1m, exempt=192.0.2.0/24)"
    }

    fn configure(&self, options: &mut Options, context: &Context) -> Result<Verifier, ConfigError> {
        let limits = Limits {
            most_failures: small(options.number("max-failures", 5, 1..=1000)?),
            window: options.duration("window", Duration::from_secs(60))?,
            delay: options.duration("delay", Duration::from_secs(1))?,
            most_delay: options.duration("max-delay", Duration::from_secs(8))?,
            most_sources: usize::try_from(options.number("max-tracked", 10_000, 1..=1_000_000)?)
                .unwrap_or(usize::MAX),
            account_failures: small(options.number("account-failures", 100, 1..=1_000_000)?),
        };
        let within = |name: &str, value: Duration, least: u64, most: u64| {
            let (least, most) = (Duration::from_secs(least), Duration::from_secs(most));
            let fix =
                format!("write a length of time from {} to {} seconds", least.as_secs(), most.as_secs());
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err(options.error(name, "it is out of range", fix))
            }
        };
        within("window", limits.window, 1, 86_400)?;
        within("delay", limits.delay, 0, 60)?;
        within("max-delay", limits.most_delay, 0, 60)?;
        let prefix = |value: u64| u8::try_from(value).unwrap_or(u8::MAX);
        let gate = Gate {
            v4_prefix: prefix(options.number("ipv4-prefix", 32, 0..=32)?),
            v6_prefix: prefix(options.number("ipv6-prefix", 64, 0..=128)?),
            exempt: Network::take_all(options, "exempt")?,
            trust: context.trust.clone(),
            ledger: Arc::new(Mutex::new(Ledger::new(limits))),
        };
        Ok(Verifier::Peer(Box::new(gate)))
    }

    fn uses_username(&self) -> bool {
        true
    }
}

/// The configured gate.
struct Gate {
    v4_prefix: u8,
    v6_prefix: u8,
    exempt: Vec<Network>,
    /// Who holds an accepted certificate is known by that (S-22).
    trust: Option<Trust>,
    ledger: Arc<Mutex<Ledger>>,
}

impl Gate {
    /// Under what a login is counted; `None` if it is not.
    fn source(&self, peer: &Peer, account: Account) -> Option<Source> {
        if let Some(certificate) = &peer.certificate {
            let store = self.trust.as_ref().and_then(Trust::store);
            if store.is_some_and(|store| store.standing(&certificate.fingerprint) == Standing::Accepted) {
                return Some(Source::Certificate(certificate.fingerprint));
            }
        }
        if peer.hop {
            return None;
        }
        let Some(address) = peer.address().map(|address| address.ip()) else {
            return Some(Source::User(peer.credentials().map(|credentials| credentials.uid)));
        };
        if self.exempt.iter().any(|network| network.holds(address)) {
            return None;
        }
        Some(match address.is_loopback() {
            true => Source::Loopback(account),
            false => Source::Network(Network::of(address, self.v4_prefix, self.v6_prefix)),
        })
    }

    fn account(&self, claim: &Claim) -> Account {
        self.ledger.lock().account(claim.username.as_ref())
    }
}

impl CheckPeer for Gate {
    fn check(&self, peer: &Peer, claim: &Claim) -> Result<Option<Identity>, Refusal> {
        let Some(source) = self.source(peer, self.account(claim)) else { return Ok(None) };
        match self.ledger.lock().is_blocked(&source, Instant::now()) {
            true => Err(busy("too many of its logins failed a moment ago")),
            false => Ok(None),
        }
    }

    fn may_block(&self) -> bool {
        false
    }

    fn watch(&self, peer: &Peer, claim: &Claim) -> Option<Box<dyn Watch>> {
        let account = self.account(claim);
        let source = self.source(peer, account)?;
        let hold = self.ledger.lock().hold(&source, Instant::now());
        let ledger = Arc::clone(&self.ledger);
        Some(Box::new(Attempt { ledger, source, account, hold, judging: 0, fault: Some(Fault::Half) }))
    }
}

/// One login behind the gate.
struct Attempt {
    ledger: Arc<Mutex<Ledger>>,
    source: Source,
    account: Account,
    hold: Duration,
    /// Responses of it that are being judged: one or none.
    judging: u32,
    /// What it counts if nothing more is heard of it: it was cut, or its place was given away.
    fault: Option<Fault>,
}

impl Watch for Attempt {
    fn hold(&self) -> Duration {
        self.hold
    }

    fn judging(&mut self, _: &Mechanism, _: Option<&Secret>) -> Result<(), Refusal> {
        let mut ledger = self.ledger.lock();
        // The answer before this one, to another question of the same login, is judged by now.
        ledger.end(&self.source, std::mem::take(&mut self.judging));
        ledger.begin(&self.source, self.account, Instant::now()).map_err(busy)?;
        self.judging = 1;
        Ok(())
    }

    fn ended(mut self: Box<Self>, end: Result<&Grant, &Refusal>) {
        self.fault = match end {
            Ok(_) => {
                self.ledger.lock().forgive(&self.source, self.account);
                None
            }
            // A limit of the gateway's own, this link's included, is nobody's guess.
            Err(refusal) if refusal.reason == Reason::Busy => None,
            Err(refusal) if matches!(refusal.reason, Reason::PeerLeft | Reason::Malformed) => {
                Some(Fault::Half)
            }
            // S-20: also what crashed, came too late or could not be decided.
            Err(_) => Some(Fault::Whole),
        };
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let mut ledger = self.ledger.lock();
        ledger.end(&self.source, self.judging);
        if let Some(fault) = self.fault {
            ledger.fail(self.source, self.account, fault, Instant::now());
        }
    }
}

fn busy(cause: &'static str) -> Refusal {
    Refusal::new(Reason::Busy, cause)
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        "max-failures",
        "NUMBER",
        "5",
        "failures in the window from which on a source is refused",
    ),
    OptionSpec::new("window", "TIME", "60s", "how long a failure counts"),
    OptionSpec::new("delay", "TIME", "1s", "how long a login is held up after one failure"),
    OptionSpec::new("max-delay", "TIME", "8s", "the longest that a login is held up"),
    OptionSpec::new("ipv4-prefix", "BITS", "32", "the bits that tell one IPv4 source from another"),
    OptionSpec::new("ipv6-prefix", "BITS", "64", "the same for IPv6"),
    OptionSpec::new("max-tracked", "NUMBER", "10000", "sources and accounts that are remembered, each"),
    OptionSpec::new("account-failures", "NUMBER", "100", "failures in a row that slow an account down"),
    OptionSpec::new("exempt", "NETWORK", "", "addresses that are never limited; may be repeated"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Chain,
        modules::login::{link, login_from},
        proto::peer::{Certificate, Credentials, TlsFacts},
        trust::FirstUse,
    };

    fn chain(options: &[(&str, &str)]) -> Arc<Chain> {
        let links = [link("ratelimit", options), link("password", &[("value", "right")])];
        Arc::new(Chain::new(links.into_iter().map(Result::unwrap).collect()).unwrap())
    }

    fn tcp(address: &str) -> Peer {
        Peer::tcp(address.parse().unwrap(), "192.0.2.1:10000".parse().unwrap())
    }

    fn attempt(chain: &Arc<Chain>, peer: Peer, name: &str, secret: &str) -> Vec<String> {
        login_from(peer, chain, name, secret).seen
    }

    const CHALLENGE: &str = "hmac+sha512 password";

    #[test]
    fn s_021_failures_of_a_later_link_turn_the_source_away_before_it_is_asked() {
        let chain = chain(&[]);
        for _ in 0..5 {
            let seen = attempt(&chain, tcp("192.0.2.7:5"), "alice", "wrong");
            assert_eq!(seen, [CHALLENGE, "authentication failed"]);
        }
        for (name, secret) in [("alice", "right"), ("alice", "wrong"), ("bob", "wrong"), ("", "")] {
            assert_eq!(attempt(&chain, tcp("192.0.2.7:6"), name, secret), ["session busy"]);
        }
        let refusal = login_from(tcp("192.0.2.7:7"), &chain, "alice", "right").end.unwrap_err();
        assert_eq!((refusal.reason, refusal.link), (Reason::Busy, Some((1, "ratelimit"))));
        let elsewhere = attempt(&chain, tcp("192.0.2.8:5"), "alice", "right");
        assert_eq!(elsewhere, [CHALLENGE, "accepted"], "s_022: from elsewhere the same user gets in");
    }

    #[test]
    fn s_025_two_mistakes_and_then_the_right_password() {
        let chain = chain(&[]);
        for secret in ["wrong", "wrong"] {
            attempt(&chain, tcp("192.0.2.7:5"), "alice", secret);
        }
        assert_eq!(attempt(&chain, tcp("192.0.2.7:5"), "alice", "right"), [CHALLENGE, "accepted"]);
        for _ in 0..5 {
            let seen = attempt(&chain, tcp("192.0.2.7:5"), "alice", "wrong");
            assert_eq!(seen, [CHALLENGE, "authentication failed"], "the two are forgotten");
        }
    }

    #[test]
    fn s_022_neighbours_are_kept_apart_by_name_uid_and_accepted_certificate() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let mut context = Context::with_trust(Trust::at(folder.path()));
        context.first_use = Some(FirstUse::for_group(0));
        let store = context.trust.as_ref().unwrap().open().unwrap();
        let shown = |peer: Peer, number: u8| {
            peer.encrypted(TlsFacts::default(), Some(Certificate::new(&[number; 300])), None)
        };
        let first = shown(Peer::unix(Some(Credentials::new(0, 0))), 1);
        let certificate = crate::modules::Registry::builtin();
        let link = certificate.link(Options::new("certificate", []), &context).unwrap();
        let Verifier::Peer(certificate) = link.verifier else { panic!("nothing is asked") };
        certificate.check(&first, &Claim::anonymous()).unwrap();
        assert_eq!(store.standing(&Certificate::new(&[1; 300]).fingerprint), Standing::Accepted);

        let gate = crate::modules::Registry::builtin();
        let gate = gate.link(Options::new("ratelimit", []), &context).unwrap();
        let chain =
            Arc::new(Chain::new(vec![gate, self::link("password", &[("value", "right")]).unwrap()]).unwrap());
        let fill = |peer: &dyn Fn() -> Peer, name: &str| {
            for _ in 0..5 {
                attempt(&chain, peer(), name, "wrong");
            }
            assert_eq!(attempt(&chain, peer(), name, "right"), ["session busy"]);
        };
        let passes = |peer: Peer, name: &str| {
            assert_eq!(attempt(&chain, peer, name, "right").last().unwrap(), "accepted");
        };
        fill(&|| tcp("192.0.2.7:5"), "alice");
        passes(shown(tcp("192.0.2.7:5"), 1), "alice");
        assert_eq!(attempt(&chain, shown(tcp("192.0.2.7:5"), 2), "alice", "right"), ["session busy"]);
        fill(&|| tcp("127.0.0.1:5"), "alice");
        passes(tcp("127.0.0.1:6"), "bob");
        let user = |uid| Peer::unix(Some(Credentials::new(uid, uid)));
        fill(&|| user(1000), "alice");
        passes(user(1001), "alice");
    }

    #[test]
    fn what_is_exempt_is_never_limited_and_every_option_has_its_range() {
        let chain = chain(&[("exempt", "192.0.2.0/24"), ("exempt", "2001:db8::/32"), ("max-failures", "1")]);
        for peer in ["192.0.2.7:5", "[2001:db8::7]:5"] {
            for _ in 0..3 {
                assert_eq!(attempt(&chain, tcp(peer), "alice", "wrong").first().unwrap(), CHALLENGE);
            }
        }
        assert_eq!(attempt(&chain, tcp("203.0.113.1:5"), "alice", "wrong").first().unwrap(), CHALLENGE);
        assert_eq!(attempt(&chain, tcp("203.0.113.1:5"), "alice", "wrong"), ["session busy"]);
        for wrong in [
            ("max-failures", "0"),
            ("max-failures", "1001"),
            ("window", "0"),
            ("window", "2d"),
            ("delay", "61"),
            ("max-delay", "2m"),
            ("ipv4-prefix", "33"),
            ("ipv6-prefix", "129"),
            ("max-tracked", "0"),
            ("account-failures", "0"),
            ("exempt", "everybody"),
        ] {
            assert!(link("ratelimit", &[wrong]).is_err(), "{wrong:?}");
        }
    }
}
