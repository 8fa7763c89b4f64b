//! What a batch changed, written with one statement for each table, all sent at once with the commit.

use super::days;
use super::link::{Asker, Link, Trouble};
use super::rows::{self, Said};
use crate::store::batch::{Known, numbers};
use crate::store::{GONE, Result};
use evenkeel_report::Status;
use std::collections::BTreeSet;
use tokio_postgres::Error;

/// Columns of the rows to be written.
#[derive(Debug, Default)]
pub(super) struct Columns {
    pulses: Pulses,
    nodes: Nodes,
    items: Items,
    dropped: (Vec<i64>, Vec<String>),
    replaced: Places,
    packs: Packs,
    news: (Vec<String>, Vec<String>),
    /// The days that the packs belong to.
    pub(super) days: BTreeSet<i64>,
}

#[derive(Debug, Default)]
struct Pulses {
    node: Vec<i64>,
    last_seen: Vec<i64>,
    said: Vec<String>,
}

#[derive(Debug, Default)]
struct Nodes {
    id: Vec<i64>,
    name: Vec<String>,
    tier: Vec<String>,
    doc: Vec<String>,
    told: Vec<String>,
}

#[derive(Debug, Default)]
struct Items {
    node: Vec<i64>,
    id: Vec<String>,
    status: Vec<&'static str>,
    epoch: Vec<i64>,
    n: Vec<i64>,
    detail: Vec<String>,
}

#[derive(Debug, Default)]
struct Places {
    got: Vec<i64>,
    node: Vec<i64>,
    epoch: Vec<i64>,
    n: Vec<i64>,
    sub: Vec<i64>,
}

#[derive(Debug, Default)]
struct Packs {
    places: Places,
    at: Vec<i64>,
    repaired: Vec<bool>,
    commit: Vec<Option<String>>,
    body: Vec<String>,
}

/// PostgreSQL keeps no U+0000 in a text. Names and ids that have one are refused at the door (`wire`).
fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

impl Places {
    fn push(&mut self, got: i64, node: i64, (epoch, n, sub): (i64, i64, i64)) {
        self.got.push(got);
        self.node.push(node);
        self.epoch.push(epoch);
        self.n.push(n);
        self.sub.push(sub);
    }
}

impl Columns {
    /// The columns of everything that changed.
    pub(super) fn of(nodes: &[Known]) -> Result<Self> {
        let mut columns = Self::default();
        for known in nodes.iter().filter(|known| known.changed.any()) {
            columns.node(known)?;
            columns.items(known)?;
            columns.packs(known)?;
            for news in &known.news {
                columns.news.0.push(clean(&news.subject()));
                columns.news.1.push(rows::json(news, "news")?);
            }
        }
        Ok(columns)
    }

    fn node(&mut self, known: &Known) -> Result<()> {
        let Some(doc) = &known.doc else { return Ok(()) };
        self.pulses.node.push(known.key);
        self.pulses.last_seen.push(doc.last_seen);
        self.pulses.said.push(Said::of(doc).text()?);
        if known.changed.doc {
            self.nodes.id.push(known.key);
            self.nodes.name.push(doc.node.name.clone());
            self.nodes.tier.push(clean(&doc.node.tier));
            self.nodes.doc.push(rows::rest(doc)?);
            self.nodes.told.push(rows::json(&known.told, "node")?);
        }
        Ok(())
    }

    fn items(&mut self, known: &Known) -> Result<()> {
        for id in &known.changed.items {
            let Some(item) = known.items.as_ref().and_then(|items| items.get(id)) else {
                self.dropped.0.push(known.key);
                self.dropped.1.push(id.clone());
                continue;
            };
            let (epoch, n, _) = numbers(crate::store::Place { seq: item.seq, sub: 0 });
            self.items.node.push(known.key);
            self.items.id.push(id.clone());
            self.items.status.push(item.status.map_or(GONE, Status::word));
            self.items.epoch.push(epoch);
            self.items.n.push(n);
            self.items.detail.push(rows::json(&item.detail, "item")?);
        }
        Ok(())
    }

    fn packs(&mut self, known: &Known) -> Result<()> {
        for place in &known.changed.packs {
            if let Some(got) = known.stored.get(place) {
                self.replaced.push(*got, known.key, numbers(*place));
            }
            let Some(pack) = known.packs.get(place).filter(|pack| !pack.entries.is_empty()) else { continue };
            self.days.insert(days::day(pack.got));
            self.packs.places.push(pack.got, known.key, numbers(*place));
            self.packs.at.push(pack.at);
            self.packs.repaired.push(pack.repaired());
            self.packs.commit.push(pack.commit.as_deref().map(clean));
            self.packs.body.push(pack.body()?);
        }
        Ok(())
    }

