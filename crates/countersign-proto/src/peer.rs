//! What the transport proves about the other side of a connection.

use std::{fmt, net::SocketAddr, sync::Arc};

use crate::secret::Secret;

/// The facts that a transport established. Nothing in it but [`Peer::http`] is the peer's own word.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Peer {
    /// Where the peer is, as the kernel says.
    pub origin: Origin,
    /// Whether nobody but the two ends can read the bytes: a local socket or an encrypted wire.
    /// Loopback TCP is not confidential (S-33).
    pub confidential: bool,
    /// The certificate whose private key the peer proved to hold, if the wire is TLS and it sent one.
    pub certificate: Option<Certificate>,
    /// `tls-exporter` channel binding data (RFC 9266), if the wire is TLS 1.3 and a link of the chain
    /// says that it compares them ([`OpenExchange::binds_channel`](crate::chain::OpenExchange)).
    pub channel_binding: Option<Arc<[u8]>>,
    /// TLS version, cipher suite and server name, if the wire is TLS.
    pub tls: Option<TlsFacts>,
    /// Whether the wire is SSH, whose own login carries the conversation: a key that is answered with is one that
    /// the peer has signed for this session with.
    pub ssh: bool,
    /// Whether the packets are under Xpra's AES. It is confidential, and nothing more is proved by it.
    pub aes: bool,
    /// What the request said that the connection became a WebSocket by: the peer's word, which counts only from
    /// a proxy that is known to set it.
    pub http: Option<Arc<HttpFields>>,
    /// Whether it is a hop that the socket is configured to believe, and has announced nobody: it is not counted by
    /// where it comes from (S-83).
    pub hop: bool,
}

impl Peer {
    /// A peer on a Unix stream socket. Local sockets are confidential.
    pub fn unix(credentials: Option<Credentials>) -> Self {
        Self::new(Origin::Unix(credentials), true)
    }

    /// A peer on a TCP connection, in the clear until [`Peer::encrypted`] says otherwise.
    ///
    /// IPv4-mapped addresses are IPv4 (S-24).
    pub fn tcp(remote: SocketAddr, local: SocketAddr) -> Self {
        Self::new(Origin::Tcp { remote: unmap(remote), local: unmap(local) }, false)
    }

    /// A peer on a vsock connection. Only the hypervisor stands between the ends, so nobody else reads the bytes (S-33).
    pub fn vsock(cid: u32, port: u32) -> Self {
        Self::new(Origin::Vsock { cid, port }, true)
    }

    /// The same peer inside TLS.
    #[must_use]
    pub fn encrypted(
        mut self,
        tls: TlsFacts,
        certificate: Option<Certificate>,
        channel_binding: Option<Arc<[u8]>>,
    ) -> Self {
        self.confidential = true;
        self.tls = Some(tls);
        self.certificate = certificate;
        self.channel_binding = channel_binding;
        self
    }

    /// The same peer inside SSH.
    #[must_use]
    pub fn in_ssh(mut self) -> Self {
        (self.confidential, self.ssh) = (true, true);
        self
    }

    /// The same peer under Xpra's AES.
    #[must_use]
    pub fn under_aes(self) -> Self {
        Self { confidential: true, aes: true, ..self }
    }

    fn new(origin: Origin, confidential: bool) -> Self {
        let (certificate, channel_binding, tls, http) = (None, None, None, None);
        let (ssh, aes, hop) = (false, false, false);
        Self { origin, confidential, certificate, channel_binding, tls, ssh, aes, http, hop }
    }

    /// The kernel's credentials of a local peer.
    pub fn credentials(&self) -> Option<&Credentials> {
        match &self.origin {
            Origin::Unix(credentials) => credentials.as_ref(),
            Origin::Tcp { .. } | Origin::Vsock { .. } => None,
        }
    }

    /// The network address of a remote peer.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.origin {
            Origin::Unix(_) | Origin::Vsock { .. } => None,
            Origin::Tcp { remote, .. } => Some(remote),
        }
    }
}

/// `tcp:192.0.2.7:51234`, `vsock:3:1025`, or `unix:uid=1000` with the numeric uid.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Unix(Some(credentials)) => write!(f, "unix:uid={}", credentials.uid),
            Origin::Unix(None) => f.write_str("unix"),
            Origin::Tcp { remote, .. } => write!(f, "tcp:{remote}"),
            Origin::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
        }
    }
}

/// Where a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A Unix stream socket, with the peer's credentials if the system has them.
    Unix(Option<Credentials>),
    /// A TCP connection.
    Tcp {
        /// The peer's address.
        remote: SocketAddr,
        /// Our own address on that connection.
        local: SocketAddr,
    },
    /// A vsock connection: a virtual machine, or the host of ours.
    Vsock {
        /// The machine's context id, as the hypervisor gives it. A number to compare, and nobody's name (S-63).
        cid: u32,
        /// The port that its program has. On Linux no proof of anything.
        port: u32,
    },
}

