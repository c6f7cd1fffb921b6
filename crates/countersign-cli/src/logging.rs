//! Where log lines go and how they look.

use std::io::IsTerminal as _;

use countersign::config::{Log, LogFormat};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    EnvFilter, Registry,
    fmt::{self, FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::SubscriberExt as _,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt as _,
};

/// Starts the gateway's log on standard error: text on a terminal, JSON lines otherwise, unless the
/// configuration says.
///
/// `COUNTERSIGN_LOG` holds a filter as in `info,countersign::audit=off` and wins over the level;
/// `debug` names the categories given with `-d`, as Xpra users know them. No secret is logged at any
/// level (S-88).
pub(crate) fn start(log: &Log, debug: &[String]) -> Filter {
    let filter = filter(of_environment().as_deref().unwrap_or(&log.level), debug);
    let (filter, handle) = reload::Layer::new(filter);
    let terminal = std::io::stderr().is_terminal();
    let text = match log.format {
        LogFormat::Text => true,
        LogFormat::Json => false,
        _ => terminal,
    };
    let registry = tracing_subscriber::registry().with(filter);
    let layer = fmt::layer().with_writer(std::io::stderr);
    // A second start in one process, which only tests do, leaves the first one in place.
    let _ = if text {
        let colour = terminal && std::env::var_os("NO_COLOR").is_none();
        registry.with(layer.with_ansi(colour).with_target(false)).try_init()
    } else {
        registry.with(layer.json().flatten_event(true)).try_init()
    };
    Filter { handle, debug: debug.to_vec() }
}

/// What is logged by a gateway that runs.
#[derive(Debug)]
pub(crate) struct Filter {
    handle: reload::Handle<EnvFilter, Registry>,
    debug: Vec<String>,
}

impl Filter {
    /// Another level, where the environment says none.
    pub(crate) fn follow(&self, log: &Log) {
        if of_environment().is_none() {
            // Only tests, which start several logs in one process, have one that is gone.
            let _ = self.handle.reload(filter(&log.level, &self.debug));
        }
    }
}

/// Starts the log of a client on standard error, as text, where somebody asked for one: with `-d`, or by
/// `COUNTERSIGN_LOG`. Else a client has none.
pub(crate) fn start_debug(debug: &[String]) {
    let level = of_environment();
    if debug.is_empty() && level.is_none() {
        return;
    }
    let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_target(false);
    let registry = tracing_subscriber::registry().with(filter(level.as_deref().unwrap_or("off"), debug));
    let _ = registry.with(layer).try_init();
}

fn of_environment() -> Option<String> {
    std::env::var("COUNTERSIGN_LOG").ok().filter(|filter| !filter.is_empty())
}

/// A level or a list of directives, with the categories of `-d` at debug.
fn filter(level: &str, debug: &[String]) -> EnvFilter {
    let mut filter = EnvFilter::new(level);
    // At `trace` it would write down every handshake, byte by byte. Whoever wants that names it.
    if !level.contains("rustls") {
        filter = filter.add_directive("rustls=info".parse().unwrap_or_default());
    }
    for category in debug.iter().flat_map(|list| list.split(',')) {
        let target = match category {
            "all" | "auth" => "countersign",
            other => other,
        };
        if let Ok(directive) = format!("{target}=debug").parse() {
            filter = filter.add_directive(directive);
        }
    }
    filter
}

/// Starts a log that shows warnings only, as text: for commands that a person reads the output of.
pub(crate) fn start_quiet() {
    let layer = fmt::layer().with_writer(std::io::stderr).event_format(AsWarning);
    let registry = tracing_subscriber::registry().with(EnvFilter::new("warn,countersign::audit=off"));
    let _ = registry.with(layer).try_init();
}

/// Writes a line of the log as the command writes its own warnings.
struct AsWarning;

impl<S, N> FormatEvent<S, N> for AsWarning
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let word = if *event.metadata().level() == Level::ERROR { "error" } else { "warning" };
        write!(writer, "{word}: ")?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
