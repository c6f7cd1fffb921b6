//! `countersign serve`, `check` and `explain`: a configuration, run, judged, or put into words.

use std::{
    ffi::OsString, os::unix::ffi::OsStringExt as _, path::PathBuf, process::ExitCode, sync::Arc,
    time::Duration,
};

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use countersign::{
    ConfigError, Secret,
    config::{
        Config, Form, KEYS, Layers, Log, Paths, Warning,
        explain::{Visitor, explain, play},
    },
    gateway::{Gateway, Orders, Reread, Role, Standing, StartError},
    modules::Registry,
    sys::{accounts::own_uid, environment::scrub_env, memory, title::replace_argument},
    trail::Trail,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    logging,
    report::{Exit, Report, print, print_json},
};

/// Run the gateway.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  countersign serve --bind=./app.sock,auth=peercred --backend=tcp:[::1]:5432
  countersign serve --bind-tcp='*:10000,auth=hosts,auth=file(filename=app.pw)'
  countersign serve --config /etc/countersign/countersign.toml

A socket without auth= is opened on Unix and loopback addresses only, with a
warning. `countersign modules list` shows what auth= can name, and
`countersign explain` says what a configuration lets in.

Signals: TERM and INT stop accepting and wait for the sessions; a second one
ends them at once. HUP reads the configuration again: new clients meet the new
one, sessions go on, and one with a mistake is told of and changes nothing. USR1
begins a new audit file where the old one was moved.

Exit codes: 0 every session ended by itself, 1 sessions were cut, 2 usage,
69 an address cannot be listened on, 77 no permission, 78 configuration.")]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    gateway: GatewayArgs,
    /// Judge the configuration, open nothing, and exit.
    #[arg(long)]
    check_config: bool,
    /// Log a category at debug level: auth, all, or a log target.
    #[arg(short = 'd', long = "debug", value_name = "CATEGORY")]
    debug: Vec<String>,
}

/// Judge a configuration without opening a socket.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  countersign check
  countersign check --effective --json
  countersign check --bind-tcp=:10000,auth=hosts

Exit codes: 0 fine (warnings go to standard error), 2 usage, 78 a mistake.")]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    gateway: GatewayArgs,
    /// Print every value with where it came from. Secrets show as <set>.
    #[arg(long)]
    effective: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Say in words what each socket lets in, and why.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  countersign explain --config countersign.toml
  countersign explain --as alice@192.0.2.7
  countersign explain --as alice@local --json

Exit codes: 0 said, 2 usage, 78 a mistake in the configuration.")]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    gateway: GatewayArgs,
    /// Play one client: USER@ADDRESS, or USER@local for a program of this machine.
    #[arg(long = "as", value_name = "CLIENT")]
    visitor: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Every setting of the configuration as a flag, from the one table of names.
