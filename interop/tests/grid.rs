//! The grid of clients, servers, sockets and modules (`countersign_interop::grid`), one test for each pair of programs.

use std::{fs, path::Path};

use countersign_interop::grid::{Peer, control, page, play};

#[test]
fn xpra_3_logs_in_at_ours() {
    play(Peer::Xpra3, Peer::Ours);
}

#[test]
fn xpra_4_logs_in_at_ours() {
    play(Peer::Xpra4, Peer::Ours);
}

#[test]
fn xpra_6_logs_in_at_ours() {
    play(Peer::Xpra6, Peer::Ours);
}

#[test]
fn ours_logs_in_at_xpra_3() {
    play(Peer::Ours, Peer::Xpra3);
}

#[test]
fn ours_logs_in_at_xpra_4() {
    play(Peer::Ours, Peer::Xpra4);
}

#[test]
fn ours_logs_in_at_xpra_6() {
    play(Peer::Ours, Peer::Xpra6);
}

#[test]
fn ours_logs_in_at_ours() {
    play(Peer::Ours, Peer::Ours);
}

#[test]
fn each_xpra_agrees_with_the_table_on_itself() {
    Peer::THEIRS.into_iter().for_each(control);
}

#[test]
fn the_page_is_what_is_played() {
    let page_there = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/interop.md");
    let there = fs::read_to_string(page_there).unwrap_or_default();
    assert!(there == page(), "docs/interop.md is out of date: run `cargo xtask generate`");
}
