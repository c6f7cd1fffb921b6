//! The name of an entry, kept where the entry is: a look at it then asks for no other line of memory.

use crate::{Refusal, Username};

/// A user name. Nearly all are short.
pub(super) enum Name {
    /// So many bytes of these.
    Short(u8, [u8; SHORT]),
    Long(Box<str>),
}

impl Name {
    pub(super) fn of(name: &Username) -> Self {
        let name = name.as_str();
        let mut bytes = [0; SHORT];
        match (bytes.get_mut(..name.len()), u8::try_from(name.len())) {
            (Some(room), Ok(length)) => {
                room.copy_from_slice(name.as_bytes());
                Self::Short(length, bytes)
            }
            _ => Self::Long(name.into()),
        }
    }

    /// The name again.
    ///
    /// # Errors
    /// Never, as it was one; memory that fails lets nobody in.
    pub(super) fn username(&self) -> Result<Username, Refusal> {
        let text = match self {
            Self::Short(length, bytes) => {
                let bytes = bytes.get(..usize::from(*length)).unwrap_or_default();
                std::str::from_utf8(bytes).unwrap_or_default()
            }
            Self::Long(text) => text,
        };
        Username::parse(text)
    }
}

/// Bytes that fit beside the length into three words.
const SHORT: usize = 22;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_length_come_back() {
        for length in 1..=Username::MAX_BYTES {
            let name = Username::parse(&"n".repeat(length)).unwrap();
            assert_eq!(Name::of(&name).username().unwrap(), name);
        }
        for text in ["grüße", "ключ-от-двери", "名前"] {
            let name = Username::parse(text).unwrap();
            assert_eq!(Name::of(&name).username().unwrap(), name);
        }
        assert_eq!(size_of::<Name>(), 24);
    }
}
