//! A running ssh-agent (draft-ietf-sshm-ssh-agent): which keys it has, and signatures by them. The keys
//! stay there.

use std::{
    io::{self, Read as _, Write as _},
    path::PathBuf,
    time::Duration,
};

use crate::{
    proto::mechanism::ssh_key::{Reader, put},
    sys::sockets::BlockingUnixStream,
};

/// Where an agent listens.
#[derive(Clone)]
pub(super) struct Agent(pub(super) PathBuf);

impl Agent {
    /// The public keys and certificates that it can sign with, in its order.
    pub(super) fn keys(&self) -> io::Result<Vec<Vec<u8>>> {
        let answer = self.ask(&[LIST])?;
        let mut reader = Reader::new(&answer);
        let mut keys = || {
            (reader.byte()? == KEYS).then_some(())?;
            let count = reader.u32()?;
            let mut keys = Vec::new();
            for _ in 0..count.min(MOST_KEYS) {
                let (key, _comment) = (reader.string()?.to_vec(), reader.string()?);
                keys.push(key);
            }
            Some(keys)
        };
        keys().ok_or_else(|| io::Error::other("the agent does not list its keys"))
    }

    /// A signature over `data`, as SSH encodes it; `None` if the agent, or who minds it, says no.
    pub(super) fn sign(&self, key: &[u8], data: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut request = vec![SIGN];
        put(&mut request, key);
        put(&mut request, data);
        // Only RSA keys look at it: never SHA-1.
        request.extend(RSA_SHA2_512.to_be_bytes());
        let answer = self.ask(&request)?;
        let mut reader = Reader::new(&answer);
        Ok((reader.byte() == Some(SIGNED)).then(|| reader.string().map(<[u8]>::to_vec)).flatten())
    }

    /// One question on a connection of its own.
    fn ask(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = BlockingUnixStream::connect(&self.0)?;
        // Somebody may have to be asked, or to touch a key.
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut message = Vec::with_capacity(request.len() + 4);
        put(&mut message, request);
        stream.write_all(&message)?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = u64::from(u32::from_be_bytes(length));
        if length > MOST_BYTES {
            return Err(io::Error::other("the agent's answer is too long"));
        }
        let mut answer = Vec::new();
        stream.take(length).read_to_end(&mut answer)?;
        Ok(answer)
    }
}

const LIST: u8 = 11;
const KEYS: u8 = 12;
const SIGN: u8 = 13;
const SIGNED: u8 = 14;
const RSA_SHA2_512: u32 = 4;

/// As OpenSSH's own limit on a message.
const MOST_BYTES: u64 = 256 * 1024;
const MOST_KEYS: u32 = 256;

/// As long as a server waits for a login.
const PATIENCE: Duration = Duration::from_secs(120);
