//! The numbers of a gateway as text, as Prometheus reads it (text format 0.0.4).
//!
//! Labels are sockets, modules and reasons, which the configuration and the program choose; never a name, an address
//! or anything else that a client says (S-88). Called by [`super::admin`].

use std::fmt::{Display, Write as _};

use super::{
    desk::Desk,
    tally::{BOUNDS, Counts, Times},
};
use crate::control::{Running as _, SocketStatus, Status};

/// All numbers of now.
pub(super) fn page(desk: &Desk, ready: bool) -> String {
    let mut page = Page::default();
    let status = desk.status();
    of_gateway(&mut page, &status, ready);
    of_kept(&mut page, desk, &status);
    let doors: Vec<(String, Counts)> =
        desk.doors().into_iter().map(|door| (door.name.clone(), door.counts())).collect();
    page.family("sessions_active", "gauge", "Open sessions.");
    for socket in &status.sockets {
        page.sample("sessions_active", &[("socket", &socket.name)], socket.sessions);
    }
    page.family("connections_accepted_total", "counter", "Connections that were accepted.");
    for (socket, counts) in &doors {
        page.sample("connections_accepted_total", &[("socket", socket)], counts.connections);
    }
    page.family("connections_active", "gauge", "Open connections.");
    for (socket, counts) in &doors {
        let of_socket = |one: &&SocketStatus| one.name == *socket;
        let sessions = status.sockets.iter().find(of_socket).map_or(0, |one| one.sessions as u64);
        for (state, number) in [("login", counts.open.saturating_sub(sessions)), ("session", sessions)] {
            page.sample("connections_active", &[("socket", socket), ("state", state)], number);
        }
    }
    page.family("chain_results_total", "counter", "Logins that were decided.");
    for (socket, counts) in &doors {
        let refused: u64 = counts.refused.values().sum();
        for (result, number) in [("accepted", counts.accepted), ("refused", refused)] {
            page.sample("chain_results_total", &[("socket", socket), ("result", result)], number);
        }
    }
    page.family("refusals_total", "counter", "Clients that were turned away, by the reason.");
    for (socket, counts) in &doors {
        for (reason, number) in &counts.refused {
            page.sample("refusals_total", &[("socket", socket), ("reason", reason)], number);
        }
    }
    page.family("auth_attempts_total", "counter", "What single links decided.");
    for (socket, counts) in &doors {
        for ((module, reason), number) in &counts.links {
            let result = if reason.is_none() { "accepted" } else { "refused" };
            let labels = [
                ("socket", &**socket),
                ("module", module),
                ("result", result),
                ("reason", reason.unwrap_or_default()),
            ];
            page.sample("auth_attempts_total", &labels, number);
        }
    }
    of_time(&mut page, &doors);
    page.family("relay_bytes_total", "counter", "Bytes of sessions that have ended.");
    for (socket, counts) in &doors {
        for (direction, bytes) in [("to_backend", counts.to_backend), ("to_client", counts.to_client)] {
            page.sample("relay_bytes_total", &[("socket", socket), ("direction", direction)], bytes);
        }
    }
    page.0
}

fn of_gateway(page: &mut Page, status: &Status, ready: bool) {
    page.family("build_info", "gauge", "The version that runs.");
    page.sample("build_info", &[("version", &status.version)], 1);
    page.one("start_time_seconds", "gauge", "When the gateway started.", status.started);
    page.one("ready", "gauge", "Whether clients can log in.", u8::from(ready));
    page.one("logins_active", "gauge", "Clients that are logging in.", status.logging_in);
    page.one("login_places", "gauge", "How many may be logging in.", status.places);
    let help = "Clients whose places went to others before they were let in.";
    page.one("login_places_given_up_total", "counter", help, status.given_up);
    let (taken, failed) = status.reload.as_ref().map_or((0, 0), |reload| (reload.taken, reload.failed));
    let refused = status.reload.as_ref().is_some_and(|reload| reload.refused.is_some());
    let help = "Whether the configuration that was read last holds.";
    page.one("config_last_reload_successful", "gauge", help, u8::from(!refused));
    page.family("config_reloads_total", "counter", "How often the configuration was read again.");
    for (result, number) in [("taken", taken), ("refused", failed)] {
        page.sample("config_reloads_total", &[("result", result)], number);
    }
    if let Some(end) = status.certificate_ends {
        page.family("certificate_not_after_timestamp_seconds", "gauge", "When the first certificate ends.");
        page.sample("certificate_not_after_timestamp_seconds", &[("role", "server")], end);
    }
}

