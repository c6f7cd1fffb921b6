//! What a stranger may cost us: S-09 to S-12.

use countersign_proto::wire::xpra::{Compression, Decoder, Encoder, Kind, Limits, Packet, Value, WireError};

fn decode(input: &[u8]) -> Result<Option<(Packet, usize)>, WireError> {
    Decoder::new(Limits::default()).decode(input)
}

fn framed(flags: u8, level: u8, index: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![b'P', flags, level, index];
    out.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
    out.extend_from_slice(payload);
    out
}

fn lz4_framed(declared: u32, block: &[u8]) -> Vec<u8> {
    [&declared.to_le_bytes(), block].concat()
}

fn lz4_block(plain: &[u8]) -> Vec<u8> {
    let mut block = vec![0; lz4_flex::block::get_maximum_output_size(plain.len())];
    let written = lz4_flex::block::compress_into(plain, &mut block).unwrap();
    block.truncate(written);
    block
}

const HELLO: &[u8] = b"\xc2\x85hello\x66";

#[test]
fn s_009_sizes_are_judged_from_the_header_alone() {
    for (size, expected) in [
        (u32::MAX, WireError::TooLarge),
        (64 << 20, WireError::TooLarge),
        ((64 << 10) + 1, WireError::TooLarge),
        (0, WireError::Empty),
    ] {
        let header = [&[b'P', 0x10, 0, 0][..], &size.to_be_bytes()].concat();
        assert_eq!(decode(&header), Err(expected), "{size}");
    }
    assert_eq!(decode(&[b'P', 0x10, 0, 0, 0, 1, 0, 0]), Ok(None));
    assert_eq!(decode(b"\x16"), Err(WireError::Magic), "a wrong first byte is refused at once");
}

#[test]
fn a_packet_is_found_whatever_the_split() {
    let mut stream = framed(0x18, 0, 0, HELLO);
    let length = stream.len();
    for cut in 0..length {
        assert_eq!(decode(&stream[..cut]), Ok(None), "{cut}");
    }
    stream.extend_from_slice(b"session");
    let (packet, consumed) = decode(&stream).unwrap().unwrap();
    assert_eq!((packet.kind, consumed), (Kind::Hello, length), "what follows stays");
}

#[test]
fn s_010_bombs_stop_at_the_limit() {
    let limits = Limits::default();
    let large = miniz_oxide::deflate::compress_to_vec_zlib(&vec![0; 255 << 20], 1);
    assert_eq!(Compression::Zlib.inflate(&large, limits.decoded), Err(WireError::InflatesTooLarge));
    assert_eq!(decode(&framed(0x10, 0x01, 0, &large)), Err(WireError::TooLarge));
    let fits = miniz_oxide::deflate::compress_to_vec_zlib(&vec![0; 60 << 20], 9);
    assert_eq!(decode(&framed(0x10, 0x01, 0, &fits)), Err(WireError::InflatesTooLarge));
    let one_over = miniz_oxide::deflate::compress_to_vec_zlib(&vec![0; limits.decoded + 1], 9);
    assert_eq!(decode(&framed(0x10, 0x01, 0, &one_over)), Err(WireError::InflatesTooLarge));

    let block = lz4_block(&vec![0; 16 << 20]);
    let refused = [
        (lz4_framed(u32::MAX, &block[..60_000]), WireError::InflatesTooLarge),
        (lz4_framed(16 << 20, &block[..60_000]), WireError::InflatesTooLarge),
        (lz4_framed(256 << 10, &block[..60_000]), WireError::Inflate),
        (lz4_framed(1, &block[..60_000]), WireError::Inflate),
        (lz4_framed(256 << 10, b"\x10a"), WireError::Inflate),
        (b"\x01\x00".to_vec(), WireError::Inflate),
    ];
    for (payload, expected) in refused {
        assert_eq!(decode(&framed(0x10, 0x11, 0, &payload)), Err(expected), "{} bytes", payload.len());
    }
    for (level, payload) in [(0x01, &fits), (0x11, &lz4_framed(u32::MAX, &block[..60_000]))] {
        assert_eq!(decode(&framed(0, level, 2, payload)), Err(WireError::RawChunk));
    }
}

