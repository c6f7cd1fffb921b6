//! Xpra's encryption at a real socket: who speaks it, who does not, and who meddles with it.

use super::*;
use crate::{
    proto::chain::CheckPassword,
    proto::mechanism,
    proto::wire::xpra::{
        Caps, Value,
        cipher::{Cipher, Mode, Opener, Parameters, Sealer},
    },
    transport::Encryption,
};

const KEY: &str = "0123456789abcdef0123456789abcdef";

fn terms(cipher: &str, key: &str) -> Encryption {
    Encryption::new(cipher.parse().unwrap(), &Secret::new(key)).unwrap()
}

fn encrypting(modules: &[&str]) -> Acceptor {
    acceptor(modules).requiring_encryption(terms("AES", KEY))
}

fn with_caps(mut packet: Packet, caps: Caps) -> Packet {
    if let (Some(Value::Dict(entries)), Value::Dict(more)) = (packet.items.first_mut(), Value::from(caps)) {
        entries.extend(more);
    }
    packet
}

/// Says a hello as a client does that encrypts.
async fn say(stream: &mut Stream, hello: &ClientHello) {
    let announced = stream.sealed().unwrap().announce(Caps::default()).await.unwrap();
    let packet = with_caps(hello.packet(Encoder::Rencodeplus), announced);
    stream.write_all(&packet.encode().unwrap()).await.unwrap();
    stream.flush().await.unwrap();
}

async fn asked(stream: &mut Stream) -> Challenge {
    let challenge = Challenge::read(read_packet(stream).await).unwrap();
    stream.sealed().unwrap().heed(&challenge.caps).await.unwrap();
    challenge
}

fn answer() -> ClientHello {
    let response = Response::new(Secret::new(vec![b'0'; 128]), vec![7; 32]);
    ClientHello { response: Some(response), ..hello() }
}

#[tokio::test]
async fn a_login_in_every_mode_leaves_a_stream_of_plain_packets() {
    for mode in ["AES", "AES-CBC", "AES-CTR", "AES-GCM", "AES-CFB"] {
        let (client, server) = meet(encrypting(&["allow"]));
        let mut client = Stream::new(client).under(terms(mode, KEY));
        say(&mut client, &hello()).await;
        asked(&mut client).await;
        say(&mut client, &answer()).await;
        let Admitted { grant, mut stream, speech } = server.await.unwrap().unwrap();
        assert!(grant.peer().confidential && grant.peer().aes);
        let Speech::Xpra(speech) = speech else { panic!("packets were spoken") };
        assert!(speech.hello().forwarded(Encoder::Rencodeplus).items.iter().all(|caps| {
            let Value::Dict(entries) = caps else { return false };
            entries.iter().all(|(key, _)| ![&b"cipher"[..], b"encryption"].contains(&key.as_bytes().unwrap()))
        }));
        speech.reply(&mut stream, Caps::default()).await.unwrap();
        let welcome = read_packet(&mut client).await;
        assert_eq!(welcome.kind, Kind::Hello);
        let announced = crate::proto::wire::xpra::ServerHello::read(welcome).unwrap();
        client.sealed().unwrap().heed(announced.caps()).await.unwrap();
        // Packets of a session: chunks too, and of any size.
        let chunk = [&b"P\0\0\x07\0\x01\x86\xa0"[..], &vec![9; 100_000]].concat();
        let main = [&b"P\x01\x01\0\0\0\0\x03"[..], b"abc"].concat();
        let both = [chunk, main].concat();
        let (mut from_client, mut from_server) = (vec![0; both.len()], vec![0; both.len()]);
        let (near, far) = (&mut client, &mut stream);
        near.write_all(&both).await.unwrap();
        far.read_exact(&mut from_client).await.unwrap();
        far.write_all(&both).await.unwrap();
        near.read_exact(&mut from_server).await.unwrap();
        assert!(from_client == both && from_server == both, "{mode}");
    }
}

#[tokio::test]
async fn s_038_who_does_not_encrypt_is_told_how_and_who_encrypts_for_nothing_too() {
    for encoder in [Encoder::Rencodeplus, Encoder::Rencode] {
        let (mut client, server) = meet(encrypting(&["none"]));
        client.write_all(&hello().packet(encoder).encode().unwrap()).await.unwrap();
        let told = Disconnect::read(&read_packet(&mut client).await).unwrap();
        assert!(told.reasons[0].contains("--encryption=AES-CBC --encryption-keyfile=FILE"), "{told:?}");
        drop(client);
        let turned = server.await.unwrap().unwrap_err();
        assert_eq!(turned.refusal.reason, Reason::NotEncrypted);
        assert!(!turned.peer.aes, "nothing was encrypted");
    }
    let (client, server) = meet(acceptor(&["none"]));
    let mut client = Stream::new(client).under(terms("AES", KEY));
    say(&mut client, &hello()).await;
    assert!(client.read_u8().await.is_err(), "the answer is in clear");
    drop(client);
    assert_eq!(server.await.unwrap().unwrap_err().refusal.reason, Reason::NoCommonCipher);
}

