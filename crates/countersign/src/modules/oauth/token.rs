//! What a token has to say, whoever vouches for it: RFC 7519 section 4.1, RFC 7662 section 2.2.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use crate::{Identity, Peer, Refusal, Username, proto::error::Reason};

/// The rules of one link.
#[derive(Debug)]
pub(super) struct Rules {
    /// One of these has to be meant; nobody is asked whom it is for if there are none.
    pub(super) audiences: Vec<String>,
    /// All of these have to be granted.
    pub(super) scopes: Vec<String>,
    /// The claim that says who it is.
    pub(super) username_claim: String,
}

impl Rules {
    /// Who it is, if the claims of a token that is genuine satisfy the rules.
    ///
    /// # Errors
    /// What they lack.
    pub(super) fn identify(&self, claims: &Map<String, Value>, peer: &Peer) -> Result<Identity, Refusal> {
        if !self.audiences.is_empty() && !texts(claims.get("aud")).any(|aud| self.is_audience(aud)) {
            return Err(wrong("the token is meant for another audience"));
        }
        let granted =
            |scope: &String| SCOPES.iter().any(|name| words(claims.get(*name)).any(|word| word == scope));
        if !self.scopes.iter().all(granted) {
            return Err(wrong("the token does not grant a scope that is required"));
        }
        if let Some(confirmation) = claims.get("cnf") {
            is_holder(confirmation, peer)?;
        }
        let name = claims.get(&self.username_claim).and_then(Value::as_str);
        let name = name.ok_or_else(|| {
            Refusal::new(Reason::UnknownUser, "the token does not have the claim that says who it is")
        })?;
        Ok(Identity::new(Username::parse(name)?))
    }

    fn is_audience(&self, audience: &str) -> bool {
        self.audiences.iter().any(|wanted| wanted == audience)
    }
}

/// A token that is bound to a key counts only from its holder: here, by the certificate of the
/// connection (RFC 8705 section 3.1). Any other binding cannot be checked, so it is not fulfilled.
fn is_holder(confirmation: &Value, peer: &Peer) -> Result<(), Refusal> {
    let bound = confirmation.as_object().filter(|members| members.len() == 1);
    let bound = bound.and_then(|members| members.get("x5t#S256")).and_then(Value::as_str);
    let bound = bound.ok_or_else(|| wrong("the token is bound to a key in a way that is not known here"))?;
    let shown = peer.certificate.as_ref().map(|shown| URL_SAFE_NO_PAD.encode(shown.fingerprint));
    if shown.as_deref() == Some(bound) {
        Ok(())
    } else {
        Err(wrong("the token is bound to another certificate"))
    }
}

/// The secret is no good.
pub(super) fn wrong(cause: &'static str) -> Refusal {
    Refusal::new(Reason::WrongSecret, cause)
}

/// A text, or the texts of a list.
fn texts(value: Option<&Value>) -> impl Iterator<Item = &str> {
    let list = value.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    value.and_then(Value::as_str).into_iter().chain(list.iter().filter_map(Value::as_str))
}

/// The words of a text or of the texts of a list.
fn words(value: Option<&Value>) -> impl Iterator<Item = &str> {
    texts(value).flat_map(str::split_ascii_whitespace)
}

/// Where issuers write what is granted: RFC 8693 section 4.2, and what some write instead.
const SCOPES: [&str; 2] = ["scope", "scp"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::proto::peer::{Certificate, TlsFacts};

    fn identify(claims: Value, peer: &Peer) -> Result<String, Reason> {
        let rules = Rules {
            audiences: vec!["gate".into(), "door".into()],
            scopes: vec!["enter".into()],
            username_claim: "sub".into(),
        };
        let Value::Object(claims) = claims else { panic!("an object") };
        rules.identify(&claims, peer).map(|who| who.name.to_string()).map_err(|refusal| refusal.reason)
    }

    #[test]
    fn audience_scope_and_name_are_required_and_read_in_each_form() {
        let peer = Peer::unix(None);
        for fine in [
            json!({"aud": "gate", "scope": "enter", "sub": "alice"}),
            json!({"aud": ["x", "door"], "scope": "openid enter", "sub": "alice"}),
            json!({"aud": "door", "scp": ["leave", "enter"], "sub": "alice"}),
        ] {
            assert_eq!(identify(fine, &peer).as_deref(), Ok("alice"));
        }
        for wrong in [
            json!({"scope": "enter", "sub": "alice"}),
            json!({"aud": "Gate", "scope": "enter", "sub": "alice"}),
            json!({"aud": "gate door", "scope": "enter", "sub": "alice"}),
            json!({"aud": {"gate": 1}, "scope": "enter", "sub": "alice"}),
            json!({"aud": "gate", "sub": "alice"}),
            json!({"aud": "gate", "scope": "enterprise", "sub": "alice"}),
        ] {
            assert_eq!(identify(wrong.clone(), &peer), Err(Reason::WrongSecret), "{wrong}");
        }
        for (sub, reason) in [
            (json!(7), Reason::UnknownUser),
            (json!("a/b"), Reason::BadUsername),
            (json!(""), Reason::BadUsername),
        ] {
            assert_eq!(identify(json!({"aud": "gate", "scope": "enter", "sub": sub}), &peer), Err(reason));
        }
    }

    #[test]
    fn a_token_that_is_bound_to_a_key_counts_from_its_holder_only() {
        let shown = Certificate::new(b"a certificate");
        let thumbprint = URL_SAFE_NO_PAD.encode(shown.fingerprint);
        let holder = Peer::unix(None).encrypted(TlsFacts::default(), Some(shown), None);
        let other = Peer::unix(None).encrypted(TlsFacts::default(), Some(Certificate::new(b"another")), None);
        let bound = |cnf: Value| json!({"aud": "gate", "scope": "enter", "sub": "alice", "cnf": cnf});
        assert!(identify(bound(json!({"x5t#S256": thumbprint})), &holder).is_ok());
        for peer in [&other, &Peer::unix(None)] {
            assert!(identify(bound(json!({"x5t#S256": thumbprint})), peer).is_err());
        }
        for unknown in
            [json!({"jkt": "x"}), json!({}), json!(null), json!({"x5t#S256": thumbprint, "jkt": "x"})]
        {
            assert!(identify(bound(unknown), &holder).is_err());
        }
    }
}
