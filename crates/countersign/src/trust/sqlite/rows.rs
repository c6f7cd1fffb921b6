//! Rows of the store and what they mean: written, read, and judged for damage.

use rusqlite::{Row, Transaction, params};
use zeroize::Zeroizing;

use crate::{
    Username,
    transport::tls::Fingerprint,
    trust::{
        entry::{Entry, Revocation, Scope},
        invitation::Invitation,
        message,
        passphrase::Passphrase,
        store::Known,
    },
};

pub(super) fn write_entry(step: &Transaction<'_>, entry: &Entry) -> Result<usize, rusqlite::Error> {
    let scope = scope_text(&entry.scope);
    let mut write = step.prepare_cached(&format!(
        "INSERT OR REPLACE INTO certificates ({DECIDES}, {TELLS}) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)"
    ))?;
    write.execute(params![
        entry.fingerprint.0,
        entry.name.as_str(),
        entry.last_seen,
        entry.expires,
        scope,
        entry.revoked.as_ref().map(|revoked| revoked.at),
        entry.replaces.map(|fingerprint| fingerprint.0),
        checksum(&Known::from(entry.clone()), scope.as_deref()),
        entry.way.code(),
        entry.by,
        entry.uid,
        entry.added,
        entry.revoked.as_ref().map(|revoked| revoked.why.as_str()),
    ])
}

/// The first columns of a row, or what is wrong with them, in words that a damaged store is refused with.
pub(super) fn read_known(row: &Row<'_>) -> Result<Known, String> {
    let name = row.get_ref(1).and_then(|value| Ok(value.as_str()?)).map_err(odd)?;
    let scope: Option<&str> = row.get_ref(4).and_then(|value| Ok(value.as_str_or_null()?)).map_err(odd)?;
    let known = Known {
        fingerprint: Fingerprint(row.get(0).map_err(odd)?),
        name: Username::parse(name).map_err(|refusal| refusal.cause.to_string())?,
        last_seen: row.get(2).map_err(odd)?,
        expires: row.get(3).map_err(odd)?,
        scope: match scope {
            None => Scope::default(),
            Some(scope) => serde_json::from_str(scope).map_err(|error| error.to_string())?,
        },
        revoked: row.get::<_, Option<i64>>(5).map_err(odd)?.is_some(),
        replaces: row.get::<_, Option<[u8; 32]>>(6).map_err(odd)?.map(Fingerprint),
    };
    let written: u32 = row.get(7).map_err(odd)?;
    if checksum(&known, scope) == written { Ok(known) } else { Err("it was altered".to_owned()) }
}

pub(super) fn read_entry(row: &Row<'_>) -> Result<Entry, String> {
    let known = read_known(row)?;
    let text = |index| row.get_ref(index).and_then(|value| Ok(value.as_str()?)).map_err(odd);
    let revoked: Option<i64> = row.get(5).map_err(odd)?;
    Ok(Entry {
        fingerprint: known.fingerprint,
        name: known.name,
        way: text(8)?.parse().map_err(|()| "an unknown way in".to_owned())?,
        by: text(9)?.to_owned(),
        uid: row.get(10).map_err(odd)?,
        added: row.get(11).map_err(odd)?,
        last_seen: known.last_seen,
        expires: known.expires,
        scope: known.scope,
        revoked: match revoked {
            None => None,
            Some(at) => Some(Revocation::new(at, text(12)?)),
        },
        replaces: known.replaces,
    })
}

fn odd(error: rusqlite::Error) -> String {
    message(&error)
}

