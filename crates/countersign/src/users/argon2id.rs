//! Argon2id for passwords that arrive in the clear (RFC 9106), at a bounded cost.
//!
//! Called by whatever keeps a password's verifier: the user table and the modules that read it.

use argon2::{
    ARGON2ID_IDENT, Algorithm, Argon2, CustomizedPasswordHasher, Params, PasswordHasher, Version,
    password_hash::phc::PasswordHash,
};
use parking_lot::{Condvar, Mutex};
use zeroize::Zeroizing;

use crate::Secret;

/// The verifier of a password, with a new salt: `$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH`.
///
/// The costs are those of the OWASP password storage cheat sheet (19 MiB, two passes), under which
/// a login takes tens of milliseconds. `None` if the system gives no random bytes.
pub fn hash(password: &Secret) -> Option<Zeroizing<String>> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).ok()?;
    let hash = in_a_slot(|| hasher().hash_password_with_salt(password.expose(), &salt)).ok()?;
    Some(Zeroizing::new(hash.to_string()))
}

/// Whether `text` is a verifier that [`verifies`] will compute: Argon2id version 19 with a hash of
/// at least 16 bytes, and costs that an attacker who writes the text cannot use to stop us.
pub fn is_acceptable(text: &str) -> bool {
    parse(text).is_some()
}

/// Whether `password` is the one whose verifier `text` is. What is not acceptable verifies nothing,
/// after the same work.
pub fn verifies(text: &str, password: &Secret) -> bool {
    let Some((hash, params)) = parse(text) else { return cover(password) };
    let (Some(salt), Some(expected)) = (&hash.salt, &hash.hash) else { return cover(password) };
    let computed = in_a_slot(|| {
        hasher().hash_password_customized(password.expose(), salt, Some("argon2id"), Some(19), params)
    });
    let computed = computed.ok().and_then(|computed| computed.hash);
    computed.is_some_and(|computed| Secret::new(computed.as_bytes()).matches(expected.as_bytes()))
}

/// The work of [`verifies`] for an account that nobody has; always `false` (S-26).
pub fn cover(password: &Secret) -> bool {
    let done = in_a_slot(|| hasher().hash_password_with_salt(password.expose(), b"countersign-none"));
    // Looked at, so that the work cannot be left out.
    std::hint::black_box(done.is_ok());
    false
}

fn hasher() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::default())
}

fn parse(text: &str) -> Option<(PasswordHash, Params)> {
    let hash = PasswordHash::new(text).ok()?;
    let output = hash.hash.as_ref()?;
    let params = Params::try_from(&hash).ok()?;
    let affordable =
        params.m_cost() <= MAX_MEMORY_KIB && params.t_cost() <= MAX_PASSES && params.p_cost() <= 8;
    let right_kind = hash.algorithm == ARGON2ID_IDENT && hash.version == Some(19);
    (right_kind && affordable && hash.salt.is_some() && output.len() >= 16).then_some((hash, params))
}

/// Runs `work` as one of at most [`SLOTS`] at once, so that logins cannot take all memory (S-55).
pub(crate) fn in_a_slot<T>(work: impl FnOnce() -> T) -> T {
    struct Slot;
    impl Drop for Slot {
        fn drop(&mut self) {
            *RUNNING.lock() -= 1;
            FREED.notify_one();
        }
    }
    let mut running = RUNNING.lock();
    FREED.wait_while(&mut running, |running| *running >= SLOTS);
    *running += 1;
    drop(running);
    let _slot = Slot;
    #[cfg(test)]
    tests::HASHED.with(|hashed| hashed.set(hashed.get() + 1));
    work()
}

static RUNNING: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

/// Computations at once.
const SLOTS: usize = 4;

/// The most memory that a verifier may ask for: 256 MiB, four times RFC 9106's second choice.
const MAX_MEMORY_KIB: u32 = 256 * 1024;

/// The most passes that a verifier may ask for.
const MAX_PASSES: u32 = 16;

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// How often this thread has hashed: the work of a login, without what else the machine does.
        pub(in crate::users) static HASHED: Cell<usize> = const { Cell::new(0) };
    }

    #[test]
    fn s_092_a_verifier_is_salted_argon2id_and_verifies_every_byte() {
        let (one, two) = (hash(&Secret::new("correct-horse")), hash(&Secret::new("correct-horse")));
        let (one, two) = (one.unwrap(), two.unwrap());
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_ne!(*one, *two);
        assert!(verifies(&one, &Secret::new("correct-horse")));
        for wrong in ["", "correct", "correct-horse ", "Correct-horse"] {
            assert!(!verifies(&one, &Secret::new(wrong)), "{wrong:?}");
        }
    }

    #[test]
    fn costs_above_the_ceiling_and_other_kinds_are_never_computed() {
        let good =
            "$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        assert!(is_acceptable(good));
        let changes = [
            ("argon2id", "argon2i"),
            ("argon2id", "scrypt"),
            ("v=19", "v=16"),
            ("m=65536", "m=4194304"),
            ("t=3", "t=4000000"),
            ("p=4", "p=200"),
            ("$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "$AAAAAAAAAAA"),
            ("$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", ""),
        ];
        for (from, to) in changes {
            let bad = good.replace(from, to);
            assert_ne!(bad, good);
            assert!(!is_acceptable(&bad) && !verifies(&bad, &Secret::new("x")), "{to}");
        }
    }

    #[test]
    fn s_055_no_more_than_four_run_at_once() {
        let most = Mutex::new((0, 0));
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    in_a_slot(|| {
                        let mut now = most.lock();
                        now.0 += 1;
                        now.1 = now.1.max(now.0);
                        drop(now);
                        std::thread::sleep(std::time::Duration::from_millis(5));
                        most.lock().0 -= 1;
                    });
                });
            }
        });
        // Other tests of this process may hold some of them.
        assert!((1..=SLOTS).contains(&most.lock().1));
    }
}
