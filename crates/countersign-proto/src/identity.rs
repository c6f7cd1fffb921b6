//! Who somebody says to be ([`Claim`]) and who somebody is ([`Identity`]).

use std::{fmt, sync::Arc};

use unicode_normalization::UnicodeNormalization;

use crate::{
    error::{Reason, Refusal},
    secret::Secret,
};

/// A user name that a module may see: NFC, 1 to 255 bytes, no NUL or other control character, no
/// `/`, no leading `-` or `.` (S-69).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Username(String);

impl Username {
    /// The longest name in bytes, after normalisation.
    pub const MAX_BYTES: usize = 255;

    /// Normalises and judges a name from outside.
    ///
    /// # Errors
    /// [`Reason::BadUsername`], with a cause that does not repeat the name.
    pub fn parse(raw: &str) -> Result<Self, Refusal> {
        let bad = |why: &'static str| Err(Refusal::new(Reason::BadUsername, why));
        // Measured before normalising too: NFC of a megabyte is work a stranger should not order.
        if raw.len() > 4 * Self::MAX_BYTES {
            return bad("the user name is longer than 1,020 bytes as it came");
        }
        let name: String = raw.nfc().collect();
        if name.is_empty() {
            return bad("the user name is empty");
        }
        if name.len() > Self::MAX_BYTES {
            return bad("the user name is longer than 255 bytes");
        }
        if name.chars().any(char::is_control) {
            return bad("the user name holds a control character");
        }
        if name.contains('/') || name.starts_with(['-', '.']) {
            return bad("the user name holds a slash, or starts with a dash or a dot");
        }
        Ok(Self(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a client says of itself. Nothing in it is proved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claim {
    /// The name it wants to log in as; none is allowed, many modules do not look at it.
    pub username: Option<Username>,
    /// The display or session it asks for, up to 255 bytes each.
    pub display: Option<String>,
    /// See [`Claim::display`].
    pub session: Option<String>,
    /// What else it says, as far as a link of the chain wants to know.
    pub capabilities: Capabilities,
}

impl Claim {
    /// A claim that names nobody.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// A claim to be `name`.
    ///
    /// # Errors
    /// As [`Username::parse`]. The empty text is the anonymous claim.
    pub fn named(name: &str) -> Result<Self, Refusal> {
        let username = if name.is_empty() { None } else { Some(Username::parse(name)?) };
        Ok(Self { username, ..Self::default() })
    }

    /// The same claim, asking for a display or session.
    #[must_use]
    pub fn asking_for(mut self, display: Option<String>, session: Option<String>) -> Self {
        self.display = display;
        self.session = session;
        self
    }

    /// The same claim with one more capability of the hello. A name is given once.
    #[must_use]
    pub fn saying(mut self, name: impl Into<String>, text: Secret) -> Self {
        self.capabilities.0.push((name.into(), Arc::new(text)));
        self
    }

    /// Whether `later` is the same claim, seen again in a later hello (S-16, W31).
    ///
    /// The first hello of a client that expects a challenge is a short one, so a display or
    /// session may appear later; one that was named may not change.
    pub(crate) fn is_kept_by(&self, later: &Self) -> bool {
        let kept = |first: &Option<String>, then: &Option<String>| first.is_none() || first == then;
        self.username == later.username
            && kept(&self.display, &later.display)
            && kept(&self.session, &later.session)
            && self.capabilities.are_kept_by(&later.capabilities)
    }
}

/// Texts of a hello by name, those alone that a link of the chain reads. Some are credentials, so
/// none is printed, and they are compared as secrets are.
#[derive(Clone, Default)]
pub struct Capabilities(Vec<(String, Arc<Secret>)>);

impl Capabilities {
    /// The longest text in bytes that is looked at.
    pub const MAX_BYTES: usize = 4096;

    /// The text of that name, if the client says it.
    pub fn find(&self, name: &str) -> Option<&Secret> {
        self.0.iter().find_map(|(known, text)| (known == name).then_some(&**text))
    }

    fn are_kept_by(&self, later: &Self) -> bool {
        let same = |(name, text): &(String, Arc<Secret>)| {
            later.find(name).is_some_and(|later| later.matches(text.expose()))
        };
        self.0.iter().all(same)
    }
}

impl PartialEq for Capabilities {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.are_kept_by(other)
    }
}

impl Eq for Capabilities {}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// Who somebody is, as a verifier states it.
///
/// The numbers and sessions are those of the verifier's own source (a passwd entry, a database
/// row), never the client's words.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// The name in the spelling of the verifier's source (S-68).
    pub name: Username,
    /// The numeric user id, where the source has one.
    pub uid: Option<u32>,
    /// The numeric primary group id, where the source has one.
    pub gid: Option<u32>,
    /// The sessions (displays, addresses) that the source lists for this user.
    pub sessions: Vec<String>,
    /// Environment entries for the user's session (`multifile`, `sqlite` column 6).
    pub environment: Vec<(String, String)>,
    /// Options for the user's session (`multifile`, `sqlite` column 7). May hold a backend
    /// password, so they are not printed.
    pub session_options: Vec<(String, String)>,
}

impl Identity {
    /// An identity that has a name and nothing else.
    pub fn new(name: Username) -> Self {
        Self {
            name,
            uid: None,
            gid: None,
            sessions: Vec::new(),
            environment: Vec::new(),
            session_options: Vec::new(),
        }
    }

    /// The same identity with a numeric user id and primary group id.
    #[must_use]
    pub fn with_ids(mut self, uid: Option<u32>, gid: Option<u32>) -> Self {
        self.uid = uid;
        self.gid = gid;
        self
    }

    /// The same identity with the sessions, environment and options its source lists.
    #[must_use]
    pub fn with_session(
        mut self,
        sessions: Vec<String>,
        environment: Vec<(String, String)>,
        options: Vec<(String, String)>,
    ) -> Self {
        self.sessions = sessions;
        self.environment = environment;
        self.session_options = options;
        self
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("name", &self.name)
            .field("uid", &self.uid)
            .field("gid", &self.gid)
            .field("sessions", &self.sessions.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_069_names_are_normalised_and_judged_before_a_module_sees_them() {
        for (raw, name) in [("alice", "alice"), ("Zoe\u{308}", "Zoë"), ("o'brien", "o'brien"), ("a b", "a b")]
        {
            assert_eq!(Username::parse(raw).unwrap().as_str(), name);
        }
        let long = "x".repeat(256);
        let huge = "e\u{301}".repeat(500_000);
        for raw in ["", "a\0", "a\nb", "a/b", "/", "-rf", ".ssh", "..", "\u{1b}[2J", &long, &huge] {
            let refusal = Username::parse(raw).unwrap_err();
            assert_eq!(refusal.reason, Reason::BadUsername);
            assert!(raw.len() < 3 || !refusal.cause.contains(raw));
        }
        assert!(Username::parse(&"x".repeat(255)).is_ok());
        assert!(
            Username::parse(&"e\u{301}".repeat(127)).is_ok(),
            "what counts is the length that modules see"
        );
    }

    #[test]
    fn s_069_a_name_that_is_far_too_long_is_not_even_normalised() {
        let cause = |bytes| Username::parse(&"x".repeat(bytes)).unwrap_err().cause;
        assert_eq!(cause(1020), "the user name is longer than 255 bytes");
        for bytes in [1021, 1_000_000] {
            assert_eq!(cause(bytes), "the user name is longer than 1,020 bytes as it came");
        }
    }

    #[test]
    fn s_016_capabilities_are_the_same_if_all_of_them_are_and_show_their_names_alone() {
        let said = |pairs: &[(&str, &str)]| {
            let claim =
                pairs.iter().fold(Claim::anonymous(), |c, (name, text)| c.saying(*name, Secret::new(*text)));
            claim.capabilities
        };
        let both = said(&[("token", "a"), ("proof", "b")]);
        assert_eq!(both, said(&[("proof", "b"), ("token", "a")]));
        assert_ne!(both, said(&[("token", "a")]));
        assert_ne!(both, said(&[("token", "a"), ("proof", "c")]));
        assert_eq!(format!("{both:?}"), r#"{"token", "proof"}"#);
    }

    #[test]
    fn an_identity_shows_who_it_is_and_not_what_it_may_reach() {
        let alice = Identity::new(Username::parse("alice").unwrap()).with_ids(Some(1000), None);
        let alice = alice.with_session(vec![":10".into()], vec![("KEY".into(), "hunter2".into())], vec![]);
        let shown = format!("{alice:?}");
        assert!(
            shown.contains("alice") && shown.contains("1000") && shown.contains("sessions: 1"),
            "{shown}"
        );
        assert!(!shown.contains("hunter2"));
    }

    #[test]
    fn s_016_a_later_claim_may_add_a_display_but_change_nothing() {
        let first = Claim::named("alice").unwrap();
        let with_display = Claim { display: Some(":10".into()), ..first.clone() };
        assert!(first.is_kept_by(&first));
        assert!(first.is_kept_by(&with_display));
        assert!(!with_display.is_kept_by(&first));
        assert!(!first.is_kept_by(&Claim::named("bob").unwrap()));
        assert!(!first.is_kept_by(&Claim::anonymous()));
        let said = |text: &str| first.clone().saying("token", Secret::new(text));
        assert!(said("a").is_kept_by(&said("a")) && first.is_kept_by(&said("a")));
        assert!(!said("a").is_kept_by(&said("b")) && !said("a").is_kept_by(&first));
        assert!(!format!("{:?}", said("hunter2")).contains("hunter2"));
    }
}
