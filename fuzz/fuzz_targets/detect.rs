//! First bytes: an answer never changes when more bytes come, and there is one at the end.
#![no_main]

use countersign_proto::wire::detect::{Detected, detect};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    assert_ne!(detect(input, true), Detected::NeedMore);
    let mut decided = Detected::NeedMore;
    for end in 0..=input.len().min(1100) {
        let found = detect(&input[..end], false);
        assert!(decided == Detected::NeedMore || decided == found, "{decided:?}, then {found:?}");
        decided = found;
    }
});
