//! What waits to be told, in SQLite, on a connection of its own beside the writer's.

use super::{from_json, json, open_writer, sql};
use crate::store::Result;
use crate::store::telling::{Desk, Message, News, NewsRow, Silence, Sorted, Standing, State, Tally, Telling};
use rusqlite::{Connection, Params, Row, Transaction, params};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The outbox.
#[derive(Debug)]
pub struct SqliteTelling {
    conn: Mutex<Connection>,
}

const MESSAGE: &str = "id, sink, grp, state, first, next, tries, body, error";
const PUT: &str = "INSERT OR REPLACE INTO outbox (id, sink, grp, state, first, next, tries, body, error) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";

impl SqliteTelling {
    /// Opens the outbox of the store at `path`, which has been opened and brought up to date before.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { conn: Mutex::new(open_writer(path)?) })
    }

    fn write<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        super::write(&self.conn, work)
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        work(&self.conn.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn rows<T>(
    conn: &Connection,
    doing: &'static str,
    text: &str,
    with: impl Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>> {
    let found: rusqlite::Result<Vec<T>> =
        conn.prepare_cached(text).and_then(|mut found| found.query_map(with, read)?.collect());
    found.map_err(sql(doing))
}

fn run(conn: &Connection, doing: &'static str, text: &str, with: impl Params) -> Result<usize> {
    conn.prepare_cached(text).and_then(|mut statement| statement.execute(with)).map_err(sql(doing))
}

fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    Ok(Message {
        id: row.get(0)?,
        sink: row.get(1)?,
        grp: row.get(2)?,
        state: State::read(&row.get::<_, String>(3)?),
        first: row.get(4)?,
        next: row.get(5)?,
        tries: row.get(6)?,
        body: row.get(7)?,
        error: row.get(8)?,
    })
}

fn put(conn: &Connection, text: &str, message: &Message) -> Result<usize> {
    let Message { id, sink, grp, state, first, next, tries, body, error } = message;
    let with = params![id, sink, grp, state.word(), first, next, tries, body, error];
    run(conn, "writing a message", text, with)
}

fn silences(conn: &Connection, now: i64) -> Result<Vec<Silence>> {
    let text = "SELECT body FROM silences WHERE until > ?1 ORDER BY until, id";
    let found = rows(conn, "reading silences", text, [now], |row| row.get::<_, String>(0))?;
    found.iter().map(|body| from_json(body, "silence")).collect()
}

fn desk(tx: &Connection, now: i64, most: usize) -> Result<Desk> {
    let text = "SELECT id, due, body FROM news WHERE due <= ?1 \
                OR subject IN (SELECT subject FROM news WHERE due <= ?1) ORDER BY id LIMIT ?2";
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let news = rows(tx, "reading news", text, params![now, most], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?))
    })?;
    let news = news
        .into_iter()
        .map(|(id, due, body)| from_json::<News>(&body, "news").map(|news| NewsRow { id, due, news }));
    let text = format!("SELECT {MESSAGE} FROM outbox WHERE state = 'waiting' AND tries = 0");
    let standing = rows(tx, "reading what stands", "SELECT subject, body FROM standing", [], |row| {
        Ok((row.get(0)?, row.get::<_, String>(1)?))
    })?;
    let standing = standing
        .into_iter()
        .map(|(subject, body): (String, _)| Ok((subject, from_json::<Standing>(&body, "finding")?)));
    Ok(Desk {
        news: news.collect::<Result<_>>()?,
        open: rows(tx, "reading messages", &text, [], message)?,
        silences: silences(tx, now)?,
        standing: standing.collect::<Result<_>>()?,
    })
}

