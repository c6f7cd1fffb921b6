//! Xpra's encryption at the client's end of a login. The first hello is in clear, so nothing that proves anything is in
//! it.

use std::io::{self, ErrorKind};

use crate::{
    proto::{
        client::{Failure, FailureKind},
        wire::xpra::{Caps, Packet, Value, WireError},
    },
    transport::{Disagreement, Stream},
};

/// Puts into a hello how this end wants to be written to.
pub(super) async fn announce(stream: &mut Stream, hello: &mut Packet) -> io::Result<()> {
    let Some(sealed) = stream.sealed() else { return Ok(()) };
    let announced = Value::from(sealed.announce(Caps::default()).await?);
    if let (Some(Value::Dict(caps)), Value::Dict(entries)) = (hello.items.first_mut(), announced) {
        caps.extend(entries);
    }
    Ok(())
}

/// Takes what the server announces in a challenge or in its hello. The answer to a request holds nothing of the kind:
/// the connection ends with it.
pub(super) async fn heed(stream: &mut Stream, caps: &Caps, is_answer: bool) -> Result<(), Failure> {
    let Some(sealed) = stream.sealed() else { return Ok(()) };
    match sealed.heed(caps).await {
        Ok(()) => Ok(()),
        Err(Disagreement::None) if is_answer => Ok(()),
        Err(Disagreement::None) => Err(in_clear()),
        Err(Disagreement::Unspoken(error)) => {
            let cause = format!("the server encrypts in a way that is not spoken here: {error}");
            Err(Failure::new(FailureKind::Forbidden, cause))
        }
        Err(Disagreement::OtherMode(mode)) => {
            let name = mode.name();
            let cause = format!("the server encrypts by AES-{name}, which is not the cipher that is wanted");
            Err(Failure::new(FailureKind::Forbidden, cause).with_fix(format!("use --encryption=AES-{name}")))
        }
        Err(Disagreement::Lost(error)) => Err(Failure::new(FailureKind::Ended, error.to_string())),
    }
}

/// Goes on after something that could not be decrypted, if a server may have said it in clear: why it refuses us.
pub(super) fn doubt(stream: &mut Stream, error: &io::Error) -> Result<(), Failure> {
    let why = error.get_ref().and_then(|source| source.downcast_ref::<WireError>());
    match (why, stream.sealed()) {
        (Some(WireError::Magic | WireError::Unencrypted), Some(sealed)) if !sealed.is_agreed() => {
            sealed.read_in_clear();
            Ok(())
        }
        _ => Err(undecipherable()),
    }
}

/// Whether a stream under encryption could not make sense of what came.
pub(super) fn is_doubtful(stream: &mut Stream, error: &io::Error) -> bool {
    error.kind() == ErrorKind::InvalidData && stream.sealed().is_some()
}

/// The server does not have our key, or somebody altered what it says.
pub(super) fn undecipherable() -> Failure {
    let cause = "what the server says cannot be decrypted: it has another key, or it was altered on the way";
    Failure::new(FailureKind::Forbidden, cause)
        .with_fix("check that --encryption-keyfile holds the server's key")
}

/// The server goes on in clear.
pub(super) fn in_clear() -> Failure {
    let fix = "leave --encryption out, or write encryption= on the server's socket";
    Failure::new(FailureKind::Forbidden, "the server does not encrypt").with_fix(fix)
}
