//! Times of day, as this system's time zone has them.
#![allow(unsafe_code)]

/// A date and time of day as people write it.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a date and time has these")]
pub struct Civil {
    /// The year, 1970 to 9999.
    pub year: i32,
    /// The month, 1 to 12.
    pub month: i32,
    /// The day of the month, from 1.
    pub day: i32,
    /// The hour, 0 to 23.
    pub hour: i32,
    /// The minute, 0 to 59.
    pub minute: i32,
    /// The second, 0 to 60.
    pub second: i32,
}

impl Civil {
    /// Seconds since 1970, in UTC or in this system's time zone. `None` for a date that does not exist.
    pub fn to_unix(self, utc: bool) -> Option<i64> {
        // SAFETY: all bits zero are a valid `tm`: numbers, and a pointer that may be null.
        let mut broken_down: libc::tm = unsafe { std::mem::zeroed() };
        broken_down.tm_year = self.year - 1900;
        broken_down.tm_mon = self.month - 1;
        broken_down.tm_mday = self.day;
        broken_down.tm_hour = self.hour;
        broken_down.tm_min = self.minute;
        broken_down.tm_sec = self.second;
        // Whether it is summer time then, the system knows.
        broken_down.tm_isdst = -1;
        // SAFETY: both take an exclusive reference to a `tm`. They may read TZ, which nothing here writes.
        let seconds = unsafe {
            if utc { libc::timegm(&raw mut broken_down) } else { libc::mktime(&raw mut broken_down) }
        };
        // The 31st of a shorter month is made into another date.
        let same = broken_down.tm_mday == self.day && broken_down.tm_mon == self.month - 1;
        (same && seconds != -1).then_some(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_counted_from_1970_and_those_that_do_not_exist_are_none() {
        let date =
            |year, month, day| Civil { year, month, day, hour: 12, minute: 0, second: 1 }.to_unix(true);
        assert_eq!(date(1970, 1, 2), Some(86_400 + 43_201));
        assert_eq!(date(2024, 2, 29), Some(1_709_208_001));
        for (year, month, day) in [(2025, 2, 29), (2025, 4, 31), (2025, 13, 1), (2025, 1, 0), (2025, 0, 1)] {
            assert_eq!(date(year, month, day), None, "{year} {month} {day}");
        }
        let local = Civil { year: 2025, month: 7, day: 1, hour: 12, minute: 0, second: 0 };
        let apart = local.to_unix(false).unwrap() - local.to_unix(true).unwrap();
        assert!(apart.abs() <= 14 * 3600 && apart % 900 == 0, "{apart}");
    }
}
