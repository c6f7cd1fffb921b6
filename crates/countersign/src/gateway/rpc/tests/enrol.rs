//! The calls that are answered here.

use super::*;
use crate::{
    Username,
    trust::{NewInvitation, NewPassphrase},
};

#[tokio::test]
async fn a_passphrase_lets_strangers_in_with_multipass_s_codes() {
    let mut rig = Rig::new().await;
    let mut owner = rig.connect(&key()).await;
    let get = GetRequest::new(PASSPHRASE_KEY);
    let reply = owner.call(path::GET, &get).await;
    assert_eq!((reply.code(), reply.message::<GetReply>().value.as_str()), (Code::Ok, ""));
    let set = |value: &str| SetRequest::new(PASSPHRASE_KEY, Secret::new(value));
    assert_eq!(owner.call(path::SET, &set("therewillbesecrets")).await.code(), Code::Ok);
    assert_eq!(owner.call(path::GET, &get).await.message::<GetReply>().value, "true");
    let mut stranger = rig.connect(&key()).await;
    assert_eq!(stranger.call(path::SET, &set("mine")).await.code(), Code::Unauthenticated);
    let authenticate = |text: &str| AuthenticateRequest::new(Secret::new(text));
    for wrong in ["therewillbesecret", "therewillbesecrets\0", ""] {
        let refused = stranger.call(path::AUTHENTICATE, &authenticate(wrong)).await;
        assert_eq!(refused.code(), Code::InvalidArgument, "{wrong:?}: {refused:?}");
    }
    assert_eq!(stranger.unary(ECHO, b"x").await.code(), Code::Unauthenticated);
    assert_eq!(stranger.call(path::AUTHENTICATE, &authenticate("therewillbesecrets")).await.code(), Code::Ok);
    // The connection that was refused works from this moment on.
    assert_eq!(stranger.unary(ECHO, b"x").await.data, b"x");
    assert_eq!(owner.call(path::SET, &set("")).await.code(), Code::Ok);
    assert_eq!(owner.call(path::GET, &get).await.message::<GetReply>().value, "");
    let mut late = rig.connect(&key()).await;
    assert_eq!(late.call(path::AUTHENTICATE, &authenticate("")).await.code(), Code::FailedPrecondition);
    assert_eq!(rig.store().entries().unwrap().len(), 2);
    while let Ok(seen) = rig.seen.try_recv() {
        assert!(matches!(&seen, Seen::Call(uri, _) if uri.ends_with(ECHO)), "the daemon heard {seen:?}");
    }
}

#[tokio::test]
async fn s_051_a_passphrase_is_judged_before_the_certificate_that_is_missing() {
    let rig = Rig::new().await;
    assert_eq!(rig.connect(&key()).await.unary(ECHO, b"").await.code(), Code::Ok);
    let mut nobody = rig.connect_as(None).await;
    let authenticate = |text: &str| AuthenticateRequest::new(Secret::new(text));
    assert_eq!(nobody.call(path::AUTHENTICATE, &authenticate("x")).await.code(), Code::FailedPrecondition);
    let new = NewPassphrase::new(Secret::new("therewillbesecrets"));
    rig.store().set_passphrase(Some(&new), "test").unwrap();
    let right = authenticate("therewillbesecrets");
    let refused = nobody.call(path::AUTHENTICATE, &right).await.status();
    assert!(refused.code == Code::Internal && refused.message.contains("no client certificate"), "{refused}");
    // Wrong ones are counted as anybody's: the first was one too (M4).
    for _ in 0..4 {
        let refused = nobody.call(path::AUTHENTICATE, &authenticate("wrong")).await.status();
        assert_eq!(refused.code, Code::InvalidArgument, "{refused}");
    }
    assert_eq!(nobody.call(path::AUTHENTICATE, &right).await.code(), Code::ResourceExhausted);
    let mut stranger = rig.connect(&key()).await;
    let same_source = stranger.call(path::AUTHENTICATE, &right).await;
    assert_eq!(same_source.code(), Code::ResourceExhausted, "the same source with a certificate");
    assert_eq!(rig.store().entries().unwrap().len(), 1);
}

#[tokio::test]
async fn s_051_an_invitation_is_not_spent_by_whoever_shows_no_certificate() {
    let rig = Rig::new().await;
    let name = Username::parse("bob").unwrap();
    let new = NewInvitation::new(name, i64::MAX, Fingerprint([1; 32]), "tls://gate:1");
    let token = rig.store().invite(new, "root").unwrap().1;
    let authenticate = AuthenticateRequest::new(Secret::new(token.expose().as_bytes()));
    let mut nobody = rig.connect_as(None).await;
    assert_eq!(nobody.call(path::AUTHENTICATE, &authenticate).await.code(), Code::Internal);
    let wrong = AuthenticateRequest::new(Secret::new("cs1-x"));
    assert_eq!(nobody.call(path::AUTHENTICATE, &wrong).await.code(), Code::InvalidArgument);
    let mut bob = rig.connect(&key()).await;
    assert_eq!(bob.call(path::AUTHENTICATE, &authenticate).await.code(), Code::Ok);
    assert_eq!(nobody.call(path::AUTHENTICATE, &authenticate).await.code(), Code::InvalidArgument, "spent");
}

