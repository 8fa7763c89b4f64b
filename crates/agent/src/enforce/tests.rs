//! The loop under a paused clock, with made-up lanes.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::ledger::OpenItems;
use super::standing::Standing;
use super::wake::Wakes;
use super::{Ask, Enforcer, Joints, Passes, Verdict, Watching};
use crate::config::Config;
use crate::pulled::{Adopted, Pulled};
use evenkeel_core::{
    Drift, Fault, Goal, GoalItem, Identity, Interest, Layer, Mode, Origin, Outcome, Phase, Plan, Sensor,
    Spec, Status,
};
use evenkeel_report::{Change, Report, Scope, Sync, Timestamp, Trigger, Writer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep};

/// A section of a made-up kind.
struct Section {
    kind: &'static str,
    items: BTreeMap<String, GoalItem>,
}

impl Goal for Section {
    fn kind(&self) -> &'static str {
        self.kind
    }
    fn mode(&self) -> Mode {
        Mode::Enforce
    }
    fn items(&self) -> &BTreeMap<String, GoalItem> {
        &self.items
    }
    fn interests(&self) -> Vec<Interest> {
        self.items.keys().map(|name| interest(self.kind, name)).collect()
    }
    fn plan(&self, _node: &dyn Sensor) -> Result<Plan, Fault> {
        Ok(Plan::default())
    }
}

fn file(kind: &str, name: &str) -> PathBuf {
    Path::new("/etc").join(kind).join(name)
}

fn interest(kind: &str, name: &str) -> Interest {
    Interest::File(file(kind, name))
}

