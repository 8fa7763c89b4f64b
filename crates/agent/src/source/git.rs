//! A branch of a git repository as a source, through the git program: fetched bare and shallow, read without checkout.
//!
//! git speaks the one protocol the URL names and no other, runs no hook, asks nobody, and reads no configuration but
//! ours. What it may write, hold and take is bounded by limits that the kernel keeps. Objects come out by their id;
//! no path out of the repository ever touches our own filesystem.

use super::{FILES_CAP, FetchError, Fetched, GitUrl, TOTAL_CAP};
use crate::config::Config;
use evenkeel_host::files;
use evenkeel_host::program::{Output, Program};
use evenkeel_spec::{Bundle, Entry};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long one fetch may take, whatever the other side does.
const FETCH_DEADLINE: Duration = Duration::from_secs(30);
/// How long a question to the other side, or to what we have, may take.
const ASK_DEADLINE: Duration = Duration::from_secs(15);
/// The most bytes of a tree's listing.
const LISTING_CAP: usize = 8 << 20;
/// The most memory a git process may map. Inflated objects are held in it.
const MEMORY_CAP: u64 = 1 << 30;
/// Where the fetched commit is kept, so that it is not collected.
const REF: &str = "refs/evenkeel/head";
/// More packs than this are packed into one.
const PACKS: usize = 24;

/// A repository that is kept in the state folder, and the branch it follows.
pub(super) struct Repository<'a> {
    url: &'a GitUrl,
    folder: PathBuf,
    ssh_key: Option<&'a Path>,
    ssh_known_hosts: Option<&'a Path>,
}

impl<'a> Repository<'a> {
    /// The repository for `url` under the configured state folder. Nothing is touched yet.
    pub(super) fn new(url: &'a GitUrl, config: &'a Config) -> Self {
        Self {
            url,
            folder: config.state_dir.join("git"),
            ssh_key: config.ssh_key.as_deref(),
            ssh_known_hosts: config.ssh_known_hosts.as_deref(),
        }
    }

    /// Fetch the branch's head, unless it is `known`: then one question is all.
    pub(super) fn fetch(&self, known: Option<&str>) -> Result<Option<Fetched>, FetchError> {
        let head = self.remote_head()?;
        if known == Some(head.as_str()) {
            return Ok(None);
        }
        self.make()?;
        self.take()?;
        // Between the question and the fetch the branch may have moved: what was fetched counts.
        let commit = self.object(&["rev-parse", "--verify", &format!("{REF}^{{commit}}")])?;
        if known == Some(commit.as_str()) {
            return Ok(None);
        }
        let bundle = self.bundle(&commit)?;
        self.tidy();
        Ok(Some(Fetched { bundle, commit }))
    }

    fn remote_head(&self) -> Result<String, FetchError> {
        let branch = format!("refs/heads/{}", self.url.branch);
        let git = self.git(&["ls-remote", "--exit-code", &self.url.url, &branch]);
        let output = self.run(git, ASK_DEADLINE, 64 * 1024, "ask for the branch")?;
        if output.code == Some(2) {
            let (branch, url) = (&self.url.branch, &self.url.url);
            return Err(FetchError::new(format!(
                "{url} has no branch `{branch}`: push one, or name another"
            )));
        }
        let output = self.well(output, "ask for the branch")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut lines = text.lines().filter_map(|line| line.split_once('\t'));
        let head = lines.find(|(_, name)| *name == branch).map(|(id, _)| id.to_owned());
        head.filter(|id| is_object(id)).ok_or_else(|| FetchError::new("git answered without a commit"))
    }

    /// The bare repository, made where it is missing. Making it again where it is changes nothing.
    fn make(&self) -> Result<(), FetchError> {
        if self.folder.join("HEAD").exists() {
            return Ok(());
        }
        let doing = "make the repository in the state folder";
        let made = files::make_folder(&self.folder, 0o700).inspect_err(|_| self.start_anew());
        made.map_err(|error| FetchError::from(doing, error))?;
        let git = self.git(&["init", "--quiet", "--bare", "--template=", "."]).folder(&self.folder);
        self.here(git, 64 * 1024, doing).map(|_| ())
    }