    /// Writes everything and commits.
    pub(super) fn write(&self, link: &Link) -> std::result::Result<(), Trouble> {
        link.ask(|it| self.send(it))
    }

    async fn send(&self, it: Asker<'_>) -> std::result::Result<(), Error> {
        tokio::try_join!(
            biased;
            self.send_pulses(it),
            self.send_nodes(it),
            self.send_items(it),
            self.send_dropped(it),
            self.send_history(it),
            self.send_news(it),
        )?;
        it.client.batch_execute("COMMIT").await
    }

    async fn send_pulses(&self, it: Asker<'_>) -> std::result::Result<u64, Error> {
        let Pulses { node, last_seen, said } = &self.pulses;
        if node.is_empty() {
            return Ok(0);
        }
        let text = "UPDATE pulses p SET rev = p.rev + 1, last_seen = u.last_seen, said = u.said \
                    FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS u(node, last_seen, said) \
                    WHERE p.node = u.node";
        let text = it.prepared(text).await?;
        it.client.execute(&text, &[node, last_seen, said]).await
    }

    async fn send_nodes(&self, it: Asker<'_>) -> std::result::Result<u64, Error> {
        let Nodes { id, name, tier, doc, told } = &self.nodes;
        if id.is_empty() {
            return Ok(0);
        }
        let text = "UPDATE nodes n SET name = u.name, tier = u.tier, doc = u.doc, told = u.told \
                    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[]) \
                    AS u(id, name, tier, doc, told) WHERE n.id = u.id";
        let text = it.prepared(text).await?;
        it.client.execute(&text, &[id, name, tier, doc, told]).await
    }

    async fn send_items(&self, it: Asker<'_>) -> std::result::Result<u64, Error> {
        let Items { node, id, status, epoch, n, detail } = &self.items;
        if id.is_empty() {
            return Ok(0);
        }
        let text = "INSERT INTO items (node, id, status, epoch, n, detail) SELECT * FROM \
                    unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::text[]) \
                    ON CONFLICT (node, id) DO UPDATE SET status = excluded.status, epoch = excluded.epoch, \
                    n = excluded.n, detail = excluded.detail";
        let text = it.prepared(text).await?;
        it.client.execute(&text, &[node, id, status, epoch, n, detail]).await
    }

    async fn send_news(&self, it: Asker<'_>) -> std::result::Result<u64, Error> {
        let (subject, body) = &self.news;
        if body.is_empty() {
            return Ok(0);
        }
        let text = "INSERT INTO news (due, subject, body) SELECT 0, subject, body FROM \
                    unnest($1::text[], $2::text[]) WITH ORDINALITY AS u(subject, body, at) ORDER BY at";
        let text = it.prepared(text).await?;
        it.client.execute(&text, &[subject, body]).await
    }

    async fn send_dropped(&self, it: Asker<'_>) -> std::result::Result<u64, Error> {
        let (node, id) = &self.dropped;
        if id.is_empty() {
            return Ok(0);
        }
        let text = "DELETE FROM items i USING unnest($1::bigint[], $2::text[]) AS u(node, id) \
                    WHERE i.node = u.node AND i.id = u.id";
        let text = it.prepared(text).await?;
        it.client.execute(&text, &[node, id]).await
    }

    /// A pack that changed is taken out and put in anew: with another `got` it belongs to another day.
    async fn send_history(&self, it: Asker<'_>) -> std::result::Result<u64, Error> {
        let Places { got, node, epoch, n, sub } = &self.replaced;
        if !got.is_empty() {
            let text = "DELETE FROM history h USING \
                        unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) \
                        AS u(got, node, epoch, n, sub) WHERE h.got = u.got AND h.node = u.node \
                        AND h.epoch = u.epoch AND h.n = u.n AND h.sub = u.sub";
            let text = it.prepared(text).await?;
            it.client.execute(&text, &[got, node, epoch, n, sub]).await?;
        }
        let Packs { places: Places { got, node, epoch, n, sub }, at, repaired, commit, body } = &self.packs;
        if got.is_empty() {
            return Ok(0);
        }
        let text = "INSERT INTO history (got, node, epoch, n, sub, at, repaired, commit_id, body) SELECT * FROM \
                    unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], \
                    $7::boolean[], $8::text[], $9::text[])";
        let text = it.prepared(text).await?;
        it.client.execute(&text, &[got, node, epoch, n, sub, at, repaired, commit, body]).await
    }
}
