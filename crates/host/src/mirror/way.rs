//! The way to another node: ssh with everything closed but what is needed. Nothing of a spec is in its command line but
//! the name of a credential, and that as a path below the credentials' folder.

use evenkeel_core::{Class, MirrorJob};
use rustix::fs::{FileType, Mode, OFlags};
use std::path::{Path, PathBuf};

/// What ssh is always told: no questions, no host that nobody knows, nothing but this one connection.
const CLOSED: &str = "ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=yes -o UpdateHostKeys=no -o ConnectTimeout=10 \
                      -o ServerAliveInterval=15 -o ServerAliveCountMax=3 -o ForwardAgent=no -o ClearAllForwardings=yes \
                      -o PermitLocalCommand=no -o LogLevel=ERROR";

/// The value of rsync's `--rsh` for a job that leads to another node; `None` for one on this node.
///
/// # Errors
/// The key is missing or open to others, or a path in it cannot be said to rsync.
pub(super) fn shell(
    job: &MirrorJob,
    known_hosts: Option<&Path>,
    credentials: Option<&Path>,
) -> Result<Option<String>, (Class, String)> {
    if job.from.starts_with('/') {
        return Ok(None);
    }
    let mut shell = CLOSED.to_owned();
    if let Some(hosts) = known_hosts {
        let hosts = plain(hosts)?;
        shell = format!("{shell} -o GlobalKnownHostsFile=/dev/null -o UserKnownHostsFile={hosts}");
    }
    if let Some(name) = &job.key {
        let key = key(name, credentials)?;
        shell = format!("{shell} -o IdentitiesOnly=yes -i {}", plain(&key)?);
    }
    Ok(Some(shell))
}

/// rsync splits the command at blanks, and ssh replaces what follows a `%`.
fn plain(path: &Path) -> Result<String, (Class, String)> {
    let letter = |c: char| c.is_ascii_alphanumeric() || "/_.-+@,=:".contains(c);
    let text = path.to_str().filter(|text| text.starts_with('/') && text.chars().all(letter));
    text.map(str::to_owned).ok_or_else(|| {
        let why = format!("{} cannot be told to ssh: letters, digits and /_.-+@,=: only", path.display());
        (Class::Trouble, why)
    })
}

fn key(name: &str, credentials: Option<&Path>) -> Result<PathBuf, (Class, String)> {
    let trouble = |why: String| (Class::Trouble, why);
    let missing = || {
        trouble(format!(
            "the agent was given no credential `{name}`: LoadCredential={name}:/etc/evenkeel/{name} in a drop-in of its unit"
        ))
    };
    let path = credentials.ok_or_else(missing)?.join(name);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(&path, flags, Mode::empty()).map_err(|_| missing())?;
    let stat =
        rustix::fs::fstat(&opened).map_err(|error| trouble(format!("the credential `{name}`: {error}")))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(trouble(format!("the credential `{name}` is no regular file")));
    }
    if stat.st_mode & 0o077 != 0 {
        let bits = stat.st_mode & 0o777;
        return Err(trouble(format!(
            "others can read the key `{name}` (its bits are {bits:04o}): chmod 0400"
        )));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use evenkeel_core::DeletionLimit;
    use std::os::unix::fs::PermissionsExt as _;

    fn job(from: &str, key: Option<&str>) -> MirrorJob {
        MirrorJob {
            from: from.into(),
            to: "/srv/b".into(),
            exclude: vec![],
            delete: true,
            delete_at_most: DeletionLimit::PerCent(10),
            owner: None,
            key: key.map(str::to_owned),
            kib_per_second: None,
        }
    }

    #[test]
    fn a_key_that_is_missing_or_open_to_others_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let job = job("mw1:/srv/a", Some("k"));
        let told = |at: Option<&Path>| shell(&job, None, at).unwrap_err().1;
        assert!(told(None).contains("LoadCredential=k:"));
        assert!(told(Some(folder.path())).contains("LoadCredential=k:"));
        let path = folder.path().join("k");
        std::fs::write(&path, "key").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o440)).unwrap();
        assert!(told(Some(folder.path())).contains("0440"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        let shell = shell(&job, Some(Path::new("/etc/known")), Some(folder.path())).unwrap().unwrap();
        assert!(
            shell.contains("StrictHostKeyChecking=yes") && shell.ends_with(&format!("-i {}", path.display()))
        );
        assert!(shell.contains("UserKnownHostsFile=/etc/known"));
    }

    #[test]
    fn no_ssh_goes_to_this_node_and_no_path_slips_another_option_in() {
        assert_eq!(shell(&job("/srv/a", None), None, None), Ok(None));
        for bad in ["/etc/a b", "/etc/'x'", "/etc/%h", "relative"] {
            assert!(shell(&job("mw1:/srv/a", None), Some(Path::new(bad)), None).is_err(), "{bad}");
        }
    }
}
