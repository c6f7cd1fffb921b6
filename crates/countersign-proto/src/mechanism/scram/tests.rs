//! The published exchanges, both ends against each other, and what is refused.

use super::*;

const SHA256: Variant = Variant { hash: Hash::Sha256, bound: false };
const SHA512: Variant = Variant { hash: Hash::Sha512, bound: false };

/// RFC 7677 section 3, and what another implementation makes of the same for SHA-512.
struct Published {
    variant: Variant,
    salt: &'static str,
    nonce: (&'static str, &'static str),
    proof: &'static str,
    signature: &'static str,
}

const PUBLISHED: [Published; 2] = [
    Published {
        variant: SHA256,
        salt: "W22ZaJ0SNY7soEsUEjb6gQ==",
        nonce: ("rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"),
        proof: "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        signature: "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    },
    Published {
        variant: SHA512,
        salt: "W22ZaJ0SNY7soEsUEjb6gQ==",
        nonce: ("rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"),
        proof: "gMGXRcevScNtxZ6/8lQYpGtnsNAc3mGcmNomv+xnoOMw+3R2xNJdMNnzMlTN8PPC6wdp6dybEmDYXYTxwnYPJQ==",
        signature: "ZQnYEgWQMFmmsM8aQMF0nDDCy/AgCzkwk8CmMZYcMg0vSVlKDanekLtifDSeVGT4+5ZxXnJq199RVG2rR7N7Zw==",
    },
];

fn password() -> Secret {
    Secret::new("pencil")
}

fn keys(variant: Variant) -> Keys {
    Keys::derive(variant.hash, &password(), b"0123456789abcdef", 4096)
}

/// A whole login of `alice`; each end is given its own channel.
fn login(
    variant: Variant,
    (client, server): (Option<&[u8]>, Option<&[u8]>),
    password: &str,
    forge: impl Fn(Stage, Vec<u8>) -> Vec<u8>,
) -> Result<(), Fault> {
    let first = ClientFirst::new(variant, "alice", &[7; 24], client)?;
    let greeting = Greeting::read(variant, server, &forge(Stage::ClientFirst, first.message()))?;
    assert_eq!(greeting.name(), "alice");
    let (server_first, pending) = greeting.answer(&[9; 24], keys(variant))?;
    let server_first = forge(Stage::ServerFirst, server_first);
    let (client_final, expected) = first.prove(&server_first, &Secret::new(password))?;
    let server_final = pending.judge(&client_final)?;
    expected.confirm(&forge(Stage::ServerFinal, server_final))
}

fn honest(_: Stage, message: Vec<u8>) -> Vec<u8> {
    message
}

#[test]
fn rfc_7677_is_reproduced_by_both_ends() {
    for Published { variant, salt, nonce: (client_nonce, server_nonce), proof, signature } in PUBLISHED {
        let bare = format!("n=user,r={client_nonce}");
        let first = ClientFirst {
            variant,
            header: "n,,",
            binding: Vec::new(),
            bare: bare.clone(),
            nonce: client_nonce.to_owned(),
        };
        let server_first = format!("r={client_nonce}{server_nonce},s={salt},i=4096");
        let message = first.message();
        let (client_final, expected) = first.prove(server_first.as_bytes(), &password()).unwrap();
        let last = format!("c=biws,r={client_nonce}{server_nonce},p={proof}");
        assert_eq!(String::from_utf8(client_final).unwrap(), last);

        let salt = STANDARD.decode(salt).unwrap();
        let greeting = Greeting::read(variant, None, &message).unwrap();
        let pending = Pending {
            keys: Keys::derive(variant.hash, &password(), &salt, 4096),
            signed: format!("{},{server_first}", greeting.bare),
            expected: format!("c={},r={client_nonce}{server_nonce}", greeting.channel),
        };
        let server_final = pending.judge(last.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(server_final.clone()).unwrap(), format!("v={signature}"));
        expected.confirm(&server_final).unwrap();
    }
}

