//! Requests to the control socket, a line of JSON each, and the answers: what is read can be written and read again.
#![no_main]

use countersign::control::{Request, Response};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(request) = serde_json::from_slice::<Request>(input) {
        let word = request.word();
        assert!(!request.may_be_first() || !word.is_empty());
        let written = serde_json::to_vec(&request).expect("what was read can be written");
        let again: Request = serde_json::from_slice(&written).expect("what was written can be read");
        assert_eq!(again.word(), word);
        assert_eq!(serde_json::to_vec(&again).expect("and written again"), written);
    }
    if let Ok(response) = serde_json::from_slice::<Response>(input) {
        let written = serde_json::to_vec(&response).expect("what was read can be written");
        let again: Response = serde_json::from_slice(&written).expect("what was written can be read");
        assert_eq!(serde_json::to_vec(&again).expect("and written again"), written);
    }
});
