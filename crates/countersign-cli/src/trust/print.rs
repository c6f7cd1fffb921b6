//! Entries and invitations for people: tables of at most 80 columns, times from now.

use std::fmt::Write as _;

use countersign::{
    control::{Listed, ListedInvitation},
    trust::Scope,
};
use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};
use time::OffsetDateTime;

use crate::report::{Exit, Report};

/// The entries, one a line.
pub(super) fn table(entries: &[Listed], now: i64) -> String {
    let mut text = String::new();
    if !entries.is_empty() {
        row(&mut text, ["NAME", "FINGERPRINT", "WAY", "LAST SEEN", "ENDS"]);
    }
    for entry in entries {
        let ends = match (&*entry.standing, entry.expires) {
            ("revoked", _) => "revoked".to_owned(),
            ("expired", _) => "expired".to_owned(),
            (_, Some(end)) => until(end, now),
            (_, None) => "never".to_owned(),
        };
        let seen = entry.last_seen.map_or_else(|| "never".to_owned(), |seen| since(seen, now));
        row(
            &mut text,
            [&short(&entry.name), &format!("{:.16}", entry.fingerprint), entry.way.code(), &seen, &ends],
        );
    }
    text
}

/// All facts of an entry, one a line.
pub(super) fn entry(entry: &Listed) -> String {
    let mut text = String::new();
    let mut fact = |name: &str, value: &str| {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{name:12} {value}");
    };
    fact("name", &entry.name);
    fact("fingerprint", &entry.fingerprint);
    fact("standing", &entry.standing);
    fact("came in", &format!("{}, by {}, {}", entry.way, entry.by.escape_debug(), date(entry.added)));
    if let Some(uid) = entry.uid {
        fact("uid", &uid.to_string());
    }
    fact("last seen", &entry.last_seen.map_or_else(|| "never".to_owned(), date));
    fact("ends", &entry.expires.map_or_else(|| "never".to_owned(), date));
    fact("counts for", &scope(&entry.scope));
    if let Some(old) = &entry.replaces {
        fact("replaces", old);
    }
    if let Some(revoked) = &entry.revoked {
        let why = if revoked.why.is_empty() { "no reason was given" } else { &revoked.why };
        fact("taken back", &format!("{}: {}", date(revoked.at), why.escape_debug()));
    }
    text
}

/// The invitations, one a line.
pub(super) fn invitations(all: &[ListedInvitation], now: i64) -> String {
    let mut text = String::new();
    if !all.is_empty() {
        row(&mut text, ["NAME", "ID", "BY", "MADE", "STATE"]);
    }
    for one in all {
        let state = match one.spent {
            Some(at) => format!("spent {}", since(at, now)),
            None if one.open => format!("open {}", until(one.expires, now)),
            None => "ended".to_owned(),
        };
        let by: String = one.by.chars().take(10).collect();
        row(&mut text, [&short(&one.name), &one.id, &by, &since(one.made, now), &state]);
    }
    text
}

/// `in 3 h`.
pub(super) fn until(end: i64, now: i64) -> String {
    format!("in {}", length(end.saturating_sub(now)))
}

pub(crate) fn since(at: i64, now: i64) -> String {
    match now.saturating_sub(at) {
        ..60 => "just now".to_owned(),
        past => format!("{} ago", length(past)),
    }
}

/// A length of time in its largest unit, to the nearest whole: 90 days are 90 days a second later too.
pub(crate) fn length(seconds: i64) -> String {
    let whole = |unit: i64| seconds.saturating_add(unit / 2) / unit;
    match seconds {
        ..60 => "1 min".to_owned(),
        60..7200 => format!("{} min", whole(60)),
        7200..172_800 => format!("{} h", whole(3600)),
        _ => format!("{} days", whole(86_400)),
    }
}

/// `2026-11-22 02:50 UTC`.
fn date(at: i64) -> String {
    OffsetDateTime::from_unix_timestamp(at).map_or_else(
        |_| format!("{at} s after 1970"),
        |at| {
            let (year, month, day) = at.to_calendar_date();
            let (hour, minute, _) = at.to_hms();
            format!("{year:04}-{:02}-{day:02} {hour:02}:{minute:02} UTC", u8::from(month))
        },
    )
}

fn scope(scope: &Scope) -> String {
    let part = |what: &str, names: &[String]| match names.is_empty() {
        true => format!("every {what}"),
        false => format!("{what} {}", names.join(", ")),
    };
    format!("{}; {}", part("socket", &scope.sockets), part("backend", &scope.backends))
}

fn short(name: &str) -> String {
    match name.chars().count() > NAME {
        true => name.chars().take(NAME - 2).chain("..".chars()).collect(),
        false => name.to_owned(),
    }
}

fn row(text: &mut String, [name, middle, way, seen, ends]: [&str; 5]) {
    let line = format!("{name:NAME$}  {middle:16}  {way:10}  {seen:12}  {ends}");
    // Writing to a text cannot fail.
    let _ = writeln!(text, "{}", line.trim_end());
}

/// A token for the camera of a telephone.
pub(super) fn qr_code(token: &str) -> Result<String, Report> {
    let code = QrCode::with_error_correction_level(token, EcLevel::L)
        .map_err(|error| Report::new(Exit::Failure, format!("the QR code: {error}")).fix("leave --qr out"))?;
    // Dark terminals are the usual ones: what is light in the code is drawn.
    let drawn = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    Ok(drawn + "\n")
}

/// Columns of a name.
const NAME: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_from_now() {
        assert_eq!(until(1_000 + 90 * 86_400, 1_000), "in 90 days");
        assert_eq!(until(90 * 86_400, 2), "in 90 days");
        assert_eq!(until(1_600, 1_000), "in 10 min");
        assert_eq!(until(i64::MAX, i64::MIN), format!("in {} days", i64::MAX / 86_400));
        assert_eq!((since(1_000, 1_030), since(1_000, 11_800)), ("just now".into(), "3 h ago".into()));
        assert_eq!(date(1_700_000_000), "2023-11-14 22:13 UTC");
        assert_eq!(date(i64::MAX), format!("{} s after 1970", i64::MAX));
    }

    #[test]
    fn a_table_fits_into_80_columns() {
        let entry: Listed = serde_json::from_str(&format!(
            r#"{{"name":"{}","fingerprint":"{}","standing":"accepted","way":"passphrase","by":"x","uid":null,
                "added":0,"last_seen":1,"expires":100000000,"scope":{{}},"revoked":null,"replaces":null}}"#,
            "ü".repeat(60),
            "5f".repeat(32)
        ))
        .unwrap();
        let text = table(&[entry], 90_000_000);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("passphrase  1042 days ago  in 116 days"), "{text}");
        assert_eq!(table(&[], 0), "");
    }
}
