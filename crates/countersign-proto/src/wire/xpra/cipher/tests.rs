//! Keys and streams as the real codecs make them, packets in every cut, and announcements that are refused.

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::wire::xpra::{Decoder, Encoder, Kind, Limits, Packet};

fn vectors() -> Json {
    serde_json::from_str(include_str!("../../../../tests/vectors/xpra/ciphers.json")).unwrap()
}

fn bytes(hex: &Json) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn mode_named(name: &Json) -> Mode {
    Mode::ALL.into_iter().find(|mode| mode.name() == name).unwrap()
}

fn key(mode: Mode, block: Option<Block>, bytes: &[u8]) -> Key {
    let bytes = Zeroizing::new(bytes.to_vec());
    let manner = Manner { mode, padding: Padding::Pkcs7, block };
    Key { manner, iv: *b"AAAABBBBCCCCDDDD", bytes }
}

fn sealer(key: Key) -> Sealer {
    let mut sealer = Sealer::default();
    sealer.rekey(&key).unwrap();
    sealer
}

fn opener(key: Key) -> Opener {
    let mut opener = Opener::default();
    opener.rekey(&key).unwrap();
    opener
}

/// Everything that `sealed` means, given in pieces of `step` bytes.
fn open_in_pieces(opener: &mut Opener, sealed: &[u8], step: usize) -> Result<Vec<u8>, WireError> {
    let mut plain = Vec::new();
    for mut piece in sealed.chunks(step.max(1)) {
        while !piece.is_empty() {
            piece = &piece[opener.open(piece, &mut plain)?..];
        }
    }
    Ok(plain)
}

fn packet(payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[b'P', 0x10, 0, 0][..], &size, payload].concat()
}

#[test]
fn keys_are_stretched_as_recorded() {
    let mut seen = 0;
    for recorded in vectors()["derived_keys"].as_array().unwrap() {
        let mut parameters = Parameters::offered(Mode::Cbc, &[0; Parameters::RANDOM]);
        let known = KeyHash::ALL.into_iter().find(|(name, _)| *name == recorded["hash"]);
        parameters.hash = known.unwrap().1;
        parameters.salt = bytes(&recorded["key_salt"]);
        parameters.iterations = u32::try_from(recorded["iterations"].as_u64().unwrap()).unwrap();
        parameters.key_size = usize::try_from(recorded["key_size"].as_u64().unwrap()).unwrap();
        let key = parameters.derive(&Secret::new(bytes(&recorded["key_material"])));
        assert_eq!(*key.bytes, bytes(&recorded["key"]), "{recorded}");
        seen += 1;
    }
    assert_eq!(seen, 15);
}

#[test]
fn every_mode_runs_across_packets_as_recorded() {
    let mut seen = Vec::new();
    for recorded in vectors()["encrypted"].as_array().unwrap() {
        let mode = mode_named(&recorded["mode"]);
        let block = if recorded["block"] == 32 { Block::ThirtyTwo } else { Block::Sixteen };
        let key = || key(mode, Some(block), &bytes(&recorded["key"]));
        assert_eq!(bytes(&recorded["iv"]), key().iv);
        let (mut sealer, mut opener) = (sealer(key()), opener(key()));
        for step in recorded["packets_in_order"].as_array().unwrap() {
            let (plain, ciphertext) = (packet(&bytes(&step["plaintext"])), bytes(&step["ciphertext"]));
            let mut sealed = Vec::new();
            sealer.seal(&plain, &mut sealed).unwrap();
            assert_eq!((sealed[1], &sealed[8..]), (0x12, &*ciphertext), "{mode:?}");
            assert_eq!(open_in_pieces(&mut opener, &sealed, 7).unwrap(), plain);
            assert!(opener.is_between());
        }
        seen.push(mode.name());
    }
    assert_eq!(seen, ["CBC", "CTR", "CBC", "GCM", "CFB", "GCM", "CFB", "GCM", "CFB"]);
}

