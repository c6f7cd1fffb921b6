//! What is said in the clear before TLS where a protocol has it so: PostgreSQL, by `starttls=postgres`.
//!
//! Clients before version 17 know no other way: eight bytes ask for TLS, one answers. Nothing that came
//! in the clear is kept: what follows the answer is the beginning of TLS, or the end (the injection of
//! CVE-2021-23214).

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Patience, broken};
use crate::{Refusal, proto::error::Reason, transport::Stream};

/// Answers a PostgreSQL client's request for TLS. A client that begins with anything else has not been
/// answered, and its bytes are still there.
pub(super) async fn postgres(stream: &mut Stream, patience: &mut Patience) -> Result<(), Refusal> {
    // A client with a Kerberos ticket asks for GSSAPI's encryption before, once.
    for _ in 0..2 {
        let mut request = [0; REQUEST];
        let read = patience.wait(stream.read_exact(&mut request)).await;
        read.ok_or_else(late)?.map_err(|error| broken(&error))?;
        let answer = match request {
            FOR_TLS => b'S',
            FOR_GSSAPI => b'N',
            _ => {
                stream.unread(request.to_vec());
                return Ok(());
            }
        };
        let answered = async {
            stream.write_all(&[answer]).await?;
            stream.flush().await
        };
        patience.wait(answered).await.ok_or_else(late)?.map_err(|error| broken(&error))?;
        if request == FOR_TLS {
            return Ok(());
        }
    }
    Ok(())
}

fn late() -> Refusal {
    Refusal::new(Reason::Timeout, "TLS was not asked for in time")
}

/// The first record of TLS is longer: reading so much waits for nobody who speaks it at once.
const REQUEST: usize = 8;
/// `SSLRequest`: the length and 80877103 (PostgreSQL documentation 55.7).
const FOR_TLS: [u8; REQUEST] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// `GSSENCRequest`: the length and 80877104.
const FOR_GSSAPI: [u8; REQUEST] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];
