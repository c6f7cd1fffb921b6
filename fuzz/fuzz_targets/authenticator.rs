//! What a security key on USB answers: reports, messages in them, and CBOR in those.
#![no_main]

use std::{collections::VecDeque, io, time::Duration};

use countersign::keys::{
    Algorithm, Authenticator as _, Kind, NewKey, Signing,
    device::{Device, REPORT, Reports},
};
use libfuzzer_sys::fuzz_target;

/// A device that opens its channel as it should and answers then with what there is: as messages in well-formed
/// reports, or as reports.
struct Odd {
    as_messages: bool,
    capabilities: u8,
    answers: VecDeque<Vec<u8>>,
    out: VecDeque<[u8; REPORT]>,
}

impl Odd {
    fn put(&mut self, parts: &[&[u8]]) {
        let mut report = [0; REPORT];
        report.iter_mut().zip(parts.concat()).for_each(|(to, from)| *to = from);
        self.out.push_back(report);
    }

    fn answer(&mut self, command: u8) {
        let Some(answer) = self.answers.pop_front() else { return };
        if !self.as_messages {
            answer.chunks(REPORT).for_each(|report| self.put(&[report]));
            return;
        }
        let (first, rest) = answer.split_at(answer.len().min(57));
        let length = u16::try_from(answer.len()).unwrap_or(u16::MAX).to_be_bytes();
        self.put(&[&ID, &[command], &length, first]);
        for (number, part) in (0..128).zip(rest.chunks(59)) {
            self.put(&[&ID, &[number], part]);
        }
    }
}

impl Reports for Odd {
    fn send(&mut self, report: &[u8; REPORT]) -> io::Result<()> {
        match report[4] {
            INIT => {
                let capabilities = self.capabilities;
                self.put(&[&report[..4], &[INIT, 0, 17], &report[7..15], &ID, &[2, 1, 0, 0, capabilities]]);
            }
            // The first report of a message.
            command if command & 0x80 != 0 => self.answer(command),
            _ => {}
        }
        Ok(())
    }

    fn receive(&mut self, _: Duration) -> io::Result<Option<[u8; REPORT]>> {
        match self.out.pop_front() {
            Some(report) => Ok(Some(report)),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, input)) = input.split_first() else { return };
    let answers = split(input).into();
    let device =
        Odd { as_messages: choice & 1 != 0, capabilities: choice & 4, answers, out: VecDeque::new() };
    let Ok(mut device) = Device::over(Box::new(device), Duration::from_millis(50)) else { return };
    let kind = if choice & 8 == 0 { Kind::Fido2 } else { Kind::U2f };
    if choice & 16 == 0 {
        let algorithm = if choice & 32 == 0 { Algorithm::Es256 } else { Algorithm::EdDsa };
        let _ = device.register(&NewKey { kind, app_id: "Xpra", user: "alice", algorithm });
    } else {
        let signing = Signing { kind, app_id: "Xpra", client_data_hash: [7; 32], handle: &[9; 16] };
        let _ = device.sign(&signing);
    }
});

/// Several answers, with a mark between them.
fn split(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    while let Some(at) = bytes.windows(MARK.len()).position(|part| part == MARK) {
        parts.push(bytes[..at].to_vec());
        bytes = &bytes[at + MARK.len()..];
    }
    parts.push(bytes.to_vec());
    parts
}

const ID: [u8; 4] = [1, 2, 3, 4];
const INIT: u8 = 0x86;
const MARK: &[u8] = b"<NEXT>";
