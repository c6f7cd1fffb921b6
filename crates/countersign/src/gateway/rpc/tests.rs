//! Real calls over TLS at a gateway, with a daemon behind it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use hyper::{
    HeaderMap,
    body::{Bytes, Frame},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep, timeout},
};

mod rig;

use http_body_util::BodyExt as _;
use rig::{Client, Feed, Pair, Rig, Seen, client_binding, finish, headers, key, pair};

use crate::{
    Secret,
    proto::{
        peer::Certificate,
        wire::multipass::{
            AuthenticateRequest, Code, GetReply, GetRequest, PASSPHRASE_KEY, PingRequest, RenewRequest,
            SetRequest, Status, path,
        },
    },
    transport::{Wire, tls::Fingerprint},
};

mod bounds;
mod enrol;
mod stays;

const ECHO: &str = "/test.T/Echo";

/// S-26, S-93: whoever is refused can name the record; what else it is told is the same for every connection.
#[tokio::test]
async fn s_093_a_refused_call_says_by_what_its_record_is_found_and_no_other_does() {
    let rig = Rig::new().await;
    let mut owner = rig.connect(&key()).await;
    let accepted = owner.unary(ECHO, b"first").await;
    let session =
        |ended: &rig::Ended| ended.head.get(Status::SESSION_HEADER).map(|id| id.to_str().unwrap().to_owned());
    assert_eq!(session(&accepted), None);
    let (mut one, mut other) = (rig.connect(&key()).await, rig.connect(&key()).await);
    let (first, again, others) =
        (one.unary(ECHO, b"").await, one.unary(path::GET, b"").await, other.unary(ECHO, b"").await);
    let id = session(&first).unwrap();
    assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert_eq!(session(&again), Some(id.clone()), "one connection, one id");
    let other_id = session(&others).unwrap();
    assert!(other_id != id && other_id.len() == id.len());
    let guess = AuthenticateRequest::new(Secret::new("no"));
    assert_eq!(session(&one.call(path::AUTHENTICATE, &guess).await), Some(id));
    let without_id = |mut ended: rig::Ended| {
        ended.head.remove(Status::SESSION_HEADER);
        ended.head
    };
    assert_eq!(without_id(first), without_id(others));
}

#[tokio::test]
async fn s_019_strangers_are_refused_before_the_daemon_hears_of_them_and_told_the_way_in() {
    let mut rig = Rig::new().await;
    let mut owner = rig.connect(&key()).await;
    assert_eq!(owner.unary(ECHO, b"first").await.data, b"first");
    assert!(matches!(rig.sees().await, Seen::Call(..)));
    let mut stranger = rig.connect(&key()).await;
    for path in [ECHO, "/no.Such/Method", path::GET, path::SET] {
        let refused = stranger.unary(path, b"").await;
        assert_eq!(refused.code(), Code::Unauthenticated);
        assert!(refused.status().message.contains("countersign authenticate"), "{refused:?}");
        assert!(refused.trailers.is_empty(), "the status comes in the head");
    }
    let ping = stranger.call(path::PING, &PingRequest::default()).await.status();
    assert_eq!((ping.code, ping.message.as_str()), (Code::Unauthenticated, ""));
    let mut nobody = rig.connect_as(None).await;
    let refused = nobody.unary(ECHO, b"").await.status();
    assert_eq!(refused.code, Code::Unauthenticated);
    assert!(refused.message.contains("no client certificate"), "{refused}");
    assert!(rig.seen.try_recv().is_err(), "the daemon heard of a stranger");
}

