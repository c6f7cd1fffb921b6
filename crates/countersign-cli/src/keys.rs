//! `countersign keys`: the security keys that the modules `u2f` and `fido2` check with.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand, ValueEnum};
use countersign::{
    ConfigError, Username,
    config::{Config, Paths, StatePlace},
    keys::{
        APP_ID, Algorithm, Authenticator, KeyError, KeyFile, KeyFolder, KeyName, Kind, KnownKey, NewKey,
        PublicKey, Registered, device::Device,
    },
    sys::files,
};

use crate::report::{Exit, Report, print, print_json};

/// Keep the security keys of users, for the modules `u2f` and `fido2`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  countersign keys add alice
  countersign keys add alice --kind fido2 --name blue --public-key blue-pub.hex
  countersign keys add backup --keyfile /etc/backup/key
  countersign keys list --json
  countersign keys remove alice blue

Without --public-key or --keyfile the key that is plugged in here makes a new
one when it is touched. Its handle, which the client needs to find it again,
is written to the user's configuration folder. A gateway that runs sees every
change at the next login.")]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Where the keys are.
#[derive(Debug, Args)]
struct PlaceArgs {
    /// The folder of keys, as the modules' option keys= has it [default: keys in the state directory].
    #[arg(long, value_name = "DIR", global = true, conflicts_with = "state_dir")]
    keys: Option<PathBuf>,
    /// The gateway's state directory.
    #[arg(long, value_name = "DIR", global = true)]
    state_dir: Option<String>,
    /// The gateway's configuration file, which may name it.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Add a key to a user's.
    Add(AddArgs),
    /// List the keys of all users, or of one.
    List {
        /// The user.
        user: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Forget a key of a user.
    Remove {
        /// The user.
        user: String,
        /// What the key is called.
        name: String,
        /// Which, where a key of each kind is called that.
        #[arg(long)]
        kind: Option<KindArg>,
    },
}

#[derive(Debug, Args)]
struct AddArgs {
    /// The user, by login name.
    user: String,
    /// The module that it is for.
    #[arg(long, default_value = "u2f")]
    kind: KindArg,
    /// What to call the key [default: the beginning of its fingerprint].
    #[arg(long)]
    name: Option<String>,
    /// A key that was made elsewhere: its public half in hexadecimal digits, or a file with them.
    #[arg(long, value_name = "HEX|FILE", conflicts_with = "keyfile")]
    public_key: Option<String>,
    /// Make a key in a new file, in place of a device: for programs.
    #[arg(long, value_name = "FILE")]
    keyfile: Option<PathBuf>,
    /// How the new key is to sign.
    #[arg(long, default_value = "es256", conflicts_with = "public_key")]
    algorithm: AlgorithmArg,
    /// The application it will count for, as the modules' option app-id= has it.
    #[arg(long, value_name = "TEXT", default_value = APP_ID)]
    app_id: String,
    /// Where to write the handle of a device's key [default: the user's configuration folder].
    #[arg(long, value_name = "FILE", conflicts_with_all = ["public_key", "keyfile"])]
    handle: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KindArg {
    /// FIDO U2F: every security key, and Xpra's clients.
    U2f,
    /// FIDO2.
    Fido2,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AlgorithmArg {
    /// ECDSA on P-256.
    Es256,
    /// Ed25519; fido2 only.
    Eddsa,
}

pub(crate) fn run(args: KeysArgs) -> Result<(), Report> {
    let keys = args.place.folder()?;
    match args.command {
        Command::Add(add) => add.run(&keys, args.place.keys.is_none()),
        Command::List { user, json } => list(&keys, user.as_deref(), json),
        Command::Remove { user, name, kind } => {
            let removed = keys.remove(&username(&user)?, kind.map(KindArg::kind), &name).map_err(unusable)?;
            print(&format!("removed {} of {user}\n", removed.name))
        }
    }
}

impl PlaceArgs {
    fn folder(&self) -> Result<KeyFolder, Report> {
        if let Some(keys) = &self.keys {
            return Ok(KeyFolder::at(keys));
        }
        let paths = Paths::system()?;
        let mut layers = Config::layers(self.config.as_deref(), &paths, std::env::vars_os())?;
        if let Some(dir) = &self.state_dir {
            layers.flag("state-dir", dir)?;
        }
        Ok(KeyFolder::at(StatePlace::read(&layers, &paths)?.state_dir.join("keys")))
    }
}

impl AddArgs {
    fn run(self, keys: &KeyFolder, in_state: bool) -> Result<(), Report> {
        let (user, kind) = (username(&self.user)?, self.kind.kind());
        let name = self.name.as_deref().map(key_name).transpose()?;
        // Before a key is made that would then belong to nobody.
        let taken = |known: &KnownKey| known.kind == kind && self.name.as_ref() == Some(&known.name);
        if self.public_key.is_none() && keys.keys_of(&user).map_err(unusable)?.iter().any(taken) {
            return Err(Report::new(Exit::Usage, "--name: the user has a key of that name")
                .fix("choose another name"));
        }
        let (made, handle) = self.make(kind)?;
        let fingerprint = made.key.fingerprint();
        let short: String = fingerprint.chars().take(8).collect();
        let name = name.map_or_else(|| key_name(&short), Ok)?;
        if in_state && let Some(state) = keys.path().parent() {
            // It is the gateway's own, and nobody else's business.
            files::create_private_directory(state)?;
        }
        let file = keys.add(&user, kind, &name, &made.key).map_err(unusable)?;
        let algorithm = made.key.algorithm().name();
        print(&format!(
            "added {name} for {user}: {kind} {algorithm} {fingerprint}\nin {}\n",
            file.display()
        ))?;
        let Some(path) = handle else { return Ok(()) };
        write_handle(&path, &made.handle)?;
        print(&format!("the client needs its handle: {}\n", path.display()))
    }

    /// The public half, made here or elsewhere; for a device's key, where its handle is to be written.
    fn make(&self, kind: Kind) -> Result<(Registered, Option<PathBuf>), Report> {
        let algorithm = match self.algorithm {
            AlgorithmArg::Es256 => Algorithm::Es256,
            AlgorithmArg::Eddsa => Algorithm::EdDsa,
        };
        let new = NewKey { kind, app_id: &self.app_id, user: &self.user, algorithm };
        if let Some(text) = &self.public_key {
            let key = public_key(text)?;
            if kind == Kind::U2f && key.algorithm() != Algorithm::Es256 {
                return Err(Report::new(Exit::Usage, "--public-key: u2f knows keys of P-256 only")
                    .fix("add --kind fido2"));
            }
            return Ok((Registered { key, handle: Vec::new() }, None));
        }
        if let Some(path) = &self.keyfile {
            return Ok((KeyFile::at(path).register(&new)?, None));
        }
        let path = self.handle_path(kind)?;
        let mut device = Device::find(PATIENCE)?;
        eprintln!("Touch the security key");
        Ok((device.register(&new)?, Some(path)))
    }

    /// Found before anybody is asked to touch anything.
    fn handle_path(&self, kind: Kind) -> Result<PathBuf, Report> {
        let path = match &self.handle {
            Some(path) => path.clone(),
            None => {
                let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
                let config =
                    config.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config")));
                let none =
                    || Report::new(Exit::Usage, "the home directory: there is none").fix("add --handle FILE");
                config.ok_or_else(none)?.join("countersign").join(format!("{kind}-keyhandle.hex"))
            }
        };
        match path.try_exists() {
            Ok(false) => Ok(path),
            _ => Err(Report::new(Exit::Failure, format!("{}: there is one already", path.display()))
                .fix("write the new handle elsewhere: --handle FILE")),
        }
    }
}

fn write_handle(path: &Path, handle: &[u8]) -> Result<(), Report> {
    let digits: String = handle.iter().map(|byte| format!("{byte:02x}")).collect();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let written = folder.map_or(Ok(()), files::create_private_directory).and_then(|()| {
        let mut file = files::create_private(path)?;
        std::io::Write::write_all(&mut file, format!("{digits}\n").as_bytes())
    });
    written.map_err(|error| {
        Report::new(Exit::Failure, format!("{}: {error}", path.display()))
            .fix(format!("write this into the file that the client reads: {digits}"))
    })
}

fn list(keys: &KeyFolder, user: Option<&str>, json: bool) -> Result<(), Report> {
    let found = match user {
        Some(user) => keys.keys_of(&username(user)?).map_err(unusable)?,
        None => keys.all().map_err(unusable)?,
    };
    if json {
        return print_json(&found);
    }
    let widest = |column: fn(&KnownKey) -> &str| found.iter().map(|key| column(key).chars().count()).max();
    let (users, names) = (widest(|key| &key.user).unwrap_or(0), widest(|key| &key.name).unwrap_or(0));
    found.iter().try_for_each(|known| {
        let (kind, algorithm) = (known.kind.name(), known.key.algorithm().name());
        let (user, name, fingerprint) = (&known.user, &known.name, known.key.fingerprint());
        print(&format!("{user:users$}  {name:names$}  {kind:5}  {algorithm}  {fingerprint}\n"))
    })
}

/// Hexadecimal digits, or a file with them.
fn public_key(text: &str) -> Result<PublicKey, Report> {
    let wrong = |why: &str| {
        Report::new(Exit::Usage, format!("--public-key: {why}"))
            .fix("give the digits of a file ...-pub.hex, or such a file")
    };
    if let Ok(key) = PublicKey::from_hex(text) {
        return Ok(key);
    }
    match fs::read_to_string(text) {
        Ok(content) => PublicKey::from_hex(&content).map_err(wrong),
        Err(_) => Err(wrong("it is neither a key nor a file that can be read")),
    }
}

/// What is wrong with keys is no fault of a configuration.
fn unusable(error: ConfigError) -> Report {
    Report::new(Exit::Failure, &error).fix(error.fix())
}

fn username(name: &str) -> Result<Username, Report> {
    Username::parse(name).map_err(|refusal| {
        Report::new(Exit::Usage, format!("the name: {}", refusal.cause)).fix("choose another name")
    })
}

fn key_name(name: &str) -> Result<KeyName, Report> {
    name.parse().map_err(|why| Report::new(Exit::Usage, format!("--name: {why}")).fix("choose another name"))
}

impl KindArg {
    fn kind(self) -> Kind {
        match self {
            Self::U2f => Kind::U2f,
            Self::Fido2 => Kind::Fido2,
        }
    }
}

impl From<KeyError> for Report {
    fn from(error: KeyError) -> Self {
        let exit = match error {
            KeyError::NoDevice { .. } => Exit::Unavailable,
            _ => Exit::Failure,
        };
        Self::new(exit, &error).fix(error.fix())
    }
}

/// How long a person has to touch the key.
const PATIENCE: Duration = Duration::from_secs(60);