#[test]
fn s_010_sound_compression_is_read_and_damage_is_not() {
    let zlib = miniz_oxide::deflate::compress_to_vec_zlib(HELLO, 6);
    let lz4 = lz4_framed(u32::try_from(HELLO.len()).unwrap(), &lz4_block(HELLO));
    for (level, payload) in [(0x01, &zlib), (0x09, &zlib), (0x11, &lz4), (0x1a, &lz4)] {
        let (packet, _) = decode(&framed(0x10, level, 0, payload)).unwrap().unwrap();
        assert_eq!(packet.kind, Kind::Hello);
        for cut in 1..payload.len() {
            assert!(
                decode(&framed(0x10, level, 0, &payload[..cut])).is_err(),
                "level {level:#x} cut at {cut}"
            );
        }
        let longer = [payload.as_slice(), b"\0"].concat();
        assert!(decode(&framed(0x10, level, 0, &longer)).is_err(), "level {level:#x} with a byte behind");
    }
    let mut wrong_checksum = zlib;
    *wrong_checksum.last_mut().unwrap() ^= 1;
    assert_eq!(decode(&framed(0x10, 0x01, 0, &wrong_checksum)), Err(WireError::Inflate));
    let less = lz4_framed(u32::try_from(HELLO.len() + 1).unwrap(), &lz4_block(HELLO));
    assert_eq!(decode(&framed(0x10, 0x11, 0, &less)), Err(WireError::Inflate), "less than declared");
    assert!(Compression::None.inflate(&[0; 8], 8).is_ok());
    assert_eq!(Compression::None.inflate(&[0; 9], 8), Err(WireError::InflatesTooLarge));
    let nothing = miniz_oxide::deflate::compress_to_vec_zlib(b"", 6);
    assert_eq!(decode(&framed(0x10, 0x01, 0, &nothing)), Err(WireError::Empty));
}

#[test]
fn s_011_a_hundred_thousand_containers_are_refused_whole_and_cut_in_half() {
    const DEEP: usize = 100_000;
    let nested = |open: &[u8], close: &[u8]| [open.repeat(DEEP), close.repeat(DEEP)].concat();
    let counted = |open: &[u8], inner: &[u8]| [open.repeat(DEEP), inner.to_vec()].concat();
    let rencoded = [
        counted(b"\xc1", b"\xc0"),
        nested(b"\x3b", b"\x7f"),
        counted(b"\x67\x81a", b"\x66"),
        nested(b"\x3c\x81a", b"\x7f"),
    ];
    let bencoded = [nested(b"l", b"e"), [b"d1:a".repeat(DEEP), b"de".to_vec(), b"e".repeat(DEEP)].concat()];
    let of = |encoder| rencoded.iter().map(move |payload| (encoder, payload));
    let all = of(Encoder::Rencodeplus)
        .chain(of(Encoder::Rencode))
        .chain(bencoded.iter().map(|payload| (Encoder::Bencode, payload)));
    for (encoder, payload) in all {
        for payload in [&payload[..], &payload[..payload.len() / 2]] {
            assert_eq!(
                encoder.decode(payload, &Limits::default()),
                Err(WireError::TooDeep),
                "{}",
                encoder.name()
            );
        }
    }
}

#[test]
fn s_011_depth_entries_and_values_end_where_the_limits_say() {
    let limits = Limits::default();
    let nested = |depth: usize| (1..depth).fold(Value::List(Vec::new()), |inner, _| Value::List(vec![inner]));
    let wide = |count: usize| Value::List(vec![Value::Int(0); count]);
    let many = |lists: usize| Value::List(vec![wide(1023); lists]);
    let dict = |count: i64| Value::Dict((0..count).map(|key| (Value::Int(key), Value::Int(0))).collect());
    for encoder in Encoder::ALL {
        let check = |value: &Value| encoder.decode(&encoder.encode(value).unwrap(), &limits);
        assert!(check(&nested(16)).is_ok());
        assert_eq!(encoder.encode(&nested(17)), Err(WireError::TooDeep));
        assert!(check(&wide(4096)).is_ok());
        assert_eq!(check(&wide(4097)), Err(WireError::TooMany));
        assert!(check(&dict(4096)).is_ok());
        assert_eq!(check(&dict(4097)), Err(WireError::TooMany));
        assert!(check(&many(15)).is_ok());
        assert_eq!(check(&many(16)), Err(WireError::TooMany));
    }
    let seventeen = [&b"\xc1".repeat(16)[..], b"\xc0"].concat();
    assert_eq!(Encoder::Rencodeplus.decode(&seventeen, &limits), Err(WireError::TooDeep));
}