#[tokio::test]
async fn m5_whoever_administers_the_machine_is_told_who_came_first() {
    // The tests run as root or as the gateway's own user.
    let rig = Rig::new().await;
    assert_eq!(rig.connect(&key()).await.unary(ECHO, b"").await.code(), Code::Ok);
    let entry = rig.store().entries().unwrap().remove(0);
    let mut stranger = rig.connect(&key()).await;
    let refused = stranger.unary(ECHO, b"").await.status();
    let first = format!("first here was {} (uid {}), ", entry.name, entry.uid.unwrap());
    assert!(refused.message.starts_with(&first), "{refused}");
    let digits = &entry.fingerprint.to_string()[..16];
    for words in [digits, "trust list", "trust remove", "trust add --self", "countersign authenticate"] {
        assert!(refused.message.contains(words), "{words}: {refused}");
    }
    // Nobody can enrol, and the one who could change that came first.
    let guess = AuthenticateRequest::new(Secret::new("guess"));
    let refused = stranger.call(path::AUTHENTICATE, &guess).await.status();
    assert!(refused.message.starts_with(&first) && refused.code == Code::FailedPrecondition, "{refused}");
    let ping = stranger.call(path::PING, &PingRequest::default()).await.status();
    assert_eq!(ping.message, "");
    rig.store().forget(&entry.fingerprint).unwrap();
    let refused = stranger.unary(ECHO, b"").await.status();
    assert!(refused.message.starts_with("this client is not accepted: "), "{refused}");
}

#[tokio::test]
async fn s_051_ping_and_authenticate_take_no_first_place() {
    let rig = Rig::new().await;
    let (one, other) = (key(), key());
    let mut first = rig.connect(&one).await;
    assert_eq!(first.call(path::PING, &PingRequest::default()).await.code(), Code::Unauthenticated);
    let guess = AuthenticateRequest::new(Secret::new("guess"));
    assert_eq!(first.call(path::AUTHENTICATE, &guess).await.code(), Code::FailedPrecondition);
    assert!(rig.store().is_pristine());
    let mut second = rig.connect(&other).await;
    assert_eq!(second.unary(ECHO, b"x").await.code(), Code::Ok);
    assert_eq!(first.unary(ECHO, b"x").await.code(), Code::Unauthenticated);
    assert_eq!(second.call(path::PING, &PingRequest::default()).await.code(), Code::Ok);
}

#[tokio::test]
async fn s_082_who_is_there_is_told_by_the_gateway_alone() {
    let mut rig = Rig::new().await;
    let mut client = rig.connect(&key()).await;
    let forged = headers(&[("countersign-user", "root"), ("countersign_uid", "0"), ("x-mine-bin", "AAEC")]);
    let (feed, body) = Feed::later();
    let sent = async {
        feed.send(Frame::data(Bytes::from_static(b"hi"))).await.unwrap();
        let trailers = headers(&[("countersign-user", "root"), ("x-last", "kept")]);
        feed.send(Frame::trailers(trailers)).await.unwrap();
        drop(feed);
    };
    let (ended, ()) = tokio::join!(client.send(ECHO, forged, body), sent);
    let Seen::Call(uri, head) = rig.sees().await else { panic!("no call") };
    assert_eq!(uri, "http://localhost/test.T/Echo");
    let users: Vec<_> = head.get_all("countersign-user").iter().collect();
    let entry = rig.store().entries().unwrap().remove(0);
    assert_eq!(users, [entry.name.as_str()]);
    assert_eq!(head["countersign-certificate"], entry.fingerprint.to_string());
    assert_eq!(
        (&head["countersign-proofs"], &head["countersign-transport"]),
        ("certificate".parse().as_ref().unwrap(), "rpc".parse().as_ref().unwrap())
    );
    assert!(head["countersign-peer"].to_str().unwrap().starts_with("unix:uid="));
    assert!(head.contains_key("countersign-session") && !head.contains_key("countersign_uid"));
    assert_eq!((&head["x-mine-bin"], &head["te"]), (&"AAEC".parse().unwrap(), &"trailers".parse().unwrap()));
    let Seen::Trailers(trailers) = rig.sees().await else { panic!("no trailers") };
    assert_eq!(trailers, headers(&[("x-last", "kept")]));
    assert_eq!(
        (&ended.head["x-begin"], &ended.trailers["x-end-bin"]),
        (&"here".parse().unwrap(), &"AAEC".parse().unwrap())
    );
}

#[tokio::test]
async fn messages_pass_one_by_one_in_both_directions_before_either_side_ends() {
    let rig = Rig::new().await;
    let mut client = rig.connect(&key()).await;
    let (feed, body) = Feed::later();
    feed.send(Frame::data(Bytes::from_static(b"0"))).await.unwrap();
    let mut response = client.start(ECHO, HeaderMap::new(), body).await.unwrap();
    for round in 1..20_u8 {
        let frame = timeout(Duration::from_secs(5), response.frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap().len(), 1);
        feed.send(Frame::data(Bytes::from(vec![round]))).await.unwrap();
    }
    drop(feed);
    assert_eq!(finish(response).await.unwrap().code(), Code::Ok);
}

