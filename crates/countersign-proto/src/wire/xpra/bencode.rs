//! bencode, as 3.1 writes it: keys in any order, integers as keys, booleans as integers.

use super::input::{self, Input};
use super::tree::{Token, Write};
use super::{Value, WireError};

pub(super) fn token(input: &mut Input<'_>) -> Result<Token, WireError> {
    Ok(match input.byte()? {
        b'i' => Token::Scalar(input.integer(b'e')?),
        b'l' => Token::List(None),
        b'd' => Token::Dict(None),
        b'e' => Token::End,
        // Text that says so; written by nobody, read by 3.1.
        b'u' => {
            let first = input.byte()?;
            Token::Scalar(input::text(string(first, input)?)?)
        }
        first @ b'0'..=b'9' => Token::Scalar(input::text_or_bytes(string(first, input)?)),
        _ => return Err(WireError::Code),
    })
}

fn string<'a>(first: u8, input: &mut Input<'a>) -> Result<&'a [u8], WireError> {
    match input.length(first)? {
        (length, b':') => input.take(length),
        _ => Err(WireError::Length),
    }
}

pub(super) struct Bencode;

impl Write for Bencode {
    fn scalar(&self, value: &Value, out: &mut Vec<u8>) -> Result<(), WireError> {
        match value {
            Value::Bool(value) => write_integer(if *value { "1" } else { "0" }, out),
            Value::Int(value) => write_integer(&value.to_string(), out),
            Value::BigInt(digits) => write_integer(digits.as_str(), out),
            other => {
                let bytes = other.as_bytes().ok_or(WireError::Unrepresentable)?;
                out.extend_from_slice(bytes.len().to_string().as_bytes());
                out.push(b':');
                out.extend_from_slice(bytes);
            }
        }
        Ok(())
    }

    fn open_list(&self, _: usize, out: &mut Vec<u8>) {
        out.push(b'l');
    }

    fn close_list(&self, _: usize, out: &mut Vec<u8>) {
        out.push(b'e');
    }

    fn open_dict(&self, _: usize, out: &mut Vec<u8>) {
        out.push(b'd');
    }

    fn close_dict(&self, _: usize, out: &mut Vec<u8>) {
        out.push(b'e');
    }
}

fn write_integer(digits: &str, out: &mut Vec<u8>) {
    out.push(b'i');
    out.extend_from_slice(digits.as_bytes());
    out.push(b'e');
}
