//! The file of a Unix socket: whose it is, and who may connect before and after the first client.
//!
//! [`super::socket`] calls this.

use crate::{
    error::ConfigError,
    modules::Options,
    sys::accounts,
    transport::{Address, UnixOptions},
    trust::FirstUse,
};

/// Reads `mode`, `owner` and `group`. With `first_use` the socket, if it is one with a file, has the
/// rule for the first client: then the options say what holds once somebody was first.
///
/// # Errors
/// A name that does not exist, a number out of range, or options of a socket that has no file.
pub(super) fn options(
    options: &mut Options,
    address: &Address,
    first_use: bool,
) -> Result<(UnixOptions, Option<FirstUse>), ConfigError> {
    let mode = options.take("mode")?;
    let (owner, group) = (options.take("owner")?, options.take("group")?);
    if matches!(address, Address::Abstract(_)) && (mode.is_some() || owner.is_some() || group.is_some()) {
        let fix = "use a path, or a chain: abstract sockets have no permissions";
        return Err(options.error("mode, owner or group", "an abstract socket has no file", fix));
    }
    if matches!(address, Address::Tcp { .. }) && (mode.is_some() || owner.is_some() || group.is_some()) {
        let fix = "remove it, or write unix:PATH";
        return Err(options.error("mode, owner or group", "a TCP socket has no file", fix));
    }
    if matches!(address, Address::Vsock { .. }) && (mode.is_some() || owner.is_some() || group.is_some()) {
        return Err(options.error("mode, owner or group", "a vsock socket has no file", "remove it"));
    }
    let number = |name: &str, text: Option<zeroize::Zeroizing<String>>, of: Id| {
        text.map(|text| id(&text, of).map_err(|why| options.error(name, why, ID_FORM))).transpose()
    };
    let (owner, group) = (number("owner", owner, Id::User)?, number("group", group, Id::Group)?);
    // S-57: by the kind of the socket and never by the spelling of its address.
    let first_use = match (address, group) {
        (Address::Unix(_), Some(group)) if first_use => Some(FirstUse::for_group(group)),
        (Address::Unix(_), None) if first_use => Some(FirstUse::of_system().map_err(|error| {
            ConfigError::new("the group of the first client", error.to_string(), "write group=NAME")
        })?),
        _ => None,
    };
    let mode = match mode {
        // As Multipass leaves it: every certificate is judged from then on.
        None if first_use.is_some() => 0o666,
        None if group.is_some() => 0o660,
        None => UnixOptions::default().mode,
        Some(mode) => octal(&mode).ok_or_else(|| {
            options.error("mode", "it is no octal number from 000 to 777", "write it as in mode=660")
        })?,
    };
    let mut unix = UnixOptions::default();
    (unix.mode, unix.owner, unix.group) =
        (mode, owner, group.or_else(|| first_use.and_then(FirstUse::group)));
    Ok((unix, first_use))
}

fn octal(text: &str) -> Option<u32> {
    let digits = (3..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    u32::from_str_radix(text, 8).ok().filter(|mode| digits && *mode <= 0o777)
}

/// Which of the two databases a name is looked up in.
#[derive(Clone, Copy)]
enum Id {
    User,
    Group,
}

/// A number, or a name that exists: an unknown one is never taken for our own (W09).
fn id(name: &str, of: Id) -> Result<u32, &'static str> {
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        // -1 means "leave it" to chown.
        return name.parse().ok().filter(|id| *id != u32::MAX).ok_or("it is out of range");
    }
    let found = match of {
        Id::User => accounts::Account::named(name).map(|account| account.map(|account| account.uid)),
        Id::Group => accounts::group_named(name),
    };
    found.map_err(|_| "the database of names cannot be read")?.ok_or("there is none of that name")
}

const ID_FORM: &str = "write a name that exists, or a number";