#[test]
fn every_variant_logs_in_with_the_right_password_and_no_other() {
    for variant in Variant::STRONGEST_FIRST {
        let channel = variant.bound.then_some(&b"exporter"[..]);
        assert_eq!(login(variant, (channel, channel), "pencil", honest), Ok(()), "{variant:?}");
        assert_eq!(login(variant, (channel, channel), "pencils", honest), Err(Fault::Wrong), "{variant:?}");
        assert_eq!(Variant::named(variant.name()), Some(variant));
        for stage in [Stage::ClientFirst, Stage::ServerFirst, Stage::ServerFinal] {
            assert_eq!(Variant::asked(&variant.asking(stage)), Some((variant, stage)));
        }
    }
    for other in ["SCRAM-SHA-1", "SCRAM-SHA-1-PLUS", "scram-sha-256", "SCRAM-SHA-256:", "SCRAM-SHA3-512"] {
        assert!(Variant::named(other).is_none() && Variant::asked(other).is_none(), "{other}");
    }
}

#[test]
fn s_034_whoever_sits_between_the_ends_is_found_out() {
    let [bound, ..] = Variant::STRONGEST_FIRST;
    let (one, other) = (Some(&b"one"[..]), Some(&b"other"[..]));
    let channel = |result| assert!(matches!(result, Err(Fault::Channel(_))), "{result:?}");
    // Two TLS sessions, joined by somebody.
    channel(login(bound, (one, other), "pencil", honest));
    // The better variants were taken off the client's list.
    channel(login(SHA512, (one, one), "pencil", honest));
    channel(login(bound, (None, one), "pencil", honest));
    // A server that cannot bind, behind something that ends TLS, and a client that cannot.
    assert_eq!(login(SHA512, (one, None), "pencil", honest), Ok(()));
    assert_eq!(login(SHA512, (None, one), "pencil", honest), Ok(()));
    // The flag is part of what is signed: changed on the way, the proof is for something else.
    let hidden = |stage: Stage, message: Vec<u8>| match stage {
        Stage::ClientFirst => [b"n", &message[1..]].concat(),
        _ => message,
    };
    channel(login(SHA512, (one, one), "pencil", hidden));
    for flag in ["p=tls-unique", "p=tls-server-end-point", "p="] {
        let message = format!("{flag},,n=alice,r=abcdefgh");
        channel(Greeting::read(bound, one, message.as_bytes()).map(|_| ()));
    }
}

#[test]
fn s_034_a_server_that_asks_for_too_little_or_proves_nothing_is_left() {
    let replaced = |wanted: Stage, by: &'static str| {
        move |stage: Stage, message: Vec<u8>| if stage == wanted { by.as_bytes().to_vec() } else { message }
    };
    let nonce = STANDARD.encode([7; 24]);
    let first = |message: String| {
        let client = ClientFirst::new(SHA256, "alice", &[7; 24], None).unwrap();
        client.prove(message.as_bytes(), &password()).map(|_| ())
    };
    assert_eq!(first(format!("r={nonce}x,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=4096")), Ok(()));
    for bad in [
        format!("r={nonce}x,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=4095"),
        format!("r={nonce}x,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=10000001"),
        format!("r={nonce}x,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=+4096"),
        format!("r={nonce}x,s=,i=4096"),
        format!("r={nonce}x,s=*,i=4096"),
        format!("r={nonce},s=MDEyMzQ1Njc4OWFiY2RlZg==,i=4096"),
        format!("r=other{nonce},s=MDEyMzQ1Njc4OWFiY2RlZg==,i=4096"),
        format!("m=ext,r={nonce}x,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=4096"),
        "e=other-error".to_owned(),
        String::new(),
    ] {
        assert!(matches!(first(bad.clone()), Err(Fault::Malformed(_))), "{bad}");
    }
    for unproved in ["v=", "v=AAAA", "e=invalid-proof", "", "OK"] {
        let end = login(SHA256, (None, None), "pencil", replaced(Stage::ServerFinal, unproved));
        assert!(end.is_err(), "{unproved}");
    }
}

