//! Heads and frames of WebSocket: neither ever panics, and frames mean the same however they are cut.
#![no_main]

use countersign_proto::wire::websocket::{Masks, Request, Unframer, accepted};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((choice, input)) = input.split_first() else { return };
    if choice & 0x80 != 0 {
        if let Ok(Some((request, length))) = Request::read(input) {
            assert!(length <= input.len());
            let _ = request.upgrade();
        }
        let _ = accepted(input, "dGhlIHNhbXBsZSBub25jZQ==");
        return;
    }
    let masks = [Masks::Required, Masks::Optional, Masks::Forbidden][usize::from(*choice) % 3];
    let read = |cut: usize| {
        let (mut unframer, mut payload) = (Unframer::new(masks), Vec::new());
        for piece in input.chunks(cut) {
            let mut piece = piece.to_vec();
            let kept = unframer.take(&mut piece)?;
            payload.extend_from_slice(&piece[..kept]);
        }
        Ok::<_, countersign_proto::wire::websocket::FrameError>((payload, unframer.may_end(), unframer.take_ping()))
    };
    assert_eq!(read(input.len().max(1)), read(usize::from(choice >> 4) + 1));
});
