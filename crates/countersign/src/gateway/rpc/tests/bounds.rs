//! What a client may send, how much of it, and by when: heads of messages, deadlines, floods.

use super::*;

#[tokio::test]
async fn s_019_a_message_is_judged_by_its_head() {
    let rig = Rig::new().await;
    let mut owner = rig.connect(&key()).await;
    assert_eq!(owner.unary(ECHO, b"").await.code(), Code::Ok);
    let mut stranger = rig.connect(&key()).await;
    for (head, code) in [
        (&[0, 0xff, 0xff, 0xff, 0xff][..], Code::ResourceExhausted),
        (&[0, 0, 1, 0, 1], Code::ResourceExhausted),
        (&[1, 0, 0, 0, 1], Code::Unimplemented),
        (&[7, 0, 0, 0, 1], Code::InvalidArgument),
        (&[0, 0, 0, 0, 1, 0xff], Code::InvalidArgument),
    ] {
        for (client, path) in [(&mut stranger, path::AUTHENTICATE), (&mut owner, path::SET)] {
            let (feed, body) = Feed::later();
            feed.send(Frame::data(Bytes::copy_from_slice(head))).await.unwrap();
            let call = client.send(path, HeaderMap::new(), body);
            assert_eq!(timeout(Duration::from_secs(1), call).await.unwrap().code(), code, "{head:?}");
        }
    }
    assert_eq!(stranger.unary(path::AUTHENTICATE, b"").await.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn s_001_a_call_without_its_message_ends_at_the_deadline() {
    let rig = Rig::with(&["handshake-timeout=1s", "login-timeout=2s"]).await;
    assert_eq!(rig.connect(&key()).await.unary(ECHO, b"").await.code(), Code::Ok);
    let start = Instant::now();
    let mut slow = rig.connect(&key()).await;
    let (feed, body) = Feed::later();
    feed.send(Frame::data(Bytes::from_static(b"\0\0\0\0\x05x"))).await.unwrap();
    let late = slow.start(path::AUTHENTICATE, HeaderMap::new(), body).await;
    if let Ok(response) = late {
        assert_eq!(finish(response).await.unwrap().code(), Code::DeadlineExceeded);
    }
    drop(feed);
    let _ = slow.connection.await;
    assert!((900..2500).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    // One that says nothing, and one whose calls are never accepted.
    let start = Instant::now();
    let silent = rig.connect(&key()).await;
    let mut refused = rig.connect(&key()).await;
    assert_eq!(refused.unary(ECHO, b"").await.code(), Code::Unauthenticated);
    let _ = silent.connection.await;
    assert!((900..1900).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    let _ = refused.connection.await;
    assert!((1900..3500).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
}

#[tokio::test]
async fn s_019_floods_and_bombs_end_the_connection_and_nothing_else() {
    let rig = Rig::new().await;
    let owner = key();
    let mut owner = rig.connect(&owner).await;
    assert_eq!(owner.unary(ECHO, b"").await.code(), Code::Ok);
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[a, b, c, kind, flags][..], &stream.to_be_bytes(), payload].concat()
    };
    // POST https / with an authority of one letter (RFC 7541, static table).
    let head = b"\x83\x87\x84\x41\x01x";
    let streams = || (1..4000_u32).step_by(2);
    let reset: Vec<u8> = streams()
        .flat_map(|stream| [frame(1, 4, stream, head), frame(3, 0, stream, &[0, 0, 0, 8])].concat())
        .collect();
    // One field of 200 bytes that the table keeps, named again and again: 15 KB a KB.
    let field = [&[0x40, 1, b'x', 0x7f, 73][..], &[b'y'; 200]].concat();
    let bomb = frame(1, 4, 1, &[&head[..], &field, &[0xbe; 8000]].concat());
    let unending: Vec<u8> = std::iter::once(frame(1, 0, 1, head))
        .chain((0..2000).map(|_| frame(9, 0, 1, &field)))
        .flatten()
        .collect();
    let attacks = [
        ("rapid reset", reset),
        ("pings", frame(6, 0, 0, &[0; 8]).repeat(2000)),
        ("settings", frame(4, 0, 0, &[]).repeat(2000)),
        ("priorities", frame(2, 0, 1, &[0, 0, 0, 3, 0]).repeat(2000)),
        ("empty data", [frame(1, 4, 1, head), frame(0, 0, 1, &[]).repeat(2000)].concat()),
        ("continuation", unending),
    ];
    for (name, attack) in attacks {
        let mut stream = rig.secured(Some(&key())).await;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
        let (mut read, mut write) = tokio::io::split(stream);
        let writing = tokio::spawn(async move {
            let _ = write.write_all(&attack).await;
            let _ = write.flush().await;
            std::future::pending::<()>().await;
        });
        let closed = timeout(Duration::from_secs(5), async {
            let mut sink = [0; 4096];
            while read.read(&mut sink).await.is_ok_and(|length| length > 0) {}
        });
        assert!(closed.await.is_ok(), "{name} goes on");
        writing.abort();
    }
    // Too many headers are refused; a small head in one frame, so nothing is lost by reading it.
    let mut stream = rig.secured(Some(&key())).await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&[frame(4, 0, 0, &[]), bomb].concat()).await.unwrap();
    let mut answer = vec![0; 4096];
    let length = timeout(Duration::from_secs(5), stream.read(&mut answer)).await.unwrap().unwrap();
    assert!(length > 0, "it is answered or reset, and decoded no further");
    assert_eq!(owner.unary(ECHO, b"fine").await.data, b"fine");
}
