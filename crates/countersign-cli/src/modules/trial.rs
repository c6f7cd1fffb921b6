//! `countersign modules test`: one module from the terminal, with the cause that no client is told.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Instant};

use clap::Args;
use countersign::{
    Chain, Claim, ConfigError, Identity, Peer, Secret,
    config::{ModuleSpec, explain::Visitor},
    handlers,
    modules::{
        Context, Registry,
        trial::{self, End, Trial},
    },
    proto::{
        client::{Failure, FailureKind},
        error::Reason,
        peer::{Credentials, TlsFacts},
    },
    sys::{accounts::Account, environment::scrub_env},
};
use serde::Serialize;

use crate::{
    report::{Exit, Report, print, print_json},
    secret::Private,
};

/// Run one module as a socket would, and say what happened and why.
///
/// You are the client: answers are taken from a file, XPRA_PASSWORD or the terminal. Nobody else is
/// let in by it, and nothing is served.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  countersign modules test 'sqlite(filename=users.sdb)' --as alice@local
  countersign modules test 'hosts(deny=/etc/hosts.deny)' --as @192.0.2.7
  countersign modules test 'file(filename=word)' --password-file=word

Exit codes: 0 passed, 77 refused, 75 refused for now, 76 nothing that both can
use, 69 the module could not decide, 79 no answer was found, 78 the module is
written wrongly, 2 usage.")]
pub(super) struct TestArgs {
    /// The module with its options, as in auth=.
    #[arg(value_name = "NAME(OPTION=VALUE,...)")]
    module: Private,
    /// The client: USER@ADDRESS, in TLS unless said otherwise, or USER@local at a Unix socket.
    #[arg(long = "as", value_name = "CLIENT", default_value_t = String::from("@local"), hide_default_value = true)]
    visitor: String,
    /// At an address, connect without TLS.
    #[arg(long)]
    in_the_clear: bool,
    /// A file whose whole content is the password; again for each further question.
    #[arg(long, value_name = "FILE")]
    password_file: Vec<PathBuf>,
    /// Where answers are looked for, as in `countersign connect`.
    #[arg(long, value_name = "LIST", default_value = "all")]
    challenge_handlers: Private,
    /// A capability of the client's hello, for modules that look at one.
    #[arg(long, value_name = "NAME=TEXT")]
    capability: Vec<Private>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: TestArgs) -> Result<ExitCode, Report> {
    let registry = Registry::builtin();
    let spec = ModuleSpec::parse(&args.module.0, &registry)?;
    let link = registry.link(spec.to_options(), &Context::default())?;
    let module = link.module;
    let visitor: Visitor = args.visitor.parse().map_err(|error: ConfigError| usage(&error))?;
    let (peer, claim) = (peer(&visitor, args.in_the_clear)?, claim(&visitor, &args.capability)?);
    let mut sources = handlers::Sources::new();
    for file in &args.password_file {
        sources = sources.with_password_file(file);
    }
    let responders = handlers::Registry::builtin().select(&args.challenge_handlers.0, sources)?;
    // S-90: a program that the module starts is not to have it.
    let _ = scrub_env("XPRA_PASSWORD");
    let chain = Chain::new(vec![link]).map_err(|refusal| Report::new(Exit::Failure, refusal))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let place = format!("the module {module}");
    let start = Instant::now();
    let work = move || trial::run(Arc::new(chain), peer, claim, responders, &place);
    // Where modules run in a gateway too: on a thread that may block, beside a runtime.
    let trial = runtime.block_on(async { tokio::task::spawn_blocking(work).await });
    let trial = trial.map_err(|_| Report::new(Exit::Failure, "the module crashed"))?;
    let outcome = Outcome::new(module, &trial, start.elapsed().as_secs_f64());
    if args.json {
        print_json(&outcome)?
    } else {
        print(&outcome.text())?
    }
    runtime.shutdown_background();
    Ok(ExitCode::from(outcome.exit as u8))
}

fn peer(visitor: &Visitor, in_the_clear: bool) -> Result<Peer, Report> {
    let Some(address) = visitor.address() else {
        let own = Account::own()?;
        return Ok(Peer::unix(own.map(|account| Credentials::new(account.uid, account.gid))));
    };
    let ours = if address.is_ipv4() { "127.0.0.1:1" } else { "[::1]:1" };
    let ours = ours.parse().map_err(|error| Report::new(Exit::Failure, error))?;
    let peer = Peer::tcp((address, 1).into(), ours);
    Ok(if in_the_clear { peer } else { peer.encrypted(TlsFacts::default(), None, None) })
}

