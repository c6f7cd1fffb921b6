//! Encrypted packets: whatever comes means the same however it is cut, what is sealed opens to what it was, and an
//! announcement that is read is announced again as it was.
#![no_main]

use std::sync::LazyLock;

use countersign_proto::{
    Secret,
    wire::xpra::{
        Caps, Challenge, Decoder, Limits, WireError,
        cipher::{Block, Framing, Key, Mode, Opener, Parameters, Sealer},
    },
};
use libfuzzer_sys::fuzz_target;

/// A key for each mode.
static KEYS: LazyLock<Vec<[Key; 2]>> = LazyLock::new(|| {
    let one = |mode| Parameters::offered(mode, &[7; Parameters::RANDOM]).derive(&Secret::new("key"));
    let both = |mode| [one(mode), one(mode).padded_to(Some(Block::ThirtyTwo))];
    Mode::ALL.into_iter().map(both).collect()
});

fuzz_target!(|input: &[u8]| {
    let [choice, cut, input @ ..] = input else { return };
    let key = &KEYS[usize::from(*choice) % 4][usize::from(choice >> 2) % 2];
    let framing = if choice & 0x08 == 0 { Framing::Packets } else { Framing::Bytes };
    let cut = usize::from(*cut) + 1;
    let whole = open(key, framing, input, input.len().max(1));
    let pieces = open(key, framing, input, cut);
    assert_eq!(whole.is_ok(), pieces.is_ok());
    if whole.is_ok() {
        assert_eq!(whole, pieces);
    }

    let mut sealer = Sealer::default();
    sealer.rekey(key).expect("nothing was sealed yet");
    sealer.frame(framing);
    let mut sealed = Vec::new();
    if input.chunks(cut).try_for_each(|piece| sealer.seal(piece, &mut sealed)).is_ok() {
        // The last packet may not be whole.
        let opened = open(key, framing, &sealed, cut).expect("what was sealed opens");
        assert!(input.starts_with(&opened));
    }

    if let Ok(Some((packet, _))) = Decoder::new(Limits::default()).decode(input)
        && let Ok(challenge) = Challenge::read(packet)
        && let Ok(Some(parameters)) = Parameters::read(&challenge.caps)
    {
        let again = Parameters::read(&parameters.announce(Caps::default()));
        assert_eq!(again, Ok(Some(parameters)));
    }
});

fn open(key: &Key, framing: Framing, sealed: &[u8], cut: usize) -> Result<Vec<u8>, WireError> {
    let (mut opener, mut plain) = (Opener::default(), Vec::new());
    opener.rekey(key)?;
    opener.frame(framing);
    for mut piece in sealed.chunks(cut) {
        while !piece.is_empty() {
            let taken = opener.open(piece, &mut plain)?;
            assert!(taken > 0 && taken <= piece.len());
            piece = &piece[taken..];
        }
    }
    Ok(plain)
}