fn keep(tx: &Connection, sorted: &Sorted) -> Result<()> {
    for id in &sorted.gone {
        run(tx, "settling news", "DELETE FROM news WHERE id = ?1", [id])?;
    }
    for (id, due) in &sorted.held {
        run(tx, "holding news back", "UPDATE news SET due = ?2 WHERE id = ?1", [id, due])?;
    }
    for message in &sorted.put {
        put(tx, PUT, message)?;
    }
    for (subject, standing) in &sorted.found {
        let text = "INSERT OR REPLACE INTO standing (subject, body) VALUES (?1, ?2)";
        run(tx, "noting what stands", text, params![subject, json(standing, "finding")?])?;
    }
    for subject in &sorted.over {
        run(tx, "noting what is over", "DELETE FROM standing WHERE subject = ?1", [subject])?;
    }
    Ok(())
}

impl Telling for SqliteTelling {
    fn sort(&self, now: i64, most: usize, work: &mut dyn FnMut(Desk) -> Sorted) -> Result<bool> {
        // Most of the time there is nothing: that takes no lock.
        let idle = self.read(|conn| desk(conn, now, most).map(|desk| work(desk).is_empty()))?;
        if !idle {
            self.write(|tx| keep(tx, &work(desk(tx, now, most)?)))?;
        }
        Ok(true)
    }

    fn ensure(&self, message: &Message) -> Result<()> {
        self.write(|tx| put(tx, &PUT.replace("OR REPLACE", "OR IGNORE"), message).map(|_| ()))
    }

    fn claim(&self, sinks: &[String], now: i64, until: i64, most: usize) -> Result<Vec<Message>> {
        let text = format!(
            "SELECT {MESSAGE} FROM outbox WHERE state IN ('waiting', 'standing') AND next <= ?1 AND sink IN \
             (SELECT value FROM json_each(?2)) ORDER BY next LIMIT ?3"
        );
        let sinks = json(&sinks, "set of sinks")?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        // Most of the time there is nothing: that takes no lock.
        let none =
            self.read(|conn| rows(conn, "reading messages", &text, params![now, sinks, 1], message))?;
        if none.is_empty() {
            return Ok(vec![]);
        }
        self.write(|tx| {
            let mut lent = rows(tx, "reading messages", &text, params![now, sinks, most], message)?;
            for one in &mut lent {
                one.tries += 1;
                let text = "UPDATE outbox SET next = ?2, tries = ?3 WHERE id = ?1";
                run(tx, "lending a message", text, params![one.id, until, one.tries])?;
            }
            Ok(lent)
        })
    }

    fn settle(&self, message: &Message, tried: u32) -> Result<bool> {
        let Message { id, state, next, tries, body, error, .. } = message;
        let text = "UPDATE outbox SET state = ?3, next = ?4, tries = ?5, body = ?6, error = ?7 \
                    WHERE id = ?1 AND tries = ?2";
        let with = params![id, tried, state.word(), next, tries, body, error];
        self.write(|tx| run(tx, "settling a message", text, with).map(|changed| changed > 0))
    }

    fn forget(&self, before: i64) -> Result<()> {
        self.write(|tx| {
            let text = "DELETE FROM outbox WHERE state <> 'standing' AND first < ?1";
            run(tx, "forgetting messages", text, [before])?;
            run(tx, "forgetting silences", "DELETE FROM silences WHERE until < ?1", [before]).map(|_| ())
        })
    }

    fn messages(&self, limit: usize) -> Result<Vec<Message>> {
        let text = format!(
            "SELECT {MESSAGE} FROM outbox ORDER BY state IN ('waiting', 'standing') DESC, first DESC, id LIMIT ?1"
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(|conn| rows(conn, "reading messages", &text, [limit], message))
    }

    fn tallies(&self) -> Result<Vec<Tally>> {
        let text =
            "SELECT sink, state, count(*), min(first), sum(tries > 0) FROM outbox GROUP BY sink, state";
        let tally = |row: &Row<'_>| {
            Ok(Tally {
                sink: row.get(0)?,
                state: State::read(&row.get::<_, String>(1)?),
                count: row.get(2)?,
                oldest: row.get(3)?,
                tried: row.get(4)?,
            })
        };
        self.read(|conn| rows(conn, "counting messages", text, [], tally))
    }

    fn silences(&self, now: i64) -> Result<Vec<Silence>> {
        self.read(|conn| silences(conn, now))
    }
}
