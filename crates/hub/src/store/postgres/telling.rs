//! What waits to be told, in PostgreSQL: any number of hubs share one outbox. One at a time sorts news, under an
//! advisory lock; a message is lent with `FOR UPDATE SKIP LOCKED`.

use super::Address;
use super::desk::Desk as Lending;
use super::link::Asker;
use super::rows::{from_json, json};
use crate::store::Result;
use crate::store::telling::{Desk, Message, NewsRow, Silence, Sorted, State, Tally, Telling};
use tokio_postgres::{Error, Row};

/// How many connections ask at once.
const ASKERS: usize = 3;
const SETTINGS: &str = "SET synchronous_commit = on";
/// The advisory lock of whoever sorts: any number that is always the same.
const LOCK: i64 = 0x6576_656e_7465_6c6c;

/// The outbox.
#[derive(Debug)]
pub struct PgTelling {
    desk: Lending,
}

impl PgTelling {
    /// The outbox in the store at `address`, which has been opened and brought up to date before.
    #[must_use]
    pub fn new(address: &Address) -> Self {
        Self { desk: Lending::new(address, SETTINGS, ASKERS) }
    }
}

/// PostgreSQL keeps no U+0000 in a text; in JSON it is escaped and stays.
fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn message(row: &Row) -> Message {
    Message {
        id: row.get(0),
        sink: row.get(1),
        grp: row.get(2),
        state: State::read(row.get(3)),
        first: row.get(4),
        next: row.get(5),
        tries: u32::try_from(row.get::<_, i64>(6)).unwrap_or(u32::MAX),
        body: row.get(7),
        error: row.get(8),
    }
}

const OPEN: &str = "SELECT id, sink, grp, state, first, next, tries, body, error FROM outbox \
                    WHERE state = 'waiting' AND tries = 0 FOR UPDATE";
const NEWS: &str = "SELECT id, due, body FROM news WHERE due <= $1 \
                    OR subject IN (SELECT subject FROM news WHERE due <= $1) ORDER BY id LIMIT $2";
const SILENCES: &str = "SELECT body FROM silences WHERE until > $1 ORDER BY until, id";
const PUT: &str = "INSERT INTO outbox (id, sink, grp, state, first, next, tries, body, error) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO UPDATE SET \
                   state = excluded.state, next = excluded.next, tries = excluded.tries, body = excluded.body, \
                   error = excluded.error";
const ENSURE: &str = "INSERT INTO outbox (id, sink, grp, state, first, next, tries, body, error) \
                      VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO NOTHING";

/// What a round looks at, as rows: news, messages, silences, what stands.
type Looked = (Vec<Row>, Vec<Row>, Vec<Row>, Vec<Row>);

/// Begins a round; nothing where another hub is at it.
async fn look(it: Asker<'_>, now: i64, most: i64) -> std::result::Result<Option<Looked>, Error> {
    it.client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
    let ours: bool = it.client.query_one("SELECT pg_try_advisory_xact_lock($1)", &[&LOCK]).await?.get(0);
    if !ours {
        it.client.batch_execute("ROLLBACK").await?;
        return Ok(None);
    }
    let news = it.client.query(&it.prepared(NEWS).await?, &[&now, &most]).await?;
    let open = it.client.query(&it.prepared(OPEN).await?, &[]).await?;
    let silences = it.client.query(&it.prepared(SILENCES).await?, &[&now]).await?;
    let standing = it.client.query(&it.prepared("SELECT subject, body FROM standing").await?, &[]).await?;
    Ok(Some((news, open, silences, standing)))
}

fn desk((news, open, silences, standing): &Looked) -> Result<Desk> {
    let news = news
        .iter()
        .map(|row| Ok(NewsRow { id: row.get(0), due: row.get(1), news: from_json(row.get(2), "news")? }));
    let silences = silences.iter().map(|row| from_json(row.get(0), "silence"));
    let standing = standing.iter().map(|row| Ok((row.get(0), from_json(row.get(1), "finding")?)));
    Ok(Desk {
        news: news.collect::<Result<_>>()?,
        open: open.iter().map(message).collect(),
        silences: silences.collect::<Result<_>>()?,
        standing: standing.collect::<Result<_>>()?,
    })
}

async fn put(it: Asker<'_>, text: &'static str, message: &Message) -> std::result::Result<(), Error> {
    let Message { id, sink, grp, state, first, next, tries, body, error } = message;
    let (grp, tries, error) = (clean(grp), i64::from(*tries), clean(error));
    let text = it.prepared(text).await?;
    it.client.execute(&text, &[id, sink, &grp, &state.word(), first, next, &tries, body, &error]).await?;
    Ok(())
}

