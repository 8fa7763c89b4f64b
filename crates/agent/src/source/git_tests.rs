//! The git source against real repositories, over `file` and over a real sshd on loopback.
#![allow(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "tests make repositories with the git program")]

use super::{Repository, base64, percent_decoded};
use crate::config::Config;
use crate::source::{Fetched, SourceUrl};
use evenkeel_spec::Entry;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A working repository, and an agent's state folder that follows it.
struct Rig {
    folder: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let rig = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir_all(rig.work()).unwrap();
        rig.git(&["init", "--quiet", "--initial-branch=main", "."]);
        rig
    }
    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }
    fn git(&self, args: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always"])
            .args(args)
            .current_dir(self.work())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
    fn put(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.work().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    fn commit(&self) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", "a change"]);
        self.git(&["rev-parse", "HEAD"])
    }
    fn config(&self) -> Config {
        let text = format!("state_dir: {}\n", self.folder.path().join("state").display());
        Config::parse(Path::new("t"), &text, "h", &|_| None).unwrap()
    }
    fn url(&self) -> String {
        format!("git+file://{}#main", self.work().display())
    }
    fn fetch(&self, known: Option<&str>) -> Result<Option<Fetched>, String> {
        fetch(&self.url(), &self.config(), known)
    }
    fn fetched(&self, known: Option<&str>) -> Fetched {
        self.fetch(known).unwrap().unwrap()
    }
}

fn fetch(url: &str, config: &Config, known: Option<&str>) -> Result<Option<Fetched>, String> {
    let source: SourceUrl = url.parse().unwrap();
    source.fetch(config, known).map_err(|error| evenkeel_core::chain(&error))
}

fn text<'a>(fetched: &'a Fetched, path: &str) -> &'a str {
    std::str::from_utf8(fetched.bundle.file(path).unwrap()).unwrap()
}

#[test]
fn a_commit_is_fetched_once_and_the_next_one_when_it_comes() {
    let rig = Rig::new();
    rig.put("fleet.yaml", "version: 1\n");
    rig.put("tiers/db.yaml", "version: 1\n");
    rig.put("README.md", "for people");
    let first = rig.commit();
    let fetched = rig.fetched(None);
    assert_eq!(fetched.commit, first);
    let names: Vec<&str> = fetched.bundle.files.keys().map(String::as_str).collect();
    assert_eq!(names, ["fleet.yaml", "tiers/db.yaml"]);
    assert!(rig.fetch(Some(&first)).unwrap().is_none());
    rig.put("tiers/db.yaml", "version: 1\nmode: audit\n");
    let second = rig.commit();
    let fetched = rig.fetched(Some(&first));
    assert_eq!(
        (fetched.commit.as_str(), text(&fetched, "tiers/db.yaml")),
        (second.as_str(), "version: 1\nmode: audit\n")
    );
}

#[test]
fn a_rewritten_branch_is_followed() {
    let rig = Rig::new();
    rig.put("fleet.yaml", "one");
    let one = rig.commit();
    rig.put("fleet.yaml", "two");
    let two = rig.commit();
    assert_eq!(rig.fetched(None).commit, two);
    rig.git(&["reset", "--quiet", "--hard", &one]);
    rig.put("fleet.yaml", "three");
    let three = rig.commit();
    let fetched = rig.fetched(Some(&two));
    assert_eq!((fetched.commit.as_str(), text(&fetched, "fleet.yaml")), (three.as_str(), "three"));
}

#[test]
fn what_is_no_plain_file_is_handed_on_as_what_it_is() {
    let rig = Rig::new();
    rig.put("fleet.yaml", "version: 1\n");
    rig.put("files/huge.bin", vec![b'x'; 300 * 1024]);
    rig.put("files/binary", [0, 255, 10, 0]);
    rig.put("files/a b\nc", "odd name");
    std::fs::create_dir_all(rig.work().join("nodes")).unwrap();
    symlink("/etc/shadow", rig.work().join("nodes/a.yaml")).unwrap();
    symlink("../elsewhere", rig.work().join("tiers")).unwrap();
    let head = rig.commit();
    rig.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{head},files/module")]);
    rig.git(&["commit", "--quiet", "--message", "a submodule"]);
    let bundle = rig.fetched(None).bundle;
    assert_eq!(bundle.files["nodes/a.yaml"], Entry::Link("/etc/shadow".into()));
    assert_eq!(bundle.files["tiers"], Entry::Link("../elsewhere".into()));
    assert_eq!(bundle.files["files/huge.bin"], Entry::TooBig(300 * 1024));
    assert_eq!(bundle.files["files/module"], Entry::Other("a submodule".into()));
    assert_eq!(bundle.files["files/binary"], Entry::File(vec![0, 255, 10, 0]));
    assert_eq!(bundle.files["files/a b\nc"], Entry::File(b"odd name".to_vec()));
    assert_eq!(bundle.files.len(), 7);
}

