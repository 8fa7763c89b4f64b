//! What is known of certificates, asked for many requests at once: everybody gets his own answer, and none that is older
//! than his request.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::stores::{Kind, Where};
use common::tls::{TlsHub, word};
use common::{T0, report, seq};
use evenkeel_hub::admissions::{Admissions, Unknown};
use evenkeel_hub::store::Result;
use evenkeel_hub::store::acts::Act;
use evenkeel_hub::store::registry::{
    Admission, Enrol, Issued, Mark, NewCertificate, Refusal, Registry, Token,
};
use evenkeel_report::{Event, Report, Scope};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

on_every_store! {
    who_comes_while_a_question_is_on_its_way_gets_a_newer_answer_of_his_own
    a_question_that_ends_badly_is_the_last_of_nobody
}

/// A registry whose questions begin only when they are let: with `true` they end in a panic instead.
struct Held {
    within: Arc<dyn Registry>,
    let_go: Mutex<mpsc::Receiver<bool>>,
    asked: Mutex<Vec<usize>>,
}

impl Registry for Held {
    fn admissions(&self, serials: &[&str]) -> Result<HashMap<String, Admission>> {
        self.asked.lock().unwrap().push(serials.len());
        let spoilt = self.let_go.lock().unwrap().recv_timeout(Duration::from_mins(1)).unwrap();
        assert!(!spoilt, "as it was asked to");
        self.within.admissions(serials)
    }
    fn bind(&self, enrolment: i64, source: &str) -> Result<bool> {
        self.within.bind(enrolment, source)
    }
    fn enrol(&self, ask: &Enrol) -> Result<std::result::Result<(), Refusal>> {
        self.within.enrol(ask)
    }
    fn renew(&self, enrolment: i64, certificate: &NewCertificate) -> Result<()> {
        self.within.renew(enrolment, certificate)
    }
    fn tokens(&self) -> Result<Vec<Token>> {
        self.within.tokens()
    }
    fn certificates(&self) -> Result<Vec<Issued>> {
        self.within.certificates()
    }
}

/// A registry that knows `serial-mw0` to `serial-mw9`.
fn known(at: &Where) -> Arc<dyn Registry> {
    let registry = evenkeel_hub::registry(&at.location()).unwrap();
    let (id, hash, nodes) = ("t1".to_owned(), "hash".to_owned(), "*".to_owned());
    let (labels, until) = (BTreeMap::new(), T0 + 1000);
    let token = Token { id, hash, nodes, labels, made: T0, until, uses: 10, used: 0, revoked: false };
    assert!(at.act(Act::AddToken(token)));
    for n in 0..10 {
        let (serial, key) = (format!("serial-mw{n}"), format!("key-{n}"));
        let certificate = NewCertificate { serial, key, from: T0, until };
        let ask = Enrol { token: "hash".to_owned(), node: format!("mw{n}"), now: T0, certificate };
        registry.enrol(&ask).unwrap().unwrap();
    }
    registry
}

/// Something that blocks, away from the test's own runtime.
async fn apart<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(what).await.unwrap()
}

type Answer = std::result::Result<Option<Admission>, Unknown>;

struct Lab {
    at: Arc<Where>,
    held: Arc<Held>,
    let_go: mpsc::Sender<bool>,
    admissions: Arc<Admissions>,
}

impl Lab {
    async fn new(kind: Kind) -> Self {
        let at = Arc::new(Where::new(kind));
        let place = Arc::clone(&at);
        let (let_go, receiver) = mpsc::channel();
        let within = apart(move || known(&place)).await;
        let held = Arc::new(Held { within, let_go: Mutex::new(receiver), asked: Mutex::default() });
        Self { at, held, let_go, admissions: Arc::default() }
    }

    fn ask(&self, serial: String) -> tokio::task::JoinHandle<Answer> {
        let (admissions, registry) =
            (Arc::clone(&self.admissions), Arc::clone(&self.held) as Arc<dyn Registry>);
        let within = Duration::from_secs(30);
        tokio::spawn(async move {
            tokio::time::timeout(within, admissions.of(&registry, serial)).await.expect("an answer")
        })
    }

