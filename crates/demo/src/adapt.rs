//! The example's repository, adapted to what this machine has: pure, and every change is told.
//!
//! The example describes a real cluster with NFS shares and a certain PostgreSQL. Here a share is a folder of the node,
//! bound where the share would be, and the PostgreSQL is the one that is installed.

use crate::trouble::{Result, Trouble};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Where a node keeps the folders that stand for shares.
const SHARES: &str = "/srv/shares";

/// Sections that need what a node of the demo does not have: a systemd, an sshd, the cluster's services.
const NOT_HERE: [&str; 3] = ["service", "sync", "check"];
/// Fields of a share that mean nothing, or do harm, to a folder that stands for one.
const OF_A_SHARE: [(&str, &str); 2] = [("guard", "none"), ("below", "ignore")];

/// The files of a repository, by path.
pub(crate) type Tree = BTreeMap<String, String>;

/// What the machine can do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Means {
    /// The PostgreSQL cluster that will run on the database node, if any.
    pub(crate) cluster: Option<String>,
    /// Whether a node has one user only.
    pub(crate) rootless: bool,
}

/// A share of a node, here a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Share {
    /// The node.
    pub(crate) node: String,
    /// The folder that stands for the share.
    pub(crate) source: String,
    /// Where it is to be mounted.
    pub(crate) target: String,
    /// The file that only the right share holds.
    pub(crate) sentinel: Option<String>,
}

/// An adapted repository.
#[derive(Debug, Default)]
pub(crate) struct Adapted {
    /// Its files.
    pub(crate) tree: Tree,
    /// The shares that need a folder.
    pub(crate) shares: Vec<Share>,
    /// Folders that a file of the spec lies in: the node, and where.
    pub(crate) folders: Vec<(String, String)>,
    /// Users that own something.
    pub(crate) users: Vec<String>,
    /// What was changed, for the person.
    pub(crate) notes: Vec<String>,
}

/// A document of the repository: a tier, a profile or a node.
type Document = Map<String, Value>;

/// Adapt `tree` for the nodes named, each with its tier.
pub(crate) fn adapt(tree: &Tree, nodes: &[(&str, &str)], means: &Means) -> Result<Adapted> {
    let mut adapted = Adapted { tree: tree.clone(), ..Adapted::default() };
    adapted.rename_clusters(means.cluster.as_deref());
    adapted.drop_sections();
    for &(node, tier) in nodes {
        adapted.adapt_node(node, tier, means)?;
    }
    adapted.users.sort();
    adapted.users.dedup();
    Ok(adapted)
}

impl Adapted {
    /// The cluster's name, wherever it is an item's key.
    fn rename_clusters(&mut self, cluster: Option<&str>) {
        let Some(cluster) = cluster else { return };
        for (path, text) in &mut self.tree {
            let mut renamed = String::new();
            for (at, line) in text.lines().enumerate() {
                match named_cluster(line) {
                    Some(named) if named != cluster => {
                        renamed.push_str(&line.replacen(named, cluster, 1));
                        self.notes.push(format!("{path}:{}: PostgreSQL {named} is {cluster} here", at + 1));
                    }
                    _ => renamed.push_str(line),
                }
                renamed.push('\n');
            }
            *text = renamed;
        }
    }

    /// Take out what no node of the demo can have.
    fn drop_sections(&mut self) {
        for section in NOT_HERE {
            if self.drop_section(section) {
                self.notes.push(format!(
                    "the sections {section} are left out: nodes have no services of their own here"
                ));
            }
        }
        for (_, text) in self.tree.iter_mut().filter(|(path, _)| is_document(path)) {
            let reload = |line: &&str| !line.trim_start().starts_with("reload: ");
            *text = text.lines().filter(reload).fold(String::new(), |text, line| text + line + "\n");
        }
    }

    fn drop_section(&mut self, section: &str) -> bool {
        let mut dropped = false;
        for (_, text) in self.tree.iter_mut().filter(|(path, _)| is_document(path)) {
            let without = without_section(text, section);
            dropped |= without != *text;
            *text = without;
        }
        dropped
    }

    fn adapt_node(&mut self, node: &str, tier: &str, means: &Means) -> Result<()> {
        let merged = self.merged(node, tier)?;
        let path = format!("nodes/{node}.yaml");
        let own = self.tree.get(&path).map(|text| document(&path, text)).transpose()?;
        let mut own = own.unwrap_or_else(|| Map::from_iter([("version".to_owned(), json!(1))]));
        let files = merged.get("file").and_then(Value::as_object).into_iter().flatten();
        let folder =
            |(path, _): (&String, &Value)| Some((node.to_owned(), path.rsplit_once('/')?.0.to_owned()));
        self.folders.extend(files.filter_map(folder));
        let mounts = self.adapt_mounts(node, &merged, means);
        let mut changed = !mounts.is_empty();
        for (target, fields) in mounts {
            merge(&mut own, &Map::from_iter([("mount".to_owned(), json!({ target: fields }))]));
        }
        if means.rootless {
            changed |= self.only_look(node, &merged, &mut own);
        }
        if means.cluster.is_none() && merged.contains_key("postgresql") {
            self.drop_postgres(&mut own);
            changed = true;
        }
        if changed {
            let text = serde_yaml::to_string(&own).map_err(|error| Trouble::told(error.to_string()))?;
            self.tree.insert(path, format!("# Written by the demo: what this machine cannot have.\n{text}"));
        }
        Ok(())
    }

