//! Connections that wait for the next login.

use parking_lot::Mutex;
use sqlx::SqlStr;
use tokio::sync::Semaphore;

use super::{Answer, Driver, Fault};

/// At most [`MOST`] connections, opened when they are needed and kept.
pub(super) struct Pool<D: Driver> {
    driver: D,
    idle: Mutex<Vec<D::Connection>>,
    places: Semaphore,
}

impl<D: Driver> Pool<D> {
    pub(super) fn new(driver: D) -> Self {
        Self { driver, idle: Mutex::default(), places: Semaphore::new(MOST) }
    }

    /// Asks over a connection that waits, or over a new one.
    ///
    /// A connection that broke while it waited says so when it is used; then the question is asked once
    /// more, over a new one. It only reads, so that this is no different. Whatever went wrong, the
    /// connection is not used again; neither is one that nobody waits for any more.
    pub(super) async fn ask(&self, query: &SqlStr, values: &[Option<&str>]) -> Result<Answer, Fault> {
        // It is never closed.
        let _place = self.places.acquire().await.map_err(|_| Fault::Server(sqlx::Error::PoolClosed))?;
        let waiting = self.idle.lock().pop();
        if let Some(connection) = waiting {
            match self.ask_over(connection, query, values).await {
                Err(Fault::Server(error)) if is_broken(&error) => self.idle.lock().clear(),
                decided => return decided,
            }
        }
        let connection = self.driver.connect().await.map_err(Fault::Server)?;
        self.ask_over(connection, query, values).await
    }

    async fn ask_over(
        &self,
        mut connection: D::Connection,
        query: &SqlStr,
        values: &[Option<&str>],
    ) -> Result<Answer, Fault> {
        let answer = D::ask(&mut connection, query.clone(), values).await?;
        self.idle.lock().push(connection);
        Ok(answer)
    }
}

/// Whether the connection, and not the question, is what is wrong. Class 57 is how a server says that it
/// ends; MariaDB has words of its own for having been idle too long.
fn is_broken(error: &sqlx::Error) -> bool {
    match error.as_database_error() {
        None => true,
        Some(said) => said.code().is_none_or(|state| state.starts_with("57") || state.starts_with("08")),
    }
}

/// A look takes milliseconds; a server has a limit on connections, and others use it too.
const MOST: usize = 8;