#[test]
fn the_first_packet_tells_the_block_of_whoever_writes() {
    for size in 1..100 {
        for block in [Block::Sixteen, Block::ThirtyTwo] {
            let (plain, mut sealed) = (packet(&vec![7; size]), Vec::new());
            sealer(key(Mode::Cbc, Some(block), &[1; 32])).seal(&plain, &mut sealed).unwrap();
            let mut opener = opener(key(Mode::Cbc, None, &[1; 32]));
            assert_eq!(open_in_pieces(&mut opener, &sealed, 5).unwrap(), plain, "{size} {block:?}");
            let tells = size % 32 < 16;
            assert_eq!(opener.block(), tells.then_some(block), "{size}");
        }
    }
}

#[test]
fn spaces_are_written_to_whoever_wants_them() {
    let mut sealed = Vec::new();
    let spaces = || {
        let key = key(Mode::Cbc, Some(Block::ThirtyTwo), &[1; 32]);
        Key { manner: Manner { padding: Padding::Legacy, ..key.manner }, ..key }
    };
    sealer(spaces()).seal(&packet(b"abc"), &mut sealed).unwrap();
    assert_eq!(sealed.len(), 8 + 32);
    let mut plain = sealed[8..].to_vec();
    spaces().decryptor().unwrap().apply(&mut plain);
    assert_eq!(&plain[..4], b"abc ");
    assert!(plain[3..].iter().all(|byte| *byte == b' '));
    assert_eq!(open_in_pieces(&mut opener(spaces()), &sealed, 40).unwrap(), packet(b"abc"));
}

#[test]
fn s_038_nothing_in_clear_is_read_once_there_is_a_key() {
    let mut opener = opener(key(Mode::Ctr, Some(Block::Sixteen), &[1; 32]));
    let mut plain = Vec::new();
    assert_eq!(opener.open(&packet(b"abc"), &mut plain), Err(WireError::Unencrypted));
    assert!(plain.is_empty());
    let mut opener = self::opener(key(Mode::Ctr, Some(Block::Sixteen), &[1; 32]));
    assert_eq!(opener.open(b"disconnect", &mut plain), Err(WireError::Magic));
    assert!(plain.is_empty());
}

#[test]
fn s_038_the_end_of_a_packet_is_not_given_out_before_its_padding_was_judged() {
    let mut sealed = Vec::new();
    sealer(key(Mode::Cbc, Some(Block::ThirtyTwo), &[1; 32])).seal(&packet(&[9; 100]), &mut sealed).unwrap();
    let last = sealed.len() - 1;
    for at in last - 15..=last {
        let mut altered = sealed.clone();
        altered[at] ^= 1;
        let mut opener = opener(key(Mode::Cbc, Some(Block::ThirtyTwo), &[1; 32]));
        let mut plain = Vec::new();
        assert_eq!(opener.open(&altered, &mut plain), Err(WireError::Padding));
        assert!(plain.len() < 8 + 100, "{}", plain.len());
    }
    let mut other = opener(key(Mode::Cbc, Some(Block::ThirtyTwo), &[2; 32]));
    assert_eq!(open_in_pieces(&mut other, &sealed, 8), Err(WireError::Padding));
}

#[test]
fn what_is_no_packet_is_not_sealed() {
    for (wrong, error) in [
        (&b"GET / HTTP"[..], WireError::Magic),
        (b"P\x10\0\0\0\0\0\0", WireError::Empty),
        (b"P\x10\0\0\x10\0\0\x01", WireError::TooLarge),
        (b"P\x12\0\0\0\0\0\x01", WireError::Encrypted),
    ] {
        let mut out = Vec::new();
        let sealed = sealer(key(Mode::Ctr, None, &[1; 16])).seal(wrong, &mut out);
        assert_eq!((sealed, out.len()), (Err(error), 0));
    }
}

#[test]
fn a_key_changes_between_packets_only() {
    let again = || key(Mode::Ctr, None, &[1; 16]);
    let (mut sealer, mut opener) = (sealer(again()), opener(again()));
    let (whole, mut sealed) = (packet(b"abcdef"), Vec::new());
    for cut in [3, 10] {
        sealed.clear();
        sealer.seal(&whole[..cut], &mut sealed).unwrap();
        assert_eq!(sealer.rekey(&again()), Err(WireError::Truncated));
        sealer.seal(&whole[cut..], &mut sealed).unwrap();
        let mut plain = Vec::new();
        opener.open(&sealed[..cut], &mut plain).unwrap();
        assert_eq!(opener.rekey(&again()), Err(WireError::Truncated));
        opener.open(&sealed[cut..], &mut plain).unwrap();
        assert_eq!(plain, whole);
    }
    sealer.rekey(&again()).unwrap();
    opener.rekey(&again()).unwrap();
}

