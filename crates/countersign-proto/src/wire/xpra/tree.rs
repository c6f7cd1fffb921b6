//! Values from tokens and back: what the encodings have in common, and every limit of S-11 in one place.
//!
//! An encoding says what its next token is; the tree keeps the open containers on a stack of its own, so that
//! nesting costs the peer's allowance and never our call stack.

use super::input::Input;
use super::{Limits, Value, WireError};

/// What an encoding finds next.
pub(super) enum Token {
    Scalar(Value),
    /// A list of so many items, or up to an `End`.
    List(Option<usize>),
    /// A dictionary of so many entries, or up to an `End`.
    Dict(Option<usize>),
    End,
}

/// Decodes the one value that a payload holds.
pub(super) fn decode(
    payload: &[u8],
    limits: &Limits,
    next: fn(&mut Input<'_>) -> Result<Token, WireError>,
) -> Result<Value, WireError> {
    let mut input = Input::new(payload);
    let mut tree = Tree { open: Vec::new(), values: 0, limits };
    loop {
        let token = next(&mut input)?;
        if let Some(value) = tree.push(token)? {
            return if input.is_empty() { Ok(value) } else { Err(WireError::Trailing) };
        }
    }
}

/// How an encoding writes.
pub(super) trait Write {
    fn scalar(&self, value: &Value, out: &mut Vec<u8>) -> Result<(), WireError>;
    fn open_list(&self, items: usize, out: &mut Vec<u8>);
    fn close_list(&self, items: usize, out: &mut Vec<u8>);
    fn open_dict(&self, entries: usize, out: &mut Vec<u8>);
    fn close_dict(&self, entries: usize, out: &mut Vec<u8>);
}

/// Encodes a value; one nested deeper than `depth` is refused, so the recursion is bounded.
pub(super) fn encode(
    value: &Value,
    depth: usize,
    writer: &dyn Write,
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    let inner = || depth.checked_sub(1).ok_or(WireError::TooDeep);
    match value {
        Value::List(items) => encode_list(items.len(), items.iter(), inner()?, writer, out),
        Value::Dict(entries) => {
            let depth = inner()?;
            writer.open_dict(entries.len(), out);
            for (key, value) in entries {
                encode(key, depth, writer, out)?;
                encode(value, depth, writer, out)?;
            }
            writer.close_dict(entries.len(), out);
            Ok(())
        }
        scalar => writer.scalar(scalar, out),
    }
}

/// Encodes a list of `length` items, which may be nested `depth` deep themselves.
pub(super) fn encode_list<'a>(
    length: usize,
    mut items: impl Iterator<Item = &'a Value>,
    depth: usize,
    writer: &dyn Write,
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    writer.open_list(length, out);
    items.try_for_each(|item| encode(item, depth, writer, out))?;
    writer.close_list(length, out);
    Ok(())
}

/// The containers that are open, and what the packet has spent of its limits.
struct Tree<'a> {
    open: Vec<Open>,
    values: usize,
    limits: &'a Limits,
}

impl Tree<'_> {
    /// Takes a token; gives the outermost value when that is complete.
    fn push(&mut self, token: Token) -> Result<Option<Value>, WireError> {
        match token {
            Token::Scalar(value) => {
                self.count()?;
                self.add(value)
            }
            Token::List(items) => self.descend(Open::list(items)),
            Token::Dict(entries) => self.descend(Open::dict(entries)),
            Token::End => match self.open.pop() {
                Some(top) if top.expected.is_none() => {
                    let value = top.close()?;
                    self.add(value)
                }
                _ => Err(WireError::Code),
            },
        }
    }

    fn descend(&mut self, container: Open) -> Result<Option<Value>, WireError> {
        self.count()?;
        if self.open.len() >= self.limits.depth {
            return Err(WireError::TooDeep);
        }
        if container.is_complete() {
            let empty = container.close()?;
            return self.add(empty);
        }
        self.open.push(container);
        Ok(None)
    }

    /// Puts a complete value where it belongs, and closes every container that this completes.
    fn add(&mut self, mut value: Value) -> Result<Option<Value>, WireError> {
        while let Some(top) = self.open.last_mut() {
            top.put(value, self.limits)?;
            let Some(complete) = self.open.pop_if(|top| top.is_complete()) else { return Ok(None) };
            value = complete.close()?;
        }
        Ok(Some(value))
    }

    fn count(&mut self) -> Result<(), WireError> {
        self.values = self.values.saturating_add(1);
        if self.values > self.limits.values { Err(WireError::TooMany) } else { Ok(()) }
    }
}

/// A container whose end is not reached.
struct Open {
    items: Items,
    /// How many items or entries it has, if that was said in front.
    expected: Option<usize>,
}

enum Items {
    List(Vec<Value>),
    /// The entries, and the key that awaits its value.
    Dict(Vec<(Value, Value)>, Option<Value>),
}

impl Open {
    fn list(expected: Option<usize>) -> Self {
        Self { items: Items::List(Vec::with_capacity(room(expected))), expected }
    }

    fn dict(expected: Option<usize>) -> Self {
        Self { items: Items::Dict(Vec::with_capacity(room(expected)), None), expected }
    }

    fn put(&mut self, value: Value, limits: &Limits) -> Result<(), WireError> {
        if self.len() >= limits.entries {
            return Err(WireError::TooMany);
        }
        match &mut self.items {
            Items::List(items) => items.push(value),
            Items::Dict(entries, awaiting) => match awaiting.take() {
                Some(key) => entries.push((key, value)),
                None if Identity::of(&value).is_none() => return Err(WireError::Key),
                None => *awaiting = Some(value),
            },
        }
        Ok(())
    }

    fn len(&self) -> usize {
        match &self.items {
            Items::List(items) => items.len(),
            Items::Dict(entries, _) => entries.len(),
        }
    }

    fn is_complete(&self) -> bool {
        self.expected.is_some_and(|expected| self.len() >= expected)
    }

    fn close(self) -> Result<Value, WireError> {
        match self.items {
            Items::List(items) => Ok(Value::List(items)),
            Items::Dict(_, Some(_)) => Err(WireError::Key),
            Items::Dict(entries, None) if has_duplicate(&entries) => Err(WireError::DuplicateKey),
            Items::Dict(entries, None) => Ok(Value::Dict(entries)),
        }
    }
}

/// Room for what is announced, within what few bytes of a peer may cost us; the rest grows as it comes.
fn room(expected: Option<usize>) -> usize {
    const MOST: usize = 64;
    expected.unwrap_or_default().min(MOST)
}

fn has_duplicate(entries: &[(Value, Value)]) -> bool {
    let mut keys = Vec::with_capacity(entries.len());
    keys.extend(entries.iter().filter_map(|(key, _)| Identity::of(key)));
    keys.sort_unstable();
    keys.windows(2).any(|pair| matches!(pair, [one, other] if one == other))
}

/// What makes a key that key. Text and bytes of the same content are one key, true and 1 as well: a peer behind us
/// may see them as one, and a second `username` it prefers to the first would be a way past the check.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Identity<'a> {
    Number(i64),
    BigNumber(&'a str),
    Word(&'a [u8]),
}

impl<'a> Identity<'a> {
    fn of(key: &'a Value) -> Option<Self> {
        match key {
            Value::Bool(value) => Some(Self::Number(i64::from(*value))),
            Value::Int(value) => Some(Self::Number(*value)),
            Value::BigInt(digits) => Some(Self::BigNumber(digits.as_str())),
            word => word.as_bytes().map(Self::Word),
        }
    }
}
