//! How the node stands, as one value: what the heartbeat, the status socket and systemd's status line are made of.

use super::ledger::Ledger;
use evenkeel_report::{Counts, Node, SpecState, Status, Sync, state_digest};
use tokio::time::Instant;

/// How the node stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    /// Who it is.
    pub(crate) node: Node,
    /// Which spec.
    pub(crate) spec: SpecState,
    /// How many items stand how; repairs are over and count as compliant.
    pub(crate) counts: Counts,
    /// Over every item.
    pub(crate) digest: String,
    /// Whether every section of the spec in force was looked at.
    pub(crate) settled: bool,
    /// When the last pass ended.
    pub(crate) last_pass: Option<Instant>,
    /// When the source was last reached.
    pub(crate) reached: Option<Instant>,
    /// What is looked at by the clock only, and why.
    pub(crate) degraded: Vec<String>,
    /// All of it in one honest sentence.
    pub(crate) sentence: String,
}

impl Standing {
    /// Made from the ledger.
    ///
    /// `settled` says whether every section of the spec in force was looked at.
    pub(super) fn new(
        node: Node,
        spec: SpecState,
        ledger: &Ledger,
        settled: bool,
        degraded: Vec<String>,
    ) -> Self {
        let counts: Counts = ledger.items().map(|item| item.status.settled()).collect();
        let digest = state_digest(ledger.items());
        let worst = ledger.items().filter(|item| item.status.is_open()).max_by_key(|item| item.status);
        let worst = worst.map(|item| (item.id.as_str(), item.status));
        let sentence = sentence(&spec, counts, worst, settled);
        Self { node, spec, counts, digest, settled, last_pass: None, reached: None, degraded, sentence }
    }

    /// The spec's state with its age as of now.
    pub(crate) fn spec_now(&self) -> SpecState {
        let age_s = self.reached.map(|at| at.elapsed().as_secs());
        SpecState { age_s, ..self.spec.clone() }
    }

    /// Whether nothing is off and the newest spec is the one in force.
    pub(crate) fn even(&self) -> bool {
        self.counts.open() == 0
            && self.settled
            && self.spec.observed_commit.is_some()
            && !matches!(self.spec.sync, Sync::Failed | Sync::OutOfSync)
    }
}

/// The sentence that systemd and `evenkeel status` show.
fn sentence(spec: &SpecState, counts: Counts, worst: Option<(&str, Status)>, settled: bool) -> String {
    let refused = match (spec.sync, spec.errors.first()) {
        (Sync::Failed, Some(error)) => format!("; spec refused: {error}"),
        (_, Some(error)) => format!("; {error}"),
        _ => String::new(),
    };
    let Some(commit) = &spec.observed_commit else {
        return format!("no spec yet{refused}");
    };
    let commit = short(commit);
    match worst {
        Some((id, status)) => {
            let (open, total) = (counts.open(), counts.total());
            let is = if status == Status::Error { "is in error".to_owned() } else { format!("is {status}") };
            format!("not even: {open} of {total} items at {commit}, {id} {is}{refused}")
        }
        None if !settled => format!("looking: the first pass at {commit} is under way{refused}"),
        None => format!("even: {} items at {commit}{refused}", counts.total()),
    }
}

/// A commit as people say it.
pub(crate) fn short(commit: &str) -> &str {
    let digits = commit.strip_prefix("sha256:").unwrap_or(commit);
    evenkeel_report::cut(digits, 8)
}

#[cfg(test)]
mod tests {
    use super::sentence;
    use evenkeel_report::{Counts, SpecState, Status, Sync};

    #[test]
    fn the_sentence_says_what_matters_first() {
        let spec = SpecState { observed_commit: Some("3f2c1a9900aa".into()), ..SpecState::default() };
        let even = Counts { compliant: 42, ..Counts::default() };
        assert_eq!(sentence(&spec, even, None, true), "even: 42 items at 3f2c1a99");
        let looking = "looking: the first pass at 3f2c1a99 is under way";
        assert_eq!(sentence(&spec, Counts::default(), None, false), looking);
        let off = Counts { compliant: 40, error: 2, ..Counts::default() };
        let failed = SpecState { sync: Sync::Failed, errors: vec!["tiers/db.yaml:14: no".into()], ..spec };
        assert_eq!(
            sentence(&failed, off, Some(("sysctl/a.b", Status::Error)), true),
            "not even: 2 of 42 items at 3f2c1a99, sysctl/a.b is in error; spec refused: tiers/db.yaml:14: no"
        );
        let none = SpecState { errors: vec!["source: no route".into()], ..SpecState::default() };
        assert_eq!(sentence(&none, Counts::default(), None, true), "no spec yet; source: no route");
    }
}
