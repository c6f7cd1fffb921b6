//! Messages in reports of 64 bytes (CTAP 2.1, 11.2): a channel of one's own, requests and their answers.

use std::time::{Duration, Instant};

use super::{Reports, broken};
use crate::keys::KeyError;

/// The length of a report in bytes.
pub const REPORT: usize = 64;

/// A channel to a device.
pub(super) struct Channel {
    reports: Box<dyn Reports>,
    id: [u8; 4],
    capabilities: u8,
}

/// What a device can do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Capability {
    /// CTAP2's messages.
    Ctap2 = 0x04,
    /// No messages of U2F.
    NoCtap1 = 0x08,
}

/// The kind of a message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Command {
    /// U2F's.
    Ctap1 = 0x83,
    /// A new channel.
    Init = 0x86,
    /// CTAP2's.
    Ctap2 = 0x90,
    /// Nobody waits for the answer any more.
    Cancel = 0x91,
}

impl Channel {
    /// Asks the device for a channel.
    pub(super) fn open(reports: Box<dyn Reports>) -> Result<Self, KeyError> {
        let mut nonce = [0; 8];
        getrandom::fill(&mut nonce).map_err(|_| broken("the system gives no random bytes"))?;
        let mut channel = Self { reports, id: BROADCAST, capabilities: 0 };
        let until = Instant::now() + PROMPTLY;
        channel.send(Command::Init, &nonce)?;
        // Others may be asking the same device at the same time: their answers have other nonces.
        loop {
            let answer = channel.receive(Command::Init, until)?;
            let Some(rest) = answer.strip_prefix(&nonce) else { continue };
            let (id, rest) = rest.split_first_chunk::<4>().ok_or_else(|| broken("it gives no channel"))?;
            let capabilities = *rest.get(4).ok_or_else(|| broken("it does not say what it can do"))?;
            return Ok(Self { id: *id, capabilities, ..channel });
        }
    }

    /// Whether the device says so of itself.
    pub(super) fn can(&self, capability: Capability) -> bool {
        self.capabilities & capability as u8 != 0
    }

    /// Sends a message and waits for the answer.
    ///
    /// # Errors
    /// [`KeyError::NobodyThere`] if it does not come in time; the device is told that it need not come.
    pub(super) fn call(
        &mut self,
        command: Command,
        message: &[u8],
        until: Instant,
    ) -> Result<Vec<u8>, KeyError> {
        self.send(command, message)?;
        let answer = self.receive(command, until);
        if matches!(answer, Err(KeyError::NobodyThere)) {
            self.send(Command::Cancel, &[])?;
        }
        answer
    }

    /// 11.2.4: the first report has the command and the length, those after it a number each.
    fn send(&mut self, command: Command, message: &[u8]) -> Result<(), KeyError> {
        let length = u16::try_from(message.len()).ok().filter(|length| usize::from(*length) <= LONGEST);
        let length = length.ok_or_else(|| broken("the message is longer than a device reads"))?.to_be_bytes();
        let (first, rest) = message.split_at(message.len().min(REPORT - 7));
        self.report(&[&self.id[..], &[command as u8], &length, first].concat())?;
        for (number, part) in (0..=0x7f_u8).zip(rest.chunks(REPORT - 5)) {
            self.report(&[&self.id[..], &[number], part].concat())?;
        }
        Ok(())
    }

    fn report(&mut self, content: &[u8]) -> Result<(), KeyError> {
        let mut report = [0; REPORT];
        report.iter_mut().zip(content).for_each(|(to, from)| *to = *from);
        self.reports
            .send(&report)
            .map_err(|error| KeyError::Broken(format!("it cannot be written to: {error}")))
    }

    /// The next whole message of this kind on this channel.
    fn receive(&mut self, command: Command, until: Instant) -> Result<Vec<u8>, KeyError> {
        loop {
            let content = self.next(until)?;
            let [kind, high, low, first @ ..] = content.as_slice() else {
                return Err(broken("it sends too little"));
            };
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            match *kind {
                // It still waits for a hand, or computes.
                KEEPALIVE => {}
                ERROR => return Err(fault(first.first().copied().unwrap_or_default())),
                kind if kind == command as u8 && length <= LONGEST => return self.rest(first, length, until),
                kind if kind == command as u8 => {
                    return Err(broken("its answer is longer than a message can be"));
                }
                // What is left of an earlier answer.
                _ => {}
            }
        }
    }

    /// The message that begins with `first`.
    fn rest(&mut self, first: &[u8], length: usize, until: Instant) -> Result<Vec<u8>, KeyError> {
        let mut message = first.to_owned();
        let mut number = 0;
        while message.len() < length {
            let content = self.next(until)?;
            match content.split_first() {
                Some((found, part)) if *found == number => message.extend_from_slice(part),
                _ => return Err(broken("parts of its answer are missing")),
            }
            number += 1;
        }
        message.truncate(length);
        Ok(message)
    }

    /// What is behind the channel in the next report that is ours.
    fn next(&mut self, until: Instant) -> Result<Vec<u8>, KeyError> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let received = self.reports.receive(left);
            let received =
                received.map_err(|error| KeyError::Broken(format!("it cannot be read: {error}")))?;
            let report = received.ok_or(KeyError::NobodyThere)?;
            if let Some(content) = report.strip_prefix(&self.id) {
                return Ok(content.to_owned());
            }
            if left.is_zero() {
                return Err(KeyError::NobodyThere);
            }
        }
    }
}

/// 11.2.9.1.6.
fn fault(code: u8) -> KeyError {
    match code {
        0x01 => KeyError::Unable("it does not know this command".to_owned()),
        0x05 => KeyError::NobodyThere,
        0x06 => broken("another program is asking it"),
        _ => KeyError::Broken(format!("it answers with error {code:#04x}")),
    }
}

/// The channel for those who have none yet.
const BROADCAST: [u8; 4] = [0xff; 4];

const KEEPALIVE: u8 = 0xbb;
const ERROR: u8 = 0xbf;

/// What one first and 128 further reports hold.
const LONGEST: usize = REPORT - 7 + 128 * (REPORT - 5);

/// How long a device may take where nobody has to touch it.
const PROMPTLY: Duration = Duration::from_secs(3);
