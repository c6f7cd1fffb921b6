//! `template`: sockets whose paths are made of the user's uid, name or home.

use std::path::Path;

use super::{
    super::BackendError, Door, Found, Kind, Owner, Router, Session, pattern::Pattern, spec::is_session_name,
};
use crate::{
    error::ConfigError,
    options::{OptionSpec, Options},
};

pub(super) const TEMPLATE: Kind = Kind { name: "template", options: OPTIONS, configure };

/// Each path with the name of its session.
struct Template(Vec<(String, Pattern)>);

impl Router for Template {
    fn find(&self, owner: &Owner) -> Result<Found, BackendError> {
        let session = |(name, pattern): &(String, Pattern)| {
            let text = pattern.of(owner)?;
            let door = Door::parse(&text)
                .map_err(|why| BackendError::no_session(format!("the path for this user: {why}")))?;
            Ok(Session { name: name.clone(), door })
        };
        Ok(self.0.iter().map(session).collect::<Result<Vec<_>, BackendError>>()?.into())
    }
}

fn configure(options: &mut Options) -> Result<Box<dyn Router>, ConfigError> {
    let mut paths: Vec<(String, Pattern)> = Vec::new();
    for written in options.take_all("path") {
        let (name, path) = split_name(&written);
        let path = if path.starts_with(['/', '@']) { format!("unix:{path}") } else { path.to_owned() };
        let pattern = Pattern::parse(options, "path", &path)?;
        let name = name.map_or_else(|| stem(&path), str::to_owned);
        let fix = "write /PATH, unix:/PATH or tcp:HOST:PORT with {user}, {uid} or {home} in it";
        let sample = path.replace("{home}", "/home/u").replace("{uid}", "1").replace("{user}", "u");
        Door::parse(&sample).map_err(|why| options.error("path", why, fix))?;
        if sample == path {
            return Err(options.error("path", "it is the same for every user", fix));
        }
        if paths.iter().any(|(other, _)| *other == name) {
            let fix = "write path=NAME=PATH, with a name of its own for each";
            return Err(options.error("path", "two sessions have the same name", fix));
        }
        paths.push((name, pattern));
    }
    if paths.is_empty() {
        return Err(options.error(
            "path",
            "it is required and missing",
            "write path=/run/user/{uid}/app.sock",
        ));
    }
    Ok(Box::new(Template(paths)))
}

/// `NAME=PATH`, or a path alone.
fn split_name(text: &str) -> (Option<&str>, &str) {
    let is_name = |name: &&str| !name.contains(['/', '@', '{']) && is_session_name(name);
    match text.split_once('=') {
        Some((name, path)) if is_name(&name) => (Some(name), path),
        _ => (None, text),
    }
}

/// What a session is called by its path: the last part without its ending.
pub(super) fn stem(path: &str) -> String {
    let name = Path::new(path).file_stem().and_then(|stem| stem.to_str()).unwrap_or(path);
    name.to_owned()
}

const OPTIONS: &[OptionSpec] = &[OptionSpec::new(
    "path",
    "[NAME=]PATH",
    "",
    "a session's socket, with {user}, {uid} or {home} in it; may be repeated",
)];
