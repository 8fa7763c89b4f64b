//! Whole files with the real binary on a real node: written with owner and mode, back when somebody edits them, and nothing of a
//! secret in anything that is said.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;
use support::{FLEET, Node, Repository, config, text, until};

const SOON: Duration = Duration::from_secs(10);
const CANARY: &str = "canary-5e6f1c";
const INI: &str = "[uwsgi]\nworkers = 4\nharakiri = 90\n# ${node} of ${tier}";
const TIER: &str = "version: 1
file:
  /home/prod/uwsgi.ini: {from: files/uwsgi.ini, owner: nobody, group: nogroup, mode: \"0640\", validate: uwsgi, reload: uwsgi-prod.service}
";

fn node() -> Node {
    let node = Node::new();
    node.sh("mkdir -p /home/prod /srv/eden");
    node
}

fn repository(node: &Node, tier: &str, files: &[(&str, &str)]) -> (Repository, String) {
    let mut all = vec![("fleet.yaml", FLEET), ("tiers/t.yaml", tier)];
    all.extend(files);
    let repository = Repository::new(&node.dir.path().join("spec"), &all);
    let config = config(&repository.source(), "");
    (repository, config)
}

fn stands(node: &Node, id: &str, status: &str) -> bool {
    node.item(id).is_some_and(|item| item["status"] == status)
}

fn reason(node: &Node, id: &str) -> String {
    node.item(id).map(|item| item["reason"].to_string()).unwrap_or_default()
}

#[test]
fn a_commit_becomes_a_file_that_comes_back_when_somebody_edits_it() {
    let node = node();
    node.write("/home/prod/uwsgi.ini", "theirs\n");
    let (repository, config) = repository(&node, TIER, &[("files/uwsgi.ini", INI)]);
    let _agent = node.agent(&config);
    let right = "[uwsgi]\nworkers = 4\nharakiri = 90\n# n1 of t";
    let read = || node.sh("cat /home/prod/uwsgi.ini");
    let worn = || node.sh("stat -c '%U %G %a' /home/prod/uwsgi.ini");
    until("written", SOON, || read() == right);
    assert_eq!(worn(), "nobody nogroup 640\n");
    let copy = "/var/lib/evenkeel/before/~2fhome~2fprod~2fuwsgi.ini";
    assert_eq!(
        node.sh(&format!("cat {copy}; stat -c %a {copy} /var/lib/evenkeel/before")),
        "theirs\n600\n700\n"
    );
    until("even", SOON, || node.run(&["status"]).status.success());
    node.sh("sed -i s/90/1000/ /home/prod/uwsgi.ini");
    let took = until("back", SOON, || read() == right);
    println!("an edit was put back after {took:?}");
    for change in ["chmod 0666", "chown root:root", "rm -f"] {
        node.sh(&format!("{change} /home/prod/uwsgi.ini"));
        let took = until(change, SOON, || {
            node.holds("test -e /home/prod/uwsgi.ini") && read() == right && worn() == "nobody nogroup 640\n"
        });
        println!("{change} was put back after {took:?}");
    }
    // Only the text of the file changes: that is a change of the spec all the same.
    repository.commit(&[("files/uwsgi.ini", "[uwsgi]\nworkers = 8\n")]);
    until("the new text", SOON, || read() == "[uwsgi]\nworkers = 8\n");
    repository.commit(&[("tiers/t.yaml", "version: 1\nfile:\n  /home/prod/uwsgi.ini: {absent: true}\n")]);
    until("removed", SOON, || !node.holds("test -e /home/prod/uwsgi.ini"));
    assert_eq!(node.sh(&format!("cat {copy}")), "theirs\n", "the first one is kept for good");
    assert_eq!(node.sh("ls -A /home/prod; ls -A /run/evenkeel/owed 2>/dev/null || true"), "");
}

#[test]
fn a_secret_is_on_the_node_and_nowhere_else() {
    let node = node();
    let tier = "version: 1
file:
  /srv/eden/key.ini: {from: files/key.ini, group: nogroup, mode: \"0640\", validate: ini}
  /srv/eden/later.ini: {content: \"a = ${credential.later}\\n\"}
";
    let (repository, config) =
        repository(&node, tier, &[("files/key.ini", "hmac_key = ${credential.hmac-key}\n")]);
    node.sh(&format!("mkdir -m 0700 /run/creds && printf '{CANARY}\\n' >/run/creds/hmac-key && chmod 0400 /run/creds/hmac-key"));
    node.write("/etc/evenkeel/agent.yaml", &config);
    let log = node.dir.path().join("agent.log");
    let to = std::fs::File::create(&log).unwrap();
    let mut command = node.evenkeel(&["run", "--config", "/etc/evenkeel/agent.yaml"]);
    command.env("CREDENTIALS_DIRECTORY", "/run/creds").env("EVENKEEL_LOG", "trace").env("RUST_LOG", "trace");
    let mut agent = command.stdout(to.try_clone().unwrap()).stderr(to).spawn().unwrap();
    let right = format!("hmac_key = {CANARY}\n");
    until("written", SOON, || node.holds("test -e /srv/eden/key.ini"));
    assert_eq!(
        node.sh("cat /srv/eden/key.ini; stat -c '%U %G %a' /srv/eden/key.ini"),
        format!("{right}root nogroup 640\n")
    );
    // Somebody changes it, so that it is told as off; and a rival secret is none to be told either.
    node.sh(&format!("echo 'hmac_key = {CANARY}-rival' >/srv/eden/key.ini"));
    until("put back", SOON, || node.sh("cat /srv/eden/key.ini") == right);
    until("told", SOON, || stands(&node, "file//srv/eden/later.ini", "pending"));
    assert!(reason(&node, "file//srv/eden/later.ini").contains("waits for the credential `later`"));
    assert!(!node.holds("test -e /srv/eden/later.ini"));
    node.sh("chmod 0000 /srv/eden/key.ini; rm -f /srv/eden/key.ini");
    until("put back", SOON, || node.holds("test -e /srv/eden/key.ini"));
    let mut said = String::new();
    let spec = repository.path.to_str().unwrap().to_owned();
    let commands: [&[&str]; 6] = [
        &["status", "--format", "json"],
        &["plan", "--spec", &spec, "--node", "n1"],
        &["render", "n1", "--spec", &spec],
        &["explain", "file//srv/eden/key.ini", "--spec", &spec, "--node", "n1"],
        &["explain", "file//srv/eden/key.ini", "--spec", &spec, "--node", "n1", "--format", "json"],
        &["plan", "--spec", &spec, "--node", "n1", "--format", "json"],
    ];
    node.sh(&format!("echo 'hmac_key = {CANARY}-rival' >/srv/eden/key.ini; chmod 0644 /srv/eden/key.ini"));
    for command in commands {
        let mut run = node.evenkeel(command);
        said += &text(&run.env("CREDENTIALS_DIRECTORY", "/run/creds").output().unwrap());
    }
    said += &std::fs::read_to_string(&log).unwrap();
    assert!(said.contains("key.ini"), "{said}");
    assert!(!said.contains(CANARY), "a secret was told");
    let found =
        node.sh(&format!("grep -rl {CANARY} /etc /var/lib/evenkeel /run /srv /home 2>/dev/null || true"));
    let allowed = |path: &&str| {
        path.starts_with("/srv/eden/key.ini")
            || path.starts_with("/run/creds/")
            || path.starts_with("/var/lib/evenkeel/before/")
    };
    assert_eq!(found.lines().filter(|path| !allowed(path)).collect::<Vec<_>>(), [""; 0]);
    let pid = agent.id();
    assert!(!std::fs::read_to_string(format!("/proc/{pid}/environ")).unwrap().contains(CANARY));
    agent.kill().unwrap();
    agent.wait().unwrap();
}

#[test]
fn a_uwsgi_file_waits_for_the_section_that_it_names() {
    let node = node();
    let tier = "version: 1
file:
  /home/prod/uwsgi.ini: {content: \"[uwsgi]\\nenv = PGSERVICE=eden\\nenv = PGSERVICEFILE=/srv/eden/pg_service.conf\\n\", validate: uwsgi}
";
    let (_repository, config) = repository(&node, tier, &[]);
    let _agent = node.agent(&config);
    let id = "file//home/prod/uwsgi.ini";
    until("it waits", SOON, || stands(&node, id, "pending"));
    assert!(
        reason(&node, id)
            .contains("waits for section [eden] in /srv/eden/pg_service.conf, which is not there")
    );
    node.write("/srv/eden/pg_service.conf", "[eden]\nkeepalive_idle=29\n");
    until("a wrong one is none", SOON, || reason(&node, id).contains("line 2"));
    assert!(!node.holds("test -e /home/prod/uwsgi.ini"));
    node.write("/srv/eden/pg_service.conf", "[eden]\nkeepalives_idle=29\n");
    let took = until("written", SOON, || node.holds("test -e /home/prod/uwsgi.ini"));
    println!("went on after {took:?}");
}

#[test]
fn hostile_paths_and_symlinks_are_refused_and_nothing_is_written() {
    let node = node();
    let apply = |tier: &str| {
        let spec = node.dir.path().join("once");
        let _ = std::fs::remove_dir_all(&spec);
        let repository = Repository::new(&spec, &[("fleet.yaml", FLEET), ("tiers/t.yaml", tier)]);
        node.run(&["apply", "--spec", repository.path.to_str().unwrap(), "--node", "n1"])
    };
    let item = |path: &str| format!("version: 1\nfile:\n  {path}: {{content: \"x\"}}\n");
    for path in [
        "/etc/cron.d/x",
        "/root/.ssh/authorized_keys",
        "/home/prod/.ssh/authorized_keys",
        "/usr/bin/x",
        "/etc/../usr/x",
    ] {
        let out = apply(&item(path));
        assert!(!out.status.success() && text(&out).contains("tiers/t.yaml:3"), "{}", text(&out));
    }
    // A folder on the way that leads where no spec may write; a link in the file's place; one that others may move.
    node.sh("mkdir -p /etc/cron.d && ln -s /etc/cron.d /srv/eden/conf && ln -s /etc/passwd /srv/eden/link");
    node.sh("mkdir -m 0777 /srv/open && mkdir /srv/target && ln -s /srv/target /srv/open/way && chown -h nobody /srv/open/way");
    let passwd = node.sh("cat /etc/passwd");
    for (path, why) in [
        ("/srv/eden/conf/x", "leads to /etc/cron.d/x"),
        ("/srv/eden/link", "is a symlink to /etc/passwd"),
        ("/srv/eden/none/x", "/srv/eden/none is not there"),
    ] {
        let out = apply(&item(path));
        assert!(text(&out).contains(why), "{path}: {}", text(&out));
    }
    assert_eq!(node.sh("cat /etc/passwd"), passwd);
    assert!(!node.holds("test -e /etc/cron.d/x || test -e /srv/eden/none"));
    // A link that root has put is walked; one that somebody else may move is not, wherever it leads just now.
    node.sh("ln -s /srv/target /srv/eden/ours");
    assert!(apply(&item("/srv/eden/ours/x")).status.success());
    assert_eq!(node.sh("cat /srv/target/x; rm /srv/target/x"), "x");
    let out = apply(&item("/srv/open/way/x"));
    assert!(text(&out).contains("is a symlink that somebody else may move"), "{}", text(&out));
    assert_eq!(node.sh("ls -A /srv/target"), "");
}

#[test]
fn an_apply_killed_anywhere_is_finished_by_the_next_and_nothing_stays_owed() {
    const CALLS: &[&str] =
        &["openat", "write", "fsync", "renameat", "unlinkat", "mkdirat", "fchmod", "fchown"];
    let node = node();
    let spec = |name: &str, workers: u32| {
        let path = node.dir.path().join(name);
        let ini = format!("[uwsgi]\nworkers = {workers}\n");
        Repository::new(&path, &[("fleet.yaml", FLEET), ("tiers/t.yaml", TIER), ("files/uwsgi.ini", &ini)]);
        path.display().to_string()
    };
    let (old, new) = (spec("old", 4), spec("new", 8));
    let apply = |spec: &str| {
        let out = node.run(&["apply", "--spec", spec, "--node", "n1"]);
        assert!(out.status.success(), "{}", text(&out));
    };
    let most =
        if std::env::var("EVENKEEL_LONG").is_ok_and(|long| !long.is_empty()) { usize::MAX } else { 40 };
    let (mut points, mut owed) = (0, 0);
    for call in CALLS {
        for n in 1..=most {
            apply(&old);
            let mut strace = node.command("strace");
            strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
            strace.args(["-e", &format!("inject={call}:signal=KILL:when={n}"), support::EVENKEEL]);
            let out = strace.args(["apply", "--spec", &new, "--node", "n1"]).output().unwrap();
            if out.status.signal() != Some(9) {
                break;
            }
            points += 1;
            owed += usize::from(node.holds("ls /run/evenkeel/owed | grep -q uwsgi"));
            let between = node.sh("cat /home/prod/uwsgi.ini; stat -c '%U %G %a' /home/prod/uwsgi.ini");
            let whole = [4, 8].map(|n| format!("[uwsgi]\nworkers = {n}\nnobody nogroup 640\n"));
            assert!(whole.contains(&between), "{call} #{n}: neither old nor new:\n{between}");
            apply(&new);
            let after = node.sh("cat /home/prod/uwsgi.ini; ls -A /home/prod; ls -A /run/evenkeel/owed");
            assert_eq!(after, "[uwsgi]\nworkers = 8\nuwsgi.ini\n", "{call} #{n}");
        }
    }
    println!("killed at {points} points, {owed} of them with a reload owed");
    assert!(points >= 40 && owed >= 5, "only {points} points, {owed} with a debt");
}

#[test]
fn a_file_on_a_share_is_left_alone_and_holds_nobody_up() {
    let node = node();
    // What another process answers for counts as a share; this one is asked nothing.
    node.sh("mkdir -p /srv/share && mount -t fuse.none -o ro none /srv/share 2>/dev/null || mount -t mqueue none /srv/share");
    let tier = "version: 1\nfile:\n  /srv/share/x: {content: \"x\"}\n  /srv/eden/y: {content: \"y\"}\n";
    let (_repository, config) = repository(&node, tier, &[]);
    let _agent = node.agent(&config);
    until("told", SOON, || stands(&node, "file//srv/share/x", "error"));
    assert!(
        reason(&node, "file//srv/share/x").contains("lies on a share"),
        "{}",
        reason(&node, "file//srv/share/x")
    );
    assert_eq!(node.sh("cat /srv/eden/y"), "y");
}
