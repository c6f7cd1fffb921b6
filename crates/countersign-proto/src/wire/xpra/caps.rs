//! The dictionary of a hello, read by name, type and size (S-13).

use super::{Encoder, Fault, Kind, Packet, Value, WireError};
use crate::Secret;

/// The capabilities in a `hello` or `challenge`.
///
/// A name is looked up as it stands, then by splitting it at `.`: legacy peers write `lz4.version`, modern ones
/// `lz4: {version: ..}`. Null counts as absent. A dictionary in place of a scalar stands for its entry `""`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Caps(Vec<(Value, Value)>);

impl Caps {
    /// Takes the entries of a dictionary. 3.1 writes an empty string for an empty dictionary.
    pub(super) fn read(name: &'static str, value: Option<Value>) -> Result<Self, WireError> {
        match value {
            Some(Value::Dict(entries)) => Ok(Self(entries)),
            Some(empty) if empty.as_bytes() == Some(b"") => Ok(Self::default()),
            Some(Value::Null) | None => Ok(Self::default()),
            Some(_) => Err(WireError::Field(name, Fault::Type)),
        }
    }

    /// The entries, in the order of the wire.
    #[must_use]
    pub fn entries(&self) -> &[(Value, Value)] {
        &self.0
    }

    /// Adds an entry; the caller sees to it that names stay unique.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.push((name.into(), value.into()));
        self
    }

    /// Looks a name up.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Value> {
        find(&self.0, name).filter(|value| **value != Value::Null)
    }

    /// A text of at most `most` bytes.
    ///
    /// # Errors
    /// [`WireError::Field`] for another type, or more bytes.
    pub fn text(&self, name: &'static str, most: usize) -> Result<Option<String>, WireError> {
        let Some(value) = self.find(name) else { return Ok(None) };
        // Modern clients nest what they tell about a thing under the name whose scalar legacy ones send.
        let value = if let Value::Dict(_) = value {
            match value.find("") {
                Some(own) if own.as_bytes().is_some() => own,
                _ => return Ok(None),
            }
        } else {
            value
        };
        bounded_text(name, value, most).map(Some)
    }

    /// A text that says who somebody is: nothing stands in for it, no dictionary and no second reading of
    /// bytes that are not UTF-8, so that two names are never one.
    ///
    /// # Errors
    /// [`WireError::Field`] for another type, bytes that are not UTF-8, or more than `most` of them.
    pub fn exact_text(&self, name: &'static str, most: usize) -> Result<Option<String>, WireError> {
        let Some(value) = self.find(name) else { return Ok(None) };
        let bytes = value.as_bytes().ok_or(WireError::Field(name, Fault::Type))?;
        if bytes.len() > most {
            return Err(WireError::Field(name, Fault::Size));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| WireError::Field(name, Fault::Type))?;
        Ok(Some(text.to_owned()))
    }

    /// A boolean; false when absent.
    ///
    /// # Errors
    /// [`WireError::Field`] for another type.
    pub fn flag(&self, name: &'static str) -> Result<bool, WireError> {
        self.find(name).map_or(Ok(false), |value| value.as_bool().ok_or(WireError::Field(name, Fault::Type)))
    }

    /// A list of at most [`Caps::LIST`] texts of at most [`Caps::NAME`] bytes each; empty when absent.
    ///
    /// # Errors
    /// [`WireError::Field`] for another type, more entries, or more bytes in one.
    pub fn texts(&self, name: &'static str) -> Result<Vec<String>, WireError> {
        let Some(value) = self.find(name) else { return Ok(Vec::new()) };
        let items = value.as_list().ok_or(WireError::Field(name, Fault::Type))?;
        if items.len() > Self::LIST {
            return Err(WireError::Field(name, Fault::Size));
        }
        items.iter().map(|item| bounded_text(name, item, Self::NAME)).collect()
    }

    /// Bytes that are taken out of the dictionary, at most `most` of them.
    pub(super) fn take_bytes(
        &mut self,
        name: &'static str,
        most: usize,
    ) -> Result<Option<Vec<u8>>, WireError> {
        let Some(at) = self.0.iter().position(|(key, _)| key.is_named(name)) else { return Ok(None) };
        let bytes = match self.0.remove(at).1 {
            Value::Null => return Ok(None),
            Value::Bytes(bytes) => bytes,
            Value::Text(text) => text.into_bytes(),
            _ => return Err(WireError::Field(name, Fault::Type)),
        };
        if bytes.len() > most { Err(WireError::Field(name, Fault::Size)) } else { Ok(Some(bytes)) }
    }

    /// A text, or a number as text, of at most `most` bytes; nothing stands in for another type.
    pub(super) fn scalar_text(&self, name: &str, most: usize) -> Option<Secret> {
        self.find(name).and_then(|value| scalar_text(value, most))
    }

    /// The same, taken out of the dictionary, wherever it is and whatever its type.
    pub(super) fn take_text(&mut self, name: &str, most: usize) -> Option<Secret> {
        let mut first = None;
        // However often it is said, in either form: nothing of it stays.
        while let Some(value) = take(&mut self.0, name) {
            first = first.or_else(|| scalar_text(&value, most));
        }
        first
    }

    /// Drops the entries whose name is unwanted.
    pub(super) fn drop_named(&mut self, unwanted: impl Fn(&[u8]) -> bool) {
        self.0.retain(|(key, _)| !key.as_bytes().is_some_and(&unwanted));
    }

    /// The packet that consists of these.
    pub(super) fn into_packet(self, encoder: Encoder, kind: Kind) -> Packet {
        Packet::new(encoder, kind, vec![self.into()])
    }

    /// Bytes of a name: user, display, digest and the like (S-13).
    pub const NAME: usize = 255;
    /// Entries of a list (S-13).
    pub const LIST: usize = 64;
}

impl From<Caps> for Value {
    fn from(caps: Caps) -> Self {
        Self::Dict(caps.0)
    }
}

/// A text of at most `most` bytes.
pub(super) fn bounded_text(name: &'static str, value: &Value, most: usize) -> Result<String, WireError> {
    let length = value.as_bytes().ok_or(WireError::Field(name, Fault::Type))?.len();
    if length > most {
        return Err(WireError::Field(name, Fault::Size));
    }
    value.to_text().ok_or(WireError::Field(name, Fault::Type))
}

fn scalar_text(value: &Value, most: usize) -> Option<Secret> {
    let text = match value.as_int() {
        Some(number) => number.to_string().into_bytes(),
        None => value.as_bytes()?.to_vec(),
    };
    (text.len() <= most).then(|| Secret::new(text))
}

/// As [`find`], and the entry is gone.
fn take(entries: &mut Vec<(Value, Value)>, name: &str) -> Option<Value> {
    if let Some(at) = entries.iter().position(|(key, _)| key.is_named(name)) {
        return Some(entries.remove(at).1);
    }
    let (head, rest) = name.split_once('.')?;
    entries.iter_mut().find_map(|(key, value)| match value {
        Value::Dict(inner) if key.is_named(head) => take(inner, rest),
        _ => None,
    })
}

/// The recursion is as deep as `name` has dots, and names are ours.
fn find<'a>(entries: &'a [(Value, Value)], name: &str) -> Option<&'a Value> {
    let flat = entries.iter().find_map(|(key, value)| key.is_named(name).then_some(value));
    flat.or_else(|| {
        let (head, rest) = name.split_once('.')?;
        match entries.iter().find(|(key, _)| key.is_named(head))? {
            (_, Value::Dict(inner)) => find(inner, rest),
            _ => None,
        }
    })
}
