//! What a link keeps open for a client for as long as that stays: a session of PAM, for example.
//!
//! A module hands it over with its verdict ([`crate::chain::Verdict::PassWith`]), a login that ends without
//! success drops it, and the [`crate::Grant`] of one that succeeds carries it to whoever lets the client in,
//! who keeps it until the client has left.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
};

/// What a link keeps open for one client. Dropped, it is closed; whoever drops it does not wait for that.
pub trait Stay: fmt::Debug + Send + Sync {
    /// Completes when it has ended by itself, from outside: the client is to go too.
    fn over(&self) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// What the links of one login keep open. It is closed when the last copy is dropped.
#[derive(Clone, Debug, Default)]
pub struct Stays(Vec<Arc<dyn Stay>>);

impl Stays {
    /// Whether no link keeps anything open.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Completes when one of them has ended by itself. Never, where there is none.
    pub fn over(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut ends: Vec<_> = self.0.iter().map(|stay| stay.over()).collect();
        poll_fn(move |cx| match ends.iter_mut().any(|end| end.as_mut().poll(cx).is_ready()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
    }

    pub(crate) fn push(&mut self, stay: Arc<dyn Stay>) {
        self.0.push(stay);
    }
}
