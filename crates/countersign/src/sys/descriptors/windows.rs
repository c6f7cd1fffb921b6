//! How many descriptors this process may have: Windows counts none.

/// How many descriptors this process may open; `None` if there is no limit.
pub fn most_descriptors() -> Option<usize> {
    None
}
