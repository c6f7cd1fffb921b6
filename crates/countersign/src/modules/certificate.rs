//! `certificate`: lets in whoever holds the key of a certificate that the trust store accepts, or that
//! an authority vouches for.

use std::sync::Arc;

mod authority;

use authority::Authority;

use super::{Context, Module, OptionSpec, Options};
use crate::{
    Claim, Identity, Peer, Refusal, Verifier,
    error::ConfigError,
    proto::chain::CheckPeer,
    trust::{EnrolError, FirstUse, Newcomer, Place, Trust, TrustStore},
};

pub(super) struct Certificate;

impl Module for Certificate {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "lets in the holders of accepted certificates"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "For TLS sockets: nothing is asked, the handshake proves that the client holds the key of its certificate. \
         Whether that certificate is accepted is in the trust store (`countersign trust list`); the whole certificate is \
         compared, its names, dates and issuer decide nothing. The identity is the entry's name. An entry counts for the \
         sockets and backends of its scope, until its end, or until it is taken back, which ends its sessions at once.\n\n\
         Nobody is accepted at first. On a Unix socket the first client whose uid is root's or in the socket's group is \
         accepted for good, and the socket, 0660 until then, opens to all users (mode=666 unless written otherwise); \
         first-use=no leaves that out. On every other socket, and for everybody else, the way in is \
         `countersign authenticate` with the passphrase or an invitation, or `countersign trust add` by the owner.\n\n\
         With ca=FILE the authorities in that file decide in place of the trust store: the path to one of them is \
         validated, with dates, name constraints, key usage (clientAuth) and at most five certificates in between, which \
         the client has to send. With crl=FILE, which has to hold a list of every authority on the path, revoked \
         certificates are refused; a list that is over refuses all. The files are read again when they change; while one \
         cannot be read, nobody passes. Every certificate of the authorities passes, or, where cn, ou, san or spki are \
         written, those that any one of them fits. The identity is the common name, or what name= says; a certificate \
         with no or several names of that kind is refused, and so is a name that no user may have, such as a URI with a \
         slash: write name=none there."
    }

    fn example(&self) -> &'static str {
        "certificate"
    }

    fn configure(&self, options: &mut Options, context: &Context) -> Result<Verifier, ConfigError> {
        let wanted = options.flag("first-use", context.first_use.is_some())?;
        if wanted && context.first_use.is_none() {
            let fix = "remove it: the first client comes in on a Unix socket, by the trust store";
            return Err(options.error("first-use", "nobody can be first here", fix));
        }
        if let Some(authority) = Authority::configure(options)? {
            return Ok(Verifier::Peer(Box::new(authority)));
        }
        let Some(trust) = context.trust.clone() else {
            let fix = "give the chain a context with a trust store";
            return Err(ConfigError::new(NAME, "there is no state directory to keep certificates in", fix));
        };
        let (place, first_use) = (context.place.clone(), context.first_use);
        Ok(Verifier::Peer(Box::new(Accepted { trust, place, first_use })))
    }
}

/// Judges by the trust store.
struct Accepted {
    trust: Trust,
    place: Place,
    first_use: Option<FirstUse>,
}

impl Accepted {
    /// Takes the first place for a client that may have it.
    fn admit_first(
        &self,
        store: &TrustStore,
        rule: FirstUse,
        peer: &Peer,
    ) -> Result<Option<Identity>, Refusal> {
        rule.admits(peer)?;
        let newcomer = Newcomer::of(&Arc::new(peer.clone())).ok_or_else(no_certificate)?;
        match store.take_first_place(&newcomer) {
            Ok(identity) => {
                tracing::info!(certificate = %newcomer.fingerprint(), "the first client is {}", identity.name);
                Ok(Some(identity))
            }
            // The same client may have been first on another connection, or by another call on this one.
            Err(EnrolError::Taken) => store.judge(&newcomer.fingerprint().0, &self.place).map(Some),
            Err(EnrolError::Failed(error)) => Err(Refusal::module_failed(error.to_string())),
            Err(error) => Err(Refusal::peer_denied(error.to_string())),
        }
    }
}

impl CheckPeer for Accepted {
    fn check(&self, peer: &Peer, _: &Claim) -> Result<Option<Identity>, Refusal> {
        let store =
            self.trust.store().ok_or_else(|| Refusal::module_failed("the trust store is not open"))?;
        let certificate = peer.certificate.as_ref().ok_or_else(no_certificate)?;
        // Before the judgement: whoever is accepted between the two is seen to be.
        let first_use = self.first_use.filter(|_| store.is_pristine());
        let judged = store.judge(&certificate.fingerprint, &self.place);
        match first_use {
            Some(rule) if judged.is_err() => self.admit_first(store, rule, peer),
            _ => judged.map(Some),
        }
    }

    /// Looking is done in memory; taking the first place waits for a disk.
    fn may_block(&self) -> bool {
        self.first_use.is_some() && self.trust.store().is_some_and(TrustStore::is_pristine)
    }
}

fn no_certificate() -> Refusal {
    Refusal::peer_denied("the client showed no certificate")
}