#[tokio::test]
async fn many_messages_have_one_answer_and_one_message_has_many() {
    let rig = Rig::new().await;
    let mut client = rig.connect(&key()).await;
    let (feed, body) = Feed::later();
    let sent = async {
        for _ in 0..10 {
            feed.send(Frame::data(Bytes::from_static(b"piece"))).await.unwrap();
        }
        drop(feed);
    };
    let (counted, ()) = tokio::join!(client.send("/test.T/Count", HeaderMap::new(), body), sent);
    assert_eq!((counted.code(), counted.data.as_slice()), (Code::Ok, &b"50"[..]));
    let repeated = client.unary("/test.T/Repeat", b"piece").await;
    assert_eq!((repeated.code(), repeated.data), (Code::Ok, b"piece".repeat(10)));
}

#[tokio::test]
async fn a_deadline_reaches_the_daemon_and_its_end_the_client() {
    let mut rig = Rig::new().await;
    let mut client = rig.connect(&key()).await;
    let start = Instant::now();
    let within = headers(&[("grpc-timeout", "300m")]);
    let late = client.send("/test.T/Late", within, Feed::whole(b"x")).await;
    assert_eq!(late.status().to_string(), "DEADLINE_EXCEEDED: too late");
    assert!(start.elapsed() >= Duration::from_millis(300));
    let Seen::Call(_, head) = rig.sees().await else { panic!("no call") };
    assert_eq!(head["grpc-timeout"], "300m");
    assert_eq!(client.unary(ECHO, b"y").await.data, b"y", "the connection goes on");
}

#[tokio::test]
async fn s_037_a_client_with_tls_1_2_and_nothing_but_p_256_is_served() {
    let rig = Rig::new().await;
    let stream = rig.secured_by_old_client(&key()).await;
    let Wire::TlsClient(tls) = stream.wire() else { panic!("no TLS") };
    let connection = tls.get_ref().1;
    assert_eq!(connection.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_2));
    let group = connection.negotiated_key_exchange_group().map(|group| group.name());
    assert_eq!(group, Some(rustls::NamedGroup::secp256r1));
    let mut client = Rig::calling(stream).await;
    assert_eq!(client.unary(ECHO, b"x").await.data, b"x");
}

#[tokio::test]
async fn a_daemon_behind_tls_is_called_as_one_without() {
    let mut rig = Rig::with_secured_daemon().await;
    let mut client = rig.connect(&key()).await;
    assert_eq!(client.unary(ECHO, b"x").await.data, b"x");
    let Seen::Call(uri, _) = rig.sees().await else { panic!("no call") };
    assert_eq!(uri, "https://localhost/test.T/Echo");
    assert_eq!(client.unary("/test.T/Fail", b"").await.status().to_string(), "NOT_FOUND: no such");
}

#[tokio::test]
async fn a_failure_of_the_daemon_arrives_as_it_is() {
    let rig = Rig::new().await;
    let mut client = rig.connect(&key()).await;
    let failed = client.unary("/test.T/Fail", b"").await;
    assert_eq!(failed.status().to_string(), "NOT_FOUND: no such");
    assert_eq!(failed.head["grpc-status-details-bin"], "CAUS");
}

#[tokio::test]
async fn a_call_that_the_client_gives_up_ends_at_the_daemon() {
    let mut rig = Rig::new().await;
    let mut client = rig.connect(&key()).await;
    let given_up = timeout(Duration::from_millis(200), client.unary("/test.T/Hang", b"")).await;
    assert!(given_up.is_err());
    assert!(matches!(rig.sees().await, Seen::Call(..)));
    assert!(matches!(rig.sees().await, Seen::Cancelled));
    let (feed, body) = Feed::later();
    feed.send(Frame::data(Bytes::from_static(b"x"))).await.unwrap();
    let response = client.start(ECHO, HeaderMap::new(), body).await.unwrap();
    assert!(matches!(rig.sees().await, Seen::Call(..)));
    drop(response);
    drop(feed);
    assert_eq!(client.unary(ECHO, b"y").await.data, b"y", "the connection goes on");
}

