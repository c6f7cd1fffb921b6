//! The numbers of vsock: machines by their context id, and ports. `transport`, `config`, `connect` and the module
//! `peercred` read them.

/// What Linux has for any machine and any port.
pub const ANY: u32 = u32::MAX;

/// The number that a word of Xpra's or digits mean, for a machine or a port; `None` for another text.
pub fn number(text: &str) -> Option<u32> {
    match text.to_ascii_lowercase().as_str() {
        "any" | "auto" => Some(ANY),
        "hypervisor" => Some(0),
        "local" => Some(1),
        "host" => Some(2),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().ok().filter(|number| *number != ANY)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_digits_are_numbers_and_nothing_else_is() {
        for (text, meant) in [
            ("any", ANY),
            ("Auto", ANY),
            ("hypervisor", 0),
            ("local", 1),
            ("host", 2),
            ("3", 3),
            ("4294967294", ANY - 1),
        ] {
            assert_eq!(number(text), Some(meant), "{text}");
        }
        for wrong in ["", "-1", "+1", "1e3", " 1", "4294967295", "4294967296", "x", "３"] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
    }
}
