//! Every store there is, and what each holds, as text that must be the same for all of them.

use super::cluster::{Cluster, sql};
use evenkeel_hub::config::Location;
use evenkeel_hub::store::accounts::{Change, Entry};
use evenkeel_hub::store::acts::Act;
use evenkeel_hub::store::batch::{Batch, Ground, Known, Pack, Told};
use evenkeel_hub::store::postgres::{PgStore, PgView};
use evenkeel_hub::store::sqlite::{SqliteStore, SqliteView};
use evenkeel_hub::store::{
    GONE, HistoryRow, ItemRow, NodeDoc, NodeRow, Place, Ranges, Result, Store, Touch, Tx, View,
};
use evenkeel_report::Status;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
    /// The transaction in memory, on maps instead of a database.
    Memory,
}

pub const ALL: [Kind; 3] = [Kind::Sqlite, Kind::Postgres, Kind::Memory];

/// Where a test keeps something, until it ends.
pub struct Where {
    pub kind: Kind,
    dir: tempfile::TempDir,
    database: Option<String>,
    memory: Memory,
}

/// Databases that are not in use.
static IDLE: Mutex<Vec<String>> = Mutex::new(vec![]);

impl Where {
    pub fn new(kind: Kind) -> Self {
        let database = (kind == Kind::Postgres).then(|| {
            let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
            idle.unwrap_or_else(|| Cluster::shared().database())
        });
        Self { kind, dir: tempfile::tempdir().unwrap(), database, memory: Memory::default() }
    }

    /// `sqlite:…` or `postgres://…`.
    pub fn url(&self) -> String {
        match &self.database {
            Some(url) => url.clone(),
            None => format!("sqlite:{}", self.dir.path().join("state/hub.db").display()),
        }
    }

    pub fn store(&self) -> Box<dyn Store> {
        match self.kind {
            Kind::Sqlite => Box::new(SqliteStore::open(&self.file()).unwrap()),
            Kind::Postgres => apart(self.url(), |url| Box::new(PgStore::open(&address(&url)).unwrap())),
            Kind::Memory => Box::new(self.memory.clone()),
        }
    }

    /// Where it is, as a configuration has it.
    pub fn location(&self) -> Location {
        Location::parse(&self.url()).unwrap()
    }

    /// Does something as nobody in particular; whether there was anything to do.
    pub fn act(&self, act: Act) -> bool {
        let location = self.location();
        apart(act, move |act| {
            let book = evenkeel_hub::accounts_of(&location).unwrap();
            book.change(&Change::Act(act), &Entry::default()).unwrap()
        })
    }

    pub fn view(&self) -> Arc<dyn View> {
        match self.kind {
            Kind::Sqlite => Arc::new(SqliteView::open(&self.file()).unwrap()),
            Kind::Postgres => Arc::new(PgView::new(&address(&self.url()))),
            Kind::Memory => Arc::new(self.memory.clone()),
        }
    }

    /// Every token as it is kept.
    pub fn tokens(&self) -> String {
        let rows = match self.kind {
            Kind::Sqlite => {
                let conn = rusqlite::Connection::open(self.file()).unwrap();
                let mut found = conn.prepare("SELECT id || hash || nodes || labels FROM tokens").unwrap();
                found
                    .query_map([], |row| row.get(0))
                    .unwrap()
                    .collect::<rusqlite::Result<Vec<String>>>()
                    .unwrap()
            }
            _ => sql(&self.url(), "SELECT t::text FROM tokens t").into_iter().flatten().flatten().collect(),
        };
        rows.join("\n")
    }

    /// The folder of SQLite's files.
    pub fn dir(&self) -> std::path::PathBuf {
        self.file().parent().unwrap().to_owned()
    }

    fn file(&self) -> std::path::PathBuf {
        let folder = self.dir.path().join("state");
        std::fs::create_dir_all(&folder).unwrap();
        folder.join("hub.db")
    }

    pub fn dump(&self) -> String {
        match self.kind {
            Kind::Sqlite => dump_sqlite(&self.file()),
            Kind::Postgres => dump_postgres(&self.url()),
            Kind::Memory => self.memory.dump(),
        }
    }
}

impl Drop for Where {
    fn drop(&mut self) {
        if let Some(url) = self.database.take() {
            let tables = "SELECT count(*) FROM pg_tables WHERE tablename = 'nodes'";
            if sql(&url, tables)[0][0].as_deref() == Some("1") {
                sql(
                    &url,
                    "TRUNCATE nodes, pulses, items, history, meta, slots, tokens, enrolments, \
                      certificates, marks, news, outbox, standing, silences, accounts, passes, audit, retired RESTART IDENTITY",
                );
            }
            IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(url);
        }
    }
}

