//! What a module keeps open for a call, which is judged by itself, is open until that call's end.

use tokio::{
    net::{UnixListener, UnixStream},
    sync::mpsc,
};

use super::*;
use crate::{
    config::Protocol,
    gateway::tests::{Opens, door},
    transport::Stream,
};

#[tokio::test]
async fn a_call_keeps_what_was_opened_for_it_and_ends_with_that() {
    let folder = tempfile::tempdir().unwrap();
    let (see, _seen) = mpsc::channel(100);
    let daemon = tokio::spawn(rig::serve(UnixListener::bind(folder.path().join("daemon")).unwrap(), see));
    let opens = Opens::new();
    let door = door(folder.path(), &opens, Protocol::Rpc).await;
    let stream = UnixStream::connect(folder.path().join("door")).await.unwrap();
    let mut client = Rig::calling(Stream::new(stream)).await;
    let (feed, body) = Feed::later();
    let mut response = client.start(ECHO, HeaderMap::new(), body).await.unwrap();
    assert_eq!(opens.count(), 1);
    assert_eq!(client.unary(ECHO, b"another").await.data, b"another");
    opens.until(1).await;
    feed.send(Frame::data("still".into())).await.unwrap();
    let frame = response.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "still");
    opens.end();
    assert_ne!(finish(response).await.unwrap().code(), Code::Ok);
    opens.until(0).await;
    door.abort();
    daemon.abort();
}
