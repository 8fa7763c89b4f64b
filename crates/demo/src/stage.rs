//! Everything that a demo consists of, from the first folder to the last: built, watched until it is even, and taken
//! down again whatever happens.

use crate::adapt::{Adapted, Means, Share, adapt};
use crate::drifts::Scene;
use crate::hub::{Hub, NodeRow};
use crate::node::{Node, last_lines};
use crate::postgres::Postgres;
use crate::repository::{Repository, example, read_tree};
use crate::sweep::Sweeper;
use crate::trouble::{Doing, Result, Trouble};
use crate::view::{Tone, View, short, took};
use crate::words::{Plan, Stop};
use crate::{relay, world};
use evenkeel_report::{Counts, Status, Sync};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The nodes and their tiers, as the example has them.
const NODES: [(&str, &str); 3] = [("db1", "db"), ("mw1", "middleware"), ("web1", "web")];
/// How often the agents look at everything although nothing woke them, in seconds.
pub(crate) const PASS_SECONDS: u32 = 5;
/// How long the nodes get to become even.
const EVEN: Duration = Duration::from_secs(90);

/// A demo that runs.
pub(crate) struct Stage {
    nodes: Vec<Node>,
    /// The hub.
    pub(crate) hub: Hub,
    postgres: Option<Postgres>,
    shares: Vec<Share>,
    repository: Repository,
    folder: PathBuf,
    sweeper: Option<Sweeper>,
    keep: bool,
}

impl Stage {
    /// Build it all and start it. Must be called from the main thread, which the processes are tied to.
    pub(crate) fn build(spec: Option<&Path>, keep: bool, view: &mut View) -> Result<Self> {
        need("git", "git")?;
        need("ip", "iproute2")?;
        let example = example(spec)?;
        let tree = read_tree(&example)?;
        let postgres = found_postgres(view);
        let folder = world::fresh_folder()?;
        let sweeper = Sweeper::start(&folder)?;
        view.say(Tone::Faint, &format!("all of it lives in {}", folder.display()));
        let eden = folder.join("eden");
        make(&eden)?;
        let hub = Hub::start(&folder)?;
        let means = Means { cluster: postgres.as_ref().map(Postgres::cluster), rootless: false };
        let repository = Repository { path: eden };
        let mut stage = Self {
            nodes: Vec::new(),
            hub,
            postgres,
            shares: Vec::new(),
            repository,
            folder,
            sweeper: Some(sweeper),
            keep,
        };
        // From here on `stage` cleans up, whatever happens.
        let first = adapt(&tree, &NODES, &means)?;
        stage.start_nodes(&first.users, view)?;
        let rootless = stage.nodes.iter().any(|node| node.ready.rootless);
        if rootless {
            stage.postgres = None;
        }
        let means = Means { cluster: stage.postgres.as_ref().map(Postgres::cluster), rootless };
        let adapted = adapt(&tree, &NODES, &means)?;
        stage.furnish(&example, adapted, view)?;
        stage.start_agents(view)?;
        Ok(stage)
    }

    fn start_nodes(&mut self, users: &[String], view: &mut View) -> Result<()> {
        let socket = self.folder.join("hub.sock");
        relay::to_hub(&socket, self.hub.at)?;
        for (name, tier) in NODES {
            let plan = Plan {
                name: name.to_owned(),
                scratch: self.folder.join("world").join(name),
                logs: self.folder.join("logs").join(name),
                repository: self.repository.path.clone(),
                hub_socket: socket.clone(),
                users: users.to_vec(),
            };
            make(&plan.scratch)?;
            make(&plan.logs)?;
            let node = Node::start(&plan)?;
            let how = if node.ready.rootless { "user, network and mount" } else { "network and mount" };
            let way = way_in(&node);
            view.say(
                Tone::Plain,
                &format!("{name} ({tier}) has {how} namespaces of its own; look inside: {way}"),
            );
            for note in &node.ready.notes {
                view.say(Tone::Faint, &format!("{name}: {note}"));
            }
            self.nodes.push(node);
        }
        Ok(())
    }