#[test]
fn what_no_correct_client_sends_is_refused() {
    let read = |message: &str| Greeting::read(SHA256, None, message.as_bytes());
    assert_eq!(read("n,,n=a=2Cb=3Dc,r=x").unwrap().name(), "a,b=c");
    assert_eq!(read("n,a=alice,n=alice,r=x,ext=1").unwrap().name(), "alice");
    assert_eq!(read("n,,n=,r=x").unwrap().name(), "");
    for bad in [
        "",
        "n",
        "n,,",
        "n,,n=alice",
        "n,,n=alice,r=",
        "n,,r=x,n=alice",
        "n,,m=x,n=alice,r=x",
        "n,,n=al=ice,r=x",
        "n,a=bob,n=alice,r=x",
        "z,,n=alice,r=x",
        "n,,n=alice,r=\u{e9}",
    ] {
        assert!(matches!(read(bad), Err(Fault::Malformed(_))), "{bad}");
    }
    assert!(Greeting::read(SHA256, None, b"n,,n=\xff,r=x").is_err());
    for bad in ["", "c=biws,r=x", "p=AAAA", "c=biws,r=x,p=*"] {
        let (_, pending) = read("n,,n=alice,r=x").unwrap().answer(&[9; 24], keys(SHA256)).unwrap();
        assert!(pending.judge(bad.as_bytes()).is_err(), "{bad}");
    }
    assert!(read("n,,n=alice,r=x").unwrap().answer(&[9; 24], keys(SHA512)).is_err());
}

#[test]
fn passwords_are_prepared_and_what_cannot_be_is_taken_as_it_is() {
    let same = |one: &[u8], other: &[u8]| {
        let keys = |password: &[u8]| Keys::derive(Hash::Sha256, &Secret::new(password), b"saltsalt", 4096);
        keys(one).to_text() == keys(other).to_text()
    };
    // RFC 4013 section 3.
    assert!(same("I\u{ad}X".as_bytes(), b"IX") && same("\u{2168}".as_bytes(), b"IX"));
    assert!(!same(b"USER", b"user"));
    // No text, and text with what may not be in it.
    assert!(!same(b"\xff", b"\xfe") && !same("\u{7}".as_bytes(), b""));
}

#[test]
fn s_092_keys_are_kept_as_postgresql_and_xpra_write_them() {
    for variant in [SHA256, SHA512] {
        let text = keys(variant).to_text();
        assert!(text.starts_with(&format!("{}$4096:MDEy", variant.name())) && !text.contains("pencil"));
        let read: Keys = text.parse().unwrap();
        assert_eq!(read.to_text(), text);
        let xpra = format!("SCRAM${}", text.replace(':', "$"));
        assert_eq!(xpra.parse::<Keys>().unwrap().to_text(), text);
        for bad in [
            text.replace("4096", "4095"),
            text.replace("4096", "x"),
            text.replace("MDEy", "*"),
            text.replace("SHA-", "SHA-1"),
            text.replacen('$', "-PLUS$", 1),
            text[..text.len() - 4].to_owned(),
            format!("{text}:x"),
            String::new(),
        ] {
            assert!(bad.parse::<Keys>().is_err(), "{bad}");
        }
        assert!(!format!("{read:?}").contains("MDEy"));
    }
}

#[test]
fn s_026_a_decoy_is_the_same_each_time_and_differs_by_name_and_key() {
    let decoy = |key: &str, name| Keys::decoy(Hash::Sha256, &Secret::new(key), name, 16, 4096).to_text();
    assert_eq!(decoy("key", "mallory"), decoy("key", "mallory"));
    assert_ne!(decoy("key", "mallory"), decoy("key", "mallor"));
    assert_ne!(decoy("key", "mallory"), decoy("other", "mallory"));
    assert!(decoy("key", "mallory").parse::<Keys>().is_ok());
}
