//! Tokens with everything that can be wrong with them, and the options.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::*;
use crate::modules::login::{chain, link, login_from};

/// Nobody listens there: whoever has to ask for keys cannot decide.
const NOWHERE: &str = "http://127.0.0.1:1/realm";

fn open(options: &[(&str, &str)], peer: &Peer, claim: &Claim) -> Result<Box<dyn Exchange>, Refusal> {
    let Verifier::Exchange(tokens) = link("oauth", options).unwrap().verifier else {
        panic!("it has rounds of its own")
    };
    tokens.open(peer, claim)
}

fn judged(token: &str) -> Reason {
    let claim = Claim::named("alice").unwrap().saying("oauth.token", Secret::new(token));
    let options = [("issuer", NOWHERE), ("audience", "gate")];
    match open(&options, &Peer::unix(None), &claim).unwrap().step(None) {
        Verdict::Refuse(refusal) => refusal.reason,
        other => panic!("nobody vouches for it: {other:?}"),
    }
}

fn token(header: &str) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", part(header), part(r#"{"sub":"alice"}"#), part("signature"))
}

#[test]
fn what_is_no_signed_token_of_an_issuer_is_refused_before_a_key_is_looked_for() {
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"None"}"#,
        r#"{"alg":"HS256"}"#,
        r#"{"alg":"HS512","kid":"1"}"#,
        r#"{"alg":"RS256","crit":["b64"],"b64":false}"#,
        r#"{"alg":"RS256","typ":"logout+jwt"}"#,
        r#"{"alg":"ES256","typ":"dpop+jwt"}"#,
        r#"{"typ":"JWT"}"#,
        "{",
    ] {
        assert_eq!(judged(&token(header)), Reason::WrongSecret, "{header}");
    }
    for odd in ["", "x", "..", "a.b.c", "t\u{f6}ken", "two words", &"x".repeat(16 * 1024 + 1)] {
        assert_eq!(judged(odd), Reason::WrongSecret, "{odd:?}");
    }
}

#[test]
fn s_065_while_the_issuer_cannot_be_reached_nobody_is_let_in() {
    for header in
        [r#"{"alg":"RS256"}"#, r#"{"alg":"ES256","typ":"at+jwt"}"#, r#"{"alg":"EdDSA","typ":"JWT"}"#]
    {
        assert_eq!(judged(&token(header)), Reason::ModuleFailed, "{header}");
    }
    let claim = Claim::anonymous().saying("oauth.token", Secret::new("opaque"));
    let introspected = open(&[("introspection-url", NOWHERE)], &Peer::unix(None), &claim).unwrap().step(None);
    assert!(matches!(introspected, Verdict::Refuse(refusal) if refusal.reason == Reason::ModuleFailed));
}

#[test]
fn s_033_no_token_is_asked_for_or_taken_on_an_open_wire() {
    let options = [("issuer", NOWHERE), ("audience", "gate")];
    let open_wire = Peer::tcp("127.0.0.1:5".parse().unwrap(), "127.0.0.1:1".parse().unwrap());
    let claim = Claim::anonymous().saying("oauth.token", Secret::new("x"));
    for claim in [claim, Claim::anonymous()] {
        let refused = open(&options, &open_wire, &claim).err().unwrap();
        assert_eq!(refused.reason, Reason::NotConfidential);
    }
    let asked = open(&options, &Peer::unix(None), &Claim::anonymous()).unwrap().step(None);
    assert!(matches!(asked, Verdict::Ask(Ask::Token { mechanism, .. }) if mechanism == "oauth"));
    // A client that has no token to offer is not asked for anything else.
    let login = login_from(Peer::unix(None), &chain(link("oauth", &options).unwrap()), "alice", "password");
    assert_eq!(login.seen, ["no acceptable digest is offered"]);
}

#[test]
fn s_065_what_cannot_work_is_a_start_error() {
    let issuer = ("issuer", "https://id.example");
    let audience = ("audience", "gate");
    assert!(link("oauth", &[issuer, audience]).is_ok());
    assert!(link("keycloak", &[issuer, audience]).is_ok());
    assert!(link("oauth", &[("introspection-url", "https://id.example/introspect")]).is_ok());
    for wrong in [
        &[][..],
        &[audience],
        &[issuer],
        &[issuer, ("audience", "")],
        &[("issuer", "http://id.example"), audience],
        &[("issuer", "id.example"), audience],
        &[("issuer", "https://user@id.example"), audience],
        &[("issuer", "https://id.example/#x"), audience],
        &[issuer, audience, ("jwks-url", "ftp://id.example")],
        &[issuer, audience, ("timeout", "0")],
        &[issuer, audience, ("timeout", "2m")],
        &[issuer, audience, ("clock-skew", "1h")],
        &[issuer, audience, ("username-claim", "")],
        &[issuer, audience, ("client-id", "gate")],
        &[issuer, audience, ("ca", "/nonexistent")],
        &[("introspection-url", "https://id.example/i"), ("client-secret-file", "/nonexistent")],
        &[
            ("introspection-url", "https://id.example/i"),
            ("client-id", "x"),
            ("client-secret-file", "/nonexistent"),
        ],
        &[("introspection-url", "https://id.example/i"), ("jwks-url", "https://id.example/k")],
    ] {
        assert!(link("oauth", wrong).is_err(), "{wrong:?}");
    }
}
