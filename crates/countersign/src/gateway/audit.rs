//! The record of every decision, for people and for programs that watch logs.
//!
//! One record leaves for each login, before its session starts (S-93), and one for the session's
//! end: into the log, and into the audit trail where there is one ([`crate::trail`]). The text line keeps its form
//! for good: ban tools match it. What a client said of itself is escaped, so it can forge neither a line nor a
//! field (S-89).

use std::{fmt, sync::Arc, time::Duration};

use serde::Serialize;

use super::{
    drive::Turned,
    handover::Ended,
    tally::{Open, Tally},
};
use crate::{
    Grant, Peer, Refusal,
    proto::{error::Reason, peer::Origin},
    source::hex,
    trail::Trail,
};

/// Where records go.
#[derive(Clone, Debug, Default)]
pub struct Auditor {
    trail: Option<Trail>,
    tally: Arc<Tally>,
}

impl Auditor {
    /// Into the log, and into `trail`.
    pub fn new(trail: Option<Trail>) -> Self {
        Self { trail, tally: Arc::default() }
    }

    /// The same, and counted in `tally`.
    #[must_use]
    pub(super) fn counting(mut self, tally: Arc<Tally>) -> Self {
        self.tally = tally;
        self
    }

    /// Counts a connection, of which there is no record before it is decided upon.
    pub(super) fn connection(&self) -> Open {
        self.tally.note_connection()
    }

    /// Records that a client was let in.
    ///
    /// # Errors
    /// The policy of the trail requires the record and it cannot be kept: the client is refused (S-93).
    pub async fn accepted(&self, decision: &Decision) -> Result<(), Refusal> {
        if let Some(trail) = &self.trail
            && let Err(unkept) = trail.keep(LOGIN, decision).await
        {
            let refusal = Refusal::new(Reason::Unrecorded, unkept.to_string());
            let turned = Decision {
                outcome: "refused",
                reason: Some(refusal.reason.code()),
                cause: Some(refusal.cause.to_string()),
                ..decision.clone()
            };
            turned.log();
            self.tally.note(&turned);
            // A disk that was too slow may still write down that the client got in.
            trail.note(LOGIN, &turned);
            return Err(refusal);
        }
        decision.log();
        self.tally.note(decision);
        Ok(())
    }

    /// Records that a client was turned away.
    pub fn refused(&self, decision: &Decision) {
        decision.log();
        self.tally.note(decision);
        if let Some(trail) = &self.trail {
            trail.note(LOGIN, decision);
        }
    }

    /// Records that a certificate was accepted on its own request (S-56).
    pub fn enrolled(&self, socket: &str, session: &str, peer: &Peer, user: &str, way: &'static str) {
        let certificate = peer.certificate.as_ref().map(|certificate| hex(&certificate.fingerprint));
        if let Some(trail) = &self.trail {
            let peer = peer.to_string();
            let fields = Enrolled { session, socket, peer, certificate: certificate.as_deref(), user, way };
            trail.note("enrolled", &fields);
        }
        tracing::info!(
            target: AUDIT,
            session,
            socket,
            peer = %peer,
            certificate,
            user,
            way,
            "countersign: certificate accepted from {} user {user:?} socket {socket} by {way} session {session}",
            from(peer),
        );
    }

    /// Records that a client set the passphrase, or unset it.
    pub fn passphrase_set(&self, session: &str, by: &str, unset: bool) {
        let done = if unset { "unset" } else { "set" };
        if let Some(trail) = &self.trail {
            trail.note("passphrase", &PassphraseSet { session, by, done });
        }
        tracing::info!(target: AUDIT, session, by, "countersign: passphrase {done} by {by:?} session {session}");
    }

    /// Records the end of a session.
    pub fn session_ended(&self, session: &str, ended: &Ended, lasted: Duration) {
        let seconds = lasted.as_secs_f64();
        self.tally.note_bytes(ended.to_backend, ended.to_client);
        if let Some(trail) = &self.trail {
            let Ended { to_backend, to_client, .. } = *ended;
            let reason = ended.reason.to_string();
            trail.note("session_ended", &SessionEnded { session, reason, to_backend, to_client, seconds });
        }
        tracing::info!(
            target: AUDIT,
            session,
            reason = %ended.reason,
            to_backend = ended.to_backend,
            to_client = ended.to_client,
            seconds,
            "session {session} ended: {}",
            ended.reason,
        );
    }
}

#[derive(Serialize)]
struct Enrolled<'a> {
    session: &'a str,
    socket: &'a str,
    peer: String,
    certificate: Option<&'a str>,
    user: &'a str,
    way: &'a str,
}

#[derive(Serialize)]
struct PassphraseSet<'a> {
    session: &'a str,
    by: &'a str,
    done: &'a str,
}

#[derive(Serialize)]
struct SessionEnded<'a> {
    session: &'a str,
    reason: String,
    to_backend: u64,
    to_client: u64,
    seconds: f64,
}