#[tokio::test]
async fn the_mode_that_a_socket_names_is_the_only_one() {
    for (named, spoken, taken) in [("AES-CTR", "AES-CTR", true), ("AES-CTR", "AES-CBC", false)] {
        let (client, server) = meet(acceptor(&["none"]).requiring_encryption(terms(named, KEY)));
        let mut client = Stream::new(client).under(terms(spoken, KEY));
        say(&mut client, &hello()).await;
        if !taken {
            assert!(client.read_u8().await.is_err());
            drop(client);
        }
        let ended = server.await.unwrap();
        assert_eq!(
            ended.map(drop).map_err(|turned| turned.refusal.reason),
            match taken {
                true => Ok(()),
                false => Err(Reason::NoCommonCipher),
            }
        );
    }
}

#[tokio::test]
async fn s_038_two_billion_rounds_delay_nobody() {
    let acceptor = encrypting(&["allow"]);
    let parameters = Parameters::offered(Mode::Cbc, &[7; Parameters::RANDOM]);
    let mut waiting = Vec::new();
    for rounds in [1_i64 << 31, i64::MAX, 100_001, 999, -1] {
        for _ in 0..10 {
            let entries = Value::from(parameters.announce(Caps::default()));
            let Value::Dict(entries) = entries else { panic!("a dictionary") };
            let caps = entries.into_iter().filter(|(key, _)| key.as_bytes() != Some(b"encryption"));
            let caps =
                caps.map(|(key, value)| match key.as_bytes() == Some(b"cipher.key_stretch_iterations") {
                    true => (key, Value::Int(rounds)),
                    false => (key, value),
                });
            let mut packet = hello().packet(Encoder::Rencode);
            if let Some(Value::Dict(all)) = packet.items.first_mut() {
                all.extend(caps);
            }
            let (mut client, server) = meet(acceptor.clone());
            client.write_all(&packet.encode().unwrap()).await.unwrap();
            waiting.push((client, server));
        }
    }
    let start = Instant::now();
    let (client, server) = meet(acceptor);
    let mut client = Stream::new(client).under(terms("AES", KEY));
    say(&mut client, &hello()).await;
    asked(&mut client).await;
    say(&mut client, &answer()).await;
    server.await.unwrap().unwrap();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    for (mut client, server) in waiting {
        let told = Disconnect::read(&read_packet(&mut client).await).unwrap();
        assert_eq!(told.reasons, ["no acceptable encryption is offered"]);
        drop(client);
        assert_eq!(server.await.unwrap().unwrap_err().refusal.reason, Reason::NoCommonCipher);
    }
}

/// A client that was asked, with what it would encrypt its answer with.
async fn challenged(mode: Mode) -> (UnixStream, Sealer, tokio::task::JoinHandle<Result<Admitted, Turned>>) {
    let (mut client, server) = meet(encrypting(&["reject"]));
    let ours = Parameters::offered(mode, &[7; Parameters::RANDOM]);
    let packet = with_caps(hello().packet(Encoder::Rencodeplus), ours.announce(Caps::default()));
    client.write_all(&packet.encode().unwrap()).await.unwrap();
    let (mut opener, mut sealer) = (Opener::default(), Sealer::default());
    opener.rekey(&ours.derive(&Secret::new(KEY))).unwrap();
    let mut plain = Vec::new();
    let challenge = loop {
        let mut piece = vec![0; 4096];
        let length = client.read(&mut piece).await.unwrap();
        assert!(length > 0 && opener.open(&piece[..length], &mut plain).unwrap() == length);
        if let Some((packet, _)) = Decoder::new(Limits::default()).decode(&plain).unwrap() {
            break Challenge::read(packet).unwrap();
        }
    };
    let theirs = Parameters::read(&challenge.caps).unwrap().unwrap();
    assert_eq!(theirs.mode(), mode);
    sealer.rekey(&theirs.derive(&Secret::new(KEY))).unwrap();
    (client, sealer, server)
}