    fn take(&self) -> Result<(), FetchError> {
        let spec = format!("+refs/heads/{}:{REF}", self.url.branch);
        let args =
            ["fetch", "--quiet", "--depth", "1", "--no-tags", "--no-write-fetch-head", "--update-shallow"];
        let args =
            args.into_iter().chain(["--no-recurse-submodules", "--end-of-options", &self.url.url, &spec]);
        let git = self.git(&args.collect::<Vec<_>>()).folder(&self.folder);
        let fetched =
            self.run(git, FETCH_DEADLINE, 64 * 1024, "fetch").and_then(|output| self.well(output, "fetch"));
        let Err(error) = fetched else { return Ok(()) };
        let largest = self.sweep();
        self.start_anew();
        if largest >= TOTAL_CAP {
            let (url, mib) = (&self.url.url, TOTAL_CAP >> 20);
            return Err(FetchError::new(format!(
                "fetch ({url}): stopped, a fetch may bring {mib} MiB and not more"
            )));
        }
        Err(error)
    }

    /// Remove what a fetch that was stopped has left behind; the size of the largest of it, in bytes. git itself
    /// does not say that it was stopped by the limit, nor does it clean up then.
    fn sweep(&self) -> u64 {
        let pack = self.folder.join("objects/pack");
        let names = files::list(&pack).unwrap_or_default();
        let left = names.iter().filter(|name| name.starts_with("tmp_")).map(|name| pack.join(name));
        let sizes = left.map(|path| {
            let size = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
            let _ = files::remove(&path);
            size
        });
        sizes.max().unwrap_or(0)
    }

    /// One line that is an object's id.
    fn object(&self, args: &[&str]) -> Result<String, FetchError> {
        let doing = "read what was fetched";
        let output = self.here(self.git(args).folder(&self.folder), 4096, doing)?;
        let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if is_object(&id) { Ok(id) } else { Err(FetchError::new(doing)) }
    }

    fn bundle(&self, commit: &str) -> Result<Bundle, FetchError> {
        let doing = "list the files that were fetched";
        let git = self.git(&["ls-tree", "-r", "-z", "-l", "--full-tree", commit]).folder(&self.folder);
        let output = self.here(git, LISTING_CAP, doing)?;
        let mut bundle = Bundle::default();
        let mut blobs = vec![];
        let mut total = 0;
        for line in output.stdout.split(|&byte| byte == 0).filter(|line| !line.is_empty()) {
            let Some(listed) = Listed::parse(line) else {
                return Err(FetchError::new(format!("{doing}: a file's name is not UTF-8 text")));
            };
            if !evenkeel_spec::wants_path(&listed.path) {
                continue;
            }
            if let Some(entry) = listed.entry() {
                bundle.files.insert(listed.path, entry);
            } else {
                total += listed.size;
                blobs.push(listed);
            }
            if total > TOTAL_CAP || blobs.len() + bundle.files.len() > FILES_CAP {
                return Err(FetchError::new(super::too_much()));
            }
        }
        self.read_blobs(blobs, total, &mut bundle)?;
        Ok(bundle)
    }

    /// All blobs by one child.
    fn read_blobs(&self, blobs: Vec<Listed>, total: u64, bundle: &mut Bundle) -> Result<(), FetchError> {
        if blobs.is_empty() {
            return Ok(());
        }
        let doing = "read the files that were fetched";
        let ids: String = blobs.iter().flat_map(|blob| [blob.id.as_str(), "\n"]).collect();
        let cap = usize::try_from(total).unwrap_or(usize::MAX) + blobs.len() * 96;
        let git = self.git(&["cat-file", "--batch", "--buffer"]).folder(&self.folder).input(ids);
        let output = self.here(git, cap, doing)?;
        let mut rest = &output.stdout[..];
        for blob in blobs {
            let (content, after) = next_object(rest, &blob.id).ok_or_else(|| FetchError::new(doing))?;
            rest = after;
            let entry = if blob.mode == "120000" {
                Entry::Link(lossy(content))
            } else {
                Entry::File(content.to_vec())
            };
            bundle.files.insert(blob.path, entry);
        }
        Ok(())
    }