/// A decision about a client at a socket.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Decision {
    /// `accepted` or `refused`.
    pub outcome: &'static str,
    /// The stable reason code of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// The private cause of a refusal, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The session's id: joins the records of one connection.
    pub session: String,
    /// The socket as it is configured.
    pub socket: String,
    /// Where the client is, as the kernel says: `tcp:192.0.2.7:51234`, `unix:uid=1000`.
    pub peer: String,
    /// The part of it that a ban tool acts on: an address, or `uid=1000`.
    #[serde(skip)]
    pub from: String,
    /// `TLSv1.3`, `ssh`, `local` or `none`.
    pub encryption: &'static str,
    /// The name the client claims. Its own word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
    /// The name that was verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The links that passed, with their mechanisms: `peercred`, `file:hmac+sha512`.
    pub proofs: Vec<String>,
    /// The link that refused, of how many: `2/2 pam`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// SHA-256 of the client's certificate, lower-case hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// From accept to the decision.
    pub seconds: f64,
}

impl Decision {
    /// A client was let in.
    pub fn accepted(socket: &str, session: &str, grant: &Grant, took: Duration) -> Self {
        let claimed = grant.claim().username.as_ref().map(ToString::to_string);
        Self {
            outcome: "accepted",
            user: grant.identity().map(|identity| identity.name.to_string()),
            proofs: grant.proofs().iter().map(proof).collect(),
            ..Self::new(socket, session, grant.peer(), claimed, took)
        }
    }

    /// A client was turned away.
    ///
    /// `links` is the length of the socket's chain.
    pub fn refused(socket: &str, session: &str, turned: &Turned, links: usize, took: Duration) -> Self {
        let Refusal { reason, cause, link, .. } = &turned.refusal;
        Self {
            outcome: "refused",
            reason: Some(reason.code()),
            cause: Some(cause.to_string()),
            link: link.map(|(index, module)| format!("{index}/{links} {module}")),
            ..Self::new(socket, session, &turned.peer, turned.username.clone(), took)
        }
    }

    fn new(socket: &str, session: &str, peer: &Peer, claimed: Option<String>, took: Duration) -> Self {
        let encryption = match &peer.tls {
            Some(tls) => tls.version,
            None if peer.ssh => "ssh",
            None if peer.aes => "aes",
            None if peer.confidential => "local",
            None => "none",
        };
        Self {
            outcome: "",
            reason: None,
            cause: None,
            session: session.to_owned(),
            socket: socket.to_owned(),
            peer: peer.to_string(),
            from: from(peer),
            encryption,
            claimed,
            user: None,
            proofs: Vec::new(),
            link: None,
            certificate: peer.certificate.as_ref().map(|certificate| hex(&certificate.fingerprint)),
            seconds: took.as_secs_f64(),
        }
    }

    /// Writes the record to the log: the JSON as a field, the stable line as the message.
    ///
    /// Nothing is put into words where nobody listens.
    fn log(&self) {
        let json = || serde_json::to_string(self).unwrap_or_default();
        match self.reason {
            None => tracing::info!(target: AUDIT, record = json(), "{self}"),
            Some("peer_left") => tracing::debug!(target: AUDIT, record = json(), "{self}"),
            Some(_) => tracing::warn!(target: AUDIT, record = json(), "{self}"),
        }
    }
}

/// `countersign: auth failure from 192.0.2.7 user "bob" socket tcp:0.0.0.0:10000 link 2/2 pam ...`.
impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.reason.is_none() { "success" } else { "failure" };
        write!(f, "countersign: auth {word} from {}", self.from)?;
        if let Some(user) = self.user.as_ref().or(self.claimed.as_ref()) {
            write!(f, " user {user:?}")?;
        }
        write!(f, " socket {}", self.socket)?;
        if let Some(link) = &self.link {
            write!(f, " link {link}")?;
        }
        match self.reason {
            Some(reason) => write!(f, " reason {reason}")?,
            None if self.proofs.is_empty() => {}
            None => write!(f, " by {}", self.proofs.join(","))?,
        }
        write!(f, " session {}", self.session)
    }
}

/// What the trail calls a decision.
const LOGIN: &str = "login";

/// The log target that an audit sink selects.
pub const AUDIT: &str = "countersign::audit";

fn proof(proof: &crate::proto::chain::Proof) -> String {
    match &proof.mechanism {
        Some(mechanism) => format!("{}:{mechanism}", proof.module),
        None => proof.module.to_owned(),
    }
}

fn from(peer: &Peer) -> String {
    if let Origin::Vsock { cid, .. } = peer.origin {
        return format!("cid={cid}");
    }
    match (peer.address(), peer.credentials()) {
        (Some(address), _) => address.ip().to_string(),
        (None, Some(credentials)) => format!("uid={}", credentials.uid),
        (None, None) => "local".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn s_089_a_hostile_name_forges_neither_a_line_nor_a_field() {
        let peer = Peer::tcp("192.0.2.7:5".parse().unwrap(), "192.0.2.1:10000".parse().unwrap());
        let turned = Turned {
            refusal: Refusal::new(Reason::WrongSecret, "no").at(2, "pam"),
            peer: Arc::new(peer),
            username: Some("bob\" socket x\n\u{1b}[2Jauth success".into()),
        };
        let decision = Decision::refused("tcp:0.0.0.0:10000", "s1", &turned, 2, Duration::from_millis(1100));
        let line = decision.to_string();
        assert_eq!(
            line,
            r#"countersign: auth failure from 192.0.2.7 user "bob\" socket x\n\u{1b}[2Jauth success" "#
                .to_owned()
                + "socket tcp:0.0.0.0:10000 link 2/2 pam reason wrong_secret session s1"
        );
        assert!(!serde_json::to_string(&decision).unwrap().contains('\n'));
    }
}