#[test]
fn an_empty_repository_and_a_missing_branch_are_told_as_such() {
    let rig = Rig::new();
    let told = rig.fetch(None).err().unwrap();
    assert!(told.contains("no branch `main`") && told.contains("push one"), "{told}");
    rig.put("fleet.yaml", "x");
    rig.commit();
    let told = fetch(&rig.url().replace("#main", "#prod"), &rig.config(), None).err().unwrap();
    assert!(told.contains("no branch `prod`"), "{told}");
}

#[test]
fn a_repository_that_is_not_there_is_an_error_and_what_was_fetched_stays() {
    let rig = Rig::new();
    rig.put("fleet.yaml", "x");
    let commit = rig.commit();
    rig.fetched(None);
    let away = rig.folder.path().join("away");
    std::fs::rename(rig.work(), &away).unwrap();
    let told = rig.fetch(Some(&commit)).err().unwrap();
    assert!(told.contains("work") && !told.contains('\n'), "{told}");
    std::fs::rename(&away, rig.work()).unwrap();
    assert!(rig.fetch(Some(&commit)).unwrap().is_none());
}

#[test]
fn a_fetch_of_more_than_its_cap_is_stopped_and_leaves_nothing_behind() {
    let rig = Rig::new();
    rig.put("fleet.yaml", "x");
    // Random bytes do not shrink on the way: 24 MiB stay 24 MiB.
    let mut random = fastrand::Rng::with_seed(7);
    for n in 0..24 {
        let block: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(1 << 20).collect();
        rig.put(&format!("files/{n}"), block);
    }
    rig.commit();
    let told = rig.fetch(None).err().unwrap();
    assert!(told.contains("16 MiB"), "{told}");
    let mut left = 0;
    let mut folders = vec![rig.folder.path().join("state/git")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else {
                left += entry.metadata().unwrap().len();
            }
        }
    }
    assert!(left < 1 << 20, "{left} bytes are left behind");
    rig.git(&["rm", "--quiet", "-r", "files"]);
    let small = rig.commit();
    assert_eq!(rig.fetched(None).commit, small, "and a smaller one comes through after it");
}

#[test]
fn a_repository_that_a_crash_has_spoilt_is_made_anew() {
    let rig = Rig::new();
    rig.put("fleet.yaml", "version: 1\n");
    rig.commit();
    rig.fetched(None);
    let here = rig.folder.path().join("state/git");
    let empty = |name: &str| std::fs::write(here.join(name), "").unwrap();
    let spoil: [(&str, &dyn Fn()); 6] = [
        ("a lock of a git that was killed", &|| empty("shallow.lock")),
        ("a lock on the branch", &|| empty("refs/evenkeel/head.lock")),
        ("a head without a word in it", &|| empty("HEAD")),
        ("a branch without a word in it", &|| empty("refs/evenkeel/head")),
        ("objects that are not there", &|| std::fs::remove_dir_all(here.join("objects")).unwrap()),
        ("a file in its place", &|| {
            std::fs::remove_dir_all(&here).unwrap();
            std::fs::write(&here, "").unwrap();
        }),
    ];
    for (what, spoil) in spoil {
        spoil();
        let commit = rig.commit();
        // One fetch may meet it and fail; the one after it must not.
        let told = rig.fetch(None).err();
        let next = rig.fetch(None).unwrap_or_else(|again| panic!("{what}: {told:?}, then {again}")).unwrap();
        assert_eq!(next.commit, commit, "{what}");
    }
}

#[test]
fn hooks_filters_and_configuration_of_a_repository_run_nothing() {
    let rig = Rig::new();
    let mark = rig.folder.path().join("ran");
    rig.put("fleet.yaml", "x");
    rig.put(".gitattributes", "* filter=evil\nfiles/ export-ignore\n");
    rig.put("files/a", "kept");
    rig.commit();
    rig.fetched(None);
    let hook = format!("#!/bin/sh\ntouch {}\n", mark.display());
    for name in ["post-update", "reference-transaction", "post-checkout", "pre-receive"] {
        for hooks in [rig.work().join(".git/hooks"), rig.folder.path().join("state/git/hooks")] {
            std::fs::create_dir_all(&hooks).unwrap();
            std::fs::write(hooks.join(name), &hook).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(hooks.join(name), mode).unwrap();
        }
    }
    rig.put("files/b", "kept");
    // Committed without our own hooks: the test's git must not be what runs them.
    rig.git(&["-c", "core.hooksPath=/dev/null", "add", "--all"]);
    rig.git(&["-c", "core.hooksPath=/dev/null", "commit", "--quiet", "--message", "two"]);
    let fetched = rig.fetched(None);
    assert_eq!((text(&fetched, "files/a"), text(&fetched, "files/b")), ("kept", "kept"));
    assert!(!mark.exists(), "a hook ran");
}

