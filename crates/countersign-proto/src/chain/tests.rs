//! Chains walked link by link.

use super::*;

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