pub fn address(url: &str) -> evenkeel_hub::store::postgres::Address {
    match Location::parse(url).unwrap() {
        Location::Postgres(address) => *address,
        Location::Sqlite(_) => panic!("{url}"),
    }
}

/// A store blocks while it connects, which is forbidden where a test's own runtime runs.
fn apart<T: Send + 'static, A: Send + 'static>(with: A, what: impl FnOnce(A) -> T + Send + 'static) -> T {
    std::thread::spawn(move || what(with)).join().unwrap()
}

/// Runs the named functions of `Kind` as tests, once for each store.
#[macro_export]
macro_rules! in_every_store {
    ($($name:ident)*) => { $(
        mod $name {
            #[test]
            fn in_sqlite() {
                super::$name($crate::common::stores::Kind::Sqlite);
            }
            #[test]
            fn in_postgres() {
                super::$name($crate::common::stores::Kind::Postgres);
            }
            #[test]
            fn in_memory() {
                super::$name($crate::common::stores::Kind::Memory);
            }
        }
    )* };
}

/// The same for futures, and for stores that a hub can be started on.
#[macro_export]
macro_rules! on_every_store {
    ($($name:ident)*) => { $(
        mod $name {
            #[tokio::test]
            async fn on_sqlite() {
                super::$name($crate::common::stores::Kind::Sqlite).await;
            }
            #[tokio::test]
            async fn on_postgres() {
                super::$name($crate::common::stores::Kind::Postgres).await;
            }
        }
    )* };
}

#[derive(Debug, Clone)]
struct Kept {
    doc: NodeDoc,
    told: Told,
    items: BTreeMap<String, ItemRow>,
    packs: BTreeMap<Place, Pack>,
}

/// Maps.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<Rows>>);

type Rows = BTreeMap<i64, (String, Option<Kept>)>;