#[test]
fn many_commits_do_not_fill_the_state_folder() {
    let rig = Rig::new();
    let mut known = None;
    for n in 0..40 {
        rig.put("fleet.yaml", format!("{n}"));
        rig.commit();
        known = Some(rig.fetched(known.as_deref()).commit);
    }
    let packs = std::fs::read_dir(rig.folder.path().join("state/git/objects/pack")).unwrap().count();
    assert!(packs <= 3 * (super::PACKS + 1), "{packs} files in objects/pack");
}

#[test]
fn credentials_travel_in_the_environment_and_in_no_argument() {
    let rig = Rig::new();
    let source: SourceUrl = "git+https://robot:pa%2Fss@git.example/eden.git#main".parse().unwrap();
    let SourceUrl::Git(url) = &source else { unreachable!() };
    let config = rig.config();
    let git = format!("{:?}", Repository::new(url, &config).git(&["ls-remote", &url.url]));
    let (arguments, environment) = git.split_once("env:").unwrap();
    assert!(!arguments.contains("pa%2Fss") && !arguments.contains("robot"), "{arguments}");
    assert!(environment.contains(&base64(b"robot:pa/ss")), "{environment}");
    assert!(!environment.contains("robot"), "{environment}");
}

#[test]
fn base64_and_percent_signs_are_as_in_their_standards() {
    for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
        assert_eq!(base64(plain.as_bytes()), coded);
    }
    assert_eq!(percent_decoded("a%3Ab%2f%zz%4"), "a:b/%zz%4");
}

/// A real sshd on loopback, for one test.
struct Sshd {
    child: std::process::Child,
    port: u16,
    key: PathBuf,
    _folder: tempfile::TempDir,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn keygen(path: &Path) {
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status();
    assert!(made.unwrap().success());
}

/// `None` where there is no sshd, or we are not root.
fn sshd() -> Option<Sshd> {
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap());
    if !Path::new("/usr/sbin/sshd").exists() || uid != 0 {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    keygen(&at("host"));
    keygen(&at("key's"));
    std::fs::copy(at("key's.pub"), at("authorized")).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
         PidFile none\nPasswordAuthentication no\nPermitRootLogin yes\nPermitUserEnvironment no\n",
        at("host").display(),
        at("authorized").display()
    );
    std::fs::write(at("config"), config).unwrap();
    std::fs::create_dir_all("/run/sshd").unwrap();
    let mut command = Command::new("/usr/sbin/sshd");
    command.args(["-D", "-e", "-f"]).arg(at("config")).stderr(std::process::Stdio::null());
    let child = command.spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < end, "sshd does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(Sshd { child, port, key: at("key's"), _folder: folder })
}

#[test]
fn a_repository_is_fetched_over_ssh_from_a_known_host_only() {
    let Some(sshd) = sshd() else {
        eprintln!("skipped: needs /usr/sbin/sshd and root");
        return;
    };
    let rig = Rig::new();
    rig.put("fleet.yaml", "over ssh");
    let commit = rig.commit();
    let url = format!("git+ssh://root@127.0.0.1:{}{}#main", sshd.port, rig.work().display());
    let config = Config { ssh_key: Some(sshd.key.clone()), ..rig.config() };
    let told = fetch(&url, &config, None).err().unwrap();
    assert!(told.contains("Host key verification failed"), "an unknown host is not believed: {told}");

    let known = sshd.key.with_file_name("known_hosts");
    let host = std::fs::read_to_string(sshd.key.with_file_name("host.pub")).unwrap();
    std::fs::write(&known, format!("[127.0.0.1]:{} {host}", sshd.port)).unwrap();
    let config = Config { ssh_known_hosts: Some(known), ..config };
    let fetched = fetch(&url, &config, None).unwrap().unwrap();
    assert_eq!((fetched.commit.as_str(), text(&fetched, "fleet.yaml")), (commit.as_str(), "over ssh"));
    assert!(fetch(&url, &config, Some(&commit)).unwrap().is_none());

    let stranger = sshd.key.with_file_name("stranger");
    keygen(&stranger);
    let config = Config { ssh_key: Some(stranger), ..config };
    let told = fetch(&url, &config, None).err().unwrap();
    assert!(told.contains("Permission denied"), "{told}");
}
