//! What `u2f` and `fido2` have in common: one round, in which a key of the user signs a challenge. Presence, origin and
//! counter are all looked at (W27).

use std::sync::Arc;

use super::{Context, OptionSpec, Options};
use crate::{
    Claim, ConfigError, Identity, Peer, Refusal, Username, Verifier,
    keys::{APP_ID, Algorithm, Assertion, ClientData, KeyFolder, Kind, PublicKey},
    proto::{
        chain::{Answer, Ask, Exchange, OpenExchange, Verdict},
        error::Reason,
    },
    trust::{Trust, TrustError, TrustStore},
};

/// Takes the options of the module of this kind.
pub(super) fn configure(
    kind: Kind,
    options: &mut Options,
    context: &Context,
) -> Result<Verifier, ConfigError> {
    let app_id = options.take("app-id")?.map_or_else(|| APP_ID.to_owned(), |id| id.to_string());
    if app_id.is_empty() {
        return Err(options.error("app-id", "its value is empty", "leave it out, or write the clients' own"));
    }
    let origins = options.take("origins")?.map(|origins| {
        let origins = origins.split(',').map(str::trim).filter(|origin| !origin.is_empty());
        origins.map(str::to_owned).collect::<Vec<_>>()
    });
    if origins.as_ref().is_some_and(Vec::is_empty) {
        return Err(options.error(
            "origins",
            "it names none, so nobody could pass",
            "name one, or leave it out",
        ));
    }
    let verified = kind == Kind::Fido2 && options.flag("user-verification", false)?;
    let flags = Assertion::PRESENT | if verified { Assertion::VERIFIED } else { 0 };
    let missing = || {
        let fix = "give the chain a context with a state directory";
        ConfigError::new(format!("module {kind}"), "there is nowhere to keep the keys' counters", fix)
    };
    let trust = context.trust.clone().ok_or_else(missing)?;
    let keys = keys(kind, options, &trust)?;
    let nobody = PublicKey::from_hex(NOBODY).map_err(|why| ConfigError::new("module", why, "report this"))?;
    let rules = Rules { kind, app_id, origins, flags, keys, nobody, trust };
    Ok(Verifier::Exchange(Box::new(Keys(Arc::new(rules)))))
}

fn keys(kind: Kind, options: &mut Options, trust: &Trust) -> Result<Known, ConfigError> {
    let given = options.take_all("public-key");
    let folder = options.take("keys")?;
    if given.is_empty() {
        let folder = folder.map_or_else(|| trust.directory().join("keys"), |path| path.as_str().into());
        return Ok(Known::OfUsers(KeyFolder::at(folder)));
    }
    if folder.is_some() {
        return Err(options.error("keys", "public-key leaves it without use", "leave one of the two out"));
    }
    let read = |text: &zeroize::Zeroizing<String>| match PublicKey::from_hex(text) {
        Ok(key) if kind == Kind::U2f && key.algorithm() != Algorithm::Es256 => {
            Err("u2f knows keys of P-256 only")
        }
        read => read,
    };
    let keys: Result<Vec<_>, _> = given.iter().map(read).collect();
    let fix = "write what `countersign keys list --json` has as public_key";
    Ok(Known::Given(keys.map_err(|why| options.error("public-key", why, fix))?))
}

/// What a socket asks of a security key.
struct Rules {
    kind: Kind,
    app_id: String,
    /// The servers that a client may believe to log in at; any, where none are written.
    origins: Option<Vec<String>>,
    /// The bits that must be set.
    flags: u8,
    keys: Known,
    /// A key that nobody has, for users without one (S-26).
    nobody: PublicKey,
    trust: Trust,
}

/// Whose keys there are.
enum Known {
    /// A folder of each user's.
    OfUsers(KeyFolder),
    /// These, whoever comes.
    Given(Vec<PublicKey>),
}

struct Keys(Arc<Rules>);

impl OpenExchange for Keys {
    fn open(&self, _: &Peer, claim: &Claim) -> Result<Box<dyn Exchange>, Refusal> {
        Ok(Box::new(Round { rules: Arc::clone(&self.0), claim: claim.clone() }))
    }
}

/// One challenge and its answer.
struct Round {
    rules: Arc<Rules>,
    claim: Claim,
}

impl Exchange for Round {
    fn step(&mut self, answer: Option<Answer>) -> Verdict {
        let Some(answer) = answer else {
            // The message is the conversation's own random bytes, which nobody else ever gets (S-28).
            return Verdict::Ask(Ask::Own { mechanism: format!("{}:xor", self.rules.kind), message: None });
        };
        match self.rules.judge(&self.claim, &answer) {
            Ok(identity) => Verdict::Pass(identity),
            Err(refusal) => Verdict::Refuse(refusal),
        }
    }
}