    /// The repository, the shares and the database.
    fn furnish(&mut self, example: &Path, adapted: Adapted, view: &mut View) -> Result<()> {
        view.say(Tone::Plain, &format!("the spec is a git repository: {}", self.repository.path.display()));
        let name = example.components().rev().take(2).collect::<Vec<_>>();
        let name: PathBuf = name.into_iter().rev().collect();
        view.say(Tone::Faint, &format!("it is {}, adapted to this machine:", name.display()));
        for note in &adapted.notes {
            view.say(Tone::Faint, &format!("  {note}"));
        }
        self.repository = Repository::make(&self.repository.path, &adapted.tree)?;
        for share in &adapted.shares {
            let node = self.nodes.iter().find(|node| node.name == share.node);
            let node = node.ok_or_else(|| Trouble::told(format!("there is no node {}", share.node)))?;
            node.run(&["mkdir", "-p", &share.source], None)?;
            let inside = share.sentinel.as_deref().unwrap_or("README");
            node.write(Path::new(&share.source).join(inside), "a folder shared by the tier\n", 0o644, None)?;
        }
        for (name, folder) in &adapted.folders {
            let node = self.nodes.iter().find(|node| node.name == *name);
            node.map(|node| node.run(&["mkdir", "-p", folder], None)).transpose()?;
        }
        self.shares = adapted.shares;
        if let (Some(postgres), Some(node)) =
            (&self.postgres, self.nodes.iter().find(|node| node.name == "db1"))
        {
            postgres.start(node)?;
            view.say(Tone::Plain, &format!("db1 has a real PostgreSQL {}", postgres.cluster()));
        }
        Ok(())
    }

    fn start_agents(&self, view: &mut View) -> Result<()> {
        for node in &self.nodes {
            let config = format!(
                "node: {}\nsource: git+file://{}/eden#main\nhub: http://{}\npoll_interval: 2s\n\
                 pass_interval: {PASS_SECONDS}s\nreport_interval: 2s\n",
                node.name,
                world::HERE,
                relay::HUB_ON_NODE
            );
            let path = "/etc/evenkeel/agent.yaml";
            node.write(path, &config, 0o644, None)?;
            let binary = format!("{}/evenkeel", world::HERE);
            let argv = [&binary, "run", "--config", path].map(str::to_owned);
            node.daemon("agent", argv.to_vec(), None, Stop::Term)?;
        }
        let ask = format!("`{}/evenkeel status` there asks it", world::HERE);
        view.say(Tone::Plain, &format!("an agent runs on every node; {ask}"));
        Ok(())
    }

