//! Command lines with what they print and how they exit, one file each in `tests/cmd/`.

#[test]
fn command_lines() {
    trycmd::TestCases::new().env("NO_COLOR", "1").env("COLUMNS", "80").case("tests/cmd/*.toml");
}
