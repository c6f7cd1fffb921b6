//! What a module keeps open for a client is open while its session lasts, and no longer.

use std::{
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{Crowd, Door, drive::Acceptor};
use crate::{
    Chain, Claim, Peer, Refusal, Verifier,
    config::Protocol,
    proto::{
        chain::{Answer, Exchange, Link, OpenExchange, Verdict},
        stay::Stay,
    },
    transport::{Address, Listener, Stream, UnixOptions},
};

/// A module that lets everybody in and keeps something open for each.
#[derive(Clone)]
pub(super) struct Opens {
    open: Arc<AtomicUsize>,
    ended: watch::Sender<bool>,
}

#[derive(Debug)]
struct Opened {
    open: Arc<AtomicUsize>,
    ended: watch::Receiver<bool>,
}

impl Opens {
    pub(super) fn new() -> Self {
        Self { open: Arc::default(), ended: watch::Sender::new(false) }
    }

    /// A socket that asks it.
    pub(super) fn acceptor(&self, protocol: Protocol) -> Acceptor {
        let link = Link::new("opens", Verifier::Exchange(Box::new(self.clone())));
        Acceptor::new(Arc::new(Chain::new(vec![link]).unwrap())).with_protocol(protocol)
    }

    /// How much is open.
    pub(super) fn count(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    pub(super) async fn until(&self, count: usize) {
        let reached = async {
            while self.count() != count {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, reached).await.unwrap();
    }

    /// All of it ends by itself.
    pub(super) fn end(&self) {
        self.ended.send_replace(true);
    }
}

impl OpenExchange for Opens {
    fn open(&self, _: &Peer, _: &Claim) -> Result<Box<dyn Exchange>, Refusal> {
        Ok(Box::new(self.clone()))
    }
}

impl Exchange for Opens {
    fn step(&mut self, _: Option<Answer>) -> Verdict {
        self.open.fetch_add(1, Ordering::SeqCst);
        let opened = Opened { open: Arc::clone(&self.open), ended: self.ended.subscribe() };
        Verdict::PassWith(None, Arc::new(opened))
    }
}

impl Stay for Opened {
    fn over(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut ended = self.ended.clone();
        Box::pin(async move {
            let _ = ended.wait_for(|ended| *ended).await;
        })
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Serves a door of `opens` in `folder`, before the daemon at `daemon` there.
pub(super) async fn door(folder: &Path, opens: &Opens, protocol: Protocol) -> JoinHandle<usize> {
    let address = Address::Unix(folder.join("door"));
    let listener = Listener::bind(&address, &UnixOptions::default()).await.unwrap();
    let backend = format!("unix:{}", folder.join("daemon").display()).parse().unwrap();
    let door = Door::new("door".into(), listener, opens.acceptor(protocol), Arc::new(backend));
    tokio::spawn(door.serve(Arc::new(Crowd::new(10)), std::future::pending(), std::future::pending()))
}

#[tokio::test]
async fn it_is_open_before_the_daemon_hears_of_the_client_and_until_both_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = UnixListener::bind(folder.path().join("daemon")).unwrap();
    let opens = Opens::new();
    let door = door(folder.path(), &opens, Protocol::Stream).await;
    let mut client = UnixStream::connect(folder.path().join("door")).await.unwrap();
    let (mut behind, _) = daemon.accept().await.unwrap();
    assert_eq!(opens.count(), 1);
    // Half a session is a session.
    client.write_all(b"x").await.unwrap();
    client.shutdown().await.unwrap();
    behind.read_to_end(&mut Vec::new()).await.unwrap();
    assert_eq!(opens.count(), 1);
    drop(behind);
    client.read_to_end(&mut Vec::new()).await.unwrap();
    opens.until(0).await;
    // Nobody is behind.
    drop(daemon);
    let mut client = UnixStream::connect(folder.path().join("door")).await.unwrap();
    let _ = client.read_to_end(&mut Vec::new()).await;
    opens.until(0).await;
    door.abort();
}

#[tokio::test]
async fn a_session_ends_with_what_was_kept_open_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = UnixListener::bind(folder.path().join("daemon")).unwrap();
    let opens = Opens::new();
    let door = door(folder.path(), &opens, Protocol::Stream).await;
    let mut client = UnixStream::connect(folder.path().join("door")).await.unwrap();
    let (mut behind, _) = daemon.accept().await.unwrap();
    opens.end();
    for stream in [&mut client, &mut behind] {
        let _ = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.unwrap();
    }
    opens.until(0).await;
    door.abort();
}

#[tokio::test]
async fn without_a_gateway_the_clients_stream_keeps_it() {
    let (mut client, ours) = UnixStream::pair().unwrap();
    let opens = Opens::new();
    let acceptor = opens.acceptor(Protocol::Stream);
    let admitted = acceptor.accept(Stream::new(ours), Peer::unix(None)).await.unwrap();
    let mut stream = admitted.into_stream().await.unwrap();
    stream.write_all(b"x").await.unwrap();
    client.read_exact(&mut [0]).await.unwrap();
    assert_eq!(opens.count(), 1);
    drop(stream);
    assert_eq!(opens.count(), 0);
}

const PATIENCE: Duration = Duration::from_secs(5);
