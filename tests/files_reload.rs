//! The reload of what reads a file, with a real systemd: once, owed until it is done, and never a restart.
//!
//! Needs what `tests/systemd.rs` needs: root, `mmdebstrap` and `systemd-nspawn`.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use support::{EVENKEEL, FLEET, text, until};

const SOON: Duration = Duration::from_secs(20);
/// A service that notes each reload, and fails it while somebody says so.
const SERVICE: &str = "[Service]\nExecStart=/bin/sleep infinity\n\
    ExecReload=/bin/sh -c 'echo reload >>/srv/reloads; cat /srv/app.ini >>/srv/read; test ! -e /srv/fail'\n";

struct Booted(&'static str);

fn lab(args: &[&str]) -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/node"));
    command.args(args).env("EVENKEEL_LAB_NAME", format!("files-{}", std::process::id())).stdin(Stdio::null());
    command
}

fn done(what: &str, out: Output) -> String {
    assert!(out.status.success(), "{what}: {}", text(&out));
    String::from_utf8(out.stdout).unwrap()
}

impl Booted {
    fn new(name: &'static str) -> Self {
        assert!(
            lab(&["root"]).status().unwrap().success(),
            "no Debian to boot: root, mmdebstrap, systemd-nspawn"
        );
        done("up", lab(&["up", name, "--owner", &std::process::id().to_string()]).output().unwrap());
        let node = Self(name);
        done("copy", lab(&["copy", name, EVENKEEL, "/usr/bin/evenkeel"]).output().unwrap());
        node.write("/etc/systemd/system/app.service", SERVICE);
        node.write("/root/spec/fleet.yaml", FLEET);
        node.sh("systemctl daemon-reload; systemctl start app; git init -q -b main /root/spec");
        node
    }

    fn write(&self, path: &str, content: &str) {
        let mut run = lab(&["run", self.0, "install", "-D", "-m", "0644", "/dev/stdin", path]);
        let run = run.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = run.spawn().unwrap();
        child.stdin.take().unwrap().write_all(content.as_bytes()).unwrap();
        done(path, child.wait_with_output().unwrap());
    }

    fn sh(&self, script: &str) -> String {
        done(script, lab(&["run", self.0, "sh", "-ec", script]).output().unwrap())
    }

    fn spec(&self, text: &str) {
        let tier =
            format!("version: 1\nfile:\n  /srv/app.ini: {{content: \"{text}\\n\", reload: app.service}}\n");
        self.write("/root/spec/tiers/t.yaml", &tier);
    }

    /// One pass, and what it says.
    fn apply(&self) -> String {
        text(
            &lab(&["run", self.0, "evenkeel", "apply", "--spec", "/root/spec", "--node", "n1"])
                .output()
                .unwrap(),
        )
    }

    fn reloads(&self) -> usize {
        self.sh("cat /srv/reloads 2>/dev/null || true").lines().count()
    }

    fn owed(&self) -> usize {
        self.sh("ls -A /run/evenkeel/owed 2>/dev/null || true").lines().count()
    }

    fn service(&self) -> String {
        self.sh("systemctl show -p MainPID,NRestarts,InvocationID app")
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        let _ = lab(&["down", self.0]).output();
    }
}

#[test]
fn a_reload_is_done_once_owed_while_it_fails_and_never_a_restart() {
    let node = Booted::new("reloads");
    let before = node.service();
    node.spec("a = 1");
    let told = node.apply();
    assert_eq!((node.reloads(), node.owed()), (1, 0), "{told}");
    node.apply();
    assert_eq!(node.reloads(), 1, "nothing has changed");
    assert_eq!(node.sh("cat /srv/read"), "a = 1\n", "it reads what was written");

    node.sh("touch /srv/fail");
    node.spec("a = 2");
    let told = node.apply();
    assert!(told.contains("systemctl reload app.service"), "{told}");
    assert_eq!((node.reloads(), node.owed()), (2, 1), "{told}");
    assert_eq!(node.sh("cat /srv/app.ini"), "a = 2\n");
    let told = node.apply();
    assert!(told.contains("systemctl reload app.service"), "tried again: {told}");
    assert_eq!((node.reloads(), node.owed()), (3, 1));
    node.sh("rm /srv/fail");
    node.apply();
    assert_eq!((node.reloads(), node.owed()), (4, 0));
    assert_eq!(node.service(), before, "the same process all along");

    // Killed between the file and the reload: the next pass has it read.
    let slow = "#!/bin/sh\ncase \"$*\" in *reload*app*) if [ -e /run/hold ]; then : >/run/held; exec sleep 600; fi ;; esac\n\
                exec /usr/bin/systemctl \"$@\"\n";
    node.write("/usr/local/sbin/systemctl", slow);
    node.sh("chmod 0755 /usr/local/sbin/systemctl; touch /run/hold");
    node.spec("a = 3");
    node.sh("evenkeel apply --spec /root/spec --node n1 >/dev/null 2>&1 & echo $! >/run/apply; true");
    until("it waits for the reload", SOON, || node.sh("test -e /run/held && echo yes || true") == "yes\n");
    node.sh("kill -9 $(cat /run/apply); rm /run/hold");
    assert_eq!((node.sh("cat /srv/app.ini"), node.reloads(), node.owed()), ("a = 3\n".into(), 4, 1));
    node.apply();
    assert_eq!((node.reloads(), node.owed()), (5, 0));

    // What nobody names any more is paid all the same; what does not run needs none.
    node.sh("touch /srv/fail");
    node.spec("a = 4");
    node.apply();
    assert_eq!(node.owed(), 1);
    node.sh("rm /srv/fail");
    node.write("/root/spec/tiers/t.yaml", "version: 1\n");
    node.apply();
    assert_eq!((node.reloads(), node.owed()), (7, 0));
    assert_eq!(node.service(), before);
    node.sh("systemctl stop app");
    node.spec("a = 5");
    node.apply();
    assert_eq!(
        (node.reloads(), node.owed(), node.sh("systemctl is-active app || true").as_str()),
        (7, 0, "inactive\n")
    );
}
