//! What a gateway that runs is told to do: to read its configuration again, or to end.
//!
//! Signals and the control socket give [`Orders`]; [`super::serve`] obeys, one after the other.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::StartError;

/// By which a gateway that runs is told what to do.
#[derive(Clone, Debug)]
pub struct Orders(mpsc::Sender<Order>);

impl Orders {
    pub(super) fn new(orders: mpsc::Sender<Order>) -> Self {
        Self(orders)
    }

    /// Has the configuration read again, and waits until the new one holds or is refused. `None` if the gateway
    /// has ended, or is about to.
    pub async fn reload(&self) -> Option<Result<(), StartError>> {
        let (done, answer) = oneshot::channel();
        self.0.send(Order::Reload(done)).await.ok()?;
        answer.await.ok()
    }

    /// Has the gateway end as [`Gateway::run`](super::Gateway::run) does at `stop`, but with other patience for its
    /// sessions, and waits until nobody is accepted any more. `None` if it has ended, or is about to.
    pub async fn drain(&self, patience: Option<Duration>) -> Option<()> {
        let (begun, answer) = oneshot::channel();
        self.0.send(Order::Drain(patience, begun)).await.ok()?;
        answer.await.ok()
    }
}

/// One of them, and where the answer goes. Whoever asked may have left.
#[derive(Debug)]
pub(super) enum Order {
    Reload(oneshot::Sender<Result<(), StartError>>),
    /// `None` is the patience of the configuration.
    Drain(Option<Duration>, oneshot::Sender<()>),
}