#[tokio::test]
async fn s_086_sixteen_megabytes_pass_and_a_client_that_does_not_read_stops_the_daemon() {
    let rig = Rig::new().await;
    let mut client = rig.connect(&key()).await;
    let large: Vec<u8> = (0..16_usize << 20).map(|at| (at % 251) as u8).collect();
    let ended = client.unary(ECHO, &large).await;
    assert!(ended.data == large && ended.code() == Code::Ok);
    let (feed, body) = Feed::later();
    let _unread = client.start(ECHO, HeaderMap::new(), body).await.unwrap();
    let piece = Bytes::from(vec![0; 64 << 10]);
    let mut taken = 0;
    while timeout(Duration::from_millis(300), feed.send(Frame::data(piece.clone()))).await.is_ok() {
        taken += piece.len();
        assert!(taken < 16 << 20, "nothing stops the sender");
    }
    assert_eq!(client.unary(ECHO, b"y").await.data, b"y", "other calls go on");
}

#[tokio::test]
async fn five_hundred_calls_at_once_share_one_connection_to_the_daemon() {
    let rig = Rig::new().await;
    let key = key();
    assert_eq!(rig.connect(&key).await.unary(ECHO, b"").await.code(), Code::Ok);
    let client = rig.connect(&key).await;
    let mut calls = tokio::task::JoinSet::new();
    let gate = Arc::new(tokio::sync::Barrier::new(500));
    for number in 0..500_u32 {
        let (sender, gate) = (client.sender.clone(), Arc::clone(&gate));
        calls.spawn(async move {
            let mut client = Client { sender, connection: tokio::spawn(async { true }) };
            let (feed, body) = Feed::later();
            feed.send(Frame::data(Bytes::from(number.to_be_bytes().to_vec()))).await.unwrap();
            let response = client.start(ECHO, HeaderMap::new(), body).await.unwrap();
            // All of them are open now.
            timeout(Duration::from_secs(20), gate.wait()).await.unwrap();
            drop(feed);
            let ended = finish(response).await.unwrap();
            assert_eq!(
                (ended.data, ended.trailers["grpc-status"].as_bytes()),
                (number.to_be_bytes().to_vec(), &b"0"[..])
            );
        });
    }
    calls.join_all().await;
}

#[tokio::test]
async fn s_040_a_certificate_that_is_taken_back_ends_its_calls_at_once_and_the_next_are_refused() {
    let mut rig = Rig::new().await;
    let mut client = rig.connect(&key()).await;
    let (feed, body) = Feed::later();
    feed.send(Frame::data(Bytes::from_static(b"x"))).await.unwrap();
    let mut response = client.start(ECHO, HeaderMap::new(), body).await.unwrap();
    assert!(response.frame().await.unwrap().is_ok());
    let mut other = Client { sender: client.sender.clone(), connection: tokio::spawn(async { true }) };
    let waiting = tokio::spawn(async move { other.unary("/test.T/Hang", b"").await });
    sleep(Duration::from_millis(200)).await;
    let fingerprint: Fingerprint = rig.store().entries().unwrap()[0].fingerprint;
    let start = Instant::now();
    rig.store().revoke(&fingerprint, "lost").unwrap();
    let ended = finish(response).await.unwrap();
    assert_eq!(ended.code(), Code::Unauthenticated);
    assert_eq!(waiting.await.unwrap().code(), Code::Unauthenticated);
    assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
    let next = client.unary(ECHO, b"").await.status();
    assert!(next.code == Code::Unauthenticated && next.message.contains("taken back"), "{next}");
    rig.store().amend(&fingerprint, |entry| entry.revoked = None).unwrap();
    assert_eq!(client.unary(ECHO, b"back").await.data, b"back");
    drop(feed);
    assert!(matches!(rig.sees().await, Seen::Call(..)));
}