    /// Pack many packs into one, now and then. What is not the newest commit goes. Trouble here is no trouble.
    fn tidy(&self) {
        let packs = files::list(&self.folder.join("objects/pack")).unwrap_or_default();
        if packs.iter().filter(|name| name.strip_suffix(".pack").is_some()).count() > PACKS {
            let git = self.git(&["gc", "--quiet", "--prune=now"]).folder(&self.folder);
            let _ = self.run(git, FETCH_DEADLINE, 64 * 1024, "tidy up");
        }
    }

    /// git with everything closed but what is needed.
    fn git(&self, args: &[&str]) -> Program {
        let allow = format!("protocol.{}.allow=always", self.url.scheme);
        let closed = [
            "protocol.allow=never",
            &allow,
            "core.hooksPath=/dev/null",
            "core.fsmonitor=false",
            "core.bigFileThreshold=512k",
            "credential.helper=",
            "gc.auto=0",
            "gc.autoDetach=false",
            "maintenance.auto=false",
            "http.followRedirects=false",
            "http.lowSpeedLimit=1000",
            "http.lowSpeedTime=10",
            // Always one pack, so that the limit on a file's size is a limit on the fetch.
            "fetch.unpackLimit=1",
            "transfer.fsckObjects=true",
            // Harmless old tools' habits that fsck would refuse a whole repository for.
            "fetch.fsck.zeroPaddedFilemode=ignore",
            "pack.threads=1",
            "submodule.recurse=false",
        ];
        let limits = [format!("--fsize={TOTAL_CAP}"), format!("--as={MEMORY_CAP}"), "--core=0".to_owned()];
        let mut git = Program::new("prlimit").args(limits).arg("git");
        for setting in closed {
            git = git.arg("-c").arg(setting);
        }
        git = git.args(args.iter().copied());
        self.environment(git)
    }

    fn environment(&self, git: Program) -> Program {
        let mut git = git
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "/bin/false")
            .env("SSH_ASKPASS", "/bin/false")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("LC_ALL", "C")
            .env("GIT_SSH_COMMAND", self.ssh());
        if let Some(credentials) = self.url.credentials() {
            // In the environment, which only we can read; an argument could be read by everybody on the node.
            let header = format!("Authorization: Basic {}", base64(percent_decoded(credentials).as_bytes()));
            git = git.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "http.extraHeader");
            git = git.env("GIT_CONFIG_VALUE_0", header);
        }
        git
    }

    fn ssh(&self) -> String {
        let mut ssh =
            "ssh -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=5 -o ServerAliveCountMax=2 \
                       -o ForwardAgent=no -o ClearAllForwardings=yes -o PermitLocalCommand=no"
                .to_owned();
        if let Some(key) = self.ssh_key {
            ssh = format!("{ssh} -o IdentitiesOnly=yes -i {}", quoted(key));
        }
        if let Some(hosts) = self.ssh_known_hosts {
            let option = format!("UserKnownHostsFile={}", hosts.display());
            ssh = format!("{ssh} -o GlobalKnownHostsFile=/dev/null -o {}", quoted(Path::new(&option)));
        }
        ssh
    }

    fn run(&self, git: Program, deadline: Duration, cap: usize, doing: &str) -> Result<Output, FetchError> {
        let place = &self.url.url;
        git.run(deadline, cap).map_err(|error| FetchError::from(format!("{doing} ({place})"), error))
    }

    /// Ask git for something of what is here. Where it cannot tell, what is here is not worth keeping.
    fn here(&self, git: Program, cap: usize, doing: &str) -> Result<Output, FetchError> {
        let told = self.run(git, ASK_DEADLINE, cap, doing).and_then(|output| self.well(output, doing));
        told.inspect_err(|_| self.start_anew())
    }

    /// Remove the repository: a git that was killed leaves locks, a power cut leaves empty files, and either would be
    /// in the way of every fetch to come. The next one makes a new repository, and brings one commit.
    fn start_anew(&self) {
        if let Err(error) = files::remove_tree(&self.folder) {
            tracing::warn!(%error, "the repository in the state folder cannot be removed");
        }
    }

    /// An output with exit code 0, or what git had to say instead.
    fn well(&self, output: Output, doing: &str) -> Result<Output, FetchError> {
        if output.code == Some(0) {
            return Ok(output);
        }
        let said = output.stderr.lines().map(str::trim).filter(|line| !line.is_empty());
        let telling = said.clone().find(|line| line.starts_with("fatal:") || line.starts_with("error:"));
        let first = said.clone().find(|line| !line.starts_with("warning:"));
        // ssh says what is wrong before git says that something is.
        let mut words: Vec<&str> = vec![];
        words.extend(first);
        words.extend(telling.filter(|line| Some(*line) != first));
        let said = crate::log::plain(evenkeel_report::cut(&words.join("; "), 400));
        let said = self.url.credentials().map_or(said.clone(), |secret| said.replace(secret, "***"));
        let said = if said.is_empty() { format!("git ended with {:?}", output.code) } else { said };
        Err(FetchError::new(format!("{doing} ({}): {said}", self.url.url)))
    }
}

