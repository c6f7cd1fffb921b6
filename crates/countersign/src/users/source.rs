//! From accounts to verifiers: the two ways in which a table of accounts can check somebody.
//!
//! The modules `sqlite` and `multifile` say where accounts are; these say how a proof by HMAC or a
//! cleartext password is judged, with the same outside for unknown, closed and wrong (S-26).

use super::{UserError, argon2id, row::Row, verifier::Secrets};
use crate::{
    Claim, Identity, Peer, Refusal, Secret, Username, Verifier,
    proto::{
        chain::{CheckPassword, Entry, LookupSecret},
        error::Reason,
        mechanism::hmac::StoredSecret,
    },
};

/// Where accounts are looked up.
pub(crate) trait Accounts: Send + Sync + 'static {
    /// The accounts of that name; several where a table allows that, none if it is unknown.
    ///
    /// # Errors
    /// The source cannot be asked, or what it holds cannot be used.
    fn find(&self, name: &Username) -> Result<Vec<Account>, Refusal>;
}

/// An account that may log in, or the reason why it may not.
pub(crate) struct Account {
    pub(crate) identity: Identity,
    pub(crate) secrets: Secrets,
    pub(crate) closed: Option<&'static str>,
}

impl Account {
    /// What the rows of a name mean, each under the name in the table's spelling, which a query may
    /// compare without case (S-68).
    ///
    /// # Errors
    /// They could not be read, or one of them cannot be used.
    pub(crate) fn from_rows(rows: Result<Vec<Row>, UserError>) -> Result<Vec<Self>, Refusal> {
        let rows = rows.map_err(|error| Refusal::module_failed(error.to_string()))?;
        let account = |row: &Row| {
            let spelled = Username::parse(&row.username)
                .map_err(|_| Refusal::module_failed("the row's user name is not acceptable"))?;
            Self::from_row(row, spelled).map_err(Refusal::module_failed)
        };
        rows.iter().map(account).collect()
    }

    /// What a row of that name means.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn from_row(row: &Row, name: Username) -> Result<Self, String> {
        let secrets =
            row.secrets().map_err(|_| "the verifier is damaged or of an unknown kind".to_owned())?;
        Ok(Self { identity: row.identity(name)?, secrets, closed: row.closed() })
    }
}

/// A verifier over `accounts`: by HMAC, or with `cleartext` by the password itself.
pub(crate) fn verifier(accounts: impl Accounts, cleartext: bool) -> Verifier {
    if cleartext {
        Verifier::Password(Box::new(ByPassword(accounts)))
    } else {
        Verifier::Secret(Box::new(ByHmac(accounts)))
    }
}

struct ByHmac<A>(A);

impl<A: Accounts> LookupSecret for ByHmac<A> {
    fn lookup(&self, claim: &Claim) -> Result<Entry, Refusal> {
        let found = find(&self.0, claim)?;
        let mut candidates: Vec<(StoredSecret, Option<Identity>)> = Vec::new();
        let mut why = "the account has no secret for hmac; give it one, or set cleartext=yes";
        for account in found {
            match (account.closed, account.secrets.stored()) {
                (Some(closed), _) => why = closed,
                (None, Some(stored)) => candidates.push((stored, Some(account.identity))),
                (None, None) => {}
            }
        }
        if candidates.is_empty() {
            return Err(Refusal::new(Reason::AccountDisabled, why));
        }
        Ok(Entry::new(candidates))
    }
}

struct ByPassword<A>(A);

impl<A: Accounts> CheckPassword for ByPassword<A> {
    fn check(&self, _: &Peer, claim: &Claim, password: &Secret) -> Result<Option<Identity>, Refusal> {
        // The name is unknown or the source is out of order: the same hashing is done (S-26).
        let found = find(&self.0, claim).inspect_err(|_| {
            argon2id::cover(password);
        })?;
        let mut end = Refusal::new(Reason::WrongSecret, "the password is wrong");
        let mut passed = None;
        for account in found {
            match (account.secrets.verifies(password), account.closed) {
                (true, None) if passed.is_none() => passed = Some(account.identity),
                (true, Some(closed)) => end = Refusal::new(Reason::AccountDisabled, closed),
                _ => {}
            }
        }
        passed.map(Some).ok_or(end)
    }
}

fn find(accounts: &impl Accounts, claim: &Claim) -> Result<Vec<Account>, Refusal> {
    let name = claim.username.as_ref().ok_or_else(Refusal::unknown_user)?;
    let found = accounts.find(name)?;
    if found.is_empty() { Err(Refusal::unknown_user()) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::users::argon2id::tests::HASHED;

    /// `alice` is known, everybody else is not.
    struct Alice(Secret);

    impl Accounts for Alice {
        fn find(&self, name: &Username) -> Result<Vec<Account>, Refusal> {
            if name.as_str() != "alice" {
                return Ok(Vec::new());
            }
            let row = Row { verifier: Some(Secret::new(self.0.expose())), ..Row::default() };
            Ok(vec![Account::from_row(&row, name.clone()).map_err(Refusal::module_failed)?])
        }
    }

    #[test]
    fn s_026_an_unknown_name_costs_the_hashing_of_a_wrong_password() {
        let verifier = Secrets::derive(&Secret::new("secret"), true).unwrap().to_verifier().unwrap();
        let module = ByPassword(Alice(Secret::new(verifier.as_bytes())));
        for name in ["alice", "bob", ""] {
            let before = HASHED.get();
            let claim = Claim::named(name).unwrap();
            assert!(module.check(&Peer::unix(None), &claim, &Secret::new("wrong")).is_err());
            assert_eq!(HASHED.get() - before, 1, "{name}");
        }
    }
}