fn caps(parameters: &Parameters) -> Caps {
    parameters.announce(Caps::default())
}

/// What is announced, as it comes out of the encoder of such a peer.
fn sent(caps: Caps, encoder: Encoder) -> Caps {
    let packet = Packet::new(encoder, Kind::Hello, vec![caps.into()]).encode().unwrap();
    let (packet, _) = Decoder::new(Limits::default()).decode(&packet).unwrap().unwrap();
    Caps::read("caps", packet.items.into_iter().next()).unwrap()
}

#[test]
fn what_is_announced_is_read() {
    for mode in Mode::ALL {
        let offered = Parameters::offered(mode, &[0xe9; Parameters::RANDOM]);
        for (spelling, streams, encoder) in [
            (Spelling::Nested, true, Encoder::Rencodeplus),
            (Spelling::Nested, false, Encoder::Rencodeplus),
            (Spelling::Flat, false, Encoder::Rencode),
            (Spelling::Flat, false, Encoder::Bencode),
        ] {
            let parameters = Parameters { spelling, streams, ..offered.clone() };
            let read = Parameters::read(&sent(caps(&parameters), encoder)).unwrap().unwrap();
            assert_eq!(read, parameters);
            assert_eq!(read.block() == Block::Sixteen, streams);
            let answered = read.answered(&[5; Parameters::RANDOM]);
            assert_eq!((answered.spelling, answered.mode), (spelling, mode));
            assert!(answered.salt != read.salt && answered.iv != read.iv);
        }
        // Whoever reads either form finds it.
        let read = Parameters::read(&caps(&offered)).unwrap().unwrap();
        assert_eq!(read, Parameters { spelling: Spelling::Nested, ..offered.clone() });
        let flat =
            caps(&offered).entries().iter().filter(|(key, _)| !key.is_named(NESTED)).cloned().collect();
        let read = Parameters::read(&Caps::read("caps", Some(Value::Dict(flat))).unwrap()).unwrap().unwrap();
        assert_eq!((read.block(), read.spelling), (Block::ThirtyTwo, Spelling::Flat));
    }
    assert_eq!(Parameters::read(&Caps::default().with("cipher", "")), Ok(None));
}

#[test]
fn s_038_what_would_cost_too_much_or_too_little_is_refused_before_any_work() {
    let offered = || Parameters::offered(Mode::Cbc, &[1; Parameters::RANDOM]);
    let with = |name: &str, value: Value| {
        let flat = Parameters { spelling: Spelling::Flat, ..offered() };
        let name = format!("cipher{}{name}", if name.is_empty() { "" } else { "." });
        let entries = caps(&flat).entries().iter().filter(|(key, _)| !key.is_named(&name)).cloned().collect();
        let caps = Caps::read("caps", Some(Value::Dict(entries))).unwrap();
        Parameters::read(&caps.with(&name, value))
    };
    for iterations in [i64::MIN, -1, 0, 999, 100_001, 1 << 31, (1 << 32) + 1000, i64::MAX] {
        let refused = with("key_stretch_iterations", Value::Int(iterations));
        assert_eq!(refused, Err(WireError::Field("key_stretch_iterations", Fault::Value)), "{iterations}");
    }
    for iterations in [1_000, 10_000, 100_000] {
        assert!(with("key_stretch_iterations", Value::Int(iterations)).is_ok());
    }
    for (name, value) in [
        ("", Value::from("DES")),
        ("mode", "ECB".into()),
        ("iv", "short".into()),
        ("iv", "seventeen letters".into()),
        ("iv", Value::Bytes(vec![0xe9; 16])),
        ("key_salt", Value::Bytes(vec![1; 15])),
        ("key_salt", Value::Bytes(vec![1; 1025])),
        ("key_hash", "MD5".into()),
        ("key_size", Value::Int(8)),
        ("key_size", Value::Int(31)),
        ("key_stretch", "none".into()),
        ("padding", "zero".into()),
        ("stream", false.into()),
        ("key_stretch_iterations", "many".into()),
    ] {
        assert!(with(name, value.clone()).is_err(), "{name}: {value:?}");
    }
}