#[derive(Clone, Debug)]
struct GatewayArgs {
    config: Option<PathBuf>,
    /// A reload reads them again, so they are kept: once, and erased at the end, for passwords may be among them.
    given: Arc<[(&'static str, Secret)]>,
}

pub(crate) fn serve(args: &ServeArgs) -> Result<ExitCode, Report> {
    let written = Written::here(&args.gateway)?;
    let layers = written.layers()?;
    // Modules warn while they are configured, for example of a line that they leave out.
    let filter = logging::start(&Log::new(&layers)?, &args.debug);
    if args.check_config {
        Config::new(&layers, &Registry::builtin(), &written.paths)?;
        print("the configuration is fine\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut standing = match Standing::take(&layers)? {
        Role::Gateway(standing) => standing,
        Role::Helper(helper) => {
            args.gateway.scrub_all();
            helper.serve(&layers, &Registry::builtin(), &written.paths)?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    let kept = keep_secrets();
    standing.lower(&layers, &written.paths)?;
    let config = Config::new(&layers, &Registry::builtin(), &written.paths)?;
    args.gateway.scrub(&config);
    kept();
    standing.begin()?;
    standing.confine(&config)?;
    // There may be passwords in it, which a reload replaces (S-91).
    drop(layers);
    warn_of(&config);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(Gateway::blocking_threads(&config))
        .build()?;
    let ended = runtime.block_on(async {
        // Before the first socket: who is told to end while it starts still removes what it made, and no signal
        // that a listening gateway understands ends one that is about to listen.
        let (stop, now) = end_signals()?;
        let reopen = signal(SignalKind::user_defined1())?;
        let hangup = signal(SignalKind::hangup())?;
        let gateway =
            Gateway::open(&config).await?.rereading(Arc::new(Again { written, filter })).announcing();
        // The next one may have other secrets, and these be gone then.
        drop(config);
        standing.settle()?;
        for (name, address) in gateway.sockets() {
            tracing::info!(socket = name, "listening on {address}");
        }
        tokio::spawn(reopen_when_asked(reopen, gateway.trail().cloned()));
        tokio::spawn(reload_when_asked(hangup, gateway.orders()));
        match gateway.run(stop, now).await.cut {
            0 => Ok(ExitCode::SUCCESS),
            cut => {
                Err(Report::new(Exit::Failure, format!("{cut} sessions were cut: they did not end in time")))
            }
        }
    });
    // What is left of the sessions goes first, and then who holds their daemons. S-97: a check that still runs has
    // nobody to tell, and is not waited for.
    runtime.shutdown_timeout(LEFTOVERS);
    standing.end();
    ended
}

pub(crate) fn check(args: &CheckArgs) -> Result<(), Report> {
    logging::start_quiet();
    let (layers, paths) = args.gateway.read()?;
    let config = Config::new(&layers, &Registry::builtin(), &paths)?;
    if args.effective {
        let rows = layers.effective(&Registry::builtin());
        if args.json {
            return print_json(&rows);
        }
        return rows
            .iter()
            .try_for_each(|row| print(&format!("{} = {}  # {}\n", row.key, row.value, row.origin)));
    }
    let reports = explain(&config, &Registry::builtin());
    if args.json {
        return print_json(&reports);
    }
    for report in &reports {
        for warning in &report.warnings {
            eprintln!("warning: {}: {warning}", report.socket);
        }
    }
    print("the configuration is fine\n")
}

pub(crate) fn explain_config(args: &ExplainArgs) -> Result<(), Report> {
    let visitor: Option<Visitor> = args
        .visitor
        .as_deref()
        .map(str::parse)
        .transpose()
        .map_err(|error: ConfigError| Report::new(Exit::Usage, &error).fix(error.fix()))?;
    logging::start_quiet();
    let (layers, paths) = args.gateway.read()?;
    let config = Config::new(&layers, &Registry::builtin(), &paths)?;
    match visitor {
        Some(visitor) => show(&play(&config, &visitor), args.json),
        None => show(&explain(&config, &Registry::builtin()), args.json),
    }
}

/// Keeps memory off the disk (S-91), while root may. A gateway goes on without, and says so when there is one.
fn keep_secrets() -> impl FnOnce() {
    let (in_cores, in_swap) = (memory::keep_to_ourselves(), memory::keep_off_the_disk());
    let is_root = own_uid() == 0;
    move || {
        if let Err(error) = in_cores {
            tracing::warn!("a crash may leave secrets in a core dump: {error}");
        }
        match in_swap {
            Ok(()) => {}
            Err(error) if is_root => tracing::warn!("secrets may get into the swap space: {error}"),
            // A plain user is rarely allowed to.
            Err(error) => tracing::info!("secrets may get into the swap space: {error}"),
        }
    }
}

fn show<R: serde::Serialize + std::fmt::Display>(reports: &[R], json: bool) -> Result<(), Report> {
    if json {
        return print_json(&reports);
    }
    let texts: Vec<String> = reports.iter().map(ToString::to_string).collect();
    print(&texts.join("\n"))
}

/// TERM or INT, and a second one of either.
fn end_signals() -> Result<(impl Future<Output = ()>, impl Future<Output = ()>), Report> {
    let listen = || -> std::io::Result<_> {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(async move {
            tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
        })
    };
    let first = listen()?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let second = async move {
        let mut next = async || tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} };
        next().await;
        next().await;
    };
    Ok((first, second))
}

/// For logrotate. Where there is no file to reopen, the signal still must not end the gateway.
async fn reopen_when_asked(mut asked: Signal, trail: Option<Trail>) {
    while asked.recv().await.is_some() {
        if let Some(trail) = &trail {
            trail.reopen();
        }
    }
}

/// What becomes of it is in the log.
async fn reload_when_asked(mut asked: Signal, orders: Orders) {
    while asked.recv().await.is_some() {
        let _ = orders.reload().await;
    }
}

fn warn_of(config: &Config) {
    for socket in &config.sockets {
        for warning in &socket.warnings {
            tracing::warn!(socket = socket.label(), "{}: {warning}", socket.label());
        }
    }
}

/// Everywhere a configuration was written: to be read now, and again.
#[derive(Debug)]
struct Written {
    gateway: GatewayArgs,
    /// Our own variables as they were at the start: those with passwords are not left in the environment.
    environment: Vec<(OsString, Secret)>,
    paths: Paths,
}

impl Written {
    fn here(gateway: &GatewayArgs) -> Result<Self, Report> {
        let ours = |name: &OsString| name.as_encoded_bytes().starts_with(b"COUNTERSIGN_");
        let environment = std::env::vars_os().filter(|(name, _)| ours(name));
        let environment = environment.map(|(name, value)| (name, Secret::new(value.into_vec()))).collect();
        Ok(Self { gateway: gateway.clone(), environment, paths: Paths::system()? })
    }

    fn layers(&self) -> Result<Layers, ConfigError> {
        let GatewayArgs { config, given } = &self.gateway;
        let clear = |value: &Secret| OsString::from_vec(value.expose().to_vec());
        let environment = self.environment.iter().map(|(name, value)| (name.clone(), clear(value)));
        let mut layers = Config::layers(config.as_deref(), &self.paths, environment)?;
        for (flag, value) in given.iter() {
            layers.flag(flag, text(value))?;
        }
        Ok(layers)
    }
}

/// What a reload reads, and what follows from it here.
#[derive(Debug)]
struct Again {
    written: Written,
    filter: logging::Filter,
}

impl Reread for Again {
    fn read(&self) -> Result<Config, ConfigError> {
        Config::new(&self.written.layers()?, &Registry::builtin(), &self.written.paths)
    }

    fn holds(&self, config: &Config) {
        self.filter.follow(&config.log);
        warn_of(config);
    }
}

impl GatewayArgs {
    /// What files, environment and these flags say, and where the paths of this system are.
    fn read(&self) -> Result<(Layers, Paths), Report> {
        let written = Written::here(self)?;
        Ok((written.layers()?, written.paths))
    }

    /// Takes passwords of the module `password` out of what other users of the machine can read
    /// (S-80, S-90). Call it before there are threads.
    ///
    /// The warning about them is given all the same: they were readable until now.
    fn scrub(&self, config: &Config) {
        let warned = |warning: &Warning| matches!(warning, Warning::SecretInArgument(_));
        if !config.sockets.iter().flat_map(|socket| &socket.warnings).any(warned) {
            return;
        }
        self.scrub_all();
    }

    /// The same, whether there is a password or not.
    fn scrub_all(&self) {
        let holds = |text: &str| text.contains("password");
        for value in self.given.iter().map(|(_, value)| text(value)).filter(|value| holds(value)) {
            let shown = value.split(',').next().filter(|shown| !holds(shown)).unwrap_or_default();
            // With `--flag=` before it or not, whatever the flag was called.
            for argument in std::env::args().filter(|argument| argument.ends_with(value)) {
                let flag = argument.strip_suffix(value).unwrap_or_default();
                // Where the system has no way to do it, the warning remains.
                let _ = replace_argument(&argument, &format!("{flag}{shown}"));
            }
        }
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok().filter(|name| name.starts_with("COUNTERSIGN_"))?;
            holds(&value.to_string_lossy()).then_some(name)
        });
        for name in variables.collect::<Vec<_>>() {
            let _ = scrub_env(&name);
        }
    }
}

impl Args for GatewayArgs {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("Read this file instead of the usual ones");
        KEYS.iter().fold(command.arg(config), |command, key| {
            let mut help = capitalised(key.help);
            if !key.default.is_empty() {
                help.push_str(&format!(" [default: {}]", key.default));
            }
            let arg = Arg::new(key.flag).long(key.flag).value_name(key.value).help(help);
            let arg = if key.flag == "bind-ssl" { arg.visible_alias("bind-tls") } else { arg };
            command.arg(arg.action(match key.form {
                Form::List | Form::Chain => ArgAction::Append,
                _ => ArgAction::Set,
            }))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for GatewayArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = KEYS.iter().flat_map(|key| {
            let values = matches.get_many::<String>(key.flag).into_iter().flatten();
            values.map(|value| (key.flag, Secret::new(value.as_str())))
        });
        Ok(Self { config: matches.get_one("config").cloned(), given: given.collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl From<StartError> for Report {
    fn from(error: StartError) -> Self {
        let exit = match &error {
            StartError::Config(_) => Exit::Config,
            StartError::Bind(bind) | StartError::Control(bind)
                if bind.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                Exit::Refused
            }
            _ => Exit::Unavailable,
        };
        let fix = error.fix().into_owned();
        Self::new(exit, error).fix(fix)
    }
}

/// A flag as it was typed, which was text.
fn text(value: &Secret) -> &str {
    std::str::from_utf8(value.expose()).unwrap_or_default()
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// How long the tasks of an ended gateway may take to be dropped.
const LEFTOVERS: Duration = Duration::from_secs(1);
