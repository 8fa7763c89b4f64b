//! Slots in PostgreSQL: any number of hubs grant from one book, one after the other.

use super::Address;
use super::desk::Desk;
use super::link::Asker;
use crate::store::{Result, SlotBook, SlotRow, Taken};
use tokio_postgres::Error;

/// How many connections ask at once: each waits for the others all the same.
const ASKERS: usize = 2;
/// What is granted outlives a power cut.
const SETTINGS: &str = "SET synchronous_commit = on";
/// The most slots that are held at once, over all groups: a bound against nonsense, not a limit on anybody.
const MOST: i64 = 10_000;
/// Locked for writing from the first look on: two questions at once are one after the other.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; LOCK TABLE slots IN SHARE ROW EXCLUSIVE MODE";

/// The book of slots.
#[derive(Debug)]
pub struct PgSlots {
    desk: Desk,
}

impl PgSlots {
    /// The book in the store at `address`, which has been opened and brought up to date before.
    #[must_use]
    pub fn new(address: &Address) -> Self {
        Self { desk: Desk::new(address, SETTINGS, ASKERS) }
    }
}

impl SlotBook for PgSlots {
    fn take(&self, group: &str, id: &str, size: u32, now: i64) -> Result<Taken> {
        let doing = "asking for a slot";
        self.desk.run(doing, |link| {
            link.tell(doing, |it| async move {
                it.client.batch_execute(BEGIN).await?;
                let taken = grant(it, group, id, size, now).await?;
                it.client.batch_execute("COMMIT").await?;
                Ok(taken)
            })
        })
    }

    fn leave(&self, group: &str, id: &str) -> Result<bool> {
        let text = "DELETE FROM slots WHERE grp = $1 AND id = $2 RETURNING id";
        Ok(!self.desk.rows("taking a slot back", text, &[&group, &id])?.is_empty())
    }

    fn all(&self) -> Result<Vec<SlotRow>> {
        let rows =
            self.desk.rows("reading slots", "SELECT grp, id, since FROM slots ORDER BY grp, id", &[])?;
        Ok(rows.iter().map(|row| SlotRow { group: row.get(0), id: row.get(1), since: row.get(2) }).collect())
    }
}

async fn grant(
    it: Asker<'_>,
    group: &str,
    id: &str,
    size: u32,
    now: i64,
) -> std::result::Result<Taken, Error> {
    let found = it.prepared("SELECT id FROM slots WHERE grp = $1 ORDER BY since, id").await?;
    let holders: Vec<String> =
        it.client.query(&found, &[&group]).await?.iter().map(|row| row.get(0)).collect();
    if holders.iter().any(|holder| holder == id) {
        return Ok(Taken::Granted);
    }
    let all: i64 = it.client.query_one("SELECT count(*) FROM slots", &[]).await?.get(0);
    if holders.len() >= size as usize || all >= MOST {
        return Ok(Taken::Full(holders));
    }
    let put = it.prepared("INSERT INTO slots (grp, id, since) VALUES ($1, $2, $3)").await?;
    it.client.execute(&put, &[&group, &id, &now]).await?;
    Ok(Taken::Granted)
}
