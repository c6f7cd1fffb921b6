//! The certificate of Xpra's servers: they want it and its key in one file.

use std::fs;

use crate::{Place, certificate::Pair};

/// Makes one for `localhost`, which vouches for itself; returns its file and the one with the key besides.
pub(super) fn of_server(place: &Place) -> (String, String) {
    let Pair { cert, key } = Pair::of_localhost(place, "server");
    let text = [&key, &cert].map(|file| fs::read_to_string(file).expect("a file just written")).concat();
    (cert, place.file("both.pem", text))
}