#[test]
fn s_011_malformed_values_have_their_reason() {
    use Encoder::{Bencode, Rencode, Rencodeplus};
    let digits = |prefix: &[u8], count, end: &[u8]| [prefix, &b"9".repeat(count), end].concat();
    let cases: Vec<(Encoder, Vec<u8>, WireError)> = vec![
        (Rencodeplus, b"\xc1/".to_vec(), WireError::Code),
        (Rencode, b"\xc1/".to_vec(), WireError::Code),
        (Bencode, b"l/e".to_vec(), WireError::Code),
        (Rencodeplus, b"\x7f".to_vec(), WireError::Code),
        (Rencodeplus, b"\xc2\x00\x7f".to_vec(), WireError::Code),
        (Bencode, b"e".to_vec(), WireError::Code),
        (Rencodeplus, b"\x00\x00".to_vec(), WireError::Trailing),
        (Bencode, b"lee".to_vec(), WireError::Trailing),
        (Rencodeplus, b"".to_vec(), WireError::Truncated),
        (Rencodeplus, b"\x81\xff".to_vec(), WireError::Utf8),
        (Rencodeplus, b"1:\xff".to_vec(), WireError::Utf8),
        (Bencode, b"u1:\xff".to_vec(), WireError::Utf8),
        (Rencode, b"1/a".to_vec(), WireError::Length),
        (Rencodeplus, b"01:a".to_vec(), WireError::Length),
        (Rencodeplus, b"1x".to_vec(), WireError::Length),
        (Rencodeplus, digits(b"", 30, b":"), WireError::Length),
        (Bencode, b"00:".to_vec(), WireError::Length),
        (Bencode, b"99999999999:a".to_vec(), WireError::Truncated),
        (Rencodeplus, b"\x3d007\x7f".to_vec(), WireError::Integer),
        (Rencodeplus, digits(b"\x3d", 65, b"\x7f"), WireError::Integer),
        (Rencodeplus, digits(b"\x3d", 5000, b""), WireError::Integer),
        (Rencodeplus, digits(b"\x3d", 20, b""), WireError::Truncated),
        (Bencode, b"i-0e".to_vec(), WireError::Integer),
        (Bencode, b"ie".to_vec(), WireError::Integer),
        (Rencodeplus, b"\x67\xc0\x00".to_vec(), WireError::Key),
        (Rencodeplus, b"\x67\x66\x00".to_vec(), WireError::Key),
        (Rencodeplus, b"\x67\x45\x00".to_vec(), WireError::Key),
        (Rencodeplus, b"\x67\x42\0\0\0\0\x00".to_vec(), WireError::Key),
        (Bencode, b"d1:ae".to_vec(), WireError::Key),
        (Rencodeplus, b"\x68\x81a\x00\x81a\x01".to_vec(), WireError::DuplicateKey),
        (Rencodeplus, b"\x68\x81a\x001/a\x01".to_vec(), WireError::DuplicateKey),
        (Rencodeplus, b"\x68\x43\x00\x01\x01".to_vec(), WireError::DuplicateKey),
        (Bencode, b"di1ei0ei1ei0ee".to_vec(), WireError::DuplicateKey),
    ];
    for (encoder, payload, expected) in cases {
        let found = encoder.decode(&payload, &Limits::default());
        assert_eq!(found, Err(expected), "{} {payload:02x?}", encoder.name());
    }
}

#[test]
fn s_012_chunks_yaml_and_unagreed_encryption_are_refused_by_their_header() {
    for index in 1..=15 {
        assert_eq!(decode(&framed(0, 0, index, b"x")[..8]), Err(WireError::RawChunk));
    }
    assert_eq!(decode(&framed(0x04, 0, 0, b"- hello\n")[..8]), Err(WireError::Yaml));
    assert_eq!(decode(&framed(0x12, 0, 0, HELLO)[..8]), Err(WireError::Encrypted));
}

#[test]
fn only_a_list_that_starts_with_a_type_is_a_packet() {
    let long_name = [&b"\xc165:"[..], &[b'a'; 65]].concat();
    let cases: [(&[u8], WireError); 7] = [
        (b"\x85hello", WireError::NotAPacket),
        (b"\x66", WireError::NotAPacket),
        (b"\xc0", WireError::NotAPacket),
        (b"\xc1\xc0", WireError::NotAPacket),
        (b"\xc11/\xff", WireError::NotAPacket),
        (&long_name, WireError::NotAPacket),
        (b"\xc1\x01", WireError::UnknownAlias),
    ];
    for (payload, expected) in cases {
        assert_eq!(decode(&framed(0x10, 0, 0, payload)), Err(expected), "{payload:02x?}");
    }
}