    /// What the node's layers say together, as far as the demo needs to know.
    fn merged(&self, node: &str, tier: &str) -> Result<Document> {
        let mut merged = Map::new();
        let tier = format!("tiers/{tier}.yaml");
        let includes =
            self.tree.get(&tier).map(|text| document(&tier, text)).transpose()?.unwrap_or_default();
        let includes = includes.get("include").and_then(Value::as_array).into_iter().flatten();
        let includes = includes.filter_map(|name| Some(format!("{}.yaml", name.as_str()?)));
        for path in includes.chain([tier.clone(), format!("nodes/{node}.yaml")]) {
            if let Some(text) = self.tree.get(&path) {
                merge(&mut merged, &document(&path, text)?);
            }
        }
        Ok(merged)
    }

    /// The fields of every network mount that are different here.
    fn adapt_mounts(&mut self, node: &str, merged: &Document, means: &Means) -> Vec<(String, Value)> {
        let mounts = merged.get("mount").and_then(Value::as_object).into_iter().flatten();
        let (mut out, mut bound, mut to_root) = (Vec::new(), Vec::new(), 0);
        for (target, fields) in mounts {
            let text = |key: &str| fields.get(key).and_then(Value::as_str).map(str::to_owned);
            let mut different = Map::new();
            if text("type").is_some_and(|kind| kind.starts_with("nfs")) {
                let leaf = target.rsplit('/').next().unwrap_or("share");
                let source = format!("{SHARES}/{leaf}");
                different = bound_folder(&source, fields);
                bound.push(leaf.to_owned());
                let (node, target) = (node.to_owned(), target.clone());
                self.shares.push(Share { node, source, target, sentinel: text("sentinel") });
            }
            match text("owner") {
                Some(owner) if means.rootless && owner != "root" => {
                    different.insert("owner".into(), json!("root"));
                    to_root += 1;
                }
                Some(owner) => self.users.push(owner),
                None => {}
            }
            if !different.is_empty() {
                out.push((target.clone(), Value::Object(different)));
            }
        }
        if !bound.is_empty() {
            let which = bound.join(", ");
            self.notes
                .push(format!("{node}: NFS shares are folders in {SHARES} of the node, bound: {which}"));
        }
        if to_root > 0 {
            self.notes.push(format!(
                "{node}: {to_root} folders belong to root, the one user there is without root"
            ));
        }
        out
    }

    /// Kernel parameters that belong to the whole machine: its read-only tree says so to root; an ordinary user is
    /// not even let that far, and can only look.
    fn only_look(&mut self, node: &str, merged: &Document, own: &mut Document) -> bool {
        let sysctls = merged.get("sysctl").and_then(Value::as_object).into_iter().flatten();
        let machines: Vec<&String> =
            sysctls.map(|(key, _)| key).filter(|key| !key.starts_with("net.")).collect();
        for key in &machines {
            merge(own, &Map::from_iter([("sysctl".to_owned(), json!({ key.as_str(): {"mode": "audit"} }))]));
            self.notes.push(format!("{node}: {key} is only looked at: it takes root to change it"));
        }
        !machines.is_empty()
    }

    /// Take the `postgresql` section out of every file: there is no server to keep.
    fn drop_postgres(&mut self, own: &mut Document) {
        own.remove("postgresql");
        for (path, text) in &mut self.tree {
            let without = without_section(text, "postgresql");
            if without != *text {
                *text = without;
                self.notes.push(format!("{path}: the section postgresql is left out"));
            }
        }
    }
}

/// The Debian cluster that is the key on a line: `13/main`.
fn named_cluster(line: &str) -> Option<&str> {
    let (key, _) = line.trim_start().split_once(':')?;
    let (version, name) = key.split_once('/')?;
    let number = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
    (number && name == "main").then_some(key)
}

/// The fields that make a network mount a bind mount of `source`. Options that only NFS knows are left out.
fn bound_folder(source: &str, fields: &Value) -> Map<String, Value> {
    let options = fields.get("options").and_then(Value::as_array);
    let read_only = options.is_some_and(|options| options.contains(&json!("ro")));
    let access = if read_only { "ro" } else { "rw" };
    let pairs = [("source", json!(source)), ("type", json!("bind")), ("options", json!([access]))];
    let mut bound: Map<String, Value> =
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let said = |key: &str| fields.get(key).is_some();
    bound.extend(
        OF_A_SHARE.iter().filter(|(key, _)| said(key)).map(|(key, off)| ((*key).to_owned(), json!(off))),
    );
    bound
}

/// Whether a file is one of the language's, and not a text that an item names.
fn is_document(path: &str) -> bool {
    std::path::Path::new(path).extension().is_some_and(|end| end == "yaml")
}