/// A word for the shell that git hands the ssh command to.
fn quoted(word: &Path) -> String {
    format!("'{}'", word.display().to_string().replace('\'', "'\\''"))
}

/// A line of `git ls-tree -r -z -l`.
struct Listed {
    mode: String,
    id: String,
    size: u64,
    path: String,
}

impl Listed {
    fn parse(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?;
        let (head, path) = line.split_once('\t')?;
        let mut words = head.split_ascii_whitespace();
        let (mode, _kind, id, size) = (words.next()?, words.next()?, words.next()?, words.next()?);
        if !is_object(id) {
            return None;
        }
        // A submodule has `-` for a size.
        let size = size.parse().unwrap_or(0);
        Some(Self { mode: mode.to_owned(), id: id.to_owned(), size, path: path.to_owned() })
    }

    /// What it is, where no content is needed to say so.
    fn entry(&self) -> Option<Entry> {
        match self.mode.as_str() {
            "160000" => Some(Entry::Other("a submodule".to_owned())),
            "120000" if self.size > 4096 => {
                Some(Entry::Link("(a target of more than 4096 bytes)".to_owned()))
            }
            "120000" => None,
            _ if self.size > Bundle::FILE_CAP as u64 => Some(Entry::TooBig(self.size)),
            "100644" | "100755" | "100664" => None,
            mode => Some(Entry::Other(format!("an entry of mode {mode}"))),
        }
    }
}

/// The next object of `git cat-file --batch`, which must be `id`, and what comes after it.
fn next_object<'a>(bytes: &'a [u8], id: &str) -> Option<(&'a [u8], &'a [u8])> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut words = head.split(' ');
    let (seen, kind, size) = (words.next()?, words.next()?, words.next()?.parse::<usize>().ok()?);
    let body = &bytes[end + 1..];
    let whole = seen == id && kind == "blob" && body.get(size) == Some(&b'\n');
    whole.then(|| (&body[..size], &body[size + 1..]))
}

/// SHA-1 or SHA-256, in full.
fn is_object(id: &str) -> bool {
    matches!(id.len(), 40 | 64) && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `%41` is `A`, as in every URL.
fn percent_decoded(text: &str) -> String {
    let mut bytes = vec![];
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = (first == b'%').then(|| after.get(..2)).flatten();
        let hex = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(hex.unwrap_or(first));
        rest = if hex.is_some() { &after[2..] } else { after };
    }
    lossy(&bytes)
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0, |bits, &byte| (bits << 8) | u32::from(byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit <= chunk.len() { char::from(DIGITS[index as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
#[path = "git_tests.rs"]
mod tests;
