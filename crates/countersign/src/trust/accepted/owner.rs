//! What the owner of the machine does with the trust store: entries, the passphrase, invitations.

use std::sync::Arc;

use super::{TrustStore, View, now, unknown};
use crate::{
    transport::tls::Fingerprint,
    trust::{
        TrustError,
        entry::{Entry, Revocation},
        guesses::Guesses,
        invitation::{Invitation, NewInvitation, Token},
        multipass::MultipassVerifier,
        passphrase::{NewPassphrase, Passphrase},
        store::{Admission, Applied, Change},
    },
};

impl TrustStore {
    /// Accepts a certificate because the owner says so, also one that was taken back.
    ///
    /// # Errors
    /// It cannot be kept.
    pub fn add(&self, entry: Entry, certificate: &[u8]) -> Result<(), TrustError> {
        let _one_at_a_time = self.changing.lock();
        let change = Change::Admit { entry: &entry, certificate, by: Admission::Owner };
        // The owner's word has no condition that could be overtaken.
        let _ = self.store.apply(&change)?;
        self.put(entry);
        Ok(())
    }

    /// Accepts many certificates because the owner says so: all of them, or none.
    ///
    /// # Errors
    /// They cannot be kept.
    pub fn add_all(&self, many: Vec<(Entry, Vec<u8>)>) -> Result<(), TrustError> {
        let _one_at_a_time = self.changing.lock();
        let _ = self.store.apply(&Change::AdmitAll(&many))?;
        many.into_iter().for_each(|(entry, _)| self.put(entry));
        Ok(())
    }

    /// Changes an entry: its name, scope, end, or that it was taken back. Its sessions learn of it.
    ///
    /// # Errors
    /// There is none, or it cannot be kept.
    pub fn amend(
        &self,
        fingerprint: &Fingerprint,
        change: impl FnOnce(&mut Entry),
    ) -> Result<Entry, TrustError> {
        let _one_at_a_time = self.changing.lock();
        let mut entry = self.store.entry(fingerprint)?.ok_or_else(|| unknown(fingerprint))?;
        change(&mut entry);
        match self.store.apply(&Change::Amend(&entry))? {
            Applied::Overtaken => return Err(unknown(fingerprint)),
            Applied::Made => self.put(entry.clone()),
        }
        Ok(entry)
    }

    /// Takes a certificate back. Its live sessions end.
    ///
    /// # Errors
    /// As [`TrustStore::amend`].
    pub fn revoke(&self, fingerprint: &Fingerprint, why: &str) -> Result<Entry, TrustError> {
        self.amend(fingerprint, |entry| entry.revoked = Some(Revocation::new(now(), why)))
    }

    /// Forgets a certificate as if it had never been. Its live sessions end; the first place stays
    /// taken.
    ///
    /// # Errors
    /// There is none, or the store cannot be written.
    pub fn forget(&self, fingerprint: &Fingerprint) -> Result<(), TrustError> {
        let _one_at_a_time = self.changing.lock();
        match self.store.apply(&Change::Forget(fingerprint))? {
            Applied::Overtaken => Err(unknown(fingerprint)),
            Applied::Made => {
                self.view.write().certificates.remove(&fingerprint.0);
                self.leases.tell(&fingerprint.0);
                Ok(())
            }
        }
    }