/// A document without one of its top sections, line by line so that the rest stays as people wrote it.
fn without_section(text: &str, section: &str) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for line in text.lines() {
        let top = line.starts_with(|c: char| c.is_ascii_alphabetic());
        if top {
            inside = line.split(':').next() == Some(section);
        }
        if !inside {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

fn document(path: &str, text: &str) -> Result<Document> {
    serde_yaml::from_str(text).map_err(|error| Trouble::told(format!("the example's {path}: {error}")))
}

/// A later layer's fields over an earlier one's.
fn merge(below: &mut Document, above: &Document) {
    for (key, value) in above {
        match (below.get_mut(key).and_then(Value::as_object_mut), value.as_object()) {
            (Some(old), Some(new)) => merge(old, new),
            _ => {
                below.insert(key.clone(), value.clone());
            }
        }
    }
}

/// A line of a YAML document that gives `key` a plain number: where, and the number.
pub(crate) fn find_number(tree: &Tree, key: &str) -> Option<(String, usize, u64)> {
    tree.iter().find_map(|(path, text)| {
        text.lines().enumerate().find_map(|(at, line)| {
            let value = line.trim_start().strip_prefix(key)?.strip_prefix(':')?;
            let value = value.split('#').next().unwrap_or_default().trim();
            value.parse().ok().map(|number| (path.clone(), at, number))
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{Adapted, Means, Share, Tree, adapt, document, find_number};
    use serde_json::json;

    fn example() -> Tree {
        let files = [
            ("fleet.yaml", "version: 1\nfleet: eden\n"),
            ("profiles/base.yaml", "version: 1\nsysctl:\n  net.ipv4.tcp_keepalive_time: 60   # a third\n"),
            (
                "tiers/db.yaml",
                "version: 1\ninclude: [profiles/base]\npostgresql:\n  13/main:\n    settings:\n      \
                 work_mem: 8MB\n# about the kernel\nsysctl:\n  vm.swappiness: 1\n",
            ),
            (
                "tiers/middleware.yaml",
                "version: 1\nmount:\n  /home/prod/up:\n    source: 10.20.3.5:/eden/uploads\n    type: nfs4\n    \
                 options: [ro, hard]\n    sentinel: .id\n    owner: web2py\n    mode: \"0750\"\n",
            ),
            ("nodes/mw1.yaml", "version: 1\nmount:\n  /home/prod/up:\n    mode: \"0700\"\n"),
        ];
        files.into_iter().map(|(path, text)| (path.to_owned(), text.to_owned())).collect()
    }

    fn adapted(means: &Means) -> Adapted {
        adapt(&example(), &[("db1", "db"), ("mw1", "middleware")], means).unwrap()
    }

    #[test]
    fn the_cluster_is_the_one_that_is_installed_and_it_is_said_where() {
        let adapted = adapted(&Means { cluster: Some("15/main".into()), rootless: false });
        assert!(adapted.tree["tiers/db.yaml"].contains("\n  15/main:\n"));
        assert!(
            adapted.notes.iter().any(|note| note.starts_with("tiers/db.yaml:4: ")),
            "{:?}",
            adapted.notes
        );
    }

    #[test]
    fn a_share_becomes_a_bound_folder_over_what_the_node_says_already() {
        let adapted = adapted(&Means { cluster: Some("13/main".into()), rootless: false });
        let node = document("nodes/mw1.yaml", &adapted.tree["nodes/mw1.yaml"]).unwrap();
        let want = json!({"mode": "0700", "source": "/srv/shares/up", "type": "bind", "options": ["ro"]});
        assert_eq!(node["mount"]["/home/prod/up"], want);
        let share = Share {
            node: "mw1".into(),
            source: "/srv/shares/up".into(),
            target: "/home/prod/up".into(),
            sentinel: Some(".id".into()),
        };
        assert_eq!(adapted.shares, [share]);
        assert_eq!(adapted.users, ["web2py"]);
    }

    #[test]
    fn without_root_everything_is_roots_and_there_is_no_postgresql() {
        let adapted = adapted(&Means { cluster: None, rootless: true });
        let node = document("nodes/mw1.yaml", &adapted.tree["nodes/mw1.yaml"]).unwrap();
        assert_eq!(node["mount"]["/home/prod/up"]["owner"], "root");
        assert!(adapted.users.is_empty());
        let db = &adapted.tree["tiers/db.yaml"];
        let node = document("nodes/db1.yaml", &adapted.tree["nodes/db1.yaml"]).unwrap();
        assert_eq!(node["sysctl"], json!({"vm.swappiness": {"mode": "audit"}}));
        assert!(!db.contains("work_mem") && db.contains("vm.swappiness: 1"), "{db}");
    }

    #[test]
    fn a_number_is_found_with_its_line() {
        let (path, at, number) = find_number(&example(), "net.ipv4.tcp_keepalive_time").unwrap();
        assert_eq!((path.as_str(), at, number), ("profiles/base.yaml", 2, 60));
        assert_eq!(find_number(&example(), "net.ipv4.tcp_keepalive"), None);
    }
}
