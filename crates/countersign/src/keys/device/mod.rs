//! A security key on USB: found, and asked for keys and signatures.
//!
//! | file | holds |
//! |---|---|
//! | `hidraw` | reports to and from a device, by the kernel's `/dev/hidraw*` |
//! | `ctaphid` | messages in reports |
//! | `ctap1` | U2F's messages |
//! | `ctap2` | FIDO2's messages |
//!
//! Everything above the reports runs in the tests against a device in memory. `hidraw` is what they do not run:
//! there is no device where they do.

mod ctap1;
mod ctap2;
mod ctaphid;
#[cfg_attr(not(unix), path = "hidraw/absent.rs")]
mod hidraw;

use std::{fmt, io, time::Duration};

pub use ctaphid::REPORT;
use ctaphid::{Capability, Channel};

use super::{Algorithm, Assertion, Authenticator, KeyError, Kind, NewKey, Registered, Signing};

/// Reports of [`REPORT`] bytes, as they come and go on USB.
pub trait Reports: Send {
    /// Sends one.
    ///
    /// # Errors
    /// The device is gone.
    fn send(&mut self, report: &[u8; REPORT]) -> io::Result<()>;

    /// The next one, if it comes within this time.
    ///
    /// # Errors
    /// The device is gone.
    fn receive(&mut self, within: Duration) -> io::Result<Option<[u8; REPORT]>>;
}

/// A security key that is plugged in.
pub struct Device {
    channel: Channel,
    patience: Duration,
}

impl Device {
    /// The first security key of this machine. A person has `patience` to touch it.
    ///
    /// # Errors
    /// There is none, or none that we may open.
    pub fn find(patience: Duration) -> Result<Self, KeyError> {
        Self::over(hidraw::open_first()?, patience)
    }

    /// A security key behind these reports.
    ///
    /// # Errors
    /// It does not answer as one.
    pub fn over(reports: Box<dyn Reports>, patience: Duration) -> Result<Self, KeyError> {
        Ok(Self { channel: Channel::open(reports)?, patience })
    }

    /// Whether to speak CTAP2: what only U2F can is asked that way, and so is a device that knows no other.
    fn speaks_ctap2(&self, kind: Kind) -> bool {
        kind == Kind::Fido2 && self.channel.can(Capability::Ctap2)
    }
}

impl Authenticator for Device {
    fn register(&mut self, new: &NewKey<'_>) -> Result<Registered, KeyError> {
        if self.speaks_ctap2(new.kind) {
            return ctap2::register(&mut self.channel, new, self.patience);
        }
        if new.algorithm != Algorithm::Es256 {
            return Err(KeyError::Unable("U2F knows ES256 only".to_owned()));
        }
        ctap1::register(&mut self.channel, new, self.patience)
    }

    fn sign(&mut self, signing: &Signing<'_>) -> Result<Assertion, KeyError> {
        if self.speaks_ctap2(signing.kind) {
            ctap2::sign(&mut self.channel, signing, self.patience)
        } else {
            ctap1::sign(&mut self.channel, signing, self.patience)
        }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").field("patience", &self.patience).finish_non_exhaustive()
    }
}

/// What a device says that it may not.
fn broken(why: &'static str) -> KeyError {
    KeyError::Broken(why.to_owned())
}

#[cfg(test)]
mod tests;
