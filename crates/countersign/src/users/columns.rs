//! Which column of a query means what, whatever database gave it (`docs/protocol/accounts.md`).

use super::row::Row;
use crate::Secret;

/// Where the columns of an account stand among those of a query.
pub(super) struct Columns {
    password: Option<usize>,
    others: [Option<usize>; OTHERS.len()],
}

impl Columns {
    /// Columns by their names; a password also from the first one.
    pub(super) fn of(names: &[&str]) -> Self {
        let column = |wanted: &str| names.iter().position(|name| name.eq_ignore_ascii_case(wanted));
        let is_ours = |first: &&str| OTHERS.iter().any(|ours| ours.eq_ignore_ascii_case(first));
        let first_is_password = names.first().is_some_and(|first| !is_ours(first));
        let password = column("password").or_else(|| first_is_password.then_some(0));
        Self { password, others: OTHERS.map(column) }
    }

    /// Whether the session's columns are there too.
    pub(super) fn has_uid(&self) -> bool {
        let [_, uid, ..] = self.others;
        uid.is_some()
    }

    /// The account in one row, whose values `value` gives by position: NULL and nothing as none.
    ///
    /// # Errors
    /// Those of `value`.
    pub(super) fn row<E>(&self, mut value: impl FnMut(usize) -> Result<Option<Secret>, E>) -> Result<Row, E> {
        let mut secret = |column: Option<usize>| match column {
            Some(index) => value(index),
            None => Ok(None),
        };
        let [username, uid, gid, displays, env_options, session_options, verifier, disabled, expires] =
            self.others;
        Ok(Row {
            username: text(secret(username)?),
            password: secret(self.password)?,
            verifier: secret(verifier)?,
            uid: text(secret(uid)?),
            gid: text(secret(gid)?),
            displays: text(secret(displays)?),
            env_options: text(secret(env_options)?),
            session_options: text(secret(session_options)?),
            disabled: !matches!(text(secret(disabled)?).as_str(), "" | "0" | "no" | "false"),
            expires: expires_at(&text(secret(expires)?)),
        })
    }
}

/// Fills in what a sessions query gives for the row: the first of its columns, by position.
///
/// # Errors
/// Those of `value`.
pub(super) fn add_session<E>(
    row: &mut Row,
    columns: usize,
    mut value: impl FnMut(usize) -> Result<Option<Secret>, E>,
) -> Result<(), E> {
    let targets =
        [&mut row.uid, &mut row.gid, &mut row.displays, &mut row.env_options, &mut row.session_options];
    for (index, target) in targets.into_iter().enumerate().take(columns) {
        *target = text(value(index)?);
    }
    Ok(())
}

fn text(value: Option<Secret>) -> String {
    value.map_or_else(String::new, |text| String::from_utf8_lossy(text.expose()).into_owned())
}

/// An end date that cannot be read has passed: a typing error must not keep an account open.
fn expires_at(column: &str) -> Option<i64> {
    let column = column.trim();
    (!column.is_empty()).then(|| column.parse().unwrap_or(0))
}

/// Xpra's columns but the password, then ours.
const OTHERS: [&str; 9] = [
    "username",
    "uid",
    "gid",
    "displays",
    "env_options",
    "session_options",
    "verifier",
    "disabled",
    "expires",
];