#[test]
fn a_cipher_is_written_as_xpras_users_do() {
    for (text, mode) in
        [("AES", None), ("aes", None), ("AES-CBC", Some(Mode::Cbc)), ("aes-gcm", Some(Mode::Gcm))]
    {
        let cipher: Cipher = text.parse().unwrap();
        assert_eq!((cipher.mode, cipher.to_string()), (mode, text.to_uppercase()));
    }
    for wrong in ["", "DES", "AES-", "AES-ECB", "AES128", "AES-CBC-HMAC"] {
        assert!(wrong.parse::<Cipher>().is_err(), "{wrong}");
    }
}

#[test]
fn ends_of_lines_are_no_part_of_a_key() {
    for content in ["key", "key\n", "\r\nkey\r\n", "key\n\n"] {
        assert_eq!(key_material(&Secret::new(content)).unwrap().expose(), b"key");
    }
    assert_eq!(key_material(&Secret::new(" key \n")).unwrap().expose(), b" key ");
    assert!(key_material(&Secret::new("\r\n")).is_none() && key_material(&Secret::new("")).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_cut_of_the_stream_means_the_same(
        mode in prop::sample::select(&Mode::ALL[..]),
        wide in any::<bool>(),
        known in any::<bool>(),
        size in prop::sample::select(vec![16_usize, 24, 32]),
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 1..8),
        cuts in (1_usize..90, 1_usize..90),
    ) {
        let block = if wide { Block::ThirtyTwo } else { Block::Sixteen };
        let bytes = vec![3; size];
        let plain: Vec<u8> = payloads.iter().flat_map(|payload| packet(payload)).collect();
        let mut sealer = sealer(key(mode, Some(block), &bytes));
        let mut sealed = Vec::new();
        for piece in plain.chunks(cuts.0) {
            sealer.seal(piece, &mut sealed).unwrap();
        }
        let mut opener = opener(key(mode, known.then_some(block), &bytes));
        prop_assert_eq!(&open_in_pieces(&mut opener, &sealed, cuts.1).unwrap(), &plain);
        prop_assert!(opener.is_between());
    }

    #[test]
    fn bytes_that_are_no_packets_pass_too(
        mode in prop::sample::select(&Mode::ALL[..]),
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
        cut in 1_usize..90,
    ) {
        let again = || key(mode, Some(Block::Sixteen), &[3; 32]);
        let (mut sealer, mut opener) = (sealer(again()), opener(again()));
        sealer.frame(Framing::Bytes);
        opener.frame(Framing::Bytes);
        let mut sealed = Vec::new();
        for piece in &pieces {
            sealer.seal(piece, &mut sealed).unwrap();
        }
        prop_assert_eq!(open_in_pieces(&mut opener, &sealed, cut).unwrap(), pieces.concat());
    }

    #[test]
    fn s_038_altered_bytes_end_it_or_alter_what_is_read_and_nothing_else(
        mode in prop::sample::select(&Mode::ALL[..]),
        known in any::<bool>(),
        at in any::<prop::sample::Index>(),
        with in 1_u8..,
        cut in 1_usize..90,
    ) {
        let again = |block| key(mode, block, &[3; 32]);
        let (plain, mut sealed) = (packet(&[5; 200]), Vec::new());
        sealer(again(Some(Block::Sixteen))).seal(&plain, &mut sealed).unwrap();
        sealed[at.index(plain.len())] ^= with;
        let mut opener = opener(again(known.then_some(Block::Sixteen)));
        if let Ok(read) = open_in_pieces(&mut opener, &sealed, cut) {
            prop_assert!(read.len() <= sealed.len());
            prop_assert!(read != plain);
        }
    }
}
