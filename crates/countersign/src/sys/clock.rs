//! The time: as the system's clock has it, as it goes on whatever is done to that clock, and times of day as this
//! system's time zone has them.
#![allow(unsafe_code)]

use std::{
    sync::OnceLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Time since 1970, for whatever ends by the calendar. While this process lives it never runs back: a clock that is
/// set back opens nothing again that had ended (S-98).
pub fn since_1970() -> Duration {
    wall().max(steady())
}

/// The same in seconds.
pub fn now() -> i64 {
    seconds(since_1970())
}

/// Time since 1970 by the clock at the first call, and on from there evenly: who waits for something waits neither
/// longer nor shorter when the clock is set (S-98).
pub fn steady() -> Duration {
    static START: OnceLock<(Duration, Instant)> = OnceLock::new();
    let (at, start) = START.get_or_init(|| (wall(), Instant::now()));
    at.saturating_add(start.elapsed())
}

/// Time since 1970 as the system's clock says: for what has to agree with somebody else's.
pub fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Whole seconds.
pub fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

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
        system::to_unix(self, utc)
    }
}

#[cfg(unix)]
mod system {
    use super::Civil;

    pub(super) fn to_unix(civil: Civil, utc: bool) -> Option<i64> {
        // SAFETY: all bits zero are a valid `tm`: numbers, and a pointer that may be null.
        let mut broken_down: libc::tm = unsafe { std::mem::zeroed() };
        broken_down.tm_year = civil.year - 1900;
        broken_down.tm_mon = civil.month - 1;
        broken_down.tm_mday = civil.day;
        broken_down.tm_hour = civil.hour;
        broken_down.tm_min = civil.minute;
        broken_down.tm_sec = civil.second;
        // Whether it is summer time then, the system knows.
        broken_down.tm_isdst = -1;
        // SAFETY: both take an exclusive reference to a `tm`. They may read TZ, which nothing here writes.
        let seconds = unsafe {
            if utc { libc::timegm(&raw mut broken_down) } else { libc::mktime(&raw mut broken_down) }
        };
        // The 31st of a shorter month is made into another date.
        let same = broken_down.tm_mday == civil.day && broken_down.tm_mon == civil.month - 1;
        (same && seconds != -1).then_some(seconds)
    }
}

#[cfg(windows)]
mod system {
    use std::{mem::zeroed, ptr::null};

    use windows_sys::Win32::{
        Foundation::{FILETIME, SYSTEMTIME},
        System::Time::{FileTimeToSystemTime, SystemTimeToFileTime, TzSpecificLocalTimeToSystemTime},
    };

    use super::Civil;

    /// From 1601, where file times begin, to 1970, in seconds.
    const TO_1970: i64 = 11_644_473_600;

    pub(super) fn to_unix(civil: Civil, utc: bool) -> Option<i64> {
        let written = SYSTEMTIME {
            wYear: civil.year.try_into().ok()?,
            wMonth: civil.month.try_into().ok()?,
            wDayOfWeek: 0,
            wDay: civil.day.try_into().ok()?,
            wHour: civil.hour.try_into().ok()?,
            wMinute: civil.minute.try_into().ok()?,
            // No day here has a leap second.
            wSecond: civil.second.min(59).try_into().ok()?,
            wMilliseconds: 0,
        };
        let as_if_utc = seconds(&written)?;
        if utc {
            return Some(as_if_utc);
        }
        // SAFETY: all bits zero are a valid value, which is numbers.
        let mut moment: SYSTEMTIME = unsafe { zeroed() };
        // SAFETY: the pointers are to values that live here; null stands for the time zone in force.
        let known =
            unsafe { TzSpecificLocalTimeToSystemTime(null(), &raw const written, &raw mut moment) } != 0;
        known.then(|| seconds(&moment)).flatten()
    }

    fn seconds(of: &SYSTEMTIME) -> Option<i64> {
        // SAFETY: all bits zero are valid values of both, which are numbers.
        let (mut ticks, mut again): (FILETIME, SYSTEMTIME) = unsafe { (zeroed(), zeroed()) };
        // SAFETY: the pointers are to values that live here or are borrowed.
        let known = unsafe {
            SystemTimeToFileTime(of, &raw mut ticks) != 0
                && FileTimeToSystemTime(&raw const ticks, &raw mut again) != 0
        };
        // The 31st of a shorter month is refused, or made into another date.
        let same = (again.wMonth, again.wDay) == (of.wMonth, of.wDay);
        let ticks = i64::from(ticks.dwHighDateTime) << 32 | i64::from(ticks.dwLowDateTime);
        (known && same).then_some(ticks / 10_000_000 - TO_1970)
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