/// Kernel credentials of a local peer at the time it connected (S-63).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Credentials {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Supplementary groups, where the kernel tells them (`SO_PEERGROUPS`).
    pub groups: Option<Vec<u32>>,
    /// Process id. For logs only: it may be reused (S-63, W20).
    pub pid: Option<i32>,
}

impl Credentials {
    /// Credentials without supplementary groups or process id.
    pub fn new(uid: u32, gid: u32) -> Self {
        Self { uid, gid, groups: None, pid: None }
    }

    /// The same credentials with the supplementary groups that the kernel told.
    #[must_use]
    pub fn with_groups(mut self, groups: Option<Vec<u32>>) -> Self {
        self.groups = groups;
        self
    }

    /// The same credentials with a process id for the log.
    #[must_use]
    pub fn with_pid(mut self, pid: Option<i32>) -> Self {
        self.pid = pid;
        self
    }
}

/// A certificate, possession of whose key was proved by the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Certificate {
    /// The whole certificate in DER.
    pub der: Arc<[u8]>,
    /// SHA-256 of `der`: what a trust store compares (S-39).
    pub fingerprint: [u8; 32],
    /// What the peer sent after it, in DER: perhaps the way to an authority, perhaps nothing of the
    /// kind. Nobody has looked at them; at most [`MOST_INTERMEDIATES`] of [`LARGEST_CERTIFICATE`].
    pub intermediates: Arc<[Arc<[u8]>]>,
}

/// Certificates that a peer may send after its own. Paths to an authority have one or two.
pub const MOST_INTERMEDIATES: usize = 8;

/// Bytes of one certificate that is read; real ones have 400 to 4,000.
pub const LARGEST_CERTIFICATE: usize = 16 * 1024;

impl Certificate {
    /// Wraps a certificate that a TLS handshake verified the possession of.
    pub fn new(der: &[u8]) -> Self {
        use sha2::{Digest as _, Sha256};
        Self { der: der.into(), fingerprint: Sha256::digest(der).into(), intermediates: Arc::default() }
    }

    /// The same with what the peer sent after it. What is beyond the limits is left out, so that a
    /// path through it is not found.
    #[must_use]
    pub fn with_intermediates<'a>(mut self, sent: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let fits = |der: &&[u8]| der.len() <= LARGEST_CERTIFICATE;
        self.intermediates = sent.into_iter().take(MOST_INTERMEDIATES).filter(fits).map(Arc::from).collect();
        self
    }
}

/// Facts of a TLS connection, for records and for the backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsFacts {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// The cipher suite's name.
    pub cipher: &'static str,
    /// The name the client asked for (SNI).
    pub server_name: Option<String>,
}

impl TlsFacts {
    /// The facts of one connection.
    pub fn new(version: &'static str, cipher: &'static str, server_name: Option<String>) -> Self {
        Self { version, cipher, server_name }
    }
}

/// Fields of an HTTP request, as far as a link of the chain reads them.
#[derive(Debug, Default)]
pub struct HttpFields(Vec<(String, Secret)>);

impl HttpFields {
    /// Names and values, in the order in which they came.
    pub fn new(fields: Vec<(String, Secret)>) -> Self {
        Self(fields)
    }

    /// The values of a field; the case of its name does not matter. They may prove something by being known.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &Secret> {
        self.0.iter().filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

fn unmap(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_033_loopback_tcp_is_not_confidential_and_local_sockets_are() {
        let address = "127.0.0.1:1".parse().unwrap();
        let tcp = Peer::tcp(address, address);
        assert!(!tcp.confidential);
        assert!(Peer::unix(None).confidential && Peer::vsock(3, 1025).confidential);
        assert!(tcp.encrypted(TlsFacts::default(), None, None).confidential);
    }

    #[test]
    fn s_039_what_is_sent_after_a_certificate_is_bounded() {
        let (small, large) = (vec![1; LARGEST_CERTIFICATE], vec![2; LARGEST_CERTIFICATE + 1]);
        let sent = std::iter::once(&*large).chain(std::iter::repeat_n(&*small, 20));
        let certificate = Certificate::new(b"leaf").with_intermediates(sent);
        assert_eq!(certificate.intermediates.len(), MOST_INTERMEDIATES - 1);
        assert!(certificate.intermediates.iter().all(|der| **der == *small));
    }

    #[test]
    fn s_063_a_machine_on_vsock_is_a_number_and_no_user() {
        let peer = Peer::vsock(3, 1025);
        assert!(peer.credentials().is_none() && peer.address().is_none());
        assert_eq!(peer.to_string(), "vsock:3:1025");
    }

    #[test]
    fn s_024_ipv4_mapped_is_ipv4() {
        let peer = Peer::tcp("[::ffff:192.0.2.7]:9".parse().unwrap(), "[::1]:1".parse().unwrap());
        assert_eq!(peer.to_string(), "tcp:192.0.2.7:9");
    }
}