/// What there is of records, penalties and trust, where they are kept.
fn of_kept(page: &mut Page, desk: &Desk, status: &Status) {
    if let Some((kept, lost)) = desk.kept().zip(status.audit_lost) {
        page.one("audit_records_total", "counter", "Audit records that were kept.", kept);
        page.one("audit_dropped_total", "counter", "Audit records that were lost.", lost);
    }
    if let Some((sources, refusals)) = status.penalised.zip(status.penalty_refusals) {
        page.one("penalties_active", "gauge", "Sources that failed lately.", sources);
        page.one("penalty_refusals_total", "counter", "Logins that were refused for that.", refusals);
    }
    let trust = desk.trust();
    let Some(store) = trust.store() else { return };
    page.one("store_up", "gauge", "Whether the trust store can be read.", u8::from(store.is_up()));
    page.family("trust_entries", "gauge", "Certificates in the trust store.");
    for (state, number) in ["accepted", "expired", "revoked"].into_iter().zip(store.count()) {
        page.sample("trust_entries", &[("state", state)], number);
    }
}

fn of_time(page: &mut Page, doors: &[(String, Counts)]) {
    let name = "handshake_duration_seconds";
    page.family(name, "histogram", "From accept to the decision.");
    for (socket, counts) in doors {
        page.histogram(name, &[("socket", socket)], &counts.decided);
    }
    let name = "auth_duration_seconds";
    page.family(name, "histogram", "From a link's question or the answer to it to what it says.");
    for (socket, counts) in doors {
        for (module, times) in &counts.checked {
            page.histogram(name, &[("socket", socket), ("module", module)], times);
        }
    }
}

/// The text as far as it is written.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a text cannot fail, here and below.
        let _ = writeln!(self.0, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], times: &Times) {
        let bucket = format!("{name}_bucket");
        let mut sum = 0;
        let bounds = BOUNDS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        for (bound, number) in bounds.zip(times.within) {
            sum += number;
            self.sample(&bucket, &[labels, &[("le", &bound)]].concat(), sum);
        }
        self.sample(&format!("{name}_sum"), labels, times.seconds);
        self.sample(&format!("{name}_count"), labels, sum);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.0, "{PREFIX}{name}");
        for (position, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
            let _ = write!(self.0, "{}{label}=\"{text}\"", if position == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

const PREFIX: &str = "countersign_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_a_family_is_announced_once() {
        let mut page = Page::default();
        page.one("x_total", "counter", "X.", 7);
        page.sample("x_total", &[("socket", "a\"b\\c\nd"), ("reason", "")], 8);
        let lines: Vec<&str> = page.0.lines().collect();
        assert_eq!(
            lines[..3],
            ["# HELP countersign_x_total X.", "# TYPE countersign_x_total counter", "countersign_x_total 7"]
        );
        assert_eq!(lines[3], r#"countersign_x_total{socket="a\"b\\c\nd",reason=""} 8"#);
    }

    #[test]
    fn a_histogram_counts_up_to_all() {
        let mut page = Page::default();
        let decided = Times { within: [1, 0, 2, 0, 0, 0, 0, 0, 4], seconds: 200.5 };
        let counts = Counts { decided, ..Counts::default() };
        of_time(&mut page, &[("s".to_owned(), counts)]);
        for line in [
            r#"countersign_handshake_duration_seconds_bucket{socket="s",le="0.005"} 1"#,
            r#"countersign_handshake_duration_seconds_bucket{socket="s",le="0.1"} 3"#,
            r#"countersign_handshake_duration_seconds_bucket{socket="s",le="60"} 3"#,
            r#"countersign_handshake_duration_seconds_bucket{socket="s",le="+Inf"} 7"#,
            r#"countersign_handshake_duration_seconds_sum{socket="s"} 200.5"#,
            r#"countersign_handshake_duration_seconds_count{socket="s"} 7"#,
        ] {
            assert!(page.0.lines().any(|written| written == line), "{line}\n{}", page.0);
        }
    }
}
