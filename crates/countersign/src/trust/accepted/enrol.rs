//! The ways of a client into the trust store: first, by passphrase, by invitation, by renewal.
//!
//! Each is counted as a guess where it can be one, made durable, and only then seen by logins.

use std::sync::Arc;

use super::{TrustStore, now};
use crate::{
    Identity, Peer, Secret,
    transport::tls::Fingerprint,
    trust::{
        entry::{Entry, Standing, Way},
        error::EnrolError,
        guesses,
        invitation::{Invitation, Token},
        newcomer::Newcomer,
        passphrase::Passphrase,
        store::{Admission, Applied, Change},
    },
};

impl TrustStore {
    /// Accepts the first certificate ever (S-49, S-50). The caller has checked that this client may
    /// be the first.
    ///
    /// # Errors
    /// Another one was first, or it cannot be kept.
    pub fn take_first_place(&self, newcomer: &Newcomer) -> Result<Identity, EnrolError> {
        let _one_at_a_time = self.changing.lock();
        if !self.is_pristine() {
            return Err(EnrolError::Taken);
        }
        let entry = newcomer.entry(Way::FirstUse, newcomer.from(), now());
        self.admit(entry, newcomer, Admission::First, EnrolError::Taken)
    }

    /// Accepts a certificate whose holder knows the passphrase. It computes Argon2id and syncs a disk.
    ///
    /// # Errors
    /// No passphrase is set, it is another, too many were wrong, or the certificate cannot be kept.
    pub fn enrol_by_passphrase(
        &self,
        newcomer: &Newcomer,
        passphrase: &Secret,
    ) -> Result<Identity, EnrolError> {
        self.guessed(newcomer.peer(), Some(newcomer), || {
            let set = self.passphrase_of(passphrase)?;
            let _one_at_a_time = self.changing.lock();
            self.may_enrol(newcomer)?;
            let entry = newcomer.entry(Way::Passphrase, newcomer.from(), now());
            let by = Admission::Passphrase { revision: set.revision };
            let done = self.admit(entry, newcomer, by, EnrolError::NoPassphrase);
            if let Some(uses) = set.uses.filter(|_| done.is_ok()) {
                let left = Passphrase { uses: Some(uses.saturating_sub(1)), ..Passphrase::clone(&set) };
                self.view.write().passphrase = Some(Arc::new(left));
            }
            done
        })
    }

    /// Accepts a certificate whose holder has the token of an invitation, and spends that.
    ///
    /// # Errors
    /// It is no token of ours, was spent, too many were wrong, or the certificate cannot be kept.
    pub fn enrol_by_token(&self, newcomer: &Newcomer, token: &Secret) -> Result<Identity, EnrolError> {
        self.guessed(newcomer.peer(), Some(newcomer), || {
            let invitation = self.invitation_of(token)?;
            let _one_at_a_time = self.changing.lock();
            self.may_enrol(newcomer)?;
            let now = now();
            if !invitation.is_open(now) {
                return Err(EnrolError::Spent);
            }
            let by = format!("invitation {} of {}, from {}", invitation.id, invitation.by, newcomer.from());
            let mut entry = newcomer.entry(Way::Invitation, by, now);
            entry.name = invitation.name.clone();
            entry.scope = invitation.scope.clone();
            entry.expires = invitation.entry_expires;
            let fingerprint = entry.fingerprint;
            let by = Admission::Invitation { id: &invitation.id };
            let identity = self.admit(entry, newcomer, by, EnrolError::Spent)?;
            if let Some(kept) = self.view.write().invitations.get_mut(&invitation.id) {
                (kept.spent, kept.spent_by) = (Some(now), Some(fingerprint));
            }
            Ok(identity)
        })
    }

    /// Judges a passphrase or a token of a client that shows no certificate: a guess like any other, of
    /// which a right one lets nobody in, for there is nothing to accept, and uses up nothing (S-51).
    pub fn judge_without_certificate(&self, peer: &Peer, secret: &Secret) -> EnrolError {
        let judged = self.guessed(peer, None, || {
            if Token::is_meant_by(secret) {
                self.invitation_of(secret)?.is_open(now()).then_some(()).ok_or(EnrolError::Spent)?;
            } else {
                self.passphrase_of(secret)?;
            }
            Ok(())
        });
        judged.err().unwrap_or(EnrolError::NoCertificate)
    }

