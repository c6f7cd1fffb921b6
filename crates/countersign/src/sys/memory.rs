//! How memory is laid out.
#![allow(unsafe_code)]

/// Asks for large pages behind the room of a large vector, so that a look into the middle of it finds the page
/// without a walk through tables that are in no cache. It is a wish: where the system has none to give,
/// nothing is different.
pub(crate) fn in_large_pages<T>(room: &Vec<T>) {
    let start = room.as_ptr().addr();
    let end = start.saturating_add(room.capacity().saturating_mul(size_of::<T>()));
    // Whole pages of the vector's own, and nothing beside it.
    let (first, last) = (start.next_multiple_of(LARGE_PAGE), end / LARGE_PAGE * LARGE_PAGE);
    if first >= last {
        return;
    }
    #[cfg(target_os = "linux")]
    {
        let first_page = room.as_ptr().wrapping_byte_add(first - start).cast_mut();
        // SAFETY: the range is inside one live allocation, and the advice changes none of its bytes.
        let _ = unsafe { libc::madvise(first_page.cast(), last - first, libc::MADV_HUGEPAGE) };
    }
}

/// Bytes of one, on the systems that have them by default.
const LARGE_PAGE: usize = 2 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_every_size_stay_as_they_are() {
        for length in [0, 1, LARGE_PAGE - 1, LARGE_PAGE, 3 * LARGE_PAGE + 17] {
            let mut room: Vec<u8> = Vec::with_capacity(length);
            in_large_pages(&room);
            room.resize(length, 7);
            assert!(room.iter().all(|byte| *byte == 7));
        }
        in_large_pages(&vec![(); 10]);
    }
}