    /// Until so many questions have come to the store.
    async fn asked(&self, count: usize) {
        let began = Instant::now();
        while self.held.asked.lock().unwrap().len() < count {
            assert!(began.elapsed() < Duration::from_secs(30));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

async fn who_comes_while_a_question_is_on_its_way_gets_a_newer_answer_of_his_own(kind: Kind) {
    let lab = Lab::new(kind).await;
    let first = lab.ask("serial-mw0".to_owned());
    lab.asked(1).await;
    let others: Vec<_> = (0..20).map(|n| lab.ask(format!("serial-mw{}", n % 11))).collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    lab.let_go.send(false).unwrap();
    assert_eq!(first.await.unwrap().unwrap().unwrap().name, "mw0");
    lab.asked(2).await;
    // Another process bans one while they wait.
    let at = Arc::clone(&lab.at);
    apart(move || {
        assert!(at.act(Act::Mark { name: "mw3".to_owned(), mark: Mark::Banned, at: T0 }));
        assert!(at.act(Act::BanSerial { serial: "serial-mw4".to_owned(), banned: true }));
    })
    .await;
    lab.let_go.send(false).unwrap();
    for (n, other) in others.into_iter().enumerate() {
        let answer = other.await.unwrap().unwrap();
        if n % 11 == 10 {
            assert_eq!(answer, None, "nobody's");
            continue;
        }
        let answer = answer.unwrap();
        assert_eq!(answer.name, format!("mw{}", n % 11));
        assert_eq!(answer.mark, (n % 11 == 3).then_some(Mark::Banned));
        assert_eq!(answer.banned, n % 11 == 4);
    }
    assert_eq!(
        *lab.held.asked.lock().unwrap(),
        [1, 11],
        "two questions, none of them twice for one certificate"
    );
    apart(move || drop(lab)).await;
}

async fn a_question_that_ends_badly_is_the_last_of_nobody(kind: Kind) {
    let lab = Lab::new(kind).await;
    let first = lab.ask("serial-mw0".to_owned());
    lab.asked(1).await;
    let waits = lab.ask("serial-mw1".to_owned());
    tokio::time::sleep(Duration::from_millis(50)).await;
    lab.let_go.send(true).unwrap();
    assert_eq!(first.await.unwrap(), Err(Unknown::Failed));
    assert_eq!(waits.await.unwrap(), Err(Unknown::Failed), "not known is not let in");
    // The lock on who lets go is poisoned as the panic left it, and is the test's own.
    lab.held.let_go.clear_poison();
    lab.let_go.send(false).unwrap();
    assert_eq!(lab.ask("serial-mw1".to_owned()).await.unwrap().unwrap().unwrap().name, "mw1");
    apart(move || drop(lab)).await;
}

fn full(name: &str, n: u64) -> Event<Report> {
    report(name, seq(7, n), Scope::Full, vec![], &[])
}

/// SQLite is one hub's; a database may be several hubs'.
#[tokio::test]
async fn who_is_banned_at_one_hub_is_refused_by_the_other_at_the_very_next_request() {
    let one = TlsHub::start_on(Kind::Postgres);
    let other = one.beside();
    let token = one.token(&["--uses", "5"]);
    let (mw1, mw2) = (one.member(&token, "mw1").await, one.member(&token, "mw2").await);
    for round in 0..10_u64 {
        let n = 10 * round;
        // Both have just been asked, on connections that stay open.
        assert_eq!(one.send(&mw1.client, &[full("mw1", n + 1)]).await.0, 200);
        assert_eq!(other.send(&mw1.client, &[full("mw1", n + 2)]).await.0, 200);
        one.told(&["node", "ban", "mw1"]);
        let (status, problem) = other.send(&mw1.client, &[full("mw1", n + 3)]).await;
        assert_eq!((status, word(&problem)), (403, "banned"), "round {round}");
        assert_eq!(one.send(&mw1.client, &[full("mw1", n + 3)]).await.0, 403);
        assert_eq!(other.send(&mw2.client, &[full("mw2", n + 1)]).await.0, 200, "mw2 is not meant");
        one.told(&["node", "unban", "mw1"]);
    }
    one.told(&["node", "remove", "mw1"]);
    let (status, problem) = other.send(&mw1.client, &[full("mw1", 200)]).await;
    assert_eq!((status, word(&problem)), (410, "removed"));
}
