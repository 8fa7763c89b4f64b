//! A few connections that are lent out, one for each question. What was asked on a connection that was lost while it lay
//! idle is asked once more on a new one: what is asked here must bear that.

use super::Address;
use super::link::{Asker, Link};
use crate::store::{Result, StoreError};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

/// How long a question waits for one of them.
const PATIENCE: Duration = Duration::from_secs(10);

/// The connections.
#[derive(Debug)]
pub(super) struct Desk {
    address: Address,
    settings: &'static str,
    most: usize,
    lent: Mutex<Lent>,
    back: Condvar,
}

#[derive(Debug, Default)]
struct Lent {
    idle: Vec<Link>,
    lent: usize,
}

impl Desk {
    /// At most `most` connections to `address`, each set up by `settings`. None is made yet.
    pub(super) fn new(address: &Address, settings: &'static str, most: usize) -> Self {
        let (lent, back) = (Mutex::default(), Condvar::new());
        Self { address: address.clone(), settings, most, lent, back }
    }

    fn lent(&self) -> MutexGuard<'_, Lent> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An idle connection, or nothing where a new one may be made.
    fn borrow(&self, doing: &'static str) -> Result<Option<Link>> {
        let full = |lent: &mut Lent| lent.lent >= self.most;
        let (mut lent, waited) =
            self.back.wait_timeout_while(self.lent(), PATIENCE, full).unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() && lent.lent >= self.most {
            let source = "every connection is busy".into();
            return Err(StoreError::Away { doing, place: self.address.place(), source });
        }
        lent.lent += 1;
        Ok(lent.idle.pop())
    }

    fn give_back(&self, link: Option<Link>) {
        let mut lent = self.lent();
        lent.lent -= 1;
        lent.idle.extend(link.filter(|link| !link.broken()));
        self.back.notify_one();
    }

    /// The rows of one statement.
    pub(super) fn rows(
        &self,
        doing: &'static str,
        text: &'static str,
        with: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>> {
        self.run(doing, |link| link.tell(doing, |it| ask(it, text, with)))
    }

    /// Asks on a connection. One on which something went wrong is not used again: whatever it had begun ends with it.
    pub(super) fn run<T>(&self, doing: &'static str, mut work: impl FnMut(&Link) -> Result<T>) -> Result<T> {
        let idle = self.borrow(doing)?.filter(|link| !link.broken());
        let old = idle.is_some();
        let (link, answer) = self.try_on(idle, &mut work);
        let (link, answer) = match answer {
            Err(StoreError::Away { .. }) if old => self.try_on(None, &mut work),
            answer => (link, answer),
        };
        self.give_back(link.filter(|_| answer.is_ok()));
        answer
    }

    fn try_on<T>(
        &self,
        idle: Option<Link>,
        work: &mut impl FnMut(&Link) -> Result<T>,
    ) -> (Option<Link>, Result<T>) {
        match idle.map_or_else(|| Link::open(&self.address, self.settings), Ok) {
            Ok(link) => {
                let answer = work(&link);
                (Some(link), answer)
            }
            Err(why) => (None, Err(why)),
        }
    }
}

/// One statement, prepared once for each connection.
pub(super) async fn ask(
    it: Asker<'_>,
    text: &'static str,
    with: &[&(dyn ToSql + Sync)],
) -> std::result::Result<Vec<Row>, Error> {
    let statement = it.prepared(text).await?;
    it.client.query(&statement, with).await
}
