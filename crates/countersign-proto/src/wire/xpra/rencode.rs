//! rencode and rencodeplus: one table of type bytes, two dialects.
//!
//! rencodeplus keeps bytes apart from text and writes floats in 64 bits; rencode has one string type and writes
//! 32 bits.

use super::input::{self, Input};
use super::tree::{Token, Write};
use super::{Value, WireError};

/// Which of the two is spoken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Plain,
    Plus,
}

pub(super) fn plus_token(input: &mut Input<'_>) -> Result<Token, WireError> {
    Dialect::Plus.token(input)
}

pub(super) fn token(input: &mut Input<'_>) -> Result<Token, WireError> {
    Dialect::Plain.token(input)
}

impl Dialect {
    fn token(self, input: &mut Input<'_>) -> Result<Token, WireError> {
        let code = input.byte()?;
        Ok(Token::Scalar(match code {
            0..=INT_LAST => Value::Int(code.into()),
            FLOAT64 => Value::Float(f64::from_be_bytes(input.array()?)),
            b'0'..=b'9' => self.long_string(code, input)?,
            LIST => return Ok(Token::List(None)),
            DICT => return Ok(Token::Dict(None)),
            INTEGER => input.integer(END)?,
            INT8 => Value::Int(i8::from_be_bytes(input.array()?).into()),
            INT16 => Value::Int(i16::from_be_bytes(input.array()?).into()),
            INT32 => Value::Int(i32::from_be_bytes(input.array()?).into()),
            INT64 => Value::Int(i64::from_be_bytes(input.array()?)),
            FLOAT32 => Value::Float(f32::from_be_bytes(input.array()?).into()),
            TRUE => Value::Bool(true),
            FALSE => Value::Bool(false),
            NULL => Value::Null,
            NEGATIVE..DICT_FIXED => Value::Int(-1 - i64::from(code - NEGATIVE)),
            DICT_FIXED..END => return Ok(Token::Dict(Some((code - DICT_FIXED).into()))),
            END => return Ok(Token::End),
            TEXT_FIXED..LIST_FIXED => self.text(input.take((code - TEXT_FIXED).into())?)?,
            LIST_FIXED.. => return Ok(Token::List(Some((code - LIST_FIXED).into()))),
            _ => return Err(WireError::Code),
        }))
    }

    fn long_string(self, first: u8, input: &mut Input<'_>) -> Result<Value, WireError> {
        let (length, kind) = input.length(first)?;
        match (kind, self) {
            (b':', _) => self.text(input.take(length)?),
            (b'/', Self::Plus) => Ok(Value::Bytes(input.take(length)?.to_vec())),
            _ => Err(WireError::Length),
        }
    }

    fn text(self, bytes: &[u8]) -> Result<Value, WireError> {
        match self {
            Self::Plus => input::text(bytes),
            Self::Plain => Ok(input::text_or_bytes(bytes)),
        }
    }
}

impl Write for Dialect {
    fn scalar(&self, value: &Value, out: &mut Vec<u8>) -> Result<(), WireError> {
        match value {
            Value::Null => out.push(NULL),
            Value::Bool(true) => out.push(TRUE),
            Value::Bool(false) => out.push(FALSE),
            Value::Int(value) => write_int(*value, out),
            Value::BigInt(digits) => {
                out.push(INTEGER);
                out.extend_from_slice(digits.as_str().as_bytes());
                out.push(END);
            }
            Value::Float(value) => self.write_float(*value, out),
            Value::Bytes(bytes) if *self == Self::Plus => write_long(bytes, b'/', out),
            Value::Bytes(bytes) => write_text(bytes, out),
            Value::Text(text) => write_text(text.as_bytes(), out),
            Value::List(_) | Value::Dict(_) => return Err(WireError::Unrepresentable),
        }
        Ok(())
    }

    fn open_list(&self, items: usize, out: &mut Vec<u8>) {
        out.push(fixed(LIST_FIXED, items, MOST_FIXED_ITEMS).unwrap_or(LIST));
    }

    fn close_list(&self, items: usize, out: &mut Vec<u8>) {
        if items > MOST_FIXED_ITEMS {
            out.push(END);
        }
    }

    fn open_dict(&self, entries: usize, out: &mut Vec<u8>) {
        out.push(fixed(DICT_FIXED, entries, MOST_FIXED_ENTRIES).unwrap_or(DICT));
    }

    fn close_dict(&self, entries: usize, out: &mut Vec<u8>) {
        if entries > MOST_FIXED_ENTRIES {
            out.push(END);
        }
    }
}

impl Dialect {
    fn write_float(self, value: f64, out: &mut Vec<u8>) {
        match self {
            Self::Plus => {
                out.push(FLOAT64);
                out.extend_from_slice(&value.to_be_bytes());
            }
            Self::Plain => {
                out.push(FLOAT32);
                out.extend_from_slice(&(value as f32).to_be_bytes());
            }
        }
    }
}

fn write_int(value: i64, out: &mut Vec<u8>) {
    if let Some(code) = u8::try_from(value).ok().filter(|code| *code <= INT_LAST) {
        out.push(code);
    } else if let (-32..0, Ok(offset)) = (value, u8::try_from(-1 - value)) {
        out.push(NEGATIVE + offset);
    } else if let Ok(value) = i8::try_from(value) {
        out.push(INT8);
        out.extend_from_slice(&value.to_be_bytes());
    } else if let Ok(value) = i16::try_from(value) {
        out.push(INT16);
        out.extend_from_slice(&value.to_be_bytes());
    } else if let Ok(value) = i32::try_from(value) {
        out.push(INT32);
        out.extend_from_slice(&value.to_be_bytes());
    } else {
        out.push(INT64);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

fn write_text(bytes: &[u8], out: &mut Vec<u8>) {
    match fixed(TEXT_FIXED, bytes.len(), MOST_FIXED_ITEMS) {
        Some(code) => {
            out.push(code);
            out.extend_from_slice(bytes);
        }
        None => write_long(bytes, b':', out),
    }
}

fn write_long(bytes: &[u8], kind: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(bytes.len().to_string().as_bytes());
    out.push(kind);
    out.extend_from_slice(bytes);
}

/// The code of a type that carries its length, for lengths that fit.
fn fixed(code: u8, length: usize, most: usize) -> Option<u8> {
    u8::try_from(length).ok().filter(|_| length <= most).and_then(|length| code.checked_add(length))
}

const INT_LAST: u8 = 43;
const FLOAT64: u8 = 44;
const LIST: u8 = 59;
const DICT: u8 = 60;
const INTEGER: u8 = 61;
const INT8: u8 = 62;
const INT16: u8 = 63;
const INT32: u8 = 64;
const INT64: u8 = 65;
const FLOAT32: u8 = 66;
const TRUE: u8 = 67;
const FALSE: u8 = 68;
const NULL: u8 = 69;
const NEGATIVE: u8 = 70;
const DICT_FIXED: u8 = 102;
const END: u8 = 127;
const TEXT_FIXED: u8 = 128;
const LIST_FIXED: u8 = 192;
/// Of texts (in bytes) and lists.
const MOST_FIXED_ITEMS: usize = 63;
const MOST_FIXED_ENTRIES: usize = 24;