#[tokio::test]
async fn s_038_wrong_answers_keys_padding_bytes_and_clear_packets_end_alike() {
    let plain = answer().packet(Encoder::Rencodeplus).encode().unwrap();
    for mode in Mode::ALL {
        let mut ends = Vec::new();
        for meddling in ["answer", "end", "middle", "key", "clear", "no packet", "no hello", "rounds"] {
            let (mut client, mut sealer, server) = challenged(mode).await;
            let mut sealed = Vec::new();
            let other = Packet::new(Encoder::Rencodeplus, Kind::Other("ping".into()), vec![Value::Int(1)]);
            let dear = Value::Dict(vec![
                ("cipher".into(), "AES".into()),
                ("key_stretch_iterations".into(), Value::Int(5)),
            ]);
            let dear =
                with_caps(answer().packet(Encoder::Rencodeplus), Caps::default().with("encryption", dear));
            match meddling {
                "rounds" => sealer.seal(&dear.encode().unwrap(), &mut sealed).unwrap(),
                "no hello" => sealer.seal(&other.encode().unwrap(), &mut sealed).unwrap(),
                _ => sealer.seal(&plain, &mut sealed).unwrap(),
            }
            match meddling {
                "end" => *sealed.last_mut().unwrap() ^= 1,
                "middle" => sealed[40..60].iter_mut().for_each(|byte| *byte ^= 0x55),
                "key" => sealed[8..].iter_mut().for_each(|byte| *byte = byte.wrapping_mul(7) ^ 0xa5),
                "clear" => sealed = plain.clone(),
                "no packet" => sealed[0] = b'X',
                _ => {}
            }
            let start = Instant::now();
            client.write_all(&sealed).await.unwrap();
            let told = read_to_end(&mut client).await;
            let took = start.elapsed();
            // No sooner than the pause, whatever it was.
            assert!(took >= Duration::from_millis(95), "{mode:?} {meddling}: {took:?}");
            assert!(took < Duration::from_millis(900), "{mode:?} {meddling}: {took:?}");
            drop(client);
            let turned = server.await.unwrap().unwrap_err();
            assert!(turned.peer.aes, "{meddling}");
            assert_eq!(turned.refusal.public(), "authentication failed", "{mode:?} {meddling}: {turned}");
            ends.push((meddling, told.len(), told[1]));
        }
        let (_, length, flags) = ends[0];
        assert!(ends.iter().all(|(_, l, f)| (*l, *f) == (length, flags)), "{mode:?}: {ends:?}");
        assert_eq!(flags, 0x12, "encrypted, as everything is");
    }
}

#[tokio::test]
async fn s_038_what_follows_the_first_hello_in_clear_is_not_read_as_if_it_were_encrypted() {
    let (mut client, server) = meet(encrypting(&["allow"]));
    let ours = Parameters::offered(Mode::Cbc, &[7; Parameters::RANDOM]);
    let first = with_caps(hello().packet(Encoder::Rencodeplus), ours.announce(Caps::default()));
    let second = answer().packet(Encoder::Rencodeplus);
    client.write_all(&[first.encode().unwrap(), second.encode().unwrap()].concat()).await.unwrap();
    let _ = read_to_end(&mut client).await;
    drop(client);
    assert_eq!(server.await.unwrap().unwrap_err().refusal.reason, Reason::BadCipher);
}

#[tokio::test]
async fn s_033_the_password_itself_travels_under_aes_and_not_in_the_first_hello() {
    struct Cleartext;
    impl CheckPassword for Cleartext {
        fn check(&self, _: &Peer, _: &Claim, password: &Secret) -> Result<Option<Identity>, Refusal> {
            match password.expose() == b"the password" {
                true => Ok(None),
                false => Err(Refusal::new(Reason::WrongSecret, "another")),
            }
        }
    }
    let anywhere: std::net::SocketAddr = "192.0.2.1:1".parse().unwrap();
    let link = || Link::new("cleartext", Verifier::Password(Box::new(Cleartext)));
    let settings = acceptor(&["none"]).settings;
    let open = |encrypted: bool| {
        let acceptor = Acceptor::new(Arc::new(Chain::new(vec![link()]).unwrap())).with_settings(settings);
        if encrypted { acceptor.requiring_encryption(terms("AES", KEY)) } else { acceptor }
    };
    let (theirs, ours) = UnixStream::pair().unwrap();
    let acceptor = open(true);
    let server =
        tokio::spawn(async move { acceptor.accept(Stream::new(ours), Peer::tcp(anywhere, anywhere)).await });
    let mut client = Stream::new(theirs).under(terms("AES", KEY));
    let xor = || ClientHello { digests: vec!["xor".into()], ..hello() };
    say(&mut client, &xor()).await;
    let challenge = asked(&mut client).await;
    assert_eq!(challenge.digest, "xor");
    let salt = vec![7; 32];
    let combined = mechanism::hmac::combine_salts(mechanism::Hash::Sha512, &salt, &challenge.salt);
    let value = mechanism::xor::mask(&Secret::new("the password"), &combined);
    say(&mut client, &ClientHello { response: Some(Response::new(value, salt)), ..xor() }).await;
    let admitted = server.await.unwrap().unwrap();
    assert!(admitted.grant.peer().aes);

    let (mut theirs, ours) = UnixStream::pair().unwrap();
    let acceptor = open(false);
    let server =
        tokio::spawn(async move { acceptor.accept(Stream::new(ours), Peer::tcp(anywhere, anywhere)).await });
    theirs.write_all(&xor().packet(Encoder::Rencodeplus).encode().unwrap()).await.unwrap();
    let told = Disconnect::read(&read_packet(&mut theirs).await).unwrap();
    assert!(told.reasons[0].contains("use ssl, wss, or AES"), "{told:?}");
    drop(theirs);
    assert_eq!(server.await.unwrap().unwrap_err().refusal.reason, Reason::NotConfidential);
}

#[test]
fn a_cipher_is_named_as_it_is_written() {
    assert_eq!(terms("aes-gcm", "key").cipher(), Cipher { mode: Some(Mode::Gcm) });
    assert!(Encryption::new(Cipher::default(), &Secret::new("\n")).is_none());
}
