//! The reload of what reads a file, with a real systemd: once, owed until it is done, and never a restart.
//!
//! Needs what `tests/systemd.rs` needs: root, `mmdebstrap` and `systemd-nspawn`.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::time::Duration;
use support::booted::Booted;
use support::until;

const SOON: Duration = Duration::from_secs(20);
/// A service that notes each reload, and fails it while somebody says so.
const SERVICE: &str = "[Service]\nExecStart=/bin/sleep infinity\n\
    ExecReload=/bin/sh -c 'echo reload >>/srv/reloads; cat /srv/app.ini >>/srv/read; test ! -e /srv/fail'\n";

impl Booted {
    fn wanted(&self, text: &str) {
        let tier =
            format!("version: 1\nfile:\n  /srv/app.ini: {{content: \"{text}\\n\", reload: app.service}}\n");
        self.write("/root/spec/tiers/t.yaml", &tier);
    }

    /// One pass, and what it says.
    fn apply(&self) -> String {
        self.said("evenkeel apply --spec /root/spec --node n1")
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

#[test]
fn a_reload_is_done_once_owed_while_it_fails_and_never_a_restart() {
    let node = Booted::new("reloads", "");
    node.write("/etc/systemd/system/app.service", SERVICE);
    node.sh("systemctl daemon-reload; systemctl start app");
    let before = node.service();
    node.wanted("a = 1");
    let told = node.apply();
    assert_eq!((node.reloads(), node.owed()), (1, 0), "{told}");
    node.apply();
    assert_eq!(node.reloads(), 1, "nothing has changed");
    assert_eq!(node.sh("cat /srv/read"), "a = 1\n", "it reads what was written");

    node.sh("touch /srv/fail");
    node.wanted("a = 2");
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
    node.wanted("a = 3");
    node.sh("evenkeel apply --spec /root/spec --node n1 >/dev/null 2>&1 & echo $! >/run/apply; true");
    until("it waits for the reload", SOON, || node.sh("test -e /run/held && echo yes || true") == "yes\n");
    node.sh("kill -9 $(cat /run/apply); rm /run/hold");
    assert_eq!((node.sh("cat /srv/app.ini"), node.reloads(), node.owed()), ("a = 3\n".into(), 4, 1));
    node.apply();
    assert_eq!((node.reloads(), node.owed()), (5, 0));

    // What nobody names any more is paid all the same; what does not run needs none.
    node.sh("touch /srv/fail");
    node.wanted("a = 4");
    node.apply();
    assert_eq!(node.owed(), 1);
    node.sh("rm /srv/fail");
    node.write("/root/spec/tiers/t.yaml", "version: 1\n");
    node.apply();
    assert_eq!((node.reloads(), node.owed()), (7, 0));
    assert_eq!(node.service(), before);
    node.sh("systemctl stop app");
    node.wanted("a = 5");
    node.apply();
    assert_eq!(
        (node.reloads(), node.owed(), node.sh("systemctl is-active app || true").as_str()),
        (7, 0, "inactive\n")
    );
}