impl Rules {
    fn judge(&self, claim: &Claim, answer: &Answer) -> Result<Option<Identity>, Refusal> {
        let store =
            self.trust.store().ok_or_else(|| Refusal::module_failed("the state directory is not open"))?;
        let (keys, identity) = self.keys_for(claim)?;
        let wrong = |why: &'static str| Refusal::new(Reason::WrongSecret, why);
        let assertion =
            Assertion::parse(answer.value.expose()).ok_or_else(|| wrong("the response is too short"))?;
        let browsers = self.kind == Kind::Fido2;
        let client = ClientData::read(&answer.client_salt, &answer.server_salt, browsers).map_err(wrong)?;
        let message = assertion.signed(&self.app_id, &client.hash);
        let signed = |key: &PublicKey| key.verifies(&message, &assertion.signature);
        let Some(key) = keys.iter().find(|key| signed(key)) else {
            if keys.is_empty() {
                let _ = signed(&self.nobody);
                return Err(Refusal::unknown_user());
            }
            return Err(wrong("no key of the user has signed this"));
        };
        if self.origins.as_ref().is_some_and(|origins| !origins.contains(&client.origin)) {
            return Err(wrong("the client logs in at another server than origins= names"));
        }
        if !assertion.has(self.flags) {
            return Err(wrong("the key did not see its user, or does not know who it was"));
        }
        self.count(store, key, assertion.counter)?;
        Ok(identity)
    }

    /// The keys that pass for a claim, and whom they prove.
    fn keys_for(&self, claim: &Claim) -> Result<(Vec<PublicKey>, Option<Identity>), Refusal> {
        let folder = match &self.keys {
            Known::Given(keys) => return Ok((keys.clone(), None)),
            Known::OfUsers(folder) => folder,
        };
        let Some(name) = &claim.username else { return Ok((Vec::new(), None)) };
        let known = folder.keys_of(name).map_err(|error| Refusal::module_failed(error.to_string()))?;
        let known = known.into_iter().filter(|known| known.kind == self.kind);
        Ok((known.map(|known| known.key).collect(), Username::parse(name.as_str()).ok().map(Identity::new)))
    }

    /// Takes a count that is beyond all that this key said before (S-76; WebAuthn Level 3, 7.2 step 22). It is
    /// kept before anybody passes, so that of two answers with one count one passes.
    fn count(&self, store: &TrustStore, key: &PublicKey, counter: u32) -> Result<(), Refusal> {
        let failed = |error: TrustError| Refusal::module_failed(error.to_string());
        let mark = format!("key:{}", key.fingerprint());
        if counter == 0 && self.kind == Kind::Fido2 && store.mark(&mark).map_err(failed)?.is_none() {
            // It does not count, and never did.
            return Ok(());
        }
        if store.raise(&mark, i64::from(counter)).map_err(failed)? {
            return Ok(());
        }
        let fingerprint = key.fingerprint();
        tracing::error!(
            key = fingerprint,
            counter,
            "{}: a security key counts backwards: it may be a copy",
            self.kind
        );
        Err(Refusal::new(
            Reason::WrongSecret,
            "the key's counter is not above the last one: it may be a copy",
        ))
    }
}

/// The point of P-256 whose abscissa is SHA-256 of `countersign nobody 1`: nobody knows its private key.
const NOBODY: &str = "04d3a49b303654f67a64dcb7c6c485538cf543a0cc1cc44a290ce6b9a15facbebe\
     61f11c21071b4a9995e6057f27fc74601386adf1189ec7db660f9f657d5faa3b";

/// What can be set; the last one by FIDO2 only.
pub(super) const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("keys", "DIR", "STATE_DIR/keys", "the folder with a folder of public keys for each user"),
    OptionSpec::new(
        "public-key",
        "HEX",
        "",
        "a key that passes whoever asks, in place of a folder; may be repeated",
    ),
    OptionSpec::new("app-id", "TEXT", APP_ID, "the application that the keys were registered for"),
    OptionSpec::new("origins", "LIST", "", "the servers that clients may believe to log in at, with commas"),
    OptionSpec::new(
        "user-verification",
        "yes|no",
        "no",
        "whether the key must know its user by PIN or finger",
    ),
];

#[cfg(test)]
mod tests;