#[tokio::test]
async fn s_040_the_end_of_an_entry_ends_its_calls_in_time_and_the_next_are_refused() {
    let rig = Rig::new().await;
    let mut client = rig.connect(&key()).await;
    let (feed, body) = Feed::later();
    feed.send(Frame::data(Bytes::from_static(b"x"))).await.unwrap();
    let mut response = client.start(ECHO, HeaderMap::new(), body).await.unwrap();
    assert!(response.frame().await.unwrap().is_ok());
    let fingerprint = rig.store().entries().unwrap()[0].fingerprint;
    let end = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 2;
    rig.store().amend(&fingerprint, |entry| entry.expires = Some(end.try_into().unwrap())).unwrap();
    let ended = finish(response).await.unwrap();
    let after = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + Duration::from_secs(end));
    assert_eq!(ended.code(), Code::Unauthenticated);
    assert!(after.as_ref().is_ok_and(|after| *after < Duration::from_millis(100)), "{after:?}");
    assert_eq!(client.unary(ECHO, b"").await.code(), Code::Unauthenticated);
    rig.store().amend(&fingerprint, |entry| entry.expires = None).unwrap();
    assert_eq!(client.unary(ECHO, b"back").await.data, b"back");
    drop(feed);
}

#[tokio::test]
async fn s_040_the_end_of_an_entry_ends_a_stream_that_was_handed_over() {
    let rig = Rig::at("bind", "", &["require-tls=yes", "protocol=stream", "auth=certificate"]).await;
    let stream = rig.naming(&[], Some(&key())).await;
    // The daemon's first words (HTTP/2's settings) show that the stream is its.
    let (mut reader, mut writer) = tokio::io::split(stream);
    writer.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut byte = [0];
    reader.read_exact(&mut byte).await.unwrap();
    let fingerprint = rig.store().entries().unwrap()[0].fingerprint;
    let end = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 2;
    rig.store().amend(&fingerprint, |entry| entry.expires = Some(end.try_into().unwrap())).unwrap();
    let ended = async { while matches!(reader.read(&mut byte).await, Ok(1)) {} };
    timeout(Duration::from_secs(5), ended).await.unwrap();
    let after = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + Duration::from_secs(end));
    assert!(after.as_ref().is_ok_and(|after| *after < Duration::from_millis(100)), "{after:?}");
}

#[tokio::test]
async fn s_086_a_daemon_that_is_down_is_told_in_one_text_and_found_again() {
    let mut rig = Rig::new().await;
    let mut client = rig.connect(&key()).await;
    assert_eq!(client.unary(ECHO, b"").await.code(), Code::Ok);
    rig.stop_daemon().await;
    let start = Instant::now();
    let down = client.unary(ECHO, b"").await.status();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(down.to_string(), "UNAVAILABLE: the service is not available, try again later");
    rig.start_daemon();
    assert_eq!(client.unary(ECHO, b"again").await.data, b"again");
    rig.stop_daemon().await;
    rig.start_daemon();
    assert_eq!(client.unary(ECHO, b"anew").await.data, b"anew");
}

#[tokio::test]
async fn s_097_a_gateway_that_ends_lets_calls_finish_and_takes_no_new_ones() {
    let mut rig = Rig::new().await;
    let mut client = rig.connect(&key()).await;
    let (feed, body) = Feed::later();
    feed.send(Frame::data(Bytes::from_static(b"x"))).await.unwrap();
    let mut response = client.start(ECHO, HeaderMap::new(), body).await.unwrap();
    assert!(response.frame().await.unwrap().is_ok());
    let finishing = tokio::spawn(async move {
        sleep(Duration::from_millis(300)).await;
        drop(feed);
        finish(response).await.unwrap().code()
    });
    rig.stop().await;
    assert_eq!(finishing.await.unwrap(), Code::Ok);
    assert!(client.connection.await.unwrap(), "it ended in order");
}

#[tokio::test]
async fn a_socket_without_a_daemon_says_so_and_a_chain_without_certificates_takes_none() {
    let rig = Rig::with(&["auth=none"]).await;
    let mut client = rig.connect_as(None).await;
    assert_eq!(client.unary(ECHO, b"x").await.data, b"x");
    let guess = AuthenticateRequest::new(Secret::new("x"));
    assert_eq!(client.call(path::AUTHENTICATE, &guess).await.code(), Code::FailedPrecondition);
    let get = GetRequest::new(PASSPHRASE_KEY);
    assert_eq!(client.call(path::GET, &get).await.code(), Code::FailedPrecondition);
}
