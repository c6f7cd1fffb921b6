//! `countersign users`: the table of users that the module `sqlite` checks with.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::{Args, Subcommand};
use countersign::{
    Secret, Username,
    options::parse_duration,
    users::{NewUser, Standing, UserError, UserRow, UserTable},
};

use crate::{
    report::{Exit, Report, print, print_json},
    secret,
};

/// Keep the table of users that the module `sqlite` checks with.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  countersign users init users.db
  countersign users add users.db alice
  countersign users add users.db bob --expires 30d --password-file bob.txt
  countersign users list users.db --json
  countersign users import users.db /etc/xpra/users.sdb

Passwords are asked for twice on a terminal, or read from a file or from
standard input. They are kept as verifiers only: Argon2id, keys for SCRAM and,
unless --no-legacy is given, the least that verifies Xpra's digests.")]
pub(crate) struct UsersArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a new, empty table.
    Init {
        /// The file to make. It must not be there yet.
        table: PathBuf,
    },
    /// Add a user.
    Add {
        /// The table.
        table: PathBuf,
        /// The login name.
        name: String,
        /// User id or account name of the user's sessions [default: nobody].
        #[arg(long)]
        uid: Option<String>,
        /// Group id or group name of the user's sessions [default: nogroup].
        #[arg(long)]
        gid: Option<String>,
        /// A display or address of the user's sessions; may be repeated.
        #[arg(long = "display")]
        displays: Vec<String>,
        /// When the account ends, from now: 12h, 30d.
        #[arg(long, value_name = "TIME", value_parser = duration)]
        expires: Option<Duration>,
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Give a user a new password.
    Passwd {
        /// The table.
        table: PathBuf,
        /// The login name.
        name: String,
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Switch a user's logins off; `--undo` switches them on again.
    Disable {
        /// The table.
        table: PathBuf,
        /// The login name.
        name: String,
        /// Switch them on again.
        #[arg(long)]
        undo: bool,
    },
    /// Remove a user.
    Remove {
        /// The table.
        table: PathBuf,
        /// The login name.
        name: String,
    },
    /// List the users. Never shows a secret.
    List {
        /// The table.
        table: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say whether a password is right; exit code 77 if it is not.
    Check {
        /// The table.
        table: PathBuf,
        /// The login name.
        name: String,
        #[command(flatten)]
        password: SourceArgs,
    },
    /// Add the users of an Xpra table or password file, turning passwords into verifiers.
    Import {
        /// The table.
        table: PathBuf,
        /// An Xpra SQLite table, a multifile, or another table of this kind.
        from: PathBuf,
        /// Keep Argon2id and SCRAM keys only: the users cannot log in by Xpra's digests.
        #[arg(long)]
        no_legacy: bool,
    },
}

#[derive(Debug, Args)]
struct PasswordArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Keep Argon2id and SCRAM keys only: the user cannot log in by Xpra's digests, only by scram and
    /// where the password may travel in the clear: sqlite(cleartext=yes).
    #[arg(long)]
    no_legacy: bool,
}

#[derive(Debug, Args)]
struct SourceArgs {
    /// Read the password from a file; one newline at its end is left out.
    #[arg(long, value_name = "FILE", conflicts_with = "stdin")]
    password_file: Option<PathBuf>,
    /// Read the password from standard input; one newline at its end is left out.
    #[arg(long)]
    stdin: bool,
}

pub(crate) fn run(args: UsersArgs) -> Result<(), Report> {
    match args.command {
        Command::Init { table } => {
            UserTable::create(&table)?;
            print(&format!("made {}\nnext: countersign users add {0} NAME\n", table.display()))
        }
        Command::Add { table, name, uid, gid, displays, expires, password } => {
            let mut user = NewUser::new(username(&name)?);
            (user.uid, user.gid, user.displays) = (uid, gid, displays);
            user.expires = expires.map(from_now).transpose()?;
            user.legacy = !password.no_legacy;
            let mut table = UserTable::open(&table)?;
            table.add(&user, &password.source.read(&name, true)?)?;
            print(&format!("added {name}\n"))
        }
        Command::Passwd { table, name, password } => {
            let mut table = UserTable::open(&table)?;
            let secret = password.source.read(&name, true)?;
            table.set_password(&username(&name)?, &secret, !password.no_legacy)?;
            print(&format!("changed the password of {name}\n"))
        }
        Command::Disable { table, name, undo: false } => {
            UserTable::open(&table)?.disable(&username(&name)?)?;
            print(&format!("disabled {name}\n"))
        }
        Command::Disable { table, name, undo: true } => {
            UserTable::open(&table)?.enable(&username(&name)?)?;
            print(&format!("enabled {name}\n"))
        }
        Command::Remove { table, name } => {
            UserTable::open(&table)?.remove(&username(&name)?)?;
            print(&format!("removed {name}\n"))
        }
        Command::List { table, json } => list(&table, json),
        Command::Check { table, name, password } => check(&table, &name, &password),
        Command::Import { table, from, no_legacy } => import(&table, &from, !no_legacy),
    }
}

fn list(table: &Path, json: bool) -> Result<(), Report> {
    let rows = UserTable::open_read_only(table)?.list()?;
    if json {
        return print_json(&rows);
    }
    let widest = rows.iter().map(|row| row.username.chars().count()).max().unwrap_or(0).max(8);
    rows.iter().try_for_each(|row| print(&format!("{:widest$}  {}\n", row.username, standing(row))))
}

/// What a listing says of a user, in words.
fn standing(row: &UserRow) -> String {
    let mut words = Vec::new();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
    match row.expires {
        _ if row.disabled => words.push("disabled".to_owned()),
        Some(end) if end <= now => words.push("expired".to_owned()),
        Some(end) => words.push(format!("ends in {} days", (end - now) / 86_400)),
        None => {}
    }
    let kinds = [
        (row.has_argon2, "argon2id"),
        (row.has_scram, "scram"),
        (row.has_legacy, "xpra digests"),
        (row.has_cleartext, "cleartext"),
    ];
    let kept: Vec<&str> = kinds.iter().filter(|(has, _)| *has).map(|(_, kind)| *kind).collect();
    words.push(if kept.is_empty() { "no password".to_owned() } else { kept.join(" + ") });
    let ids = [("uid", &row.uid), ("gid", &row.gid)];
    words.extend(ids.iter().filter_map(|(key, id)| id.as_ref().map(|id| format!("{key} {id}"))));
    words.join(", ")
}

fn check(table: &Path, name: &str, password: &SourceArgs) -> Result<(), Report> {
    let table = UserTable::open_read_only(table)?;
    let secret = password.read(name, false)?;
    let refused = |why: &str| Err(Report::new(Exit::Refused, format!("{name}: {why}")));
    match table.check(&username(name)?, &secret)? {
        Standing::Passes => print("the password is right\n"),
        Standing::WrongPassword => refused("the password is wrong"),
        Standing::Closed(why) => refused(why),
    }
}

fn import(table: &Path, from: &Path, legacy: bool) -> Result<(), Report> {
    let imported = UserTable::open(table)?.import(from, legacy)?;
    for skipped in &imported.skipped {
        eprintln!("left out: {}: {}", skipped.what, skipped.why);
    }
    for name in &imported.disabled {
        eprintln!("disabled: {name} has no password there");
    }
    let users = |number: usize| format!("{number} user{}", if number == 1 { "" } else { "s" });
    print(&format!("added {}, left out {}\n", users(imported.added.len()), imported.skipped.len()))
}

impl SourceArgs {
    fn read(&self, name: &str, twice: bool) -> Result<Secret, Report> {
        match (&self.password_file, self.stdin) {
            (Some(file), _) => secret::of_file(file),
            (None, true) => secret::of_input(),
            (None, false) => {
                let again = twice.then_some("the same again: ");
                secret::ask(&format!("password for {name}: "), again, "--password-file or --stdin")
            }
        }
    }
}

fn username(name: &str) -> Result<Username, Report> {
    Username::parse(name).map_err(|refusal| {
        Report::new(Exit::Usage, format!("the name: {}", refusal.cause)).fix("choose another name")
    })
}

fn from_now(after: Duration) -> Result<i64, Report> {
    let end = SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|now| now.checked_add(after));
    end.and_then(|end| i64::try_from(end.as_secs()).ok())
        .ok_or_else(|| Report::new(Exit::Failure, "--expires: there is no such time"))
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a length of time as 12h or 30d".to_owned())
}

impl From<UserError> for Report {
    fn from(error: UserError) -> Self {
        let fix = error.fix();
        Self::new(Exit::Failure, error).fix(fix)
    }
}