async fn keep(
    it: Asker<'_>,
    sorted: &Sorted,
    found: &(Vec<String>, Vec<String>),
) -> std::result::Result<(), Error> {
    let (held, due): (Vec<i64>, Vec<i64>) = sorted.held.iter().copied().unzip();
    it.client.execute("DELETE FROM news WHERE id = ANY($1)", &[&sorted.gone]).await?;
    let put_off = "UPDATE news SET due = u.due FROM unnest($1::bigint[], $2::bigint[]) AS u(id, due) \
                WHERE news.id = u.id";
    it.client.execute(put_off, &[&held, &due]).await?;
    for message in &sorted.put {
        put(it, PUT, message).await?;
    }
    let note = "INSERT INTO standing (subject, body) SELECT * FROM unnest($1::text[], $2::text[]) \
                ON CONFLICT (subject) DO UPDATE SET body = excluded.body";
    it.client.execute(note, &[&found.0, &found.1]).await?;
    let over: Vec<String> = sorted.over.iter().map(|subject| clean(subject)).collect();
    it.client.execute("DELETE FROM standing WHERE subject = ANY($1)", &[&over]).await?;
    it.client.batch_execute("COMMIT").await
}

fn most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

impl Telling for PgTelling {
    fn sort(&self, now: i64, limit: usize, work: &mut dyn FnMut(Desk) -> Sorted) -> Result<bool> {
        let doing = "sorting news";
        self.desk.run(doing, |link| {
            let Some(looked) = link.tell(doing, |it| look(it, now, most(limit)))? else { return Ok(false) };
            let sorted = work(desk(&looked)?);
            if sorted.is_empty() {
                link.tell(doing, |it| async move { it.client.batch_execute("ROLLBACK").await })?;
                return Ok(true);
            }
            let mut found = (vec![], vec![]);
            for (subject, standing) in &sorted.found {
                found.0.push(clean(subject));
                found.1.push(json(standing, "finding")?);
            }
            link.tell(doing, |it| keep(it, &sorted, &found))?;
            Ok(true)
        })
    }

    fn ensure(&self, message: &Message) -> Result<()> {
        let doing = "making a message";
        self.desk.run(doing, |link| link.tell(doing, |it| put(it, ENSURE, message)))
    }

    fn claim(&self, sinks: &[String], now: i64, until: i64, limit: usize) -> Result<Vec<Message>> {
        let text = "UPDATE outbox SET next = $3, tries = tries + 1 WHERE id IN (SELECT id FROM outbox \
                    WHERE state IN ('waiting', 'standing') AND next <= $2 AND sink = ANY($1) ORDER BY next LIMIT $4 \
                    FOR UPDATE SKIP LOCKED) RETURNING id, sink, grp, state, first, next, tries, body, error";
        let rows = self.desk.rows("lending messages", text, &[&sinks, &now, &until, &most(limit)])?;
        Ok(rows.iter().map(message).collect())
    }

    fn settle(&self, message: &Message, count: u32) -> Result<bool> {
        let Message { id, state, next, tries, body, error, .. } = message;
        let text = "UPDATE outbox SET state = $3, next = $4, tries = $5, body = $6, error = $7 \
                    WHERE id = $1 AND tries = $2 RETURNING id";
        let (count, tries, error) = (i64::from(count), i64::from(*tries), clean(error));
        let with: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
            [id, &count, &state.word(), next, &tries, body, &error];
        Ok(!self.desk.rows("settling a message", text, &with)?.is_empty())
    }

    fn forget(&self, before: i64) -> Result<()> {
        let text = "DELETE FROM outbox WHERE state <> 'standing' AND first < $1";
        self.desk.rows("forgetting messages", text, &[&before])?;
        self.desk.rows("forgetting silences", "DELETE FROM silences WHERE until < $1", &[&before])?;
        Ok(())
    }

    fn messages(&self, limit: usize) -> Result<Vec<Message>> {
        let text = "SELECT id, sink, grp, state, first, next, tries, body, error FROM outbox \
                    ORDER BY state IN ('waiting', 'standing') DESC, first DESC, id LIMIT $1";
        Ok(self.desk.rows("reading messages", text, &[&most(limit)])?.iter().map(message).collect())
    }

    fn tallies(&self) -> Result<Vec<Tally>> {
        let text = "SELECT sink, state, count(*), min(first), count(*) FILTER (WHERE tries > 0) \
                    FROM outbox GROUP BY sink, state";
        let tally = |row: &Row| Tally {
            sink: row.get(0),
            state: State::read(row.get(1)),
            count: row.get(2),
            oldest: row.get(3),
            tried: row.get(4),
        };
        Ok(self.desk.rows("counting messages", text, &[])?.iter().map(tally).collect())
    }

    fn silences(&self, now: i64) -> Result<Vec<Silence>> {
        let rows = self.desk.rows("reading silences", SILENCES, &[&now])?;
        rows.iter().map(|row| from_json(row.get(0), "silence")).collect()
    }
}