fn claim(visitor: &Visitor, capabilities: &[Private]) -> Result<Claim, Report> {
    let mut claim = visitor.claim().clone();
    for Private(capability) in capabilities {
        let wrong =
            || Report::new(Exit::Usage, "a capability: `=` is missing").fix("write --capability NAME=TEXT");
        let (name, text) = capability.split_once('=').ok_or_else(wrong)?;
        claim = claim.saying(name, Secret::new(text));
    }
    Ok(claim)
}

fn usage(error: &ConfigError) -> Report {
    Report::new(Exit::Usage, error).fix(error.fix())
}

/// What happened, for both ways of printing it.
#[derive(Serialize)]
struct Outcome {
    module: &'static str,
    /// `passed`, `refused` or `unanswered`.
    outcome: &'static str,
    /// Mechanism and words of each question.
    asked: Vec<Asked>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<Who>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    /// All that a client would be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    told: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
    seconds: f64,
    #[serde(skip)]
    exit: Exit,
}

#[derive(Serialize)]
struct Asked {
    mechanism: String,
    prompt: String,
}

#[derive(Serialize)]
struct Who {
    name: String,
    uid: Option<u32>,
    gid: Option<u32>,
    sessions: Vec<String>,
}

impl Outcome {
    fn new(module: &'static str, trial: &Trial, seconds: f64) -> Self {
        let asked = trial
            .asked
            .iter()
            .map(|question| Asked { mechanism: question.mechanism.clone(), prompt: question.prompt.clone() });
        let outcome = Self {
            module,
            outcome: "passed",
            asked: asked.collect(),
            identity: None,
            reason: None,
            cause: None,
            told: None,
            help: None,
            seconds,
            exit: Exit::Success,
        };
        match &trial.end {
            End::Passed(grant) => Self { identity: grant.identity().map(Who::of), ..outcome },
            End::Refused(refusal) => Self {
                outcome: "refused",
                reason: Some(refusal.reason.code()),
                cause: Some(refusal.cause.to_string()),
                told: Some(refusal.public()),
                exit: exit_of(refusal.reason),
                ..outcome
            },
            End::Unanswered(failure) => Self {
                outcome: "unanswered",
                cause: Some(failure.to_string()),
                help: failure.fix.as_ref().map(ToString::to_string),
                exit: exit_of_client(failure),
                ..outcome
            },
        }
    }

    fn text(&self) -> String {
        let mut lines = vec![("module", self.module.to_owned())];
        for Asked { mechanism, prompt } in &self.asked {
            lines.push(("asked", format!("{mechanism}, {prompt:?}")));
        }
        lines.push(("outcome", self.outcome.to_owned()));
        if self.outcome == "passed" {
            lines.push((
                "identity",
                self.identity.as_ref().map_or_else(|| "nobody is named".to_owned(), Who::text),
            ));
        }
        lines.extend(self.reason.map(|reason| ("reason", reason.to_owned())));
        lines.extend(self.cause.as_ref().map(|cause| ("cause", cause.escape_debug().to_string())));
        lines.extend(self.told.map(|told| ("told", format!("{told:?} is all that a client hears"))));
        lines.extend(self.help.as_ref().map(|help| ("help", help.clone())));
        lines.iter().map(|(name, text)| format!("{name:<9} {text}\n")).collect()
    }
}

impl Who {
    fn of(identity: &Identity) -> Self {
        let Identity { name, uid, gid, sessions, .. } = identity;
        Self { name: name.to_string(), uid: *uid, gid: *gid, sessions: sessions.clone() }
    }

    fn text(&self) -> String {
        let number = |name, id: Option<u32>| id.map(|id| format!(", {name} {id}")).unwrap_or_default();
        format!("{:?}{}{}", self.name, number("uid", self.uid), number("gid", self.gid))
    }
}

fn exit_of(reason: Reason) -> Exit {
    match reason {
        Reason::Busy => Exit::Temporary,
        Reason::ModuleFailed | Reason::ModulePanicked | Reason::Timeout => Exit::Unavailable,
        Reason::NoCommonMechanism | Reason::NotConfidential => Exit::Protocol,
        _ => Exit::Refused,
    }
}

fn exit_of_client(failure: &Failure) -> Exit {
    match failure.kind {
        FailureKind::NoCredential => Exit::NoCredential,
        FailureKind::Forbidden => Exit::Protocol,
        FailureKind::Refused => Exit::Refused,
        _ => Exit::Failure,
    }
}
