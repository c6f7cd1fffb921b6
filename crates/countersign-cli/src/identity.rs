//! `countersign identity`: the certificate by which servers know this user.

use std::time::SystemTime;

use clap::Args;
use countersign::connect::OwnIdentity;
use serde_json::json;

use crate::{
    login::Terminal,
    report::{Report, print, print_json},
};

/// Show your own certificate, by which servers know you.
///
/// It is made at first use, here or at the first server that asks, and kept with its key in one file.
/// Whoever runs a server can accept it beforehand, by its fingerprint or its PEM text; neither is
/// secret.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  countersign identity
  countersign identity --json | jq -r .fingerprint
  countersign identity --pem > alice.pem")]
pub(crate) struct IdentityArgs {
    /// Print JSON: `file`, `fingerprint` (SHA-256 of the certificate), `ends`, `certificate` (PEM).
    #[arg(long)]
    json: bool,
    /// Print the certificate in PEM, without its key.
    #[arg(long, conflicts_with = "json")]
    pem: bool,
}

pub(crate) fn run(args: &IdentityArgs) -> Result<(), Report> {
    let own = OwnIdentity::of_user()?;
    let identity = own.open(&Terminal, SystemTime::now())?;
    let (file, fingerprint) =
        (own.path().display().to_string(), format!("sha256:{}", identity.fingerprint()));
    let ends = identity.ends();
    if args.pem {
        return print(&identity.certificate_pem());
    }
    if args.json {
        let certificate = identity.certificate_pem();
        return print_json(
            &json!({ "file": file, "fingerprint": fingerprint, "ends": ends, "certificate": certificate }),
        );
    }
    print(&format!("file={file}\nfingerprint={fingerprint}\nends={ends}\n"))
}
