//! Texts with a place for the name: a distinguished name, or a filter, each with its own escaping.

use std::borrow::Cow;

use ldap3::{dn_escape, ldap_escape, parse_filter};

/// A text of the configuration in which `{username}` stands for a name.
#[derive(Debug)]
pub(super) struct Template(String);

impl Template {
    /// A template of a distinguished name.
    ///
    /// # Errors
    /// Why it is none, and what to write.
    pub(super) fn of_dn(text: &str) -> Result<Self, Fault> {
        let template = Self::parse(text)?;
        if !template.0.contains('=') {
            return Err((
                "it is no distinguished name",
                "write one as uid={username},ou=people,dc=example, or search: base=DN",
            ));
        }
        Ok(template)
    }

    /// A template of a filter.
    ///
    /// # Errors
    /// As [`Template::of_dn`].
    pub(super) fn of_filter(text: &str) -> Result<Self, Fault> {
        let template = Self::parse(text)?;
        if !is_filter(&template.filter("a")) {
            return Err(("it is no filter", "write one in parentheses, as (uid={username})"));
        }
        Ok(template)
    }

    fn parse(text: &str) -> Result<Self, Fault> {
        let text = text.trim().replace(XPRA_PLACE, PLACE);
        if text.contains("%domain") {
            return Err(("%domain is not replaced", "write the domain itself"));
        }
        if !text.contains(PLACE) {
            return Err((
                "it has no place for the name, so that every name would be one account",
                "write {username} where the name belongs",
            ));
        }
        Ok(Self(text))
    }

    /// The distinguished name of `name` (RFC 4514, section 2.4).
    pub(super) fn dn(&self, name: &str) -> String {
        self.0.replace(PLACE, &dn_escape(name))
    }

    /// The filter for `name` (RFC 4515, section 3).
    pub(super) fn filter(&self, name: &str) -> String {
        self.0.replace(PLACE, &ldap_escape(name))
    }

    /// The attribute that the whole name is the value of: `uid` in `uid={username},ou=people`.
    pub(super) fn attribute(&self) -> Option<&str> {
        let (before, after) = self.0.split_once(PLACE)?;
        let before = before.trim_end().strip_suffix('=')?.trim_end();
        let start = before.rfind(|c: char| !is_attribute(c)).map_or(0, |at| at + 1);
        let ends = after.trim_start().starts_with([',', '+', ')']) || after.trim().is_empty();
        before.get(start..).filter(|attribute| ends && !attribute.is_empty())
    }
}

/// What is wrong with a text of the configuration, and what to write.
pub(super) type Fault = (&'static str, &'static str);

/// The filter that finds an entry among a group's members: `{dn}` is the entry, `{username}` its name.
#[derive(Debug)]
pub(super) struct Membership(String);

impl Membership {
    /// # Errors
    /// As [`Template::of_dn`].
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let membership = Self(text.trim().to_owned());
        if ![PLACE, DN].iter().any(|place| membership.0.contains(place)) {
            return Err((
                "it asks for nobody, so that everybody would be in the group",
                "write {dn} where the entry belongs, or {username} for its name",
            ));
        }
        if !is_filter(&membership.filter("cn=a", "a")) {
            return Err(("it is no filter", "write one in parentheses, as (member={dn})"));
        }
        Ok(membership)
    }

    /// The filter for an entry and its name.
    pub(super) fn filter(&self, dn: &str, name: &str) -> String {
        // In one go: a name that holds `{dn}` stays a name.
        let mut filter = String::with_capacity(self.0.len() + dn.len() + name.len());
        let mut rest = self.0.as_str();
        while let Some(at) = rest.find('{') {
            let (before, place) = rest.split_at(at);
            filter.push_str(before);
            let (value, after): (Cow<'_, str>, _) = match (place.strip_prefix(PLACE), place.strip_prefix(DN))
            {
                (Some(after), _) => (ldap_escape(name), after),
                (_, Some(after)) => (ldap_escape(dn), after),
                _ => ("{".into(), place.get(1..).unwrap_or_default()),
            };
            filter.push_str(&value);
            rest = after;
        }
        filter.push_str(rest);
        filter
    }
}

/// Where the name goes, in our words and in Xpra's.
const PLACE: &str = "{username}";
const XPRA_PLACE: &str = "%username";

/// Where the distinguished name of the found entry goes.
const DN: &str = "{dn}";

/// Whether a text is a whole filter. The library reads one without its parentheses too.
fn is_filter(text: &str) -> bool {
    text.starts_with('(') && parse_filter(text).is_ok()
}

/// The characters of an attribute's name or number (RFC 4512, section 1.4).
fn is_attribute(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_072_a_name_is_one_value_in_a_distinguished_name_and_in_a_filter() {
        let dn = Template::of_dn("uid={username},ou=people,dc=example").unwrap();
        let filter = Template::of_filter("(&(uid={username})(objectClass=person))").unwrap();
        for (name, in_dn, in_filter) in [
            ("alice", "alice", "alice"),
            ("bot,ou=svc", "bot\\2cou\\3dsvc", "bot,ou=svc"),
            ("*", "*", "\\2a"),
            ("a)(uid=*", "a)(uid\\3d*", "a\\29\\28uid=\\2a"),
            ("o*d)(uid=\\", "o*d)(uid\\3d\\5c", "o\\2ad\\29\\28uid=\\5c"),
            (" alice ", "\\20alice\\20", " alice "),
            ("ali\\63e", "ali\\5c63e", "ali\\5c63e"),
            ("a\0b", "a\\00b", "a\\00b"),
            ("#1", "\\231", "#1"),
            ("%username{username}", "%username{username}", "%username{username}"),
        ] {
            assert_eq!(dn.dn(name), format!("uid={in_dn},ou=people,dc=example"));
            assert_eq!(filter.filter(name), format!("(&(uid={in_filter})(objectClass=person))"));
            assert!(parse_filter(filter.filter(name)).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_template_has_a_place_for_the_name_and_is_what_it_must_be() {
        assert_eq!(Template::of_dn("cn=%username, o=x").unwrap().dn("a"), "cn=a, o=x");
        for bad in ["", "cn=app,o=x", "{username}", "{username}@example.com", "cn=%username,o=%domain"] {
            assert!(Template::of_dn(bad).is_err(), "{bad}");
        }
        for bad in ["", "(uid=app)", "uid={username}", "(uid={username}", "((uid={username}))"] {
            assert!(Template::of_filter(bad).is_err(), "{bad}");
        }
        for bad in ["", "(member=cn=app)", "member={dn}", "(member={DN})"] {
            assert!(Membership::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_attribute_of_the_name_is_the_one_that_it_is_the_value_of() {
        let of = |text| Template::parse(text).unwrap().attribute().map(str::to_owned);
        assert_eq!(of("uid={username},ou=people").as_deref(), Some("uid"));
        assert_eq!(of("cn = {username} + sn=x").as_deref(), Some("cn"));
        assert_eq!(of("(&(objectClass=user)(sAMAccountName={username}))").as_deref(), Some("sAMAccountName"));
        for none in ["uid=x-{username},o=x", "uid={username}-x,o=x", "(cn>{username})", "={username}"] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn s_072_neither_name_nor_entry_changes_the_question_about_a_group() {
        let membership = Membership::parse("(|(member={dn})(memberUid={username})(x={y}))").unwrap();
        assert_eq!(
            membership.filter("cn=*,o=x", "{dn})(a=*"),
            "(|(member=cn=\\2a,o=x)(memberUid={dn}\\29\\28a=\\2a)(x={y}))"
        );
    }
}
