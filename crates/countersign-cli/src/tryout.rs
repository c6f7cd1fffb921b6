//! `countersign try`: a gateway to look at, in a folder that is thrown away, on loopback.

use std::{
    fmt::Write as _,
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use clap::Args;
use countersign::{
    Secret, Username,
    config::{Config, Layers, Paths},
    gateway::Gateway,
    modules::Registry,
    transport::Address,
    users::{NewUser, UserTable},
};
use tokio::sync::oneshot;

use crate::{
    logging,
    report::{Exit, Report, print},
};

/// Run a throw-away gateway and show the ways in.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  countersign try             then paste what it shows in another terminal
  countersign try --script    run it here, print what happens, and end")]
pub(crate) struct TryArgs {
    /// Run each way in and print what happened; exit code 1 if one ends otherwise than it should.
    #[arg(long)]
    script: bool,
}

/// A way to meet the gateway, and how it must end.
struct Way {
    title: &'static str,
    arguments: Vec<String>,
    input: Option<&'static str>,
    exit: i32,
    shows: &'static str,
}

pub(crate) fn run(args: &TryArgs) -> Result<ExitCode, Report> {
    logging::start_quiet();
    let folder = tempfile::Builder::new().prefix("countersign-try-").tempdir()?;
    let config = prepare(folder.path())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let gateway = runtime.block_on(Gateway::open(&config))?;
    let ways = ways(folder.path(), &gateway)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let ended = async { stopped.await.unwrap_or_default() };
    let running = runtime.spawn(gateway.run(ended, std::future::ready(())));
    let failed =
        if args.script { script(folder.path(), &ways)? } else { show(folder.path(), &ways, &runtime)? };
    let _ = stop.send(());
    let _ = runtime.block_on(running);
    match failed {
        0 => Ok(ExitCode::SUCCESS),
        failed => Err(Report::new(Exit::Failure, format!("{failed} of {} ended otherwise", ways.len()))),
    }
}

/// The files and the configuration: two passwords, a table of users, four sockets.
fn prepare(folder: &Path) -> Result<Config, Report> {
    secret_file(&folder.join("password"), "correct-horse")?;
    secret_file(&folder.join("alice"), "battery-staple")?;
    let table = folder.join("users.db");
    UserTable::create(&table)?;
    let alice = Username::parse("alice").map_err(|refusal| Report::new(Exit::Failure, refusal))?;
    UserTable::open(&table)?.add(&NewUser::new(alice), &Secret::new("battery-staple"))?;
    let at = |name: &str| folder.join(name).display().to_string();
    let mut layers = Layers::default();
    for (flag, value) in [
        ("state-dir", at("state")),
        ("bind", format!("{},auth=peercred", at("owner.sock"))),
        ("bind-tcp", format!("127.0.0.1:0,auth=file(filename=\"{}\")", at("password"))),
        (
            "bind-ssl",
            format!(
                "127.0.0.1:0,auth=sqlite(filename=\"{}\"),auth=file(filename=\"{}\")",
                at("users.db"),
                at("password")
            ),
        ),
        ("backend", "builtin:whoami".to_owned()),
    ] {
        layers.flag(flag, &value)?;
    }
    let paths = Paths::system()?;
    Ok(Config::new(&layers, &Registry::builtin(), &paths)?)
}

fn ways(folder: &Path, gateway: &Gateway) -> Result<Vec<Way>, Report> {
    let ports: Vec<u16> = gateway
        .sockets()
        .filter_map(|(_, address)| match address {
            Address::Tcp { port, .. } => Some(*port),
            _ => None,
        })
        .collect();
    let [tcp, tls] = ports[..] else { return Err(Report::new(Exit::Failure, "the sockets are not open")) };
    let at = |name: &str| folder.join(name).display().to_string();
    let way = |title, arguments: &[&str], exit, shows| {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Way { title, arguments, input: None, exit, shows }
    };
    let (owner, password, alice) = (format!("unix://{}", at("owner.sock")), at("password"), at("alice"));
    let tcp_alice = format!("tcp://alice@127.0.0.1:{tcp}/");
    let tls_alice = format!("tls://alice@127.0.0.1:{tls}/");
    let tls_upgrade = format!("tls://alice@127.0.0.1:{tcp}/");
    let chain = ["--password-file", &alice, "--password-file", &password, "--trust-on-first-use"];
    let mut connect = way("the daemon's bytes: who am I, then an echo", &["connect", &owner], 0, "hello");
    connect.input = Some("hello\n");
    Ok(vec![
        way("your own account, told by the kernel (peercred)", &["info", &owner], 0, "peercred"),
        connect,
        way("a password, on TCP", &["info", &tcp_alice, "--password-file", &password], 0, "hmac+sha512"),
        way(
            "the same socket in TLS, which any client may start",
            &["info", &tls_upgrade, "--password-file", &password, "--trust-on-first-use"],
            0,
            "TLSv1.3",
        ),
        way(
            "the wrong password",
            &["info", &tcp_alice, "--password-file", &alice],
            77,
            "authentication failed",
        ),
        way("no password at all", &["info", &tcp_alice], 79, "help"),
        way(
            "a chain of two on TLS: alice's own password, then the shared one",
            &[&["info", &tls_alice], &chain[..]].concat(),
            0,
            "sqlite",
        ),
    ])
}

/// Runs every way and prints what happened. Returns how many ended otherwise than they should.
fn script(folder: &Path, ways: &[Way]) -> Result<usize, Report> {
    let program = std::env::current_exe()?;
    let mut failed = 0;
    for way in ways {
        print(&format!("# {}\n$ {}\n", way.title, line(way)))?;
        let mut command = Command::new(&program);
        command.args(&way.arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for variable in ["HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
            command.env(variable, folder.join("home"));
        }
        let mut child = command.env_remove("XPRA_PASSWORD").spawn()?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(way.input.unwrap_or_default().as_bytes())?;
        }
        let output = child.wait_with_output()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let code = output.status.code().unwrap_or(-1);
        let right = code == way.exit && text.contains(way.shows);
        failed += usize::from(!right);
        let verdict = if right { "as it should" } else { "NOT as it should" };
        print(&format!("{}[exit code {code}, {verdict}]\n\n", text))?;
    }
    Ok(failed)
}

/// Shows the commands to paste and waits for Ctrl-C.
fn show(folder: &Path, ways: &[Way], runtime: &tokio::runtime::Runtime) -> Result<usize, Report> {
    let mut text = format!("a gateway runs in {}; paste these in another terminal:\n", folder.display());
    for way in ways {
        let _ = write!(text, "\n# {}\n{}\n", way.title, line(way));
    }
    text.push_str("\nCtrl-C ends it and removes the folder.\n");
    print(&text)?;
    runtime.block_on(tokio::signal::ctrl_c())?;
    Ok(0)
}

/// A way as it can be pasted.
fn line(way: &Way) -> String {
    let program =
        std::env::current_exe().map_or_else(|_| "countersign".into(), |path| path.display().to_string());
    let mut line = match way.input {
        Some(input) => format!("echo {} | {program}", input.trim_end()),
        None => program,
    };
    for argument in &way.arguments {
        let _ = write!(line, " {argument}");
    }
    line
}

fn secret_file(path: &Path, secret: &str) -> Result<(), Report> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(secret.as_bytes())?;
    Ok(())
}
