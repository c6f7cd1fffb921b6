//! Does what the owner asks. The only function for that, with a running gateway and without one.
//!
//! Called by [`super::ControlSocket`] and [`super::Owner`], which have made sure that it is the owner.

use std::{collections::HashSet, fmt::Write as _};

use super::{
    entrance::Entrance,
    listed::{Der, Listed, ListedInvitation, PassphraseFacts},
    message::{Expiry, Failure, FailureCode, MOST_AT_ONCE, Request, Response},
};
use crate::{
    Secret, Username,
    transport::tls::Fingerprint,
    trust::{
        Entry, MultipassVerifier, NewInvitation, NewPassphrase, Revocation, Scope, Standing, TrustError,
        TrustStore, Way,
    },
};

/// Does what `by` asks. It waits for disks, and for Argon2id where a passphrase is set.
///
/// `entrances` are the gateway's, in order of preference, for invitations.
pub fn administer(store: &TrustStore, entrances: &[Entrance], request: Request, by: &str) -> Response {
    let now = crate::trust::now();
    let done = Administration { store, entrances, by, now }.answer(request);
    done.unwrap_or_else(Response::Failed)
}

struct Administration<'a> {
    store: &'a TrustStore,
    entrances: &'a [Entrance],
    by: &'a str,
    now: i64,
}

type Answer = Result<Response, Failure>;

