//! Chains walked link by link.

use std::time::Duration;

use super::*;
use crate::secret::Secret;

struct Says(Option<&'static str>);

impl CheckPeer for Says {
    fn check(&self, _: &Peer, _: &Claim) -> Result<Option<Identity>, Refusal> {
        Ok(self.0.map(named))
    }
}

fn named(name: &str) -> Identity {
    Identity::new(Username::parse(name).unwrap())
}

fn walk(modules: &[&'static str], identity_from: Option<&'static str>) -> Walk {
    let links = modules.iter().map(|&m| Link::new(m, Verifier::Peer(Box::new(Says(None))))).collect();
    let mut chain = Chain::new(links).unwrap();
    if let Some(module) = identity_from {
        chain = chain.with_identity_from(module);
    }
    Walk::new(Arc::new(chain), Arc::new(Peer::unix(None)), Arc::new(Claim::anonymous()))
}

#[test]
fn s_065_a_chain_of_nothing_cannot_be_made() {
    assert_eq!(Chain::new(Vec::new()).unwrap_err().reason, Reason::EmptyChain);
}

#[test]
fn s_065_a_grant_exists_only_when_every_link_has_passed() {
    let mut walk = walk(&["hosts", "file", "peercred"], None);
    for position in 0..3 {
        assert!(matches!(walk.next(), Next::Link(at) if at == position));
        walk.pass(None, None).unwrap();
    }
    let Next::Done(grant) = walk.next() else { panic!("all links passed") };
    assert_eq!(grant.proofs().iter().map(|p| p.module).collect::<Vec<_>>(), ["hosts", "file", "peercred"]);
    assert!(grant.identity().is_none());
    assert!(walk.pass(None, None).is_err());
}

#[test]
fn s_068_the_last_link_that_names_somebody_says_who_it_is_and_gates_name_nobody() {
    let mut walk = walk(&["sqlite", "peercred", "file"], None);
    walk.pass(Some(named("alice")), None).unwrap();
    walk.pass(Some(named("alice").with_ids(Some(1000), None)), None).unwrap();
    walk.pass(None, None).unwrap();
    let Next::Done(grant) = walk.next() else { panic!("all links passed") };
    assert_eq!(grant.identity().unwrap().uid, Some(1000));
}

#[test]
fn s_068_two_names_are_refused_unless_the_socket_says_whose_counts() {
    let mut refused = walk(&["sqlite", "peercred"], None);
    refused.pass(Some(named("alice")), None).unwrap();
    let refusal = refused.pass(Some(named("bob")), None).unwrap_err();
    assert_eq!(refusal.reason, Reason::IdentityConflict);
    assert!(matches!(refused.next(), Next::Link(1)));

    let mut chosen = walk(&["sqlite", "peercred"], Some("sqlite"));
    chosen.pass(Some(named("alice")), None).unwrap();
    chosen.pass(Some(named("bob")), None).unwrap();
    let Next::Done(grant) = chosen.next() else { panic!("all links passed") };
    assert_eq!(grant.identity().unwrap().name.as_str(), "alice");
}

#[test]
fn s_088_a_verifier_prints_its_kind_and_nothing_else() {
    let link = Link::new("none", Verifier::Peer(Box::new(Says(None))));
    assert!(format!("{link:?}").contains("Verifier::Peer"));
}

/// An exchange that declares as much or as little as it is told.
struct Declares(bool);

impl OpenExchange for Declares {
    fn open(&self, _: &Peer, _: &Claim) -> Result<Box<dyn Exchange>, Refusal> {
        Err(Refusal::peer_denied("it only declares"))
    }

    fn binds_channel(&self) -> bool {
        self.0
    }
}

struct Plain;

impl OpenExchange for Plain {
    fn open(&self, _: &Peer, _: &Claim) -> Result<Box<dyn Exchange>, Refusal> {
        Err(Refusal::peer_denied("it only declares"))
    }
}

impl LookupSecret for Plain {
    fn lookup(&self, _: &Claim) -> Result<Entry, Refusal> {
        Err(Refusal::unknown_user())
    }
}

impl CheckPassword for Plain {
    fn check(&self, _: &Peer, _: &Claim, _: &Secret) -> Result<Option<Identity>, Refusal> {
        Err(Refusal::unknown_user())
    }
}

impl Watch for Plain {
    fn ended(self: Box<Self>, _: Result<&Grant, &Refusal>) {}
}

#[test]
fn a_module_that_declares_nothing_may_wait_and_reads_binds_and_needs_nothing() {
    assert!(CheckPeer::may_block(&Says(None)) && LookupSecret::may_block(&Plain));
    assert!(Says(None).reads().is_empty() && Says(None).reads_http().is_empty());
    assert!(Plain.takes().is_empty() && !Plain.binds_channel() && !Plain.needs_cleartext());
    assert_eq!(Plain.hold(), Duration::ZERO);
}

#[test]
fn s_035_a_chain_binds_where_a_link_does_or_its_first_question_is_for_a_known_secret() {
    let binds = |verifiers: Vec<Verifier>| {
        let links = verifiers.into_iter().map(|verifier| Link::new("some", verifier));
        Chain::new(links.collect()).unwrap().binds_channel()
    };
    let facts = || Verifier::Peer(Box::new(Says(None)));
    let (secret, password) = (|| Verifier::Secret(Box::new(Plain)), || Verifier::Password(Box::new(Plain)));
    let exchange = |declares| Verifier::Exchange(Box::new(Declares(declares)));
    assert!(
        binds(vec![secret()]) && binds(vec![facts(), secret()]) && binds(vec![password(), exchange(true)])
    );
    assert!(!binds(vec![facts()]) && !binds(vec![password(), secret()]) && !binds(vec![exchange(false)]));
}

#[test]
fn a_grant_repeats_the_claim_as_it_was_made() {
    let chain = Chain::new(vec![Link::new("none", Verifier::Peer(Box::new(Says(None))))]).unwrap();
    let claim = Claim::named("alice").unwrap().asking_for(Some(":10".into()), Some("work".into()));
    let mut walk = Walk::new(Arc::new(chain), Arc::new(Peer::unix(None)), Arc::new(claim.clone()));
    walk.pass(None, None).unwrap();
    let Next::Done(grant) = walk.next() else { panic!("all links passed") };
    assert_eq!(grant.claim(), &claim);
    assert_eq!((claim.display.as_deref(), claim.session.as_deref()), (Some(":10"), Some("work")));
}

/// A module that looks at more than the peer.
struct Looks([String; 1]);

impl CheckPeer for Looks {
    fn check(&self, _: &Peer, _: &Claim) -> Result<Option<Identity>, Refusal> {
        Ok(None)
    }

    fn reads(&self) -> &[String] {
        &self.0
    }

    fn reads_http(&self) -> &[String] {
        &self.0
    }
}

impl OpenExchange for Looks {
    fn open(&self, _: &Peer, _: &Claim) -> Result<Box<dyn Exchange>, Refusal> {
        Err(Refusal::peer_denied("it only declares"))
    }

    fn takes(&self) -> &[String] {
        &self.0
    }
}

/// What is not wanted is not kept, and what is a credential goes no further than the gateway.
#[test]
fn a_chain_wants_of_hello_and_request_what_its_links_look_at_and_no_more() {
    let looks = |name: &str| Box::new(Looks([name.to_owned()]));
    let link = |verifier| Link::new("some", verifier);
    let chain = Chain::new(vec![
        link(Verifier::Secret(Box::new(Plain))),
        link(Verifier::Peer(looks("version"))),
        link(Verifier::Exchange(looks("token"))),
    ]);
    let chain = chain.unwrap();
    let wanted: Vec<_> = chain.capabilities().map(|wanted| (wanted.name, wanted.credential)).collect();
    assert_eq!(wanted, [("version", false), ("token", true)]);
    assert_eq!(chain.http_fields().collect::<Vec<_>>(), ["version"]);
    assert_eq!(chain.links()[1].http_fields().collect::<Vec<_>>(), ["version"]);
}

#[test]
fn s_081_few_checks_that_may_hash_run_at_once_and_more_of_the_others() {
    let at_once = |verifier: Verifier| verifier.at_once();
    assert_eq!(at_once(Verifier::Secret(Box::new(Plain))), 32);
    for other in [
        Verifier::Peer(Box::new(Says(None))),
        Verifier::Password(Box::new(Plain)),
        Verifier::Exchange(Box::new(Plain)),
    ] {
        assert_eq!(at_once(other), CHECKS_AT_ONCE);
    }
}