/// The name that other places ask for.
pub const NAME: &str = "certificate";

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        "first-use",
        "yes|no",
        "yes",
        "accept the first certificate on a Unix socket, from the socket's group",
    ),
    OptionSpec::new(
        "ca",
        "FILE",
        "",
        "certificates of the authorities in this PEM file pass; may be repeated",
    ),
    OptionSpec::new("crl", "FILE", "", "a revocation list of an authority, PEM or DER; may be repeated"),
    OptionSpec::new("cn", "NAME", "", "let in this common name; may be repeated"),
    OptionSpec::new("ou", "NAME", "", "let in this organizational unit; may be repeated"),
    OptionSpec::new(
        "san",
        "[KIND:]NAME",
        "",
        "let in this name: dns (also *.DOMAIN), email, uri or ip; may be repeated",
    ),
    OptionSpec::new("spki", "SHA256", "", "let in this public key; may be repeated"),
    OptionSpec::new("name", "cn|dns|email|uri|none", "cn", "the name in the certificate that says who it is"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        proto::{
            error::Reason,
            peer::{Certificate as Shown, Credentials, TlsFacts},
        },
        trust::Standing,
    };

    fn context(folder: &tempfile::TempDir, first_use: Option<FirstUse>) -> Context {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let mut context = Context::with_trust(Trust::at(folder.path()));
        context.first_use = first_use;
        context
    }

    fn verifier(context: &Context) -> Box<dyn CheckPeer> {
        match Certificate.configure(&mut Options::new(NAME, []), context).unwrap() {
            Verifier::Peer(verifier) => verifier,
            other => panic!("{other:?}"),
        }
    }

    fn client(number: u8, uid: u32) -> Peer {
        let shown = Shown::new(&[number; 300]);
        Peer::unix(Some(Credentials::new(uid, uid))).encrypted(TlsFacts::default(), Some(shown), None)
    }

    fn check(verifier: &dyn CheckPeer, peer: &Peer) -> Result<Option<Identity>, Refusal> {
        verifier.check(peer, &Claim::anonymous())
    }

    #[test]
    fn s_052_the_first_of_the_group_gets_in_and_then_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let context = context(&folder, Some(FirstUse::for_group(4711)));
        let verifier = verifier(&context);
        context.trust.as_ref().unwrap().open().unwrap();
        assert!(verifier.may_block());
        let outsider = check(&*verifier, &client(1, 4712)).unwrap_err();
        assert_eq!(outsider.reason, Reason::PeerDenied);
        assert!(check(&*verifier, &client(2, 4711)).unwrap().is_some());
        assert!(!verifier.may_block());
        assert!(check(&*verifier, &client(2, 4712)).is_ok(), "the certificate counts now, not the uid");
        assert!(check(&*verifier, &client(1, 4711)).is_err() && check(&*verifier, &client(3, 0)).is_err());
    }

    #[test]
    fn s_049_of_many_calls_at_once_all_of_the_first_client_pass_and_no_others() {
        for _ in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let context = context(&folder, Some(FirstUse::for_group(4711)));
            let verifier = verifier(&context);
            context.trust.as_ref().unwrap().open().unwrap();
            let gate = std::sync::Barrier::new(16);
            let passed: Vec<bool> = std::thread::scope(|scope| {
                let call = |number: u8| {
                    let (verifier, gate) = (&*verifier, &gate);
                    scope.spawn(move || {
                        gate.wait();
                        check(verifier, &client(number % 2, 0)).is_ok()
                    })
                };
                let calls: Vec<_> = (0..16).map(call).collect();
                calls.into_iter().map(|call| call.join().unwrap()).collect()
            });
            let of = |client: usize| passed.iter().skip(client).step_by(2).filter(|passed| **passed).count();
            assert!(matches!((of(0), of(1)), (8, 0) | (0, 8)), "{passed:?}");
        }
    }

    #[test]
    fn s_051_without_a_certificate_nobody_is_first_nor_blocks_the_place() {
        let folder = tempfile::tempdir().unwrap();
        let context = context(&folder, Some(FirstUse::for_group(4711)));
        let verifier = verifier(&context);
        let store = context.trust.as_ref().unwrap().open().unwrap();
        assert!(check(&*verifier, &Peer::unix(Some(Credentials::new(0, 0)))).is_err());
        assert!(store.is_pristine());
        assert!(check(&*verifier, &client(1, 0)).is_ok());
    }

    #[test]
    fn s_057_where_there_is_no_rule_nobody_is_first() {
        let folder = tempfile::tempdir().unwrap();
        let context = context(&folder, None);
        let verifier = verifier(&context);
        let store = context.trust.as_ref().unwrap().open().unwrap();
        assert!(check(&*verifier, &client(1, 0)).is_err());
        assert!(store.is_pristine() && !verifier.may_block());
        assert_eq!(store.standing(&[1; 32]), Standing::Unknown);
    }

    #[test]
    fn s_065_a_store_that_is_not_open_and_a_context_without_one_refuse() {
        let folder = tempfile::tempdir().unwrap();
        let closed = check(&*verifier(&context(&folder, None)), &client(1, 0)).unwrap_err();
        assert_eq!(closed.reason, Reason::ModuleFailed);
        assert!(Certificate.configure(&mut Options::new(NAME, []), &Context::default()).is_err());
    }
}
