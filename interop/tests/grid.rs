//! The grid of clients, servers, sockets and modules (`countersign_interop::grid`): one test for each pair of programs and
//! half of the kinds of socket, so that they run side by side.

use std::{fs, path::Path};

use countersign_interop::grid::{Peer, Transport, control, page, play};

#[test]
fn xpra_3_logs_in_at_ours() {
    play(Peer::Xpra3, Peer::Ours, &Transport::IN_CLEAR);
}

#[test]
fn xpra_3_logs_in_at_ours_encrypted() {
    play(Peer::Xpra3, Peer::Ours, &Transport::ENCRYPTED);
}

#[test]
fn xpra_4_logs_in_at_ours() {
    play(Peer::Xpra4, Peer::Ours, &Transport::IN_CLEAR);
}

#[test]
fn xpra_4_logs_in_at_ours_encrypted() {
    play(Peer::Xpra4, Peer::Ours, &Transport::ENCRYPTED);
}

#[test]
fn xpra_6_logs_in_at_ours() {
    play(Peer::Xpra6, Peer::Ours, &[Transport::Tcp, Transport::Ws]);
}

#[test]
fn xpra_6_logs_in_at_ours_over_unix() {
    play(Peer::Xpra6, Peer::Ours, &[Transport::Unix]);
}

#[test]
fn xpra_6_logs_in_at_ours_encrypted() {
    play(Peer::Xpra6, Peer::Ours, &[Transport::Tls, Transport::Wss]);
}

#[test]
fn xpra_6_logs_in_at_ours_under_aes() {
    play(Peer::Xpra6, Peer::Ours, &[Transport::Aes]);
}

#[test]
fn ours_logs_in_at_xpra_3() {
    play(Peer::Ours, Peer::Xpra3, &Transport::IN_CLEAR);
}

#[test]
fn ours_logs_in_at_xpra_3_encrypted() {
    play(Peer::Ours, Peer::Xpra3, &Transport::ENCRYPTED);
}

#[test]
fn ours_logs_in_at_xpra_4() {
    play(Peer::Ours, Peer::Xpra4, &Transport::IN_CLEAR);
}

#[test]
fn ours_logs_in_at_xpra_4_encrypted() {
    play(Peer::Ours, Peer::Xpra4, &Transport::ENCRYPTED);
}

#[test]
fn ours_logs_in_at_xpra_6() {
    play(Peer::Ours, Peer::Xpra6, &Transport::IN_CLEAR);
}

#[test]
fn ours_logs_in_at_xpra_6_encrypted() {
    play(Peer::Ours, Peer::Xpra6, &[Transport::Tls, Transport::Wss]);
}

#[test]
fn ours_does_not_log_in_at_xpra_6_under_aes() {
    play(Peer::Ours, Peer::Xpra6, &[Transport::Aes]);
}

#[test]
fn ours_logs_in_at_ours() {
    play(Peer::Ours, Peer::Ours, &Transport::IN_CLEAR);
}

#[test]
fn ours_logs_in_at_ours_encrypted() {
    play(Peer::Ours, Peer::Ours, &Transport::ENCRYPTED);
}

#[test]
fn xpra_3_logs_in_at_xpra_3() {
    control(Peer::Xpra3, Peer::Xpra3);
}

#[test]
fn xpra_3_logs_in_at_xpra_4() {
    control(Peer::Xpra3, Peer::Xpra4);
}

#[test]
fn xpra_3_logs_in_at_xpra_6() {
    control(Peer::Xpra3, Peer::Xpra6);
}

#[test]
fn xpra_4_logs_in_at_xpra_3() {
    control(Peer::Xpra4, Peer::Xpra3);
}

#[test]
fn xpra_4_logs_in_at_xpra_4() {
    control(Peer::Xpra4, Peer::Xpra4);
}

#[test]
fn xpra_4_logs_in_at_xpra_6() {
    control(Peer::Xpra4, Peer::Xpra6);
}

#[test]
fn xpra_6_logs_in_at_xpra_3() {
    control(Peer::Xpra6, Peer::Xpra3);
}

#[test]
fn xpra_6_logs_in_at_xpra_4() {
    control(Peer::Xpra6, Peer::Xpra4);
}

#[test]
fn xpra_6_logs_in_at_xpra_6() {
    control(Peer::Xpra6, Peer::Xpra6);
}

#[test]
fn the_page_is_what_is_played() {
    let page_there = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/interop.md");
    let there = fs::read_to_string(page_there).unwrap_or_default();
    assert!(there == page(), "docs/interop.md is out of date: run `cargo xtask generate`");
}
