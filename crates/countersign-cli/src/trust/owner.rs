//! Reaching a gateway as its owner: which one is meant, and what its answers mean for the command.

use std::path::{Path, PathBuf};

use clap::Args;
use countersign::{
    config::{Config, Paths, StatePlace},
    control::{ControlError, Failure, FailureCode, Listed, Owner, Request, Response},
    sys::accounts::{own_uid, step_down},
};

use crate::report::{Exit, Report};

/// Which gateway is meant.
#[derive(Clone, Debug, Args)]
pub(crate) struct OwnerArgs {
    /// The gateway's state directory.
    #[arg(long, value_name = "DIR", global = true, help_heading = GATEWAY)]
    state_dir: Option<String>,
    /// The gateway's control socket; `none` looks at the state directory itself.
    #[arg(long, value_name = "PATH|none", global = true, help_heading = GATEWAY)]
    control: Option<String>,
    /// The gateway's configuration file, which may name both.
    #[arg(long, value_name = "FILE", global = true, help_heading = GATEWAY)]
    config: Option<PathBuf>,
}

const GATEWAY: &str = "Gateway";

impl OwnerArgs {
    /// Whether one is named.
    pub(crate) fn is_given(&self) -> bool {
        self.state_dir.is_some() || self.control.is_some() || self.config.is_some()
    }

    /// Finds the gateway, or its state directory. To be called before there are threads: root goes on
    /// as the owner of that directory, so that the gateway can read what is made there.
    pub(crate) fn reach(&self) -> Result<Reached, Report> {
        let paths = Paths::system()?;
        let mut layers = Config::layers(self.config.as_deref(), &paths, std::env::vars_os())?;
        for (flag, value) in [("state-dir", &self.state_dir), ("control", &self.control)] {
            if let Some(value) = value {
                layers.flag(flag, value)?;
            }
        }
        let place = StatePlace::read(&layers, &paths)?;
        // A user who forgot sudo must not get a store of their own, and believe it was the system's.
        let may_make = place.written || own_uid() == 0;
        let owner = Owner::reach(place.state_dir, place.control)?.making_a_store(may_make);
        if !owner.gateway_runs() {
            become_owner(owner.state_dir())?;
        }
        Ok(Reached(owner))
    }
}

/// A gateway, or the state directory of one that does not run.
pub(crate) struct Reached(Owner);

impl Reached {
    pub(crate) fn state_dir(&self) -> &Path {
        self.0.state_dir()
    }

    /// Whether a gateway answers.
    pub(crate) fn gateway_runs(&self) -> bool {
        self.0.gateway_runs()
    }

    /// Asks; an answer that nothing was done is a report.
    pub(crate) fn ask(&self, request: Request) -> Result<Response, Report> {
        match self.0.ask(request)? {
            Response::Failed(failure) => Err(failure.into()),
            response => Ok(response),
        }
    }

    /// Asks for what is answered with an entry.
    pub(crate) fn entry(&self, request: Request) -> Result<Listed, Report> {
        match self.ask(request)? {
            Response::Entry(entry) => Ok(*entry),
            other => Err(unexpected(&other)),
        }
    }
}

/// Only a gateway of another version does this.
pub(crate) fn unexpected(_: &Response) -> Report {
    Report::new(Exit::Failure, "the gateway: it answered something else than was asked")
        .fix("use the command of the same version as the gateway")
}

fn become_owner(state_dir: &Path) -> Result<(), Report> {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(facts) = std::fs::metadata(state_dir) else { return Ok(()) };
    let is_root = own_uid() == 0;
    if !is_root || facts.uid() == 0 {
        return Ok(());
    }
    step_down(facts.uid(), facts.gid()).map_err(|error| {
        let what = format!("state directory {}: its owner, uid {}", state_dir.display(), facts.uid());
        Report::new(Exit::Refused, format!("{what}, cannot be acted for: {error}"))
            .fix("run the command as that user")
    })
}

impl From<ControlError> for Report {
    fn from(error: ControlError) -> Self {
        let exit = match () {
            () if error.is_denied() => Exit::Refused,
            () if error.is_unavailable() => Exit::Unavailable,
            () => Exit::Failure,
        };
        Self::new(exit, &error).fix(error.fix())
    }
}

impl From<Failure> for Report {
    fn from(failure: Failure) -> Self {
        let exit = match failure.code {
            FailureCode::Unacceptable => Exit::Usage,
            FailureCode::Configuration => Exit::Config,
            FailureCode::NotRunning => Exit::Unavailable,
            _ => Exit::Failure,
        };
        Self::new(exit, &failure).fix(failure.fix)
    }
}
