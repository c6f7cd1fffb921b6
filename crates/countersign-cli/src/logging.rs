//! Where log lines go and how they look.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging to standard error. Text on a terminal, JSON lines otherwise, unless said.
///
/// `COUNTERSIGN_LOG` holds a filter as in `info,countersign::audit=off`; `debug` names the
/// categories given with `-d`, as Xpra users know them. No secret is logged at any level (S-88).
pub(crate) fn start(level: Option<&str>, format: Option<LogFormat>, debug: &[String]) {
    let from_env = std::env::var("COUNTERSIGN_LOG").ok();
    let mut filter =
        EnvFilter::new(level.map(str::to_owned).or(from_env).unwrap_or_else(|| "info".to_owned()));
    for category in debug.iter().flat_map(|list| list.split(',')) {
        let target = match category {
            "all" | "auth" => "countersign",
            other => other,
        };
        if let Ok(directive) = format!("{target}=debug").parse() {
            filter = filter.add_directive(directive);
        }
    }
    let terminal = std::io::stderr().is_terminal();
    let registry = tracing_subscriber::registry().with(filter);
    let colour = terminal && std::env::var_os("NO_COLOR").is_none();
    let started = match format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json }) {
        LogFormat::Text => registry
            .with(fmt::layer().with_writer(std::io::stderr).with_ansi(colour).with_target(false))
            .try_init(),
        LogFormat::Json => {
            registry.with(fmt::layer().with_writer(std::io::stderr).json().flatten_event(true)).try_init()
        }
    };
    // Only a test that starts two in one process gets here; the first one stays.
    let _ = started;
}