#[tokio::test]
async fn s_035_an_accepted_certificate_vouches_for_its_successor_on_one_connection_only() {
    let rig = Rig::new().await;
    let (old, new) = (pair(), pair());
    assert_eq!(rig.connect(&old.0).await.unary(ECHO, b"").await.code(), Code::Ok);
    let certificate = old.0.cert[0].to_vec();
    let stream = rig.secured(Some(&new.0)).await;
    let binding = client_binding(&stream);
    let mut client = Rig::calling(stream).await;
    let fingerprint = Certificate::new(&new.0.cert[0]).fingerprint;
    let statement = |binding: &[u8]| RenewRequest::statement(binding, &fingerprint);
    let request = |by: &Pair, statement: &[u8]| RenewRequest::new(certificate.clone(), by.sign(statement));
    for wrong in [
        request(&new, &statement(&binding)),
        request(&old, &statement(b"another connection")),
        request(&old, b""),
        RenewRequest::new(certificate.clone(), b"".as_slice()),
    ] {
        assert_eq!(client.call(path::RENEW, &wrong).await.code(), Code::InvalidArgument);
    }
    assert_eq!(client.unary(ECHO, b"").await.code(), Code::Unauthenticated);
    // A key that nobody accepted vouches for nobody.
    let mine = RenewRequest::new(new.0.cert[0].to_vec(), new.sign(&statement(&binding)));
    assert_eq!(client.call(path::RENEW, &mine).await.code(), Code::PermissionDenied);
    assert_eq!(client.call(path::RENEW, &request(&old, &statement(&binding))).await.code(), Code::Ok);
    assert_eq!(client.unary(ECHO, b"new").await.data, b"new");
    let names: Vec<_> = rig.store().entries().unwrap().into_iter().map(|entry| entry.name).collect();
    assert!(names.len() == 2 && names[0] == names[1], "{names:?}");
}

#[tokio::test]
async fn certificates_enrol_at_sockets_of_other_protocols_and_nobody_else_notices() {
    let auth = ["require-tls=yes", "protocol=stream", "auth=certificate"];
    let rig = Rig::at("bind", "", &auth).await;
    let (owner, friend) = (key(), key());
    // Whatever protocol a client names, or none, it reaches the daemon as its own: here, HTTP/2.
    for protocols in [&["postgresql"][..], &[], &["h2", "http/1.1"]] {
        let mut client = Rig::calling(rig.naming(protocols, Some(&owner)).await).await;
        assert_eq!(client.unary(ECHO, b"x").await.data, b"x", "{protocols:?}");
    }
    let enrolling = ["countersign", "h2"];
    let mut owner = Rig::calling(rig.naming(&enrolling, Some(&owner)).await).await;
    let set = SetRequest::new(PASSPHRASE_KEY, Secret::new("therewillbesecrets"));
    assert_eq!(owner.call(path::SET, &set).await.code(), Code::Ok);
    assert_eq!(owner.call(path::PING, &PingRequest::default()).await.code(), Code::Ok);
    assert_eq!(owner.unary(ECHO, b"x").await.code(), Code::Unimplemented);
    let mut stranger = Rig::calling(rig.naming(&enrolling, Some(&friend)).await).await;
    assert_eq!(stranger.call(path::PING, &PingRequest::default()).await.code(), Code::Unauthenticated);
    let authenticate = AuthenticateRequest::new(Secret::new("therewillbesecrets"));
    assert_eq!(stranger.call(path::AUTHENTICATE, &authenticate).await.code(), Code::Ok);
    let mut friend = Rig::calling(rig.naming(&[], Some(&friend)).await).await;
    assert_eq!(friend.unary(ECHO, b"in").await.data, b"in");
}

#[tokio::test]
async fn settings_of_the_daemon_pass_with_what_was_read_of_them() {
    let mut rig = Rig::new().await;
    let mut client = rig.connect(&key()).await;
    let message =
        crate::proto::wire::multipass::framed(&SetRequest::new("local.driver", Secret::new("qemu")));
    let (feed, body) = Feed::later();
    let bytes = message.expose().to_vec();
    let sent = async {
        for byte in bytes.iter().chain(b"more") {
            feed.send(Frame::data(Bytes::copy_from_slice(&[*byte]))).await.unwrap();
        }
        drop(feed);
    };
    let (ended, ()) = tokio::join!(client.send(path::SET, HeaderMap::new(), body), sent);
    assert_eq!((ended.code(), ended.data), (Code::Ok, [&bytes[..], b"more"].concat()));
    let Seen::Call(uri, _) = rig.sees().await else { panic!("no call") };
    assert_eq!(uri, "http://localhost/multipass.Rpc/set");
    assert_eq!(client.call(path::GET, &GetRequest::new("local.driver")).await.code(), Code::Ok);
}
