//! `countersign trust`: the accepted certificates of a gateway, for its owner.
//!
//! The commands ask the gateway that runs, by its control socket, and work on the state directory
//! where none does, so that there is a way back from every state.

mod own;
pub(crate) mod owner;
pub(crate) mod print;

use std::{
    io::{BufRead as _, IsTerminal as _, Read as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::{Args, Subcommand};
use countersign::{
    Secret,
    control::{Der, Expiry, Listed, Request, Response},
    options::parse_duration,
    trust::{MultipassVerifier, Scope},
};

use crate::report::{Exit, Report, print, print_json};
use owner::{OwnerArgs, Reached, unexpected};

/// Keep the list of accepted certificates.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  countersign trust list
  countersign trust add alice.pem --name alice --expires 90d
  sudo countersign trust add --self
  countersign trust invite --name bob --expires 10m
  countersign trust remove alice --why 'laptop lost'
  countersign trust import multipass_client_certs.pem
  countersign trust import multipassd.conf

SELECTOR is the name of one entry, or at least 8 digits of its fingerprint.

For root and the user that the gateway runs as. A running gateway is asked, and
its sessions follow at once; without one the state directory is changed itself.

Exit codes: 0 done, 1 failed, 2 usage, 69 the gateway does not answer,
77 not yours to change, 78 configuration.")]
pub(crate) struct TrustArgs {
    #[command(flatten)]
    owner: OwnerArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the entries, those taken back included.
    List {
        /// Print JSON, with every fact.
        #[arg(long)]
        json: bool,
    },
    /// Show one entry.
    Show {
        /// Which entry.
        selector: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Print the certificate in PEM.
        #[arg(long, conflicts_with = "json")]
        pem: bool,
    },
    /// Accept a certificate, also one that was taken back.
    Add(AddArgs),
    /// Give an entry another name.
    Rename {
        /// Which entry.
        selector: String,
        /// The new name.
        name: String,
    },
    /// Change where and how long an entry counts.
    Restrict(RestrictArgs),
    /// Take a certificate back: its sessions end at once. The entry stays as evidence.
    Remove {
        /// Which entry.
        selector: String,
        /// Why, for whoever reads the list later.
        #[arg(long, value_name = "TEXT", default_value = "")]
        why: String,
        /// Leave no entry behind.
        #[arg(long, conflicts_with = "why")]
        forget: bool,
    },
    /// Accept a certificate again that was taken back or has expired.
    Restore {
        /// Which entry.
        selector: String,
    },
    /// Forget everything, also a damaged store: the first client on a Unix socket is accepted again.
    Reset {
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Make a token that lets one certificate in, once.
    Invite(InviteArgs),
    /// List the invitations. Never shows a token.
    Invitations {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Forget an invitation. What it let in stays.
    Withdraw {
        /// Its id, as `invitations` shows it.
        id: String,
    },
    /// Accept the certificates of a PEM list, as Multipass keeps it. Known ones stay as they are.
    ///
    /// From the settings of Multipass's daemon the passphrase is taken over, if none is set. Its verifier
    /// there has no salt: with the first right guess one of our own takes its place.
    Import {
        /// The list (multipass_client_certs.pem) or the settings (multipassd.conf), or `-` for standard input.
        file: PathBuf,
    },
    /// Print the accepted certificates as such a list.
    Export,
}

#[derive(Debug, Args)]
struct AddArgs {
    /// A PEM file with the certificate, or `-` for standard input; or give --self.
    #[arg(required_unless_present = "own")]
    file: Option<PathBuf>,
    /// Add the certificate of the user who runs this, through sudo too. It is made if there is none.
    #[arg(long = "self", conflicts_with = "file")]
    own: bool,
    /// With --self: the user it is about.
    #[arg(long, value_name = "NAME", requires = "own")]
    user: Option<String>,
    /// What to call it.
    #[arg(long)]
    name: Option<String>,
    /// When it stops being accepted, from now: 12h, 90d.
    #[arg(long, value_name = "TIME", value_parser = time)]
    expires: Option<Duration>,
    #[command(flatten)]
    scope: ScopeArgs,
}

#[derive(Debug, Args)]
struct RestrictArgs {
    /// Which entry.
    selector: String,
    #[command(flatten)]
    scope: ScopeArgs,
    /// Let it count for every socket and backend again.
    #[arg(long, conflicts_with_all = ["socket", "backend"])]
    everywhere: bool,
    /// When it stops being accepted, from now: 12h, 90d, never.
    #[arg(long, value_name = "TIME", value_parser = time_or_never)]
    expires: Option<Until>,
}

#[derive(Debug, Args)]
struct InviteArgs {
    /// Who is invited: what the entry will be called.
    #[arg(long)]
    name: String,
    /// When the invitation ends, from now.
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "10m")]
    expires: Duration,
    /// When the entry will end, from now.
    #[arg(long, value_name = "TIME", value_parser = time)]
    entry_expires: Option<Duration>,
    #[command(flatten)]
    scope: ScopeArgs,
    /// Where to enrol: tls://HOST:PORT. One of the running gateway's addresses if not given.
    #[arg(long, value_name = "URI")]
    address: Option<String>,
    /// The SHA-256 of the server's key, if a certificate of its own is configured and no gateway runs.
    #[arg(long, value_name = "HEX")]
    pin: Option<String>,
    /// Draw the token as a QR code too, on standard error. On a terminal it is drawn anyway.
    #[arg(long)]
    qr: bool,
    /// Print JSON: `token`, `address`, `invitation`.
    #[arg(long, conflicts_with = "qr")]
    json: bool,
}

#[derive(Debug, Args)]
struct ScopeArgs {
    /// Let it count for this socket only, named as in the log; may be repeated.
    #[arg(long, value_name = "NAME")]
    socket: Vec<String>,
    /// Let it count for this backend only, as it is configured; may be repeated.
    #[arg(long, value_name = "NAME")]
    backend: Vec<String>,
}

impl ScopeArgs {
    fn scope(self) -> Scope {
        Scope::new(self.socket, self.backend)
    }

    fn is_empty(&self) -> bool {
        self.socket.is_empty() && self.backend.is_empty()
    }
}

pub(crate) fn run(args: TrustArgs) -> Result<(), Report> {
    let TrustArgs { owner, command } = args;
    match command {
        Command::List { json } => list(&owner.reach()?, json),
        Command::Show { selector, json, pem } => show(&owner.reach()?, selector, json, pem),
        Command::Add(args) => add(&owner, args),
        Command::Rename { selector, name } => {
            let entry = owner.reach()?.entry(Request::Rename { selector, name })?;
            said("renamed", &entry)
        }
        Command::Restrict(args) => restrict(&owner, args),
        Command::Remove { selector, forget: true, .. } => {
            said("forgot", &owner.reach()?.entry(Request::Forget { selector })?)
        }
        Command::Remove { selector, why, .. } => {
            said("took back", &owner.reach()?.entry(Request::Remove { selector, why })?)
        }
        Command::Restore { selector } => {
            said("accepted again", &owner.reach()?.entry(Request::Restore { selector })?)
        }
        Command::Reset { yes } => reset(&owner, yes),
        Command::Invite(args) => invite(&owner.reach()?, args),
        Command::Invitations { json } => match owner.reach()?.ask(Request::Invitations)? {
            Response::Invitations(all) if json => print_json(&all),
            Response::Invitations(all) => print(&print::invitations(&all, now())),
            other => Err(unexpected(&other)),
        },
        Command::Withdraw { id } => {
            owner.reach()?.ask(Request::Withdraw { id })?;
            print("withdrawn\n")
        }
        Command::Import { file } => import(&owner, &file),
        Command::Export => match owner.reach()?.ask(Request::Export)? {
            Response::Certificates(all) => all.iter().try_for_each(|certificate| print(&certificate.pem())),
            other => Err(unexpected(&other)),
        },
    }
}

fn list(owner: &Reached, json: bool) -> Result<(), Report> {
    let Response::Entries { first_place_free, entries } = owner.ask(Request::List)? else {
        return Err(Report::new(Exit::Failure, "the gateway: it answered something else"));
    };
    if json {
        return print_json(&entries);
    }
    if first_place_free {
        eprintln!("note: nobody is accepted yet: the first client on a Unix socket will be, from its group");
    }
    print(&print::table(&entries, now()))
}

fn show(owner: &Reached, selector: String, json: bool, pem: bool) -> Result<(), Report> {
    let entry = owner.entry(Request::Show { selector })?;
    match (json, pem) {
        (true, _) => print_json(&entry),
        (_, true) => print(&entry.certificate.as_ref().map(Der::pem).unwrap_or_default()),
        _ => print(&print::entry(&entry)),
    }
}

fn add(owner: &OwnerArgs, args: AddArgs) -> Result<(), Report> {
    let expires = args.expires.map(from_now).transpose()?;
    // Read as whoever runs this, who may be root; the state directory's owner may not.
    let (certificate, account) = match &args.file {
        Some(file) => (only(file)?, None),
        None => own::certificate(args.user.as_deref())?,
    };
    let (uid, account) = account.map_or((None, None), |account| (Some(account.uid), Some(account.name)));
    let name = args.name.or(account);
    let request = Request::Add { certificate, name, uid, expires, scope: args.scope.scope() };
    said("added", &owner.reach()?.entry(request)?)
}

fn restrict(owner: &OwnerArgs, args: RestrictArgs) -> Result<(), Report> {
    if args.scope.is_empty() && !args.everywhere && args.expires.is_none() {
        return Err(Report::new(Exit::Usage, "restrict: nothing to change is given")
            .fix("give --socket, --backend, --everywhere or --expires"));
    }
    let expires = match args.expires {
        None => None,
        Some(Until::Never) => Some(Expiry::Never),
        Some(Until::In(time)) => Some(Expiry::At(from_now(time)?)),
    };
    let scope = (args.everywhere || !args.scope.is_empty()).then(|| args.scope.scope());
    said("changed", &owner.reach()?.entry(Request::Restrict { selector: args.selector, scope, expires })?)
}

fn reset(owner: &OwnerArgs, yes: bool) -> Result<(), Report> {
    let reached = owner.reach()?;
    if !yes {
        confirm(&format!(
            "Every certificate, the passphrase and all invitations in {} are forgotten, every session ends, and the\n\
             first client that then comes to a Unix socket is accepted. Go on? [yes/no] ",
            reached.state_dir().display()
        ))?;
    }
    match reached.ask(Request::Reset)? {
        Response::Reset { aside: Some(aside) } => {
            print(&format!("reset; the old store is kept as {}\n", aside.display()))
        }
        Response::Reset { aside: None } => print("reset\n"),
        other => Err(unexpected(&other)),
    }
}

fn invite(owner: &Reached, args: InviteArgs) -> Result<(), Report> {
    let request = Request::Invite {
        name: args.name,
        expires: from_now(args.expires)?,
        entry_expires: args.entry_expires.map(from_now).transpose()?,
        scope: args.scope.scope(),
        address: args.address,
        pin: args.pin,
    };
    let Response::Invited { invitation, token, address } = owner.ask(request)? else {
        return Err(Report::new(Exit::Failure, "the gateway: it answered something else"));
    };
    let token = String::from_utf8_lossy(token.expose());
    if args.json {
        return print_json(
            &serde_json::json!({ "token": token, "address": address, "invitation": invitation }),
        );
    }
    eprintln!(
        "{} enrols at {address} {} at the latest with `countersign authenticate`, which asks for\n\
         this token. Whoever has it can spend it, once. It is not shown again.",
        invitation.name,
        print::until(invitation.expires, now())
    );
    if args.qr || std::io::stderr().is_terminal() {
        eprint!("{}", print::qr_code(&token)?);
    }
    print(&format!("{token}\n"))
}

fn import(owner: &OwnerArgs, file: &Path) -> Result<(), Report> {
    let bytes = Secret::new(read(file)?);
    let text = std::str::from_utf8(bytes.expose()).ok();
    if let Some(settings) = text.filter(|text| MultipassVerifier::is_in(text)) {
        return import_passphrase(owner, settings);
    }
    let list = Der::all_in(&shown(file), bytes.expose())?;
    let owner = owner.reach()?;
    let (mut all_added, mut all_known, mut all_revoked) = (0, 0, Vec::new());
    let mut rest = list.into_iter().peekable();
    while rest.peek().is_some() {
        let certificates: Vec<Der> = rest.by_ref().take(AT_ONCE).collect();
        match owner.ask(Request::Import { certificates })? {
            Response::Imported { added, known, revoked } => {
                (all_added, all_known) = (all_added + added, all_known + known);
                all_revoked.extend(revoked);
            }
            other => return Err(unexpected(&other)),
        }
    }
    for fingerprint in all_revoked {
        eprintln!(
            "left out: {fingerprint:.16} was taken back (`countersign trust restore` accepts it again)"
        );
    }
    print(&format!("added {all_added}, known already {all_known}\n"))
}

fn import_passphrase(owner: &OwnerArgs, settings: &str) -> Result<(), Report> {
    let verifier = MultipassVerifier::of_settings(settings)
        .map_err(|error| Report::new(Exit::Usage, &error).fix(error.fix()))?;
    let Some(verifier) = verifier else { return print("no passphrase is set there\n") };
    let request = Request::ImportPassphrase { verifier: Secret::new(verifier.to_hex().as_str()) };
    match owner.reach()?.ask(request)? {
        Response::Passphrase(_) => print("took over the passphrase\n"),
        other => Err(unexpected(&other)),
    }
}

/// One line about what was done to an entry.
fn said(what: &str, entry: &Listed) -> Result<(), Report> {
    print(&format!("{what} {} ({:.16})\n", entry.name, entry.fingerprint))
}

/// The one certificate of a file.
fn only(file: &Path) -> Result<Der, Report> {
    let mut all = Der::all_in(&shown(file), &read(file)?)?;
    match (all.pop(), all.is_empty()) {
        (Some(certificate), true) => Ok(certificate),
        _ => Err(Report::new(Exit::Usage, format!("{}: it holds several certificates", shown(file)))
            .fix("`countersign trust import` takes a list")),
    }
}

fn shown(file: &Path) -> String {
    if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() }
}

fn read(file: &Path) -> Result<Vec<u8>, Report> {
    let mut bytes = Vec::new();
    let read = match file == Path::new("-") {
        true => std::io::stdin().lock().take(LARGEST_LIST).read_to_end(&mut bytes),
        false => std::fs::File::open(file).and_then(|file| file.take(LARGEST_LIST).read_to_end(&mut bytes)),
    };
    read.map_err(|error| {
        Report::new(Exit::Failure, format!("{}: it cannot be read: {error}", shown(file)))
            .fix("name a PEM file, or - for standard input")
    })?;
    Ok(bytes)
}

/// Asks on the terminal.
fn confirm(question: &str) -> Result<(), Report> {
    if !std::io::stdin().is_terminal() {
        return Err(Report::new(Exit::Usage, "reset: there is no terminal to ask on").fix("add --yes"));
    }
    eprint!("{question}");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().take(64).read_line(&mut answer)?;
    match answer.trim().eq_ignore_ascii_case("yes") {
        true => Ok(()),
        false => Err(Report::new(Exit::Failure, "nothing was changed")),
    }
}

/// How long something counts, as it is typed.
#[derive(Clone, Copy, Debug)]
enum Until {
    Never,
    In(Duration),
}

pub(crate) fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a length of time as 10m, 12h or 90d".to_owned())
}

fn time_or_never(text: &str) -> Result<Until, String> {
    if text == "never" { Ok(Until::Never) } else { time(text).map(Until::In) }
}

pub(crate) fn from_now(after: Duration) -> Result<i64, Report> {
    now()
        .checked_add_unsigned(after.as_secs())
        .ok_or_else(|| Report::new(Exit::Usage, "--expires: there is no such time"))
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed())
}

/// Certificates in one request: of the largest ones as many fit into a line.
const AT_ONCE: usize = 32;
/// Bytes of a list of certificates: ten thousand of them have twelve million.
const LARGEST_LIST: u64 = 256 * 1024 * 1024;
