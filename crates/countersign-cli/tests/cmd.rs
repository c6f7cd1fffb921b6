//! Command lines with what they print and how they exit: one file each in `tests/cmd/`, and the life
//! of a table of users as one session.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

#[test]
fn command_lines() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cmd");
    // Version control keeps no modes.
    for (file, mode) in [("files/word", 0o600), ("files/open-word", 0o644), ("users.in/accounts.txt", 0o600)]
    {
        fs::set_permissions(folder.join(file), fs::Permissions::from_mode(mode)).unwrap();
    }
    trycmd::TestCases::new()
        .env("NO_COLOR", "1")
        .env("COLUMNS", "80")
        .env("COUNTERSIGN_CONFIG", "/dev/null")
        .env("HOME", "/nonexistent/home")
        .env("XDG_STATE_HOME", "/nonexistent/home/state")
        .case("tests/cmd/*.toml")
        .case("tests/cmd/*.trycmd");
}