impl Administration<'_> {
    fn answer(&self, request: Request) -> Answer {
        match request {
            Request::List => self.list(),
            Request::Show { selector } => self.show(&selector),
            Request::Add { certificate, name, uid, expires, scope } => {
                let mut entry = self.newcomer(&certificate, name.as_deref(), Way::Added)?;
                (entry.uid, entry.expires, entry.scope) = (uid, expires, bounded(scope)?);
                self.store.add(entry.clone(), &certificate.0)?;
                Ok(self.listed(&entry))
            }
            Request::Rename { selector, name } => {
                let name = username(&name)?;
                self.amend(&selector, |entry| entry.name = name)
            }
            Request::Restrict { selector, scope, expires } => {
                let scope = scope.map(bounded).transpose()?;
                self.amend(&selector, |entry| {
                    entry.scope = scope.unwrap_or_else(|| entry.scope.clone());
                    match expires {
                        None => {}
                        Some(Expiry::Never) => entry.expires = None,
                        Some(Expiry::At(end)) => entry.expires = Some(end),
                    }
                })
            }
            Request::Remove { selector, why } => {
                if why.len() > LONGEST_WORDS {
                    return Err(unacceptable("the reason: it is longer than 1,000 bytes", "say it shorter"));
                }
                let now = self.now;
                self.amend(&selector, |entry| {
                    // The first reason is the evidence.
                    entry.revoked.get_or_insert_with(|| Revocation::new(now, why));
                })
            }
            Request::Restore { selector } => self.restore(&selector),
            Request::Forget { selector } => {
                let entry = self.find(&selector)?;
                self.store.forget(&entry.fingerprint)?;
                Ok(self.listed(&entry))
            }
            Request::Reset => {
                self.store.reset()?;
                Ok(Response::Reset { aside: None })
            }
            Request::Import { certificates } => self.import(&certificates),
            Request::Export => self.export(),
            Request::Passphrase => Ok(self.passphrase()),
            Request::SetPassphrase { passphrase, expires, uses } => {
                self.set_passphrase(passphrase, expires, uses)
            }
            Request::ImportPassphrase { verifier } => self.import_passphrase(&verifier),
            Request::UnsetPassphrase => {
                self.store.set_passphrase(None, self.by)?;
                Ok(self.passphrase())
            }
            Request::Invite { name, expires, entry_expires, scope, address, pin } => {
                let (at, server) = self.entrance(&scope, address, pin.as_deref())?;
                let mut new = NewInvitation::new(username(&name)?, expires, server, at);
                (new.entry_expires, new.scope) = (entry_expires, bounded(scope)?);
                self.invite(new)
            }
            Request::Invitations => {
                let all = self.store.invitations();
                Ok(Response::Invitations(all.iter().map(|one| ListedInvitation::of(one, self.now)).collect()))
            }
            Request::Penalties | Request::ClearPenalties { .. } => Err(Failure::new(
                FailureCode::Unknown,
                "penalties: only a running gateway has them",
                "start it",
            )),
            Request::Withdraw { id } => self.store.withdraw(&id).map(|()| Response::Done).map_err(|error| {
                let mut failure = Failure::from(error);
                if failure.code == FailureCode::Unknown {
                    "see `countersign trust invitations`".clone_into(&mut failure.fix);
                }
                failure
            }),
            Request::Status
            | Request::Sessions
            | Request::Kill(_)
            | Request::Reload
            | Request::Drain { .. } => {
                let what = "the gateway: none answers, and only one that runs can tell";
                let fix = "start it, or name its control socket: --control PATH, --config FILE";
                Err(Failure::new(FailureCode::NotRunning, what, fix))
            }
        }
    }

    fn list(&self) -> Answer {
        let entries = self.store.entries()?;
        Ok(Response::Entries {
            first_place_free: self.store.is_pristine(),
            entries: entries.iter().map(|entry| Listed::of(entry, self.now)).collect(),
        })
    }

    fn show(&self, selector: &str) -> Answer {
        let entry = self.find(selector)?;
        let mut listed = Listed::of(&entry, self.now);
        listed.certificate = Some(Der(self.store.certificate(&entry.fingerprint)?));
        Ok(Response::Entry(Box::new(listed)))
    }

    fn restore(&self, selector: &str) -> Answer {
        let entry = self.find(selector)?;
        let now = self.now;
        self.amend_found(&entry.fingerprint, |entry| {
            entry.revoked = None;
            entry.expires = entry.expires.filter(|end| *end > now);
        })
    }

    fn import(&self, certificates: &[Der]) -> Answer {
        if certificates.len() > MOST_AT_ONCE {
            return Err(unacceptable("the list: it is too long for one request", "ask in several"));
        }
        // All are looked at before the first is accepted.
        let entries: Vec<Entry> = certificates
            .iter()
            .map(|certificate| self.newcomer(certificate, None, Way::Imported))
            .collect::<Result<_, _>>()?;
        let (mut new, mut known, mut revoked, mut seen) = (Vec::new(), 0, Vec::new(), HashSet::new());
        for (entry, certificate) in entries.into_iter().zip(certificates) {
            match self.store.standing(&entry.fingerprint.0) {
                _ if !seen.insert(entry.fingerprint) => known += 1,
                Standing::Unknown => new.push((entry, certificate.0.clone())),
                Standing::Revoked => revoked.push(entry.fingerprint.to_string()),
                _ => known += 1,
            }
        }
        let added = new.len();
        self.store.add_all(new)?;
        Ok(Response::Imported { added, known, revoked })
    }

    fn export(&self) -> Answer {
        let mut certificates = Vec::new();
        let entries = self.store.entries()?;
        for entry in entries.iter().filter(|entry| entry.standing(self.now) == Standing::Accepted) {
            certificates.push(Der(self.store.certificate(&entry.fingerprint)?));
        }
        Ok(Response::Certificates(certificates))
    }

    fn passphrase(&self) -> Response {
        Response::Passphrase(PassphraseFacts::of(self.store.passphrase().as_deref(), self.now))
    }

    fn set_passphrase(&self, passphrase: Secret, expires: Option<i64>, uses: Option<u32>) -> Answer {
        if uses == Some(0) {
            return Err(unacceptable("the uses: none would be left", "allow at least one"));
        }
        let mut new = NewPassphrase::new(passphrase);
        (new.expires, new.uses) = (expires, uses);
        self.store.set_passphrase(Some(&new), self.by)?;
        Ok(self.passphrase())
    }

    fn import_passphrase(&self, verifier: &Secret) -> Answer {
        let digits = std::str::from_utf8(verifier.expose()).unwrap_or_default();
        let verifier = MultipassVerifier::of_hex(digits).ok_or_else(|| {
            unacceptable("the verifier: it is none of Multipass's", "give 128 hexadecimal digits")
        })?;
        if self.store.has_passphrase() {
            let fix = "unset it first: countersign set local.passphrase=";
            return Err(unacceptable("the passphrase: one is set here already", fix));
        }
        self.store.bring_passphrase(&verifier, self.by)?;
        Ok(self.passphrase())
    }

    fn invite(&self, new: NewInvitation) -> Answer {
        let address = new.address.clone();
        let (invitation, token) = self.store.invite(new, self.by)?;
        let invitation = Box::new(ListedInvitation::of(&invitation, self.now));
        Ok(Response::Invited { invitation, token: Secret::new(token.expose().as_bytes()), address })
    }

    /// The address and the server's key for an invitation.
    fn entrance(
        &self,
        scope: &Scope,
        address: Option<String>,
        pin: Option<&str>,
    ) -> Result<(String, Fingerprint), Failure> {
        let fits =
            |entrance: &&Entrance| scope.sockets.is_empty() || scope.sockets.contains(&entrance.socket);
        let found = self.entrances.iter().find(fits).or_else(|| self.entrances.first());
        let pin = pin.map(|pin| pin.strip_prefix("sha256:").unwrap_or(pin).parse()).transpose().map_err(
            |error: crate::ConfigError| {
                unacceptable(format!("the server's key: {error}"), error.fix().to_owned())
            },
        )?;
        let server = pin.or_else(|| found.map(|entrance| entrance.server)).ok_or_else(|| {
            unacceptable("the server's key: it is not known here", "write its SHA-256: --pin HEX")
        })?;
        let address = address.or_else(|| found.map(|entrance| entrance.address.clone()));
        let address = address.filter(|address| !address.is_empty()).ok_or_else(|| {
            unacceptable(
                "the address: no gateway runs that could tell it",
                "write where the client shall enrol: --address tls://HOST:PORT",
            )
        })?;
        if address.len() > LONGEST_ADDRESS || address.chars().any(char::is_control) {
            return Err(unacceptable("the address: no client could use it", "write tls://HOST:PORT"));
        }
        Ok((address, server))
    }

    fn newcomer(&self, certificate: &Der, name: Option<&str>, way: Way) -> Result<Entry, Failure> {
        let fix = "give a PEM file with an X.509 certificate";
        if certificate.0.len() > LARGEST_CERTIFICATE || Fingerprint::of_key(&certificate.0).is_none() {
            return Err(unacceptable("the certificate: it cannot be read", fix));
        }
        let fingerprint = Fingerprint::of_certificate(&certificate.0);
        let named = match name {
            Some(name) => username(name)?,
            None => username(&format!("client-{:.8}", fingerprint.to_string()))?,
        };
        Ok(Entry::new(fingerprint, named, way, self.by, self.now))
    }

    fn amend(&self, selector: &str, change: impl FnOnce(&mut Entry)) -> Answer {
        let entry = self.find(selector)?;
        self.amend_found(&entry.fingerprint, change)
    }

    fn amend_found(&self, fingerprint: &Fingerprint, change: impl FnOnce(&mut Entry)) -> Answer {
        let entry = self.store.amend(fingerprint, change)?;
        Ok(self.listed(&entry))
    }

    fn listed(&self, entry: &Entry) -> Response {
        Response::Entry(Box::new(Listed::of(entry, self.now)))
    }

    /// The one entry that is meant.
    fn find(&self, selector: &str) -> Result<Entry, Failure> {
        let prefix = selector.strip_prefix("sha256:").unwrap_or(selector);
        let prefix: String = prefix.chars().filter(|c| *c != ':').collect::<String>().to_ascii_lowercase();
        let is_prefix = prefix.len() >= SHORTEST_PREFIX && prefix.chars().all(|c| c.is_ascii_hexdigit());
        let entries = self.store.entries()?;
        let (named, others): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| entry.name.as_str() == selector);
        // Earlier certificates of the same person, taken back when they were renewed, do not make a
        // name ambiguous.
        let live = named.iter().filter(|entry| entry.revoked.is_none()).count();
        let mut meant: Vec<Entry> =
            named.into_iter().filter(|entry| live == 0 || entry.revoked.is_none()).collect();
        meant.extend(
            others
                .into_iter()
                .filter(|entry| is_prefix && entry.fingerprint.to_string().starts_with(&prefix)),
        );
        match meant.len() {
            1 => meant.pop().ok_or_else(|| missing(selector)),
            0 => Err(missing(selector)),
            _ => Err(ambiguous(selector, &meant)),
        }
    }
}