    /// What a drift may use.
    pub(crate) fn scene(&self) -> Scene<'_> {
        Scene {
            nodes: &self.nodes,
            postgres: self.postgres.as_ref(),
            shares: &self.shares,
            repository: &self.repository,
        }
    }

    /// The table and what is below it, as of now.
    pub(crate) fn refresh(&self, view: &mut View) {
        if let Ok(rows) = self.hub.nodes() {
            let page = format!(
                "page {} · spec {} · Ctrl-C ends it",
                self.hub.page(),
                self.repository.path.display()
            );
            view.table(&rows, &[page]);
        }
    }

    /// Wait until every node keeps the newest commit and nothing is an error, and tell what is not plainly even.
    pub(crate) fn until_even(&self, view: &mut View, stop: &dyn Fn() -> bool) -> Result<()> {
        let head = self.repository.head()?;
        let start = Instant::now();
        let even = |row: &NodeRow| {
            row.spec.sync == Sync::Synced
                && row.spec.observed_commit.as_ref() == Some(&head)
                && row.counts.error == 0
                && row.counts.total() > 0
        };
        loop {
            self.refresh(view);
            let rows = self.hub.nodes()?;
            if rows.len() >= self.nodes.len() && rows.iter().all(even) {
                let seconds = start.elapsed().as_secs_f64();
                view.say(
                    Tone::Good,
                    &format!("every node keeps the newest commit, after {}", took(seconds * 1000.0)),
                );
                return self.tell_exceptions(&rows, view);
            }
            self.nodes.iter().try_for_each(Node::alive)?;
            // Nobody is going to commit a better one.
            let refused = |row: &NodeRow| {
                row.spec.sync == Sync::Failed && row.spec.target_commit.as_ref() == Some(&head)
            };
            if rows.iter().any(refused) {
                return Err(self.never_even(&rows, "the spec is refused"));
            }
            if stop() {
                return Ok(());
            }
            if start.elapsed() > EVEN {
                let why = format!("the nodes are not even after {} s", EVEN.as_secs());
                return Err(self.never_even(&rows, &why));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn tell_exceptions(&self, rows: &[NodeRow], view: &mut View) -> Result<()> {
        for row in rows {
            let Counts { compliant, repaired, not_applicable, .. } = row.counts;
            view.say(
                Tone::Plain,
                &format!("{}: {} of {} items even", row.name, compliant + repaired, row.counts.total()),
            );
            if not_applicable + row.counts.open() == 0 {
                continue;
            }
            for item in self.hub.items(&row.name)? {
                let status = item.status.unwrap_or(Status::Skipped);
                if status == Status::NotApplicable || status.is_open() {
                    let reason = item.reason.as_deref().unwrap_or("no reason given");
                    let reason = short(reason, 160);
                    view.say(Tone::Faint, &format!("  {} is {status}: {reason}", item.id));
                }
            }
        }
        Ok(())
    }

    fn never_even(&self, rows: &[NodeRow], why: &str) -> Trouble {
        let mut text = why.to_owned();
        for node in &self.nodes {
            match rows.iter().find(|row| row.name == node.name) {
                None => {
                    let _ = write!(text, "\n{}: the hub never heard of it", node.name);
                }
                Some(row) => {
                    let _ = write!(text, "\n{}: {:?}, {:?}", row.name, row.spec.sync, row.counts);
                    for error in &row.spec.errors {
                        let _ = write!(text, "\n  {error}");
                    }
                    for item in self.hub.items(&row.name).unwrap_or_default() {
                        if item.status.is_some_and(|status| status == Status::Error) {
                            let _ = write!(text, "\n  {}: {}", item.id, item.reason.unwrap_or_default());
                        }
                    }
                }
            }
            let log = self.folder.join("logs").join(&node.name).join("agent.log");
            let _ = write!(text, "\n  the last of its agent's log:\n{}", last_lines(&log, 8));
        }
        Trouble::told(text)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.nodes.iter().for_each(Node::end);
        self.nodes.iter_mut().for_each(Node::gone);
        self.hub.end();
        if let Some(sweeper) = self.sweeper.take() {
            sweeper.finish(self.keep);
        }
    }
}

/// How a person gets into a node.
fn way_in(node: &Node) -> String {
    let user = if node.ready.rootless { "-U --preserve-credentials " } else { "" };
    format!("nsenter -t {} {user}-m -n -u", node.pid())
}

fn make(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).doing(|| format!("make the folder {}", folder.display()))
}

/// A program that there is no demo without.
fn need(program: &str, package: &str) -> Result<()> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(crate::child::PATH.split(':'));
    if folders.map(Path::new).any(|folder| folder.join(program).is_file()) {
        return Ok(());
    }
    Err(Trouble::told(format!("the demo needs `{program}`: install the package {package}")))
}

fn found_postgres(view: &mut View) -> Option<Postgres> {
    Postgres::find().map_err(|why| view.say(Tone::Break, &format!("without a database: {why}"))).ok()
}