/// A spec whose sections are `(kind, [(item, value)])`.
fn spec(commit: &str, sections: &[(&'static str, &[(&str, i64)])]) -> Arc<Adopted> {
    let goals = sections.iter().map(|(kind, items)| {
        let item = |(name, value): &(&str, i64)| {
            let origin = Origin { file: "tiers/t.yaml".into(), line: 1, path: None };
            ((*name).to_owned(), GoalItem { mode: Mode::Enforce, origin, fields: (*value).into() })
        };
        Box::new(Section { kind, items: items.iter().map(item).collect() }) as Box<dyn Goal>
    });
    let identity = Identity { tier: "t".into(), ..Identity::default() };
    let spec = Spec { identity, mode: Mode::Enforce, goals: goals.collect() };
    Arc::new(Adopted::new(commit.to_owned(), spec, false))
}

/// What the next passes over a kind do.
#[derive(Clone)]
struct Act {
    takes: Duration,
    status: BTreeMap<String, (Status, Option<Phase>)>,
    falls_over: bool,
}

impl Default for Act {
    fn default() -> Self {
        Self { takes: Duration::from_millis(1), status: BTreeMap::new(), falls_over: false }
    }
}

/// The made-up node: what passes find, and a note of every pass with its kind and when it began.
#[derive(Clone, Default)]
struct Stage {
    acts: Arc<Mutex<BTreeMap<&'static str, Act>>>,
    passes: Arc<Mutex<Vec<(&'static str, Instant)>>>,
    watched: Arc<Mutex<Vec<Interest>>>,
}

impl Stage {
    fn act(&self, kind: &'static str, change: impl FnOnce(&mut Act)) {
        change(self.acts.lock().unwrap().entry(kind).or_default());
    }
    fn find(&self, kind: &'static str, item: &str, status: Status, phase: Option<Phase>) {
        self.act(kind, |act| {
            act.status.insert(item.to_owned(), (status, phase));
        });
    }
    fn count(&self, kind: &str) -> usize {
        self.passes.lock().unwrap().iter().filter(|(seen, _)| *seen == kind).count()
    }
}

impl Passes for Stage {
    fn pass(&self, goal: Arc<dyn Goal>) -> Pin<Box<dyn Future<Output = Verdict> + Send>> {
        self.passes.lock().unwrap().push((goal.kind(), Instant::now()));
        let acts = self.acts.clone();
        let act = acts.lock().unwrap().get(goal.kind()).cloned().unwrap_or_default();
        Box::pin(async move {
            sleep(act.takes).await;
            assert!(!act.falls_over, "made to fall over");
            let one = |name: &String| {
                let (status, phase) = act.status.get(name).copied().unwrap_or((Status::Compliant, None));
                let off = status == Status::Repaired || status.is_open();
                let drift = Drift {
                    attr: "content".into(),
                    layer: Layer::File(file(goal.kind(), name)),
                    observed: Some("1".into()),
                    desired: "2".into(),
                };
                Outcome {
                    id: format!("{}/{name}", goal.kind()),
                    status,
                    phase,
                    reason: None,
                    drift: if off { vec![drift] } else { vec![] },
                    repaired: vec![],
                    declared_at: Some("tiers/t.yaml:1".into()),
                    facts: BTreeMap::new(),
                    progress: None,
                }
            };
            Ok(goal.items().keys().map(one).collect())
        })
    }
}

impl Watching for Stage {
    fn set(&self, interests: Vec<Interest>) {
        *self.watched.lock().unwrap() = interests;
    }
    fn degraded(&self) -> Vec<String> {
        vec![]
    }
}

/// The loop, running, and every end that it is joined to.
struct Rig {
    stage: Stage,
    pulled: watch::Sender<Pulled>,
    wakes: Arc<Wakes>,
    asks: mpsc::Sender<Ask>,
    reports: mpsc::Receiver<Report>,
    standing: watch::Receiver<Standing>,
    open: watch::Receiver<OpenItems>,
    _config: watch::Sender<Arc<Config>>,
    began: Instant,
}

/// 2026-11-23T00:00:00Z, and as far on as the paused clock is.
fn wall() -> Timestamp {
    thread_local!(static START: Instant = Instant::now());
    let since = START.with(Instant::elapsed);
    Timestamp::from_unix_ms(1_795_392_000_000 + i64::try_from(since.as_millis()).unwrap()).unwrap()
}

fn rig_with(remembered: OpenItems, room: usize) -> Rig {
    wall();
    let config = Config::parse(Path::new("t"), "node: mw3\n", "h", &|_| None).unwrap();
    let (config, config_rx) = watch::channel(Arc::new(config));
    let (pulled, pulled_rx) = watch::channel(Pulled::default());
    let (asks, asks_rx) = mpsc::channel(8);
    let (reports_tx, reports) = mpsc::channel(room);
    let (standing_tx, standing) = watch::channel(Standing::default());
    let (open_tx, open) = watch::channel(remembered.clone());
    let wakes = Arc::new(Wakes::default());
    let joints = Joints {
        config: config_rx,
        pulled: pulled_rx,
        wakes: wakes.clone(),
        asks: asks_rx,
        reports: reports_tx,
        standing: standing_tx,
        open: open_tx,
    };
    let stage = Stage::default();
    let enforcer = Enforcer::new(
        stage.clone(),
        stage.clone(),
        joints,
        remembered,
        wall,
        Box::new(|| Duration::from_secs(5)),
    );
    tokio::spawn(enforcer.run());
    Rig { stage, pulled, wakes, asks, reports, standing, open, _config: config, began: Instant::now() }
}

fn rig() -> Rig {
    rig_with(OpenItems::new(), 64)
}

impl Rig {
    fn adopt(&self, spec: &Arc<Adopted>) {
        self.pulled.send_modify(|pulled| {
            pulled.target = Some(spec.commit.clone());
            pulled.refused = vec![];
            pulled.spec = Some(spec.clone());
        });
    }

    /// The next report; the paused clock runs on until there is one.
    async fn report(&mut self) -> Report {
        tokio::time::timeout(Duration::from_mins(10), self.reports.recv()).await.unwrap().unwrap()
    }

    /// Let so much time pass, and say what was reported in it.
    async fn after(&mut self, time: Duration) -> Vec<Report> {
        sleep(time).await;
        let mut reports = vec![];
        while let Ok(report) = self.reports.try_recv() {
            reports.push(report);
        }
        reports
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn the_first_report_is_full_and_quiet_passes_tell_nothing() {
    let mut rig = rig();
    rig.adopt(&spec("c1", &[("sysctl", &[("a.b", 1)]), ("mount", &[("/x", 1)])]));
    let first = rig.report().await;
    assert_eq!(first.scope, Scope::Full);
    assert_eq!((first.pass.trigger, first.spec.sync), (Trigger::Commit, Sync::Synced));
    let ids: Vec<&str> = first.items.iter().map(|item| item.id.as_str()).collect();
    assert_eq!(ids, ["mount//x", "sysctl/a.b"]);
    assert_eq!((first.node.name.as_str(), first.node.tier.as_str()), ("mw3", "t"));
    assert!(rig.after(SECOND * 300).await.is_empty());
    // One at the start and one a minute, for each.
    assert_eq!((rig.stage.count("sysctl"), rig.stage.count("mount")), (6, 6));
    assert_eq!(rig.stage.watched.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_event_is_answered_at_once_and_by_its_own_lane_only() {
    let mut rig = rig();
    rig.adopt(&spec("c1", &[("sysctl", &[("a.b", 1)]), ("mount", &[("/x", 1)])]));
    rig.report().await;
    rig.stage.find("sysctl", "a.b", Status::Repaired, None);
    let before = Instant::now();
    let writer = Writer { pid: 4242, comm: Some("sysctl".into()), unit: None };
    rig.wakes.put(interest("sysctl", "a.b"), Some(writer.clone()));
    let report = rig.report().await;
    assert!(before.elapsed() < Duration::from_millis(20), "{:?}", before.elapsed());
    assert_eq!((report.scope, report.pass.trigger), (Scope::Changes, Trigger::Drift));
    let item = &report.items[0];
    assert_eq!((item.status, item.change), (Status::Repaired, Some(Change::Corrective)));
    assert_eq!((item.writer.clone(), item.attempts), (Some(writer), 1));
    assert!(item.since.is_some());
    assert_eq!((rig.stage.count("sysctl"), rig.stage.count("mount")), (2, 1));
    rig.wakes.put(Interest::Mounts, None);
    rig.after(SECOND).await;
    assert_eq!((rig.stage.count("sysctl"), rig.stage.count("mount")), (2, 1), "nobody's event wakes nobody");
}

#[tokio::test(start_paused = true)]
async fn a_burst_during_a_pass_leads_to_exactly_one_more() {
    let mut rig = rig();
    rig.adopt(&spec("c1", &[("sysctl", &[("a.b", 1)])]));
    rig.report().await;
    rig.stage.act("sysctl", |act| act.takes = Duration::from_millis(100));
    rig.wakes.put(interest("sysctl", "a.b"), None);
    sleep(Duration::from_millis(10)).await;
    for _ in 0..80 {
        rig.wakes.put(interest("sysctl", "a.b"), None);
        sleep(Duration::from_millis(1)).await;
    }
    rig.after(SECOND).await;
    assert_eq!(rig.stage.count("sysctl"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_hung_lane_stops_no_other_and_is_told_as_such() {
    let mut rig = rig();
    rig.stage.act("postgresql", |act| act.takes = SECOND * 100_000);
    rig.adopt(&spec("c1", &[("sysctl", &[("a.b", 1)]), ("postgresql", &[("13/main", 1)])]));
    let first = rig.report().await;
    assert_eq!(first.scope, Scope::Full);
    assert!(rig.began.elapsed() <= SECOND * 11, "the full report waits for nobody longer than its grace");
    assert_eq!(first.spec.sync, Sync::Progressing);
    let late = rig.report().await;
    assert_eq!((late.items[0].id.as_str(), late.items[0].status), ("postgresql/13/main", Status::Error));
    assert!(late.items[0].reason.as_deref().unwrap().contains("does not come back"));
    rig.stage.find("sysctl", "a.b", Status::Repaired, None);
    let before = Instant::now();
    rig.wakes.put(interest("sysctl", "a.b"), None);
    assert_eq!(rig.report().await.items[0].status, Status::Repaired);
    assert!(before.elapsed() < Duration::from_millis(20));
    assert_eq!(rig.stage.count("postgresql"), 1, "a pass that hangs is not joined by a second one");
    assert!(rig.stage.count("sysctl") >= 2);
}

#[tokio::test(start_paused = true)]
async fn a_new_spec_waits_for_no_interval_and_its_repairs_are_intentional() {
    let mut rig = rig();
    rig.adopt(&spec("c1", &[("sysctl", &[("a.b", 1), ("a.c", 1)])]));
    rig.report().await;
    sleep(SECOND * 7).await;
    rig.stage.find("sysctl", "a.b", Status::Repaired, None);
    rig.stage.find("sysctl", "a.c", Status::Repaired, None);
    let before = Instant::now();
    rig.adopt(&spec("c2", &[("sysctl", &[("a.b", 2), ("a.c", 1)])]));
    let report = rig.report().await;
    assert!(before.elapsed() < Duration::from_millis(20));
    assert_eq!((report.scope, report.pass.trigger), (Scope::Full, Trigger::Commit));
    assert_eq!(report.spec.observed_commit.as_deref(), Some("c2"));
    let changes: Vec<_> = report.items.iter().map(|item| item.change).collect();
    assert_eq!(changes, [Some(Change::Intentional), Some(Change::Corrective)]);
    // The node moves now: the spec's move is over.
    rig.wakes.put(interest("sysctl", "a.b"), None);
    assert!(rig.report().await.items.iter().all(|item| item.change == Some(Change::Corrective)));
}

#[tokio::test(start_paused = true)]
async fn a_new_spec_during_a_pass_is_followed_at_once_and_the_old_pass_is_not_believed() {
    let mut rig = rig();
    rig.adopt(&spec("c1", &[("sysctl", &[("a.b", 1)])]));
    rig.report().await;
    rig.stage.act("sysctl", |act| act.takes = Duration::from_millis(500));
    rig.stage.find("sysctl", "a.b", Status::Repaired, None);
    rig.wakes.put(interest("sysctl", "a.b"), None);
    sleep(Duration::from_millis(10)).await;
    rig.adopt(&spec("c2", &[("sysctl", &[("a.b", 2)])]));
    let report = rig.report().await;
    assert_eq!(rig.stage.count("sysctl"), 3);
    // What the pass for the old spec repaired is not what the new one asks for.
    let item = &report.items[0];
    assert_eq!((item.status, item.change, item.attempts), (Status::Repaired, Some(Change::Intentional), 1));
}

#[tokio::test(start_paused = true)]
async fn an_open_drift_keeps_its_beginning_and_counts_its_attempts() {
    let mut rig = rig();
    rig.adopt(&spec("c1", &[("sysctl", &[("a.b", 1)])]));
    rig.report().await;
    rig.stage.find("sysctl", "a.b", Status::Error, Some(Phase::Apply));
    rig.wakes.put(interest("sysctl", "a.b"), None);
    let opened = rig.report().await.items[0].clone();
    assert_eq!((opened.status, opened.attempts), (Status::Error, 1));
    assert!(rig.after(SECOND * 185).await.is_empty(), "the same trouble again is no news");
    assert_eq!(rig.open.borrow_and_update()["sysctl/a.b"].since, opened.since.unwrap());
    rig.stage.find("sysctl", "a.b", Status::Repaired, None);
    let closed = rig.report().await.items[0].clone();
    assert_eq!((closed.status, closed.since), (Status::Repaired, opened.since));
    assert_eq!(closed.attempts, 5);
    rig.stage.find("sysctl", "a.b", Status::Compliant, None);
    rig.after(SECOND * 61).await;
    assert!(rig.open.borrow().is_empty());
    // A later drift is a new one.
    rig.stage.find("sysctl", "a.b", Status::Repaired, None);
    let again = rig.report().await.items[0].clone();
    assert!(again.since > opened.since);
    assert_eq!(again.attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_off_before_the_restart_is_off_since_then() {
    let since = Timestamp::from_unix_ms(1_700_000_000_000).unwrap();
    let open = super::ledger::Open { since, attempts: 7 };
    let mut rig = rig_with([("sysctl/a.b".to_owned(), open)].into(), 64);
    rig.stage.find("sysctl", "a.b", Status::Error, Some(Phase::Verify));
    rig.adopt(&spec("c1", &[("sysctl", &[("a.b", 1)])]));
    let item = rig.report().await.items[0].clone();
    assert_eq!((item.since, item.attempts), (Some(since), 8));
}

#[tokio::test(start_paused = true)]
async fn a_remembered_spec_moved_nothing() {
    let mut rig = rig();
    rig.stage.find("sysctl", "a.b", Status::Repaired, None);
    let fresh = spec("c1", &[("sysctl", &[("a.b", 1)])]);
    let fresh = Arc::into_inner(fresh).unwrap();
    rig.adopt(&Arc::new(Adopted { remembered: true, ..fresh }));
    let report = rig.report().await;
    assert_eq!((report.pass.trigger, report.items[0].change), (Trigger::Start, Some(Change::Corrective)));
}

#[tokio::test(start_paused = true)]
async fn a_refused_spec_is_told_and_the_good_one_is_kept() {
    let mut rig = rig();
    rig.adopt(&spec("c1", &[("sysctl", &[("a.b", 1)])]));
    rig.report().await;
    rig.pulled.send_modify(|pulled| {
        pulled.target = Some("c2".into());
        pulled.refused = vec!["tiers/db.yaml:14: unknown key".into()];
    });
    let report = rig.report().await;
    assert_eq!((report.scope, report.spec.sync), (Scope::Changes, Sync::Failed));
    assert_eq!(report.spec.observed_commit.as_deref(), Some("c1"));
    assert_eq!(report.spec.target_commit.as_deref(), Some("c2"));
    assert_eq!(report.spec.errors, ["tiers/db.yaml:14: unknown key"]);
    assert!(rig.standing.borrow().sentence.contains("spec refused: tiers/db.yaml:14"));
    assert!(!rig.standing.borrow().even());
    assert!(rig.after(SECOND * 300).await.is_empty(), "told once");
    assert_eq!(rig.stage.count("sysctl"), 6, "and still enforced");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_even_where_there_never_was_a_spec() {
    let mut rig = rig();
    rig.pulled.send_modify(|pulled| {
        pulled.target = Some("c1".into());
        pulled.refused = vec!["fleet.yaml:1: no".into()];
    });
    let report = rig.report().await;
    assert_eq!((report.scope, report.spec.sync, report.items.len()), (Scope::Full, Sync::Failed, 0));
}

#[tokio::test(start_paused = true)]
async fn a_source_out_of_reach_is_shown_and_makes_no_report() {
    let mut rig = rig();
    rig.adopt(&spec("c1", &[("sysctl", &[("a.b", 1)])]));
    rig.report().await;
    rig.pulled.send_modify(|pulled| pulled.trouble = Some("no route to host".into()));
    assert!(rig.after(SECOND * 10).await.is_empty());
    assert_eq!(rig.standing.borrow().spec.errors, ["source: no route to host"]);
    assert_eq!(rig.standing.borrow().sentence, "even: 1 items at c1; source: no route to host");
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_falls_over_is_an_error_of_its_items_and_of_nothing_else() {
    let mut rig = rig();
    rig.stage.act("mount", |act| act.falls_over = true);
    rig.adopt(&spec("c1", &[("sysctl", &[("a.b", 1)]), ("mount", &[("/x", 1)])]));
    let report = rig.report().await;
    let seen: Vec<_> = report.items.iter().map(|item| (item.id.as_str(), item.status)).collect();
    assert_eq!(seen, [("mount//x", Status::Error), ("sysctl/a.b", Status::Compliant)]);
    assert!(report.items[0].reason.as_deref().unwrap().contains("made to fall over"));
    rig.stage.act("mount", |act| act.falls_over = false);
    assert_eq!(rig.report().await.items[0].status, Status::Compliant);
}

#[tokio::test(start_paused = true)]
async fn a_full_report_is_made_when_asked_for_and_an_item_that_left_is_gone() {
    let mut rig = rig();
    rig.adopt(&spec("c1", &[("sysctl", &[("a.b", 1), ("a.c", 1)])]));
    rig.report().await;
    rig.asks.send(Ask::Full).await.unwrap();
    let full = rig.report().await;
    assert_eq!((full.scope, full.items.len(), full.pass.trigger), (Scope::Full, 2, Trigger::Asked));
    let (tell, told) = oneshot::channel();
    rig.asks.send(Ask::Items(tell)).await.unwrap();
    assert_eq!(told.await.unwrap().len(), 2);
    rig.adopt(&spec("c2", &[("sysctl", &[("a.b", 1)])]));
    let next = rig.report().await;
    assert_eq!((next.scope, next.items.len()), (Scope::Full, 1));
}

#[tokio::test(start_paused = true)]
async fn a_reporter_that_is_behind_loses_nothing_and_holds_up_nothing() {
    let mut rig = rig_with(OpenItems::new(), 1);
    rig.adopt(&spec("c1", &[("sysctl", &[("a.b", 1), ("a.c", 1)])]));
    sleep(SECOND).await;
    // The one place is taken by the full report. Two repairs of two items come to pass meanwhile.
    rig.stage.find("sysctl", "a.b", Status::Repaired, None);
    rig.wakes.put(interest("sysctl", "a.b"), None);
    sleep(SECOND).await;
    rig.stage.find("sysctl", "a.b", Status::Compliant, None);
    rig.stage.find("sysctl", "a.c", Status::Repaired, None);
    rig.wakes.put(interest("sysctl", "a.c"), None);
    sleep(SECOND).await;
    assert_eq!(rig.report().await.scope, Scope::Full);
    let late = rig.report().await;
    let seen: Vec<_> = late.items.iter().map(|item| (item.id.as_str(), item.status)).collect();
    assert_eq!(seen, [("sysctl/a.b", Status::Repaired), ("sysctl/a.c", Status::Repaired)]);
    assert_eq!(rig.stage.count("sysctl"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_report_too_large_for_the_wire_is_told_in_parts() {
    let names: Vec<String> = (0..4000).map(|n| format!("{n:04}{}", "x".repeat(60))).collect();
    let items: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let mut rig = rig();
    rig.stage.find("sysctl", &names[3999], Status::Error, None);
    rig.adopt(&spec("c1", &[("sysctl", &items)]));
    let mut told = std::collections::BTreeSet::new();
    let first = rig.report().await;
    assert!(first.truncated && first.scope == Scope::Full);
    assert!(first.items.iter().any(|item| item.status == Status::Error), "the worst comes first");
    let mut next = Some(first);
    while told.len() < 4000 {
        let report = match next.take() {
            Some(report) => report,
            None => rig.report().await,
        };
        assert!(serde_json::to_vec(&report).unwrap().len() <= evenkeel_report::REPORT_CAP);
        assert_eq!(report.counts.total(), 4000);
        told.extend(report.items.into_iter().map(|item| item.id));
    }
    assert!(rig.after(SECOND).await.is_empty());
}