fn missing(selector: &str) -> Failure {
    Failure::new(
        FailureCode::Unknown,
        format!("{}: no entry has that name or fingerprint", selector.escape_debug()),
        "see `countersign trust list`; of a fingerprint give at least 8 digits",
    )
}

fn ambiguous(selector: &str, meant: &[Entry]) -> Failure {
    let what = format!("{}: {} entries could be meant", selector.escape_debug(), meant.len());
    let mut fix = "give more of the fingerprint of one of them:".to_owned();
    for entry in meant.iter().take(SHOWN) {
        // Writing to a text cannot fail.
        let _ = write!(
            fix,
            "\n  {:.16}  {}, {}",
            entry.fingerprint.to_string(),
            entry.name,
            if entry.revoked.is_some() { "revoked" } else { entry.way.code() }
        );
    }
    if meant.len() > SHOWN {
        let _ = write!(fix, "\n  and {} more", meant.len() - SHOWN);
    }
    Failure::new(FailureCode::Ambiguous, what, fix)
}

fn username(name: &str) -> Result<Username, Failure> {
    Username::parse(name)
        .map_err(|refusal| unacceptable(format!("the name: {}", refusal.cause), "choose another name"))
}

/// A scope that a listing can hold.
fn bounded(scope: Scope) -> Result<Scope, Failure> {
    let all = || scope.sockets.iter().chain(&scope.backends);
    let fits = |name: &String| !name.is_empty() && name.len() <= 255 && !name.chars().any(char::is_control);
    match all().count() <= 64 && all().all(fits) {
        true => Ok(scope),
        false => Err(unacceptable(
            "the scope: a name in it is empty, too long or holds control characters, or there are more than 64",
            "name sockets and backends as the log and the configuration do",
        )),
    }
}

fn unacceptable(what: impl Into<String>, fix: impl Into<String>) -> Failure {
    Failure::new(FailureCode::Unacceptable, what, fix)
}

impl From<TrustError> for Failure {
    fn from(error: TrustError) -> Self {
        let code = match &error {
            TrustError::Unknown(_) => FailureCode::Unknown,
            TrustError::Unacceptable(_) => FailureCode::Unacceptable,
            _ => FailureCode::Store,
        };
        Self::new(code, error.to_string(), error.fix())
    }
}

/// Digits of a fingerprint that may stand for it.
const SHORTEST_PREFIX: usize = 8;
/// Candidates that an error lists.
const SHOWN: usize = 10;
/// Bytes of an address in a token.
const LONGEST_ADDRESS: usize = 512;
/// Bytes of a reason.
const LONGEST_WORDS: usize = 1000;
/// Bytes of a certificate: as many as a TLS handshake of ours takes.
const LARGEST_CERTIFICATE: usize = 16 * 1024;

#[cfg(test)]
mod tests;
