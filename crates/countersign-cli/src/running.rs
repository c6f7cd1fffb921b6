//! `countersign status`, `sessions`, `reload` and `drain`: what a gateway that runs is asked by its owner.

use std::{fmt::Write as _, process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use countersign::{
    control::{OpenSession, Request, Response, Status, Which},
    options::parse_duration,
};

use crate::{
    report::{Exit, Report, print, print_json},
    trust::{
        owner::{OwnerArgs, unexpected},
        print::{length, since},
    },
};

/// Show how the running gateway is.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  countersign status
  countersign status --json
  countersign status --probe

--probe prints nothing but what is wrong, and ends with 1 if anything is: the
gateway is ending, the configuration that was read last was refused, a socket
does not answer, or audit records were lost.

For root and the user that the gateway runs as.

Exit codes: 0 it runs, 1 --probe found something, 69 no gateway answers, 77 not
its owner.")]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    owner: OwnerArgs,
    /// Only say what is wrong.
    #[arg(long, conflicts_with = "json")]
    probe: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Show and end the sessions of the running gateway.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  countersign sessions list
  countersign sessions list --json
  countersign sessions kill 5f2c9a0b11d3e870
  countersign sessions kill --user alice

A session that is ended is ended at once; whoever had it may log in again
(`countersign trust remove` and `countersign users disable` keep them out).

For root and the user that the gateway runs as.

Exit codes: 0 done, 1 there is no such session, 69 no gateway answers, 77 not
its owner.")]
pub(crate) struct SessionsArgs {
    #[command(subcommand)]
    command: SessionsCommand,
    #[command(flatten)]
    owner: OwnerArgs,
}

#[derive(Debug, Subcommand)]
enum SessionsCommand {
    /// List the open sessions.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// End one, or all of a user.
    Kill {
        /// The session's id, as in the list and in the audit records.
        #[arg(required_unless_present = "user", conflicts_with = "user")]
        id: Option<String>,
        /// End every session of this verified name.
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
}

/// Have the running gateway read its configuration again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  countersign check && countersign reload

The same as the signal HUP, and waits for what becomes of it: sessions go on,
new clients meet the new configuration. One with a mistake is told of and changes
nothing.

For root and the user that the gateway runs as.

Exit codes: 0 the new configuration holds, 69 no gateway answers, 77 not its
owner, 78 it is refused and the old one holds.")]
pub(crate) struct ReloadArgs {
    #[command(flatten)]
    owner: OwnerArgs,
}

/// Have the running gateway accept nobody any more, and end when its sessions have.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  countersign drain
  countersign drain --timeout 1h
  countersign drain --timeout 0s --json

The same as the signal TERM, with a time of your own: the sockets are closed, so
that another gateway can have them, /readyz says 503, and sessions go on until
they end, or are cut when the time is over. The gateway then exits with 0 if
every session ended by itself, with 1 if some were cut. The command does not wait
for that: `countersign status` and `sessions` show who is still there.

For root and the user that the gateway runs as.

Exit codes: 0 it accepts nobody any more, 69 no gateway answers, or it is ending
already, 77 not its owner.")]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    owner: OwnerArgs,
    /// How long the sessions have: 90s, 1h; `drain-timeout` of its configuration without.
    #[arg(long, value_name = "TIME", value_parser = time)]
    timeout: Option<Duration>,
    /// Print how it is now as JSON, as `status` does.
    #[arg(long)]
    json: bool,
}

pub(crate) fn status(args: &StatusArgs) -> Result<ExitCode, Report> {
    let status = match args.owner.reach()?.ask(Request::Status)? {
        Response::Status(status) => *status,
        other => return Err(unexpected(&other)),
    };
    if args.json {
        print_json(&status)?;
    } else if args.probe {
        let complaints = status.complaints();
        print(&complaints.iter().map(|what| format!("{}\n", what.escape_debug())).collect::<String>())?;
        return Ok(ExitCode::from(u8::from(!complaints.is_empty())));
    } else {
        print(&overview(&status, now()))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn sessions(args: &SessionsArgs) -> Result<(), Report> {
    let reached = args.owner.reach()?;
    match &args.command {
        SessionsCommand::List { json } => {
            let sessions = match reached.ask(Request::Sessions)? {
                Response::Sessions(sessions) => sessions,
                other => return Err(unexpected(&other)),
            };
            if *json { print_json(&sessions) } else { print(&table(&sessions, now())) }
        }
        SessionsCommand::Kill { id, user } => {
            let which = match (id, user) {
                (Some(id), _) => Which::Id(id.clone()),
                (None, user) => Which::User(user.clone().unwrap_or_default()),
            };
            match reached.ask(Request::Kill(which))? {
                Response::Killed(ids) if ids.is_empty() => {
                    Err(Report::new(Exit::Failure, "the session: there is none that is meant")
                        .fix("see `countersign sessions list`"))
                }
                Response::Killed(ids) => print(&ids.iter().map(|id| format!("{id}\n")).collect::<String>()),
                other => Err(unexpected(&other)),
            }
        }
    }
}

pub(crate) fn reload(args: &ReloadArgs) -> Result<(), Report> {
    match args.owner.reach()?.ask(Request::Reload)? {
        Response::Done => print("the configuration was read again and holds\n"),
        other => Err(unexpected(&other)),
    }
}

pub(crate) fn drain(args: &DrainArgs) -> Result<(), Report> {
    let whole = |time: Duration| time.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX);
    match args.owner.reach()?.ask(Request::Drain { timeout: args.timeout.map(whole) })? {
        Response::Status(status) if args.json => print_json(&*status),
        Response::Status(status) => print(&match status.sessions {
            0 => "the gateway accepts nobody any more, and ends\n".to_owned(),
            1 => "the gateway accepts nobody any more, and waits for 1 session\n".to_owned(),
            many => format!("the gateway accepts nobody any more, and waits for {many} sessions\n"),
        }),
        other => Err(unexpected(&other)),
    }
}

/// All facts, at most 80 columns where names allow it.
fn overview(status: &Status, now: i64) -> String {
    let mut text = String::new();
    let mut fact = |name: &str, value: &str| {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{name:14} {value}");
    };
    let state = if status.draining { "ending: it waits for its sessions" } else { "serving" };
    fact("gateway", &format!("{state}, version {}, process {}", status.version, status.pid));
    fact("started", &since(status.started, now));
    fact(
        "configuration",
        &match &status.reload {
            None => "as at the start".to_owned(),
            Some(reload) => match &reload.refused {
                None => format!("read again {}", since(reload.at, now)),
                Some(why) => {
                    format!(
                        "the old one: what was read {} is refused\n  {}",
                        since(reload.at, now),
                        why.escape_debug()
                    )
                }
            },
        },
    );
    fact("sessions", &status.sessions.to_string());
    fact("logging in", &format!("{} of {}, {} gave way", status.logging_in, status.places, status.given_up));
    if let Some((sources, refusals)) = status.penalised.zip(status.penalty_refusals) {
        let see = if sources > 0 { ": countersign penalties list" } else { "" };
        fact("penalties", &format!("{sources} sources, {refusals} refused{see}"));
    }
    if let Some(lost) = status.audit_lost {
        fact("audit", &format!("{lost} records lost"));
    }
    if let Some(end) = status.certificate_ends {
        fact("certificate", &format!("ends in {}", length(end.saturating_sub(now))));
    }
    text.push('\n');
    row(&mut text, ["SOCKET", "SINCE", "SESSIONS", "LET IN", "REFUSED"]);
    for socket in &status.sockets {
        let name = if socket.serves { socket.name.clone() } else { format!("{} (shut)", socket.name) };
        let numbers =
            [socket.sessions as u64, socket.accepted, socket.refused].map(|number| number.to_string());
        let [sessions, accepted, refused] = &numbers;
        row(&mut text, [&cut(&name, 36), &since(socket.since, now), sessions, accepted, refused]);
    }
    text
}

fn row(text: &mut String, [socket, since, sessions, accepted, refused]: [&str; 5]) {
    // Writing to a text cannot fail.
    let _ = writeln!(text, "{socket:36}  {since:12}  {sessions:>8}  {accepted:>7}  {refused:>7}");
}

/// The sessions, one a line.
fn table(sessions: &[OpenSession], now: i64) -> String {
    let mut text = String::new();
    let mut row = |[id, user, source, socket, since, bytes]: [&str; 6]| {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{id:16}  {user:10}  {source:16}  {socket:12}  {since:8}  {bytes:>6}");
    };
    if !sessions.is_empty() {
        row(["ID", "USER", "SOURCE", "SOCKET", "FOR", "BYTES"]);
    }
    for one in sessions {
        let user = one.user.as_ref().map_or_else(|| "-".to_owned(), |user| cut(user, 10));
        let source = one.source.rsplit_once(':').filter(|_| one.source.starts_with("tcp:"));
        let source = source.map_or(&*one.source, |(source, _)| source);
        let source = source.split_once(':').map_or(source, |(_, place)| place);
        let lasts = length(now.saturating_sub(one.since));
        let bytes = amount(one.to_backend.saturating_add(one.to_client));
        row([&one.id, &user, &cut(source, 16), &last(&one.socket, 12), &lasts, &bytes]);
    }
    text
}

/// The beginning of what a client or an operator wrote, with nothing that moves a terminal.
fn cut(text: &str, width: usize) -> String {
    let shown: Vec<char> = text.escape_debug().collect();
    match shown.len() > width {
        true => shown.iter().take(width - 2).copied().chain("..".chars()).collect(),
        false => shown.into_iter().collect(),
    }
}

/// The end of it, which tells one socket of a folder from the next.
fn last(text: &str, width: usize) -> String {
    let shown: Vec<char> = text.escape_debug().collect();
    match shown.len().checked_sub(width) {
        Some(more) if more > 0 => "..".chars().chain(shown.iter().skip(more + 2).copied()).collect(),
        _ => shown.into_iter().collect(),
    }
}

/// In the largest unit that leaves a whole.
fn amount(bytes: u64) -> String {
    let mut amount = bytes;
    for unit in ["B", "kB", "MB", "GB", "TB", "PB", "EB"] {
        if amount < 10_000 {
            return format!("{amount}{unit}");
        }
        amount /= 1000;
    }
    String::new()
}

fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a length of time as 30s, 10m or 1h".to_owned())
}

fn now() -> i64 {
    time::OffsetDateTime::now_utc().unix_timestamp()
}

#[cfg(test)]
mod tests {
    use countersign::control::{Reloaded, SocketStatus};

    use super::*;

    fn session(user: &str, source: &str, socket: &str) -> OpenSession {
        OpenSession {
            id: "0123456789abcdef".into(),
            socket: socket.into(),
            user: Some(user.into()),
            source: source.into(),
            transport: "tls".into(),
            since: 1000,
            to_backend: u64::MAX,
            to_client: 7,
        }
    }

    #[test]
    fn s_089_tables_fit_into_80_columns_and_move_no_terminal() {
        let sessions = [
            session("alice", "tcp:192.0.2.7:51234", "unix:/run/countersign/front.sock"),
            session(&"ü\u{1b}[2J".repeat(20), "tcp:[2001:db8:1:2:3:4:5:6]:51234", "front"),
            session("bob", "unix:uid=1000", "x"),
        ];
        let text = table(&sessions, 91_000_000);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(
            !text.contains('\u{1b}') && text.contains("192.0.2.7 ") && text.contains("uid=1000"),
            "{text}"
        );
        assert!(text.contains("..front.sock"), "{text}");
        assert_eq!(table(&[], 0), "");
        let socket = SocketStatus {
            name: "unix:".to_owned() + &"long/".repeat(30),
            address: String::new(),
            since: 0,
            serves: false,
            sessions: 12_345,
            accepted: 1_234_567,
            refused: 1_234_567,
        };
        let refused = Some("file:1:2: there\n is none".to_owned());
        let status = Status {
            version: "0.1.0".into(),
            pid: 1,
            started: 0,
            draining: true,
            reload: Some(Reloaded { at: 0, refused, fix: None, taken: 1, failed: 1 }),
            sockets: vec![socket],
            sessions: 12_345,
            logging_in: 1,
            places: 4096,
            given_up: 7,
            penalised: Some(65_536),
            penalty_refusals: Some(12_345_678),
            audit_lost: Some(3),
            certificate_ends: Some(864_000),
        };
        let text = overview(&status, 90_000);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("refused\n  file:1:2: there\\n is none\n"), "{text}");
        assert!(text.contains("65536 sources, 12345678 refused: countersign penalties list"), "{text}");
        assert_eq!(status.complaints().len(), 4);
    }

    #[test]
    fn amounts_are_short() {
        assert_eq!([0, 9_999, 10_000, 12_345_678, u64::MAX].map(amount).join(" "), "0B 9999B 10kB 12MB 18EB");
    }
}
