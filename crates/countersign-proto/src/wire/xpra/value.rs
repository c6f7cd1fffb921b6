//! The values that packets are made of, with readers that bridge what legacy and modern peers write differently.

use std::fmt;

/// One value of a packet.
///
/// rencode and bencode have one string type: what they carry is read as `Text` if it is UTF-8, else as `Bytes`.
/// Readers therefore take either where either may come.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Nothing.
    Null,
    /// A boolean; bencode writes it as 1 or 0.
    Bool(bool),
    /// An integer of 64 bits.
    Int(i64),
    /// An integer beyond 64 bits.
    BigInt(Decimal),
    /// A floating point number; rencode writes 32 bits of it, bencode cannot write it.
    Float(f64),
    /// UTF-8 text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Values in order.
    List(Vec<Self>),
    /// Entries in the order of the wire; decoded ones have unique scalar keys.
    Dict(Vec<(Self, Self)>),
}

impl Value {
    /// Reads a canonical decimal integer of at most 64 digits; `None` for anything else (S-11).
    #[must_use]
    pub fn integer(digits: &[u8]) -> Option<Self> {
        let magnitude = digits.strip_prefix(b"-").unwrap_or(digits);
        let canonical = match magnitude {
            [b'0'] => magnitude.len() == digits.len(),
            [b'1'..=b'9', rest @ ..] => rest.len() < Decimal::DIGITS && rest.iter().all(u8::is_ascii_digit),
            _ => false,
        };
        let text = std::str::from_utf8(digits).ok().filter(|_| canonical)?;
        Some(text.parse().map_or_else(|_| Self::BigInt(Decimal(text.to_owned())), Self::Int))
    }

    /// As text: `Text`, or `Bytes` as UTF-8 or else Latin-1, which is how legacy peers read them.
    #[must_use]
    pub fn to_text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Bytes(bytes) => Some(match std::str::from_utf8(bytes) {
                Ok(text) => text.to_owned(),
                Err(_) => bytes.iter().copied().map(char::from).collect(),
            }),
            _ => None,
        }
    }

    /// As bytes: `Bytes`, or the UTF-8 of `Text`.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Text(text) => Some(text.as_bytes()),
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// As a boolean: `Bool`, the 0 or 1 of bencode, or a dictionary whose entry `""` is one of these (false
    /// without that entry).
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            Self::Int(0) => Some(false),
            Self::Int(1) => Some(true),
            Self::Dict(_) => match self.find("") {
                Some(Self::Dict(_)) => None,
                Some(own) => own.as_bool(),
                None => Some(false),
            },
            _ => None,
        }
    }

    /// As an integer.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The items of a list.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// The entry of a dictionary whose key is this text or these bytes.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<&Self> {
        let Self::Dict(entries) = self else { return None };
        entries.iter().find_map(|(name, value)| name.is_named(key).then_some(value))
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        self.as_bytes() == Some(name.as_bytes())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

/// The shape only: a value may be a password, a response or a command line that holds one.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("Null"),
            Self::Bool(_) => f.write_str("Bool"),
            Self::Int(_) => f.write_str("Int"),
            Self::BigInt(digits) => write!(f, "BigInt({} digits)", digits.0.len()),
            Self::Float(_) => f.write_str("Float"),
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
            Self::List(items) => write!(f, "List({} items)", items.len()),
            Self::Dict(entries) => write!(f, "Dict({} entries)", entries.len()),
        }
    }
}

/// A canonical decimal integer beyond 64 bits, of at most 64 digits. Made by [`Value::integer`].
#[derive(Clone, PartialEq, Eq)]
pub struct Decimal(String);

impl Decimal {
    /// The largest number of digits that is read (S-11).
    pub const DIGITS: usize = 64;

    /// The digits, with a `-` in front where negative.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Decimal({} digits)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::Value;

    #[test]
    fn s_011_integers_are_canonical_and_have_at_most_64_digits() {
        for refused in ["", "-", "+1", "00", "01", "-0", "-01", " 1", "1 ", "1_0", "0x1", "--1", "１"] {
            assert!(Value::integer(refused.as_bytes()).is_none(), "{refused:?}");
        }
        let long = "9".repeat(64);
        assert!(
            matches!(Value::integer(long.as_bytes()), Some(Value::BigInt(digits)) if digits.as_str() == long)
        );
        assert!(Value::integer(format!("-{long}").as_bytes()).is_some());
        assert!(Value::integer("9".repeat(65).as_bytes()).is_none());
        assert!(matches!(Value::integer(b"-9223372036854775808"), Some(Value::Int(i64::MIN))));
        assert!(matches!(Value::integer(b"-9223372036854775809"), Some(Value::BigInt(_))));
        assert!(matches!(Value::integer(b"0"), Some(Value::Int(0))));
    }

    #[test]
    fn text_and_bytes_stand_for_each_other() {
        assert_eq!(Value::Bytes(b"caf\xc3\xa9".to_vec()).to_text().as_deref(), Some("café"));
        assert_eq!(Value::Bytes(b"caf\xe9".to_vec()).to_text().as_deref(), Some("café"));
        assert_eq!(Value::from("café").as_bytes(), Some("café".as_bytes()));
        assert_eq!(Value::Int(1).to_text(), None);
    }

    #[test]
    fn a_boolean_may_be_wrapped_in_a_dictionary() {
        let wrapped = |own: Value| Value::Dict(vec![("version".into(), "1".into()), ("".into(), own)]);
        assert_eq!(wrapped(Value::Bool(true)).as_bool(), Some(true));
        assert_eq!(wrapped(Value::Int(0)).as_bool(), Some(false));
        assert_eq!(wrapped(wrapped(Value::Bool(true))).as_bool(), None);
        assert_eq!(Value::Dict(Vec::new()).as_bool(), Some(false));
        assert_eq!(Value::Int(2).as_bool(), None);
        assert_eq!(Value::from("true").as_bool(), None);
    }

    #[test]
    fn s_088_debug_shows_the_shape_alone() {
        let secret = Value::Dict(vec![("password".into(), "hunter2".into())]);
        let shown = format!("{secret:?} {:?} {:?}", Value::from("hunter2"), Value::integer(&[b'7'; 30]));
        assert!(
            !shown.contains("hunter2") && !shown.contains("password") && !shown.contains("77"),
            "{shown}"
        );
    }
}
