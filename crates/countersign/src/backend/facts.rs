//! Who is there, as JSON: for `builtin:whoami` and for the identity in the PROXY header.

use serde_json::{Value, json};

use super::SessionFacts;
use crate::{
    Grant,
    proto::peer::{Certificate, Peer},
};

/// The facts of a session as a JSON object, for a backend and for a client that asks who it is. No
/// secret is among them, and nothing that the client merely claims.
pub fn of(grant: &Grant, session: &SessionFacts) -> Value {
    let identity = grant.identity();
    let peer = grant.peer();
    let tls = peer
        .tls
        .as_ref()
        .map(|tls| json!({ "version": tls.version, "cipher": tls.cipher, "server_name": tls.server_name }));
    let encryption = tls.or_else(|| peer.aes.then(|| json!({ "version": "AES" })));
    json!({
        "user": identity.map(|identity| identity.name.as_str()),
        "uid": identity.and_then(|identity| identity.uid),
        "gid": identity.and_then(|identity| identity.gid),
        "proofs": proofs(grant),
        "peer": address(peer),
        "transport": session.transport,
        "confidential": peer.confidential,
        "encryption": encryption,
        "certificate": accepted_certificate(grant).map(fingerprint),
        "session": session.id,
    })
}

/// The same as metadata of a call (S-82).
pub(crate) fn metadata(grant: &Grant, session: &SessionFacts) -> Vec<(&'static str, String)> {
    let mut entries = vec![
        ("countersign-peer", address(grant.peer())),
        ("countersign-proofs", proofs(grant).join(",")),
        ("countersign-session", session.id.clone()),
        ("countersign-transport", session.transport.to_owned()),
    ];
    entries.extend(grant.identity().map(|identity| ("countersign-user", identity.name.to_string())));
    entries.extend(accepted_certificate(grant).map(|shown| ("countersign-certificate", fingerprint(shown))));
    entries
}

/// The links that passed, in order: `file:hmac+sha512`, or `hosts` where nothing was asked.
pub(super) fn proofs(grant: &Grant) -> Vec<String> {
    let text = |proof: &crate::proto::chain::Proof| match &proof.mechanism {
        Some(mechanism) => format!("{}:{mechanism}", proof.module),
        None => proof.module.to_owned(),
    };
    grant.proofs().iter().map(text).collect()
}

/// `192.0.2.7:51234`, or `unix:uid=1000`.
pub(super) fn address(peer: &Peer) -> String {
    peer.address().map_or_else(|| peer.to_string(), |address| address.to_string())
}

/// The client's certificate, if a link of the chain has accepted it. One that no link has judged
/// stands for nothing (S-39).
pub(super) fn accepted_certificate(grant: &Grant) -> Option<&Certificate> {
    let judged = grant.proofs().iter().any(|proof| proof.module == "certificate");
    grant.peer().certificate.as_ref().filter(|_| judged)
}

fn fingerprint(certificate: &Certificate) -> String {
    crate::transport::tls::Fingerprint(certificate.fingerprint).to_string()
}
