//! `trust add --self`: the certificate of a person, not of the account that happens to run the command.
//!
//! Installers run as root, for somebody else. Trusting the certificate of the account they run as
//! locks that somebody out (M5), so root says whom it means, or sudo does.

use std::{os::unix::process::CommandExt as _, process::Command};

use countersign::{
    connect::OwnIdentity,
    control::Der,
    sys::accounts::{Account, own_uid},
};

use crate::{
    login::Terminal,
    report::{Exit, Report},
};

/// The certificate of the user named, or of the one who ran sudo, or of the caller; with the account.
pub(super) fn certificate(user: Option<&str>) -> Result<(Der, Option<Account>), Report> {
    let account = account(user)?;
    let certificate = match account.uid == own_uid() {
        true => {
            let identity = OwnIdentity::of_user()?.open(&Terminal, std::time::SystemTime::now())?;
            Der(identity.certificate().to_vec())
        }
        false => of_another(&account)?,
    };
    Ok((certificate, Some(account)))
}

fn account(user: Option<&str>) -> Result<Account, Report> {
    let failed = |error: std::io::Error| Report::new(Exit::Failure, format!("the account database: {error}"));
    if let Some(name) = user {
        let found = Account::named(name).map_err(failed)?;
        return found.ok_or_else(|| {
            Report::new(Exit::Usage, format!("--user: there is no account `{}`", name.escape_debug()))
                .fix("write the login name of the user who will run the client")
        });
    }
    let by_sudo = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok());
    let uid = match own_uid() {
        0 => by_sudo.ok_or_else(|| {
            Report::new(Exit::Usage, "--self: this runs as root, and root is rarely who will run the client")
                .fix("name the user: --self --user NAME (root, if it is root)")
        })?,
        own => own,
    };
    Account::of_uid(uid).map_err(failed)?.ok_or_else(|| {
        Report::new(Exit::Failure, format!("--self: uid {uid} has no account"))
            .fix("name the user: --user NAME")
    })
}

/// Has the user make or show the certificate: whatever is in a user's home is touched with that
/// user's rights only, and the key is that user's from its first moment.
fn of_another(account: &Account) -> Result<Der, Report> {
    let failed = |why: String| {
        Report::new(Exit::Failure, format!("the certificate of {}: {why}", account.name)).fix(format!(
            "as {} run `countersign identity --pem > mine.pem`, then `countersign trust add mine.pem` here",
            account.name
        ))
    };
    if own_uid() != 0 {
        return Err(Report::new(Exit::Refused, "--user: only root may act for somebody else")
            .fix("use sudo, or leave --user out for yourself"));
    }
    let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
    let output = Command::new(program)
        .args(["identity", "--pem"])
        .env_clear()
        .env("HOME", &account.home)
        .current_dir("/")
        .uid(account.uid)
        .gid(account.gid)
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or("it could not be made");
        return Err(failed(said.strip_prefix("error: ").unwrap_or(said).to_owned()));
    }
    let mut all = Der::all_in("the certificate", &output.stdout)?;
    all.pop().ok_or_else(|| failed("none was shown".to_owned()))
}
