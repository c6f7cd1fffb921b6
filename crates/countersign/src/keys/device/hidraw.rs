//! Reports by `/dev/hidraw*` (Linux): which devices are security keys is in their report descriptors.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::Path,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{REPORT, Reports};
use crate::keys::KeyError;

/// Opens the first security key.
pub(super) fn open_first() -> Result<Box<dyn Reports>, KeyError> {
    let mut closed = None;
    // Where there is no such folder there is no such device.
    for entry in std::fs::read_dir(CLASS).into_iter().flatten().flatten() {
        let descriptor = std::fs::read(entry.path().join("device/report_descriptor")).unwrap_or_default();
        if !is_security_key(&descriptor) {
            continue;
        }
        let path = Path::new("/dev").join(entry.file_name());
        match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => return Ok(Box::new(Raw(file))),
            Err(_) => closed = Some(path.display().to_string()),
        }
    }
    Err(KeyError::NoDevice { closed })
}

/// A device that is open.
struct Raw(File);

impl Reports for Raw {
    fn send(&mut self, report: &[u8; REPORT]) -> io::Result<()> {
        // The number of the report comes first; these devices number none.
        let mut numbered = [0; REPORT + 1];
        let (_, content) = numbered.split_at_mut(1);
        content.copy_from_slice(report);
        self.0.write_all(&numbered)
    }

    fn receive(&mut self, within: Duration) -> io::Result<Option<[u8; REPORT]>> {
        let within = Timespec::try_from(within).map_err(io::Error::other)?;
        if poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&within))? == 0 {
            return Ok(None);
        }
        let mut report = [0; REPORT];
        self.0.read_exact(&mut report)?;
        Ok(Some(report))
    }
}

/// Whether a report descriptor names the usage page of FIDO (CTAP 2.1, 11.2.8.2: 0xf1d0).
fn is_security_key(descriptor: &[u8]) -> bool {
    descriptor.starts_with(&[0x06, 0xd0, 0xf1])
}

const CLASS: &str = "/sys/class/hidraw";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn security_keys_are_known_by_their_descriptors() {
        let key = [0x06, 0xd0, 0xf1, 0x09, 0x01, 0xa1, 0x01, 0x09, 0x20, 0x15, 0x00];
        let keyboard = [0x05, 0x01, 0x09, 0x06, 0xa1, 0x01];
        assert!(is_security_key(&key));
        assert!(!is_security_key(&keyboard) && !is_security_key(&[]));
    }
}
