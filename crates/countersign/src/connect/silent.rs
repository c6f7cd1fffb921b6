//! Nothing of a login: a socket with `protocol=stream` lets in by what the transport proves, which from afar
//! is our certificate, and every byte is the daemon's.
//!
//! The twin of the gateway's `drive/silent.rs`. [`Connector::connect`] comes here where that was asked for.

use tokio::io::AsyncWriteExt as _;

use super::{
    dial::Reached,
    driver::{Connected, Connector, ServerFacts},
    error::{Cause, ConnectError},
};
use crate::proto::{
    client::FailureKind,
    wire::xpra::{Encoder, ServerHello},
};

impl Connector {
    /// Connects, and says to the daemon what it is to hear first and nothing else.
    pub(super) async fn connect_silently(&self, first: &[u8]) -> Result<Connected, ConnectError> {
        if self.requires_auth() {
            let why = "a server that asks for nothing does not show whether it lets everybody in";
            return Err(ConnectError::new(Cause::Usage, self.uri().to_string(), why)
                .with_fix("leave out --require-auth, or --protocol stream"));
        }
        let reached = self.dial().reach().await?;
        // The server judges that by itself: one that does not know us learns nothing of a next certificate.
        self.renew(&reached).await;
        let Reached { mut stream, confidential, verified, fingerprint, tls, shown, program, .. } = reached;
        if let Some(program) = program {
            program.let_go();
        }
        let broke = |error| ConnectError::broken(self.uri(), &error);
        stream.write_all(first).await.map_err(broke)?;
        stream.flush().await.map_err(broke)?;
        let server = ServerFacts {
            address: self.uri().to_string(),
            verified,
            confidential,
            fingerprint,
            tls,
            ssh: self.uri().ssh.is_some(),
            aes: false,
            shown,
            countersign: None,
            is_stream: true,
            answered: Vec::new(),
            encoder: Encoder::ALL[0],
            hello: ServerHello::default(),
        };
        Ok(Connected { stream, server })
    }

    /// A server that was told nothing and closes without a byte: nothing more can be known of why.
    pub(super) fn unheard(&self) -> ConnectError {
        let why =
            "the server closed the connection without a byte: it does not let us in, or its daemon ended it";
        ConnectError::new(Cause::Login(FailureKind::Closed), self.uri().to_string(), why).with_fix(
            "have your certificate accepted there (countersign authenticate), or look at the daemon",
        )
    }
}