    /// Accepts a certificate in place of an accepted one, whose holder asks for it. Both count until
    /// the new one was seen.
    ///
    /// # Errors
    /// The old one is not accepted, or the new one cannot be kept.
    pub fn renew(&self, old: &[u8; 32], newcomer: &Newcomer) -> Result<Identity, EnrolError> {
        let _one_at_a_time = self.changing.lock();
        self.may_enrol(newcomer)?;
        let old = Fingerprint(*old);
        let replaced = self.store.entry(&old)?.filter(|entry| entry.standing(now()) == Standing::Accepted);
        let replaced = replaced.ok_or(EnrolError::Revoked)?;
        let mut entry = newcomer.entry(Way::Renewal, format!("renewal of {old}"), now());
        (entry.name, entry.scope, entry.expires) = (replaced.name, replaced.scope, replaced.expires);
        (entry.uid, entry.replaces) = (replaced.uid, Some(old));
        self.admit(entry, newcomer, Admission::Renewal { of: &old }, EnrolError::Revoked)
    }

    /// Counts a guess, has it judged, and takes the count back if it was right.
    fn guessed<T>(
        &self,
        peer: &Peer,
        newcomer: Option<&Newcomer>,
        judge: impl FnOnce() -> Result<T, EnrolError>,
    ) -> Result<T, EnrolError> {
        let keys = guesses::keys(peer, newcomer.map(Newcomer::fingerprint).as_ref());
        let counts = |error: &EnrolError| {
            matches!(error, EnrolError::Wrong | EnrolError::NoPassphrase | EnrolError::Spent)
        };
        self.guess(&keys, judge, counts).map_err(|retry_after| EnrolError::TooMany { retry_after })?
    }

    /// The passphrase that is set, if `guess` is it.
    fn passphrase_of(&self, guess: &Secret) -> Result<Arc<Passphrase>, EnrolError> {
        let set = self.view.read().passphrase.clone().filter(|set| set.is_open(now()));
        let set = set.ok_or(EnrolError::NoPassphrase)?;
        match set.verifies(guess) {
            true if set.is_brought() => self.salt(&set, guess),
            true => Ok(set),
            false => Err(EnrolError::Wrong),
        }
    }

    /// Keeps a verifier of our own in place of the one that Multipass made, as soon as that can be (M1).
    fn salt(&self, brought: &Passphrase, guess: &Secret) -> Result<Arc<Passphrase>, EnrolError> {
        let salted = brought.salted(guess)?;
        let _one_at_a_time = self.changing.lock();
        let set = self.view.read().passphrase.clone().ok_or(EnrolError::NoPassphrase)?;
        if !set.is_brought() || set.revision != salted.revision {
            // Another right guess was faster, or the owner has set another passphrase, which the store notes.
            return Ok(set);
        }
        let _ = self.store.apply(&Change::SetPassphrase(Some(&salted)))?;
        let salted = Arc::new(salted);
        self.view.write().passphrase = Some(Arc::clone(&salted));
        Ok(salted)
    }

    /// The invitation whose token `guess` is, spent or not.
    fn invitation_of(&self, guess: &Secret) -> Result<Invitation, EnrolError> {
        let token: Option<Token> =
            std::str::from_utf8(guess.expose()).ok().and_then(|text| text.parse().ok());
        let token = token.ok_or(EnrolError::Wrong)?;
        let found = self.view.read().invitations.get(&token.id()).cloned();
        found.filter(|invitation| invitation.is_of(&token)).ok_or(EnrolError::Wrong)
    }

    /// A certificate that was taken back does not come back by itself: only the owner adds it again.
    fn may_enrol(&self, newcomer: &Newcomer) -> Result<(), EnrolError> {
        match self.standing(&newcomer.fingerprint().0) {
            Standing::Revoked => Err(EnrolError::Revoked),
            _ => Ok(()),
        }
    }

    /// Makes an admission durable, then seen. `changing` is held.
    fn admit(
        &self,
        mut entry: Entry,
        newcomer: &Newcomer,
        by: Admission<'_>,
        overtaken: EnrolError,
    ) -> Result<Identity, EnrolError> {
        // Authenticating twice changes nothing that the owner has set since (`authenticate` is idempotent).
        if let (Some(known), false) =
            (self.store.entry(&entry.fingerprint)?, matches!(by, Admission::Invitation { .. }))
        {
            let expires = entry.expires;
            entry = Entry { expires, ..known };
        }
        match self.store.apply(&Change::Admit { entry: &entry, certificate: newcomer.der(), by })? {
            Applied::Overtaken => Err(overtaken),
            Applied::Made => {
                let identity = Identity::new(entry.name.clone());
                self.put(entry);
                Ok(identity)
            }
        }
    }
}