    /// Forgets everything: the first place is free again, and every session of a certificate ends.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn reset(&self) -> Result<(), TrustError> {
        let _one_at_a_time = self.changing.lock();
        let _ = self.store.apply(&Change::Reset)?;
        *self.view.write() = View::default();
        *self.guesses.lock() = Guesses::default();
        self.pristine.send_replace(true);
        self.leases.tell_all();
        Ok(())
    }

    /// Every entry, by name and then by age.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>, TrustError> {
        self.flush()?;
        let mut entries = self.store.entries()?;
        entries.sort_by(|a: &Entry, b| (a.name.as_str(), a.added).cmp(&(b.name.as_str(), b.added)));
        Ok(entries)
    }

    /// The entry that took the first place, also if it was taken back since. `None` if nobody has taken
    /// it, or the entry was forgotten.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn first(&self) -> Result<Option<Entry>, TrustError> {
        self.store.first()
    }

    /// The certificate of an entry in DER.
    ///
    /// # Errors
    /// The store cannot be read, or did not keep it.
    pub fn certificate(&self, fingerprint: &Fingerprint) -> Result<Vec<u8>, TrustError> {
        self.store.certificate(fingerprint)?.ok_or_else(|| unknown(fingerprint))
    }

    /// Whether a passphrase is set that would be taken now.
    pub fn has_passphrase(&self) -> bool {
        self.view.read().passphrase.as_ref().is_some_and(|set| set.is_open(now()))
    }

    /// The passphrase's facts, without the passphrase.
    pub fn passphrase(&self) -> Option<Arc<Passphrase>> {
        self.view.read().passphrase.clone()
    }

    /// Sets the passphrase, or unsets it. It computes Argon2id and syncs a disk.
    ///
    /// # Errors
    /// It is empty or too long, or cannot be kept; then the old one stays.
    pub fn set_passphrase(&self, new: Option<&NewPassphrase>, by: &str) -> Result<(), TrustError> {
        let made = new.map(|new| Passphrase::make(new, revision()?, now(), by)).transpose()?;
        let _one_at_a_time = self.changing.lock();
        let _ = self.store.apply(&Change::SetPassphrase(made.as_ref()))?;
        self.view.write().passphrase = made.map(Arc::new);
        Ok(())
    }

    /// Takes over the passphrase whose verifier Multipass kept, if none is set here. With the first right
    /// guess a verifier of our own takes its place (M1).
    ///
    /// # Errors
    /// One is set, or it cannot be kept.
    pub fn bring_passphrase(&self, verifier: &MultipassVerifier, by: &str) -> Result<(), TrustError> {
        let brought = Passphrase::brought(verifier, revision()?, now(), by);
        let _one_at_a_time = self.changing.lock();
        if self.has_passphrase() {
            return Err(TrustError::Unacceptable("a passphrase is set here already"));
        }
        let _ = self.store.apply(&Change::SetPassphrase(Some(&brought)))?;
        self.view.write().passphrase = Some(Arc::new(brought));
        Ok(())
    }

    /// Invites somebody. The token is not kept: it can be shown now and never again.
    ///
    /// # Errors
    /// It cannot be kept.
    pub fn invite(&self, new: NewInvitation, by: &str) -> Result<(Invitation, Token), TrustError> {
        let (invitation, token) = Invitation::make(new, now(), by)?;
        let _one_at_a_time = self.changing.lock();
        match self.store.apply(&Change::Invite(&invitation))? {
            Applied::Overtaken => Err(TrustError::NoRandomness),
            Applied::Made => {
                self.view.write().invitations.insert(invitation.id.clone(), invitation.clone());
                Ok((invitation, token))
            }
        }
    }

    /// Every invitation that was not withdrawn, spent ones included, oldest first.
    pub fn invitations(&self) -> Vec<Invitation> {
        let mut all: Vec<Invitation> = self.view.read().invitations.values().cloned().collect();
        all.sort_by(|one, other| (one.made, &one.id).cmp(&(other.made, &other.id)));
        all
    }

    /// Withdraws an invitation. What it let in stays.
    ///
    /// # Errors
    /// There is none of that id, or the store cannot be written.
    pub fn withdraw(&self, id: &str) -> Result<(), TrustError> {
        let _one_at_a_time = self.changing.lock();
        match self.store.apply(&Change::Withdraw(id))? {
            Applied::Overtaken => {
                Err(TrustError::Unknown(format!("invitation {}: there is none", id.escape_debug())))
            }
            Applied::Made => {
                self.view.write().invitations.remove(id);
                Ok(())
            }
        }
    }
}

/// Tells a passphrase from every other one that was set.
fn revision() -> Result<i64, TrustError> {
    let mut revision = [0; 8];
    getrandom::fill(&mut revision).map_err(|_| TrustError::NoRandomness)?;
    Ok(i64::from_le_bytes(revision))
}
