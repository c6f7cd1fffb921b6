//! The name of a peer, as far as reverse and forward look-up agree (S-78).

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use crate::{Refusal, sys::resolver};

/// What is known of a peer's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HostName {
    /// The address has this name and the name has this address; lower case, no dot at the end.
    Confirmed(String),
    /// The address has no name.
    Missing,
    /// The address has a name that does not lead back to it: somebody lies.
    Contradicted,
}

/// Finds the name of an address. A trait so that tests need no network.
pub(super) trait Resolve: Send + Sync {
    /// The name of `address`, confirmed.
    ///
    /// # Errors
    /// There was no answer, which refuses the peer.
    fn name_of(&self, address: IpAddr) -> Result<HostName, Refusal>;
}

/// The system's resolver, given two seconds.
pub(super) struct SystemResolver {
    running: Arc<AtomicUsize>,
}

/// A resolver whose server is gone answers after half a minute, and each look-up holds a thread so
/// long. Beyond this many, peers are refused without asking: strangers must not fill the memory (W22).
const MOST_LOOKUPS: usize = 32;

const PATIENCE: Duration = Duration::from_secs(2);

impl SystemResolver {
    pub(super) fn new() -> Self {
        Self { running: Arc::default() }
    }
}

impl Resolve for SystemResolver {
    fn name_of(&self, address: IpAddr) -> Result<HostName, Refusal> {
        in_time(&self.running, PATIENCE, move || {
            confirm(address, resolver::name_of(address)?, resolver::addresses_of)
        })
    }
}

/// Runs `look_up` on a thread of its own and waits for `patience` at most.
fn in_time(
    running: &Arc<AtomicUsize>,
    patience: Duration,
    look_up: impl FnOnce() -> io::Result<HostName> + Send + 'static,
) -> Result<HostName, Refusal> {
    let turn = Turn(Arc::clone(running));
    if running.fetch_add(1, Ordering::SeqCst) >= MOST_LOOKUPS {
        return Err(Refusal::module_failed("the resolver is slow and has too many questions already"));
    }
    let (answer, answered) = mpsc::sync_channel(1);
    let started = thread::Builder::new().name("hosts-lookup".into()).spawn(move || {
        let _turn = turn;
        // Nobody waits any more if it took too long.
        let _ = answer.send(look_up());
    });
    started.map_err(|error| Refusal::module_failed(format!("no look-up can be started: {error}")))?;
    match answered.recv_timeout(patience) {
        Ok(Ok(name)) => Ok(name),
        Ok(Err(error)) => {
            Err(Refusal::module_failed(format!("the peer's name cannot be looked up: {error}")))
        }
        Err(_) => Err(Refusal::module_failed("the peer's name was not found in time")),
    }
}

/// One running look-up; ends with the thread, however it ends.
struct Turn(Arc<AtomicUsize>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn confirm(
    address: IpAddr,
    name: Option<String>,
    addresses_of: impl FnOnce(&str) -> io::Result<Vec<IpAddr>>,
) -> io::Result<HostName> {
    let Some(name) = name else { return Ok(HostName::Missing) };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    // A "name" that is an address leads to itself and would pass for the address it spells.
    if name.is_empty() || name.parse::<IpAddr>().is_ok() {
        return Ok(HostName::Contradicted);
    }
    let leads_back = addresses_of(&name)?.contains(&address);
    Ok(if leads_back { HostName::Confirmed(name) } else { HostName::Contradicted })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn s_078_a_name_counts_only_if_it_leads_back_to_the_address() {
        let confirmed = |name: Option<&str>, leads_to: &[&str]| {
            let addresses = leads_to.iter().map(|text| ip(text)).collect();
            confirm(ip("192.0.2.7"), name.map(str::to_owned), |_| Ok(addresses)).unwrap()
        };
        assert_eq!(
            confirmed(Some("Host.Example.COM."), &["192.0.2.1", "192.0.2.7"]),
            HostName::Confirmed("host.example.com".into())
        );
        assert_eq!(confirmed(None, &[]), HostName::Missing);
        for (name, leads_to) in
            [("liar.example.com", "10.0.0.5"), ("192.0.2.7", "192.0.2.7"), (".", "192.0.2.7")]
        {
            assert_eq!(confirmed(Some(name), &[leads_to]), HostName::Contradicted, "{name}");
        }
        let broken =
            confirm(ip("192.0.2.7"), Some("x.example".into()), |_| Err(io::Error::other("no server")));
        assert!(broken.is_err());
    }

    #[test]
    fn s_078_a_resolver_that_fails_or_is_slow_refuses_in_time() {
        let running = Arc::default();
        let failed = in_time(&running, PATIENCE, || Err(io::Error::other("no server"))).unwrap_err();
        assert!(failed.cause.contains("no server"));
        let start = Instant::now();
        let (stop, stopped) = mpsc::sync_channel::<()>(0);
        let slow = in_time(&running, Duration::from_millis(50), move || {
            let _ = stopped.recv();
            Ok(HostName::Missing)
        });
        assert!(slow.unwrap_err().cause.contains("in time"));
        assert!(start.elapsed() < Duration::from_secs(2));
        drop(stop);
        assert_eq!(PATIENCE, Duration::from_secs(2));
    }

    #[test]
    fn s_081_look_ups_that_hang_are_bounded_and_give_their_place_back() {
        let running = Arc::default();
        let (stop, stopped) = mpsc::sync_channel::<()>(0);
        let stopped = Arc::new(std::sync::Mutex::new(stopped));
        for _ in 0..MOST_LOOKUPS {
            let stopped = Arc::clone(&stopped);
            let hangs = in_time(&running, Duration::from_millis(1), move || {
                let _ = stopped.lock().unwrap().recv();
                Ok(HostName::Missing)
            });
            assert!(hangs.is_err());
        }
        let refused = in_time(&running, PATIENCE, || Ok(HostName::Missing)).unwrap_err();
        assert!(refused.cause.contains("too many"));
        drop(stop);
        let start = Instant::now();
        while in_time(&running, PATIENCE, || Ok(HostName::Missing)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(10));
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn this_machine_is_confirmed_by_its_own_resolver() {
        let name = SystemResolver::new().name_of(ip("127.0.0.1")).unwrap();
        assert!(matches!(name, HostName::Confirmed(_)), "{name:?}");
    }
}