impl Ground for Memory {
    fn nodes(&mut self, touches: &[Touch<'_>]) -> Result<Vec<Known>> {
        let mut nodes = self.0.lock().unwrap();
        let mut found = vec![];
        for touch in touches {
            let key = nodes.iter().find(|(_, node)| node.0 == touch.source).map(|(key, _)| *key);
            let key = key.unwrap_or_else(|| {
                let key = nodes.len() as i64 + 1;
                nodes.insert(key, (touch.source.to_owned(), None));
                key
            });
            let mut known = Known::new(key, touch.source);
            if let Some(kept) = &nodes[&key].1 {
                known.doc = Some(kept.doc.clone());
                known.told = kept.told.clone();
            }
            found.push(known);
        }
        Ok(found)
    }

    fn items(&mut self, node: i64) -> Result<BTreeMap<String, ItemRow>> {
        let nodes = self.0.lock().unwrap();
        Ok(nodes[&node].1.as_ref().map(|kept| kept.items.clone()).unwrap_or_default())
    }

    fn packs(&mut self, node: i64, below: Option<Place>, most: usize) -> Result<Vec<Pack>> {
        let nodes = self.0.lock().unwrap();
        let Some(kept) = &nodes[&node].1 else { return Ok(vec![]) };
        let packs = kept.packs.values().rev().filter(|pack| below.is_none_or(|below| pack.place < below));
        Ok(packs.take(most).cloned().collect())
    }

    /// One at a time, so that every seam is met.
    fn piece(&self) -> usize {
        1
    }
}

impl Store for Memory {
    fn transaction(&mut self, work: &mut dyn FnMut(&mut dyn Tx) -> Result<()>) -> Result<()> {
        let mut ground = self.clone();
        let mut batch = Batch::new(&mut ground);
        work(&mut batch)?;
        let mut nodes = self.0.lock().unwrap();
        for known in batch.finish() {
            let Some(doc) = known.doc.clone() else { continue };
            let node = nodes.get_mut(&known.key).unwrap();
            let kept = node.1.get_or_insert_with(|| Kept {
                doc: NodeDoc::default(),
                told: Told::default(),
                items: BTreeMap::new(),
                packs: BTreeMap::new(),
            });
            if known.changed.pulse {
                (kept.doc.last_seen, kept.doc.voice, kept.doc.beat) =
                    (doc.last_seen, doc.voice, doc.beat.clone());
                kept.doc.spec.age_s = doc.spec.age_s;
            }
            if known.changed.doc {
                (kept.doc, kept.told) = (doc, known.told.clone());
            }
            for id in &known.changed.items {
                match known.items.as_ref().unwrap().get(id) {
                    Some(item) => kept.items.insert(id.clone(), item.clone()),
                    None => kept.items.remove(id),
                };
            }
            for place in &known.changed.packs {
                kept.packs.remove(place);
                let pack = known.packs.get(place).filter(|pack| !pack.entries.is_empty());
                kept.packs.extend(pack.map(|pack| (*place, pack.clone())));
            }
        }
        Ok(())
    }
    fn prune(&mut self, before: i64, most: usize) -> Result<usize> {
        let _ = (before, most);
        Ok(0)
    }
    fn note_up(&mut self, _: i64) -> Result<()> {
        Ok(())
    }
    fn last_up(&mut self) -> Result<Option<i64>> {
        Ok(None)
    }
}

impl View for Memory {
    fn nodes(&self, _: Option<(&str, &str)>, _: usize) -> Result<Vec<NodeRow>> {
        let nodes = self.0.lock().unwrap();
        let row = |(key, (source, kept)): (&i64, &(String, Option<Kept>))| {
            kept.as_ref().map(|kept| NodeRow { key: *key, source: source.clone(), doc: kept.doc.clone() })
        };
        Ok(nodes.iter().filter_map(row).collect())
    }
    fn node(&self, name: &str) -> Result<Option<NodeRow>> {
        Ok(self.nodes(None, 0)?.into_iter().find(|row| row.source == name || row.doc.node.name == name))
    }
    fn items(&self, node: i64) -> Result<Vec<(String, ItemRow)>> {
        let items = self.clone();
        let mut items = Ground::items(&mut { items }, node)?;
        items.retain(|_, item| item.status.is_some());
        Ok(items.into_iter().collect())
    }
    fn open_items(&self, _: usize) -> Result<Vec<(i64, String, ItemRow)>> {
        unimplemented!("nobody asks")
    }
    fn facts(&self, _: &mut dyn FnMut(evenkeel_hub::store::Told)) -> Result<()> {
        unimplemented!("nobody asks")
    }
    fn facts_of(&self, _: &[i64], _: &mut dyn FnMut(evenkeel_hub::store::Told)) -> Result<()> {
        unimplemented!("nobody asks")
    }
    fn timeline(&self, node: i64, _: Option<(Place, &str)>, _: usize) -> Result<Vec<HistoryRow>> {
        let nodes = self.0.lock().unwrap();
        let packs = nodes[&node].1.iter().flat_map(|kept| kept.packs.values().rev().cloned());
        Ok(packs.flat_map(|pack| pack.rows().into_iter().rev()).filter(|row| !row.echo).collect())
    }
    fn repairs(&self, _: usize) -> Result<Vec<(i64, HistoryRow)>> {
        unimplemented!("nobody asks")
    }
    fn seen(&self, node: i64, epoch: u64) -> Result<Ranges> {
        let nodes = self.0.lock().unwrap();
        Ok(nodes[&node].1.as_ref().map(|kept| kept.told.ranges(epoch)).unwrap_or_default())
    }
    fn these(&self, _: &[i64]) -> Result<Vec<NodeRow>> {
        unimplemented!("nobody asks")
    }
    fn between(&self, _: i64, _: i64, _: usize) -> Result<Vec<(i64, HistoryRow)>> {
        unimplemented!("nobody asks")
    }
    fn taken(&self, _: &str) -> Result<Vec<(i64, i64)>> {
        unimplemented!("nobody asks")
    }
    fn heard(&self, _: i64) -> Result<Vec<(i64, i64)>> {
        unimplemented!("nobody asks")
    }
}

impl Memory {
    fn dump(&self) -> String {
        let mut dump = Dump::default();
        for (source, kept) in self.0.lock().unwrap().values() {
            let Some(kept) = kept else { continue };
            dump.node(source, &kept.doc);
            kept.items.iter().for_each(|(id, item)| dump.item(source, id, item));
            kept.packs.values().cloned().for_each(|pack| dump.pack(source, pack));
            dump.seen(source, &kept.told);
        }
        dump.text()
    }
}

/// Everything that a store holds, a line each. Keys are the order of arrival and are named by their source instead.
#[derive(Default)]
struct Dump(Vec<String>);

impl Dump {
    fn node(&mut self, source: &str, doc: &NodeDoc) {
        self.0.push(format!("node {source} {}", serde_json::to_string(doc).unwrap()));
    }
    fn item(&mut self, source: &str, id: &str, item: &ItemRow) {
        let status = item.status.map_or(GONE, Status::word);
        let detail = serde_json::to_string(&item.detail).unwrap();
        self.0.push(format!("item {source} {id} {status} {:?} {detail}", item.seq));
    }
    fn pack(&mut self, source: &str, pack: Pack) {
        for row in pack.rows() {
            let detail = serde_json::to_string(&row.detail).unwrap();
            let HistoryRow { place, item, status, at, got, commit, echo, .. } = row;
            self.0.push(format!(
                "history {source} {place:?} {item} {status} {at} {got} {echo} {commit:?} {detail}"
            ));
        }
    }
    fn seen(&mut self, source: &str, told: &Told) {
        for (epoch, runs) in &told.seen {
            for run in runs {
                self.0.push(format!("seen {source} {epoch} {run:?}"));
            }
        }
    }
    fn text(mut self) -> String {
        self.0.sort();
        self.0.join("\n")
    }
}

pub fn dump_postgres(url: &str) -> String {
    let mut dump = Dump::default();
    let view = PgView::new(&address(url));
    let nodes = apart(view, |view| view.nodes(None, usize::MAX).unwrap());
    for row in &nodes {
        dump.node(&row.source, &row.doc);
    }
    let text = |row: &Vec<Option<String>>, at: usize| row[at].clone().unwrap();
    let number = |row: &Vec<Option<String>>, at: usize| text(row, at).parse::<i64>().unwrap();
    let seq = |row: &Vec<Option<String>>, at: usize| evenkeel_report::Seq {
        epoch: number(row, at) as u64,
        n: number(row, at + 1) as u64,
    };
    let items = "SELECT source, items.id, status, epoch, n, detail FROM items JOIN nodes ON nodes.id = node";
    for row in sql(url, items) {
        let status = text(&row, 2);
        let status = (status != GONE).then(|| serde_json::from_str(&format!("{status:?}")).unwrap());
        let detail = serde_json::from_str(&text(&row, 5)).unwrap();
        dump.item(&text(&row, 0), &text(&row, 1), &ItemRow { status, detail, seq: seq(&row, 3) });
    }
    let packs =
        "SELECT source, epoch, n, sub, at, got, commit_id, body FROM history JOIN nodes ON nodes.id = node";
    for row in sql(url, packs) {
        let pack = Pack {
            place: Place { seq: seq(&row, 1), sub: number(&row, 3) },
            at: number(&row, 4),
            got: number(&row, 5),
            commit: row[6].clone(),
            entries: Pack::entries(&text(&row, 7)).unwrap(),
        };
        dump.pack(&text(&row, 0), pack);
    }
    for row in sql(url, "SELECT source, told FROM nodes") {
        dump.seen(&text(&row, 0), &serde_json::from_str(&text(&row, 1)).unwrap());
    }
    dump.text()
}

pub fn dump_sqlite(store: &Path) -> String {
    use evenkeel_hub::store::batch::Run;
    let conn = rusqlite::Connection::open(store).unwrap();
    let mut dump = Dump::default();
    let mut each = |query: &str, with: &mut dyn FnMut(&mut Dump, &rusqlite::Row<'_>)| {
        let mut rows = conn.prepare(query).unwrap();
        let mut rows = rows.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            with(&mut dump, row);
        }
    };
    fn text(row: &rusqlite::Row<'_>, at: usize) -> String {
        row.get(at).unwrap()
    }
    fn number(row: &rusqlite::Row<'_>, at: usize) -> i64 {
        row.get(at).unwrap()
    }
    let seq = |row: &rusqlite::Row<'_>, at: usize| evenkeel_report::Seq {
        epoch: number(row, at) as u64,
        n: number(row, at + 1) as u64,
    };
    each("SELECT source, doc FROM nodes", &mut |dump, row| {
        dump.node(&text(row, 0), &serde_json::from_str(&text(row, 1)).unwrap());
    });
    each(
        "SELECT source, items.id, status, epoch, n, detail FROM items JOIN nodes ON nodes.id = node",
        &mut |dump, row| {
            let status = text(row, 2);
            let status = (status != GONE).then(|| serde_json::from_str(&format!("{status:?}")).unwrap());
            let detail = serde_json::from_str(&text(row, 5)).unwrap();
            dump.item(&text(row, 0), &text(row, 1), &ItemRow { status, detail, seq: seq(row, 3) });
        },
    );
    each(
        "SELECT source, epoch, n, sub, item, status, at, got, echo, commit_word, body FROM entries \
         JOIN nodes ON nodes.id = node",
        &mut |dump, row| {
            let entry = HistoryRow {
                place: Place { seq: seq(row, 1), sub: number(row, 3) },
                item: text(row, 4),
                status: text(row, 5),
                at: number(row, 6),
                got: number(row, 7),
                echo: number(row, 8) == 1,
                commit: row.get(9).unwrap(),
                detail: Pack::entries(&format!("[{}]", text(row, 10))).unwrap().remove(0).detail,
            };
            let mut pack = Pack::of(&entry);
            pack.put(&entry);
            dump.pack(&text(row, 0), pack);
        },
    );
    each("SELECT source, epoch, lo, hi, got FROM seen JOIN nodes ON nodes.id = node", &mut |dump, row| {
        let run = Run { lo: number(row, 2) as u64, hi: number(row, 3) as u64, got: number(row, 4) };
        let seen = BTreeMap::from([(number(row, 1) as u64, vec![run])]);
        dump.seen(&text(row, 0), &Told { seen, ..Told::default() });
    });
    dump.text()
}
