//! Requests and responses as lines of JSON, read within a limit.
//!
//! A request is one line. A response is one line too, but for lists: each item of a list is a line of
//! its own, so that no list is too long, and the last line is the response without them.

use std::io::{self, BufRead, Read as _};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    listed::{Der, Listed, ListedInvitation},
    message::Response,
    penalties::ListedPenalty,
    running::OpenSession,
};

/// One line of a response.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Part {
    Entry(Box<Listed>),
    Certificate(Der),
    Invitation(Box<ListedInvitation>),
    Penalty(ListedPenalty),
    Session(Box<OpenSession>),
    /// The last one.
    End(Response),
}

/// A value as one line. The buffer is erased when it is dropped; it does not grow for a secret.
pub(super) fn line(value: &impl Serialize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(ROOM));
    serde_json::to_writer(&mut *line, value)?;
    line.push(b'\n');
    Ok(line)
}

/// The lines of a response, in order.
pub(super) fn lines(mut response: Response) -> impl Iterator<Item = io::Result<Zeroizing<Vec<u8>>>> {
    let parts: Vec<Part> = match &mut response {
        Response::Entries { entries, .. } => {
            std::mem::take(entries).into_iter().map(|entry| Part::Entry(Box::new(entry))).collect()
        }
        Response::Certificates(all) => std::mem::take(all).into_iter().map(Part::Certificate).collect(),
        Response::Invitations(all) => {
            std::mem::take(all).into_iter().map(|one| Part::Invitation(Box::new(one))).collect()
        }
        Response::Penalties { penalties, .. } => {
            std::mem::take(penalties).into_iter().map(Part::Penalty).collect()
        }
        Response::Sessions(all) => {
            std::mem::take(all).into_iter().map(|one| Part::Session(Box::new(one))).collect()
        }
        _ => Vec::new(),
    };
    parts.into_iter().chain([Part::End(response)]).map(|part| line(&part))
}

/// Puts a response together again.
///
/// # Errors
/// The stream ends early, or holds something else.
pub(super) fn read_response(mut from: impl BufRead) -> io::Result<Response> {
    let (mut found, mut certificates, mut invited) = (Vec::new(), Vec::new(), Vec::new());
    let (mut penalised, mut sessions) = (Vec::new(), Vec::new());
    loop {
        let line = read_line(&mut from)?;
        match parse::<Part>(&line)? {
            Part::Entry(entry) => found.push(*entry),
            Part::Certificate(certificate) => certificates.push(certificate),
            Part::Invitation(invitation) => invited.push(*invitation),
            Part::Penalty(penalty) => penalised.push(penalty),
            Part::Session(session) => sessions.push(*session),
            Part::End(Response::Entries { first_place_free, .. }) => {
                return Ok(Response::Entries { first_place_free, entries: found });
            }
            Part::End(Response::Certificates(_)) => return Ok(Response::Certificates(certificates)),
            Part::End(Response::Sessions(_)) => return Ok(Response::Sessions(sessions)),
            Part::End(Response::Invitations(_)) => return Ok(Response::Invitations(invited)),
            Part::End(Response::Penalties { refused, .. }) => {
                return Ok(Response::Penalties { refused, penalties: penalised });
            }
            Part::End(response) => return Ok(response),
        }
    }
}

fn read_line(from: &mut impl BufRead) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(ROOM));
    from.take(LONGEST as u64 + 1).read_until(b'\n', &mut line)?;
    match line.last() {
        Some(b'\n') => Ok(line),
        _ if line.len() > LONGEST => Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long")),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Reads one line. The parser's own words are left out: they could repeat a part of a secret.
///
/// # Errors
/// It is not what it should be.
pub(super) fn parse<T: for<'de> Deserialize<'de>>(line: &[u8]) -> io::Result<T> {
    serde_json::from_slice(line)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a line is no message of this protocol"))
}

/// Bytes of a line with its end.
pub(super) const LONGEST: usize = 1024 * 1024;
/// Bytes that every message with a secret fits into.
pub(super) const ROOM: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Secret, control::Request};

    #[test]
    fn a_secret_survives_the_way_and_its_buffer_never_grows() {
        let passphrase = "x\"\\\u{0}ü".repeat(160) + "end";
        let request =
            Request::SetPassphrase { passphrase: Secret::new(&*passphrase), expires: Some(7), uses: None };
        let line = line(&request).unwrap();
        assert!(line.len() < ROOM && line.capacity() == ROOM);
        let Request::SetPassphrase { passphrase: read, expires: Some(7), uses: None } = parse(&line).unwrap()
        else {
            panic!()
        };
        assert!(read.matches(passphrase.as_bytes()));
    }

    #[test]
    fn s_088_neither_a_request_nor_a_wrong_line_repeats_a_secret() {
        let request =
            Request::SetPassphrase { passphrase: Secret::new("canary-7Qx"), expires: None, uses: None };
        let shown = format!("{request:?}");
        assert!(!shown.contains("canary") && !shown.contains("Y2FuYXJ5"), "{shown}");
        let broken = r#"{"set-passphrase":{"passphrase":"canary-7Qx","extra":1}}"#;
        let error = parse::<Request>(broken.as_bytes()).unwrap_err();
        assert!(!error.to_string().contains("canary"), "{error}");
    }

    #[test]
    fn lists_have_no_limit_and_lines_have_one() {
        let certificates: Vec<Der> = (0..5000_u16).map(|i| Der(i.to_le_bytes().repeat(300))).collect();
        let all = lines(Response::Certificates(certificates.clone())).map(Result::unwrap);
        let bytes: Vec<u8> = all.flat_map(|line| line.to_vec()).collect();
        assert!(bytes.len() > 3 * LONGEST);
        let Response::Certificates(read) = read_response(&*bytes).unwrap() else { panic!() };
        assert_eq!(read, certificates);
        assert_eq!(
            read_response(&bytes[..bytes.len() - 1]).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        let long = vec![b'x'; LONGEST + 1];
        assert_eq!(read_response(&*long).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
