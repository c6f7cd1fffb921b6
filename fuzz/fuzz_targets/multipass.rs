//! A call's bytes: its messages, read in one piece and in many, are the same; what is read can be written and read
//! again; headers of any value.
#![no_main]

use countersign_proto::wire::multipass::{
    AuthenticateRequest, Frames, GetReply, GetRequest, LARGEST_MESSAGE, Message, RenewRequest, SetReply,
    SetRequest, Status, WireError, read_timeout,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let whole = messages(input, input.len().max(1));
    assert_eq!(whole, messages(input, 1));
    for message in whole.0.iter().map(Vec::as_slice).chain([input]) {
        rewritten::<AuthenticateRequest>(message);
        rewritten::<GetRequest>(message);
        rewritten::<GetReply>(message);
        rewritten::<SetRequest>(message);
        rewritten::<SetReply>(message);
        rewritten::<RenewRequest>(message);
    }
    let _ = read_timeout(input);
    let status = Status::read(input, input);
    assert_eq!(
        Status::read(&status.code.number().to_string().into_bytes(), status.encoded_message().as_bytes()),
        status
    );
});

fn messages(input: &[u8], step: usize) -> (Vec<Vec<u8>>, Option<WireError>) {
    let (mut frames, mut found) = (Frames::new(), Vec::new());
    for mut piece in input.chunks(step) {
        loop {
            match frames.read(&mut piece) {
                Ok(Some(message)) => found.push(message.expose().to_vec()),
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
            assert!(found.last().is_some_and(|message| message.len() <= LARGEST_MESSAGE));
        }
        assert!(piece.is_empty());
    }
    (found, None)
}

/// Writing is stable from the first time on: unknown fields and defaults are gone by then.
fn rewritten<M: Message>(bytes: &[u8]) {
    if let Ok(message) = M::decode(bytes) {
        let written = message.encode();
        let again = M::decode(written.expose()).expect("what was written can be read");
        assert!(again.encode().matches(written.expose()));
    }
}
