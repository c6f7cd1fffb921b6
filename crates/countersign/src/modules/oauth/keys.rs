//! The keys of an issuer, fetched when they are needed and again when they change (RFC 7517).
//!
//! Whoever may send a token may name a key that does not exist. So that strangers cannot have the
//! issuer asked without end, a set that was just fetched for that reason is not fetched again.

use std::time::{Duration, Instant};

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk},
};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;

use super::token::wrong;
use crate::{
    Refusal,
    oauth::{Client, Fault, Issuer, Url},
};

/// Finds the keys that a token may be signed by.
#[derive(Debug)]
pub(super) struct Keys {
    issuer: Issuer,
    /// Where they are, if the issuer is not asked for that.
    place: Option<Url>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    keys: Vec<Key>,
    fetched: Option<Instant>,
    /// When the set was last fetched because a key was not in it.
    missed: Option<Instant>,
    /// When it could not be fetched.
    failed: Option<Instant>,
}

/// A key that signatures may be checked with.
#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// The one algorithm it is for, if it says so.
    only: Option<String>,
    jwk: Jwk,
}

impl Keys {
    pub(super) fn of(issuer: Issuer, place: Option<Url>) -> Self {
        Self { issuer, place, state: Mutex::default() }
    }

    /// The issuer's name, as tokens have to have it.
    pub(super) fn issuer(&self) -> &str {
        self.issuer.url().text()
    }

    /// The keys that a token may be signed by: the one of that id, or, without an id, all that fit.
    ///
    /// # Errors
    /// There is none, or the keys cannot be fetched now.
    pub(super) fn find(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        client: &Client,
        deadline: Instant,
    ) -> Result<Vec<DecodingKey>, Refusal> {
        let late = || Refusal::module_failed("the issuer's keys were not there in time");
        let mut state = self.state.try_lock_until(deadline).ok_or_else(late)?;
        let now = Instant::now();
        let within = |when: Option<Instant>, time| when.is_some_and(|when| now.duration_since(when) < time);
        if within(state.fetched, MAX_AGE) {
            let found = state.matching(id, algorithm);
            if !found.is_empty() {
                return Ok(found);
            }
            if within(state.missed, PAUSE) {
                return Err(wrong("the token is signed by a key that the issuer did not have a moment ago"));
            }
            state.missed = Some(now);
            // Whoever holds a token with a known key does not wait for this.
            drop(state);
            let keys = self.fetch(client, deadline).map_err(unreachable)?;
            state = self.state.try_lock_until(deadline).ok_or_else(late)?;
            state.renew(keys);
        } else {
            if within(state.failed, RETRY) {
                return Err(Refusal::module_failed("the issuer's keys could not be fetched a moment ago"));
            }
            match self.fetch(client, deadline) {
                Ok(keys) => state.renew(keys),
                Err(fault) => {
                    state.failed = Some(Instant::now());
                    return Err(unreachable(fault));
                }
            }
        }
        match state.matching(id, algorithm) {
            found if found.is_empty() => {
                Err(wrong("the token is signed by a key that the issuer does not have"))
            }
            found => Ok(found),
        }
    }

    fn fetch(&self, client: &Client, deadline: Instant) -> Result<Vec<Key>, Fault> {
        let place = match &self.place {
            Some(place) => place.clone(),
            None => {
                let here = self.issuer.url();
                let place = self.issuer.metadata(client, deadline)?.jwks_uri;
                let place = place.ok_or_else(|| Fault::new(here, "it does not say where its keys are"))?;
                Url::parse(&place)
                    .map_err(|why| Fault::new(here, format!("the address of its keys: {why}")))?
            }
        };
        let set: KeySet = client.get(&place, deadline)?.expect_success(&place)?.json(&place)?;
        Ok(set.keys.into_iter().take(MOST_KEYS).filter_map(Key::of).collect())
    }
}

impl State {
    fn renew(&mut self, keys: Vec<Key>) {
        (self.keys, self.fetched, self.failed) = (keys, Some(Instant::now()), None);
    }

    fn matching(&self, id: Option<&str>, algorithm: Algorithm) -> Vec<DecodingKey> {
        let meant = |key: &&Key| match id {
            Some(id) => key.id.as_deref() == Some(id),
            None => true,
        };
        let fitting = self.keys.iter().filter(meant).filter(|key| key.fits(algorithm));
        fitting.filter_map(|key| DecodingKey::from_jwk(&key.jwk).ok()).collect()
    }
}

impl Key {
    /// A key of a set; `None` for those that are not for signatures, or of a kind that is not known
    /// (RFC 7517 section 5).
    fn of(value: Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let (id, only, purpose) = (text("kid"), text("alg"), text("use"));
        if purpose.is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        Some(Self { id, only, jwk })
    }

    /// Whether the key is of the kind that the algorithm needs. What the token says of its algorithm
    /// never turns a public key into a shared secret (RFC 8725 section 2.1).
    fn fits(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
        let kind = match (&self.jwk.algorithm, algorithm) {
            (AlgorithmParameters::RSA(_), RS256 | RS384 | RS512 | PS256 | PS384 | PS512) => true,
            (AlgorithmParameters::EllipticCurve(key), ES256) => key.curve == EllipticCurve::P256,
            (AlgorithmParameters::EllipticCurve(key), ES384) => key.curve == EllipticCurve::P384,
            (AlgorithmParameters::OctetKeyPair(key), EdDSA) => key.curve == EllipticCurve::Ed25519,
            _ => false,
        };
        kind && self.only.as_ref().is_none_or(|only| *only == format!("{algorithm:?}"))
    }
}

fn unreachable(fault: Fault) -> Refusal {
    Refusal::module_failed(format!("the issuer's keys cannot be fetched: {fault}"))
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

/// Keys of a set that are looked at.
const MOST_KEYS: usize = 64;

/// How long a key counts that the issuer may have taken back.
const MAX_AGE: Duration = Duration::from_secs(3600);

/// How long nobody has the set fetched for a key that is not in it.
const PAUSE: Duration = Duration::from_secs(10);

/// How long a failure is taken for the next one.
const RETRY: Duration = Duration::from_secs(1);