/// Over all that decides. When it was last seen does not.
fn checksum(known: &Known, scope: Option<&str>) -> u32 {
    let Known { fingerprint, name, expires, revoked, replaces, .. } = known;
    let ends = expires.unwrap_or_default().to_le_bytes();
    let marks = [u8::from(expires.is_some()), u8::from(*revoked), u8::from(replaces.is_some())];
    let replaces = replaces.map_or([0; 32], |fingerprint| fingerprint.0);
    // Between two texts there is a byte that neither can hold. Few parts, as a start sums a million rows.
    let mut rest = [0xff; 45];
    let (_, fields) = rest.split_at_mut(2);
    fields.iter_mut().zip(ends.iter().chain(&marks).chain(&replaces)).for_each(|(to, from)| *to = *from);
    let sum = crc32c::crc32c_append(crc32c::crc32c(&fingerprint.0), name.as_str().as_bytes());
    match scope {
        None => crc32c::crc32c_append(sum, &rest),
        Some(scope) => {
            let parts: [&[u8]; 3] = [&rest[..1], scope.as_bytes(), &rest[1..]];
            parts.iter().fold(sum, |sum, part| crc32c::crc32c_append(sum, part))
        }
    }
}

/// `None` for the scope that nearly all have, so that a million rows are read without a parser.
fn scope_text(scope: &Scope) -> Option<String> {
    (!scope.is_everything()).then(|| serde_json::to_string(scope).unwrap_or_default())
}

pub(super) fn write_passphrase(
    step: &Transaction<'_>,
    passphrase: &Passphrase,
) -> Result<usize, rusqlite::Error> {
    step.execute(
        "INSERT INTO passphrase (revision, verifier, expires, uses, at, by) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            passphrase.revision,
            *passphrase.verifier,
            passphrase.expires,
            passphrase.uses,
            passphrase.set,
            passphrase.by
        ],
    )
}

pub(super) fn read_passphrase(row: &Row<'_>) -> Result<Passphrase, rusqlite::Error> {
    Ok(Passphrase {
        revision: row.get("revision")?,
        verifier: Zeroizing::new(row.get("verifier")?),
        expires: row.get("expires")?,
        uses: row.get("uses")?,
        set: row.get("at")?,
        by: row.get("by")?,
    })
}

pub(super) fn write_invitation(
    step: &Transaction<'_>,
    invitation: &Invitation,
) -> Result<usize, rusqlite::Error> {
    step.execute(
        "INSERT OR IGNORE INTO invitations \
         (id, hash, name, scope, expires, entry_expires, made, by, spent, spent_by) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            invitation.id,
            invitation.hash,
            invitation.name.as_str(),
            scope_text(&invitation.scope),
            invitation.expires,
            invitation.entry_expires,
            invitation.made,
            invitation.by,
            invitation.spent,
            invitation.spent_by.map(|fingerprint| fingerprint.0),
        ],
    )
}

pub(super) fn read_invitation(row: &Row<'_>) -> Result<Invitation, rusqlite::Error> {
    let odd = |column: &str, why: String| {
        rusqlite::Error::InvalidColumnType(0, format!("{column}: {why}"), rusqlite::types::Type::Text)
    };
    let name: String = row.get("name")?;
    let scope: Option<String> = row.get("scope")?;
    let scope = scope.map_or_else(|| Ok(Scope::default()), |text| serde_json::from_str(&text));
    Ok(Invitation {
        id: row.get("id")?,
        hash: row.get("hash")?,
        name: Username::parse(&name).map_err(|refusal| odd("name", refusal.cause.to_string()))?,
        scope: scope.map_err(|error| odd("scope", error.to_string()))?,
        expires: row.get("expires")?,
        entry_expires: row.get("entry_expires")?,
        made: row.get("made")?,
        by: row.get("by")?,
        spent: row.get("spent")?,
        spent_by: row.get::<_, Option<[u8; 32]>>("spent_by")?.map(Fingerprint),
    })
}

/// The columns that a start reads.
pub(super) const DECIDES: &str = "fingerprint, name, last_seen, expires, scope, revoked, replaces, checksum";

/// Those that only a listing shows.
pub(super) const TELLS: &str = "way, by, uid, added, revoked_why";
