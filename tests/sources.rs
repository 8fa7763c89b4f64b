//! Where a spec comes from: a folder, git over a real sshd, a source that is away, and one that never answers.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::io::Read as _;
use std::process::{Child, Stdio};
use std::time::Duration;
use support::{Daemon, FLEET, Node, Repository, config, until};

const KEY: &str = "net.ipv4.tcp_keepalive_time";
const SOON: Duration = Duration::from_secs(10);

fn tier(value: u32) -> String {
    format!("version: 1\nsysctl:\n  {KEY}: {value}\n")
}

/// A repository with the first value in it.
fn repository(node: &Node) -> Repository {
    Repository::new(&node.dir.path().join("spec"), &[("fleet.yaml", FLEET), ("tiers/t.yaml", &tier(61))])
}

fn sentence(node: &Node) -> String {
    let out = node.run(&["status"]);
    String::from_utf8_lossy(&out.stdout).lines().next().unwrap_or_default().to_owned()
}

/// A program on the node that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An sshd on the node's own loopback, that lets one key in; a configuration with that key.
fn sshd(node: &Node, path: &str) -> (Server, String) {
    node.sh("mkdir -p /run/sshd /etc/keys && cd /etc/keys
         ssh-keygen -q -t ed25519 -N '' -f host && ssh-keygen -q -t ed25519 -N '' -f agent
         cp agent.pub authorized && printf '[127.0.0.1]:2222 %s\n' \"$(cut -d' ' -f1,2 host.pub)\" > known
         printf '%s\n' 'Port 2222' 'ListenAddress 127.0.0.1' 'HostKey /etc/keys/host' 'PidFile none' \
           'AuthorizedKeysFile /etc/keys/authorized' 'StrictModes no' 'PasswordAuthentication no' \
           'KbdInteractiveAuthentication no' 'PermitRootLogin prohibit-password' > sshd_config");
    let mut command = node.command("/usr/sbin/sshd");
    let child =
        command.args(["-D", "-e", "-f", "/etc/keys/sshd_config"]).stderr(Stdio::null()).spawn().unwrap();
    until("sshd listens", SOON, || node.holds("ss -Hltn sport = :2222 | grep -q ."));
    let source = format!("git+ssh://root@127.0.0.1:2222{path}#main");
    let keys = "ssh_key: /etc/keys/agent\nssh_known_hosts: /etc/keys/known\n";
    (Server(child), config(&source, keys))
}

#[test]
fn a_commit_comes_over_ssh_with_the_key_and_the_known_host_that_are_configured() {
    let node = Node::new();
    let repository = repository(&node);
    let (_sshd, config) = sshd(&node, repository.path.to_str().unwrap());
    // The repository is this user's and git is root's there: git asks to be told that this is meant.
    node.sh(&format!("git config --system --add safe.directory '{}'", repository.path.display()));
    let _agent = node.agent(&config);
    until("the first commit is in force", SOON, || node.sysctl(KEY) == "61");
    repository.commit(&[("tiers/t.yaml", &tier(62))]);
    let took = until("the second is in force", Duration::from_millis(2_600), || node.sysctl(KEY) == "62");
    println!("commit to kernel over ssh: {took:?}");
}

#[test]
fn an_ssh_host_that_nobody_knows_is_not_believed() {
    let node = Node::new();
    let repository = repository(&node);
    let (_sshd, config) = sshd(&node, repository.path.to_str().unwrap());
    node.sh("ssh-keygen -q -t ed25519 -N '' -f /etc/keys/other
             printf '[127.0.0.1]:2222 %s\n' \"$(cut -d' ' -f1,2 /etc/keys/other.pub)\" > /etc/keys/known");
    let _agent = node.agent(&config);
    until("it is told", SOON, || sentence(&node).contains("Host key verification failed"));
    assert!(sentence(&node).starts_with("no spec yet"), "{}", sentence(&node));
    assert_eq!(node.sysctl(KEY), "7200");
}

/// git's own server program behind a small TLS server.
const HTTPS: &str = r"
import http.server, os, ssl, subprocess, sys
root, backend = sys.argv[1], os.path.join(subprocess.check_output(['git', '--exec-path'], text=True).strip(), 'git-http-backend')
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.0'
    def log_message(self, *_): pass
    def answer(self):
        path, _, query = self.path.partition('?')
        body = self.rfile.read(int(self.headers.get('content-length') or 0))
        env = dict(os.environ, GIT_PROJECT_ROOT=root, GIT_HTTP_EXPORT_ALL='1', PATH_INFO=path, QUERY_STRING=query,
            REQUEST_METHOD=self.command, CONTENT_TYPE=self.headers.get('content-type', ''), CONTENT_LENGTH=str(len(body)),
            HTTP_GIT_PROTOCOL=self.headers.get('git-protocol', ''), HTTP_CONTENT_ENCODING=self.headers.get('content-encoding', ''))
        out = subprocess.run([backend], input=body, env=env, capture_output=True).stdout
        head, _, rest = out.partition(b'\r\n\r\n')
        fields = dict(line.split(': ', 1) for line in head.decode().split('\r\n'))
        self.send_response(int(fields.pop('Status', '200 OK').split()[0]))
        for name, value in fields.items(): self.send_header(name, value)
        self.send_header('Content-Length', str(len(rest)))
        self.end_headers()
        self.wfile.write(rest)
    do_GET = do_POST = answer
server = http.server.ThreadingHTTPServer(('127.0.0.1', 9443), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain('/etc/tls/cert.pem', '/etc/tls/key.pem')
server.socket = context.wrap_socket(server.socket, server_side=True)
print('listens', flush=True)
server.serve_forever()
";

fn https(node: &Node, root: &std::path::Path) -> Server {
    node.sh("mkdir -p /etc/tls && cd /etc/tls && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
             -keyout key.pem -out cert.pem -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 2>/dev/null");
    let mut command = node.command("python3");
    let mut child = command.args(["-c", HTTPS]).arg(root).stdout(Stdio::piped()).spawn().unwrap();
    let mut word = [0; 7];
    child.stdout.as_mut().unwrap().read_exact(&mut word).unwrap();
    Server(child)
}

#[test]
fn a_commit_comes_over_https_only_where_the_certificate_is_one_that_the_machine_trusts() {
    let node = Node::new();
    let repository = repository(&node);
    node.sh(&format!("git config --system --add safe.directory '{}/.git'", repository.path.display()));
    let _https = https(&node, node.dir.path());
    let _agent = node.agent(&config("git+https://127.0.0.1:9443/spec/.git#main", ""));
    until("a stranger's certificate is told", SOON, || sentence(&node).contains("certificate"));
    assert_eq!(node.sysctl(KEY), "7200");
    // git reads the distribution's bundle; the node has its own copy of it.
    node.sh("mkdir -p /etc/ssl/certs && cat /etc/tls/cert.pem >> /etc/ssl/certs/ca-certificates.crt");
    until("the first commit is in force", SOON, || node.sysctl(KEY) == "61");
    repository.commit(&[("tiers/t.yaml", &tier(62))]);
    until("the second is in force", SOON, || node.sysctl(KEY) == "62");
}

#[test]
fn a_folder_is_watched_and_what_is_saved_is_in_the_kernel_at_once() {
    let node = Node::new();
    let repository = repository(&node);
    // The poll interval is long: it is the watch that tells.
    let folder = format!("node: n1\nsource: {}\npoll_interval: 1h\n", repository.path.display());
    let _agent = node.agent(&folder);
    until("in force", SOON, || node.sysctl(KEY) == "61");
    let mut slowest = Duration::ZERO;
    for value in 62..66 {
        std::fs::write(repository.path.join("tiers/t.yaml"), tier(value)).unwrap();
        slowest = slowest.max(until("saved and in force", SOON, || node.sysctl(KEY) == value.to_string()));
    }
    // Looked at by the clock it would have taken a second or two each.
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    std::fs::write(repository.path.join("tiers/t.yaml"), "version: 1\nbogus: {}\n").unwrap();
    until("a bad one is told", SOON, || sentence(&node).contains("tiers/t.yaml:2"));
    assert_eq!(node.sysctl(KEY), "65");
}

#[test]
fn a_source_that_is_away_leaves_the_last_good_spec_in_force_even_after_a_restart() {
    let node = Node::new();
    let repository = repository(&node);
    let config = config(&repository.source(), "");
    let agent = node.agent(&config);
    until("in force", SOON, || node.sysctl(KEY) == "61");
    until("kept", SOON, || node.holds("test -s /var/lib/evenkeel/last-good"));
    drop(agent);
    let away = repository.path.with_extension("away");
    std::fs::rename(&repository.path, &away).unwrap();
    node.sh(&format!("echo 7200 > /proc/sys/{}", KEY.replace('.', "/")));
    let agent = node.agent(&config);
    until("enforced without the source", SOON, || node.sysctl(KEY) == "61");
    node.sh(&format!("echo 7200 > /proc/sys/{}", KEY.replace('.', "/")));
    until("and kept so", Duration::from_secs(2), || node.sysctl(KEY) == "61");
    until("the trouble is told", SOON, || sentence(&node).contains("source: "));
    assert!(sentence(&node).starts_with("even: 1 item"), "{}", sentence(&node));
    // It comes back with something newer.
    std::fs::rename(&away, &repository.path).unwrap();
    repository.commit(&[("tiers/t.yaml", &tier(63))]);
    until("the newer one is in force", SOON, || node.sysctl(KEY) == "63");
    until("and the trouble is over", SOON, || !sentence(&node).contains("source: "));
    drop(agent);
}

/// A port on the node's loopback that takes everybody in and never says a word.
fn silence(node: &Node) -> Server {
    let script = "import socket\ns = socket.create_server(('127.0.0.1', 9009))\nprint('listens', flush=True)\n\
                  kept = []\nwhile True: kept.append(s.accept())";
    let mut child = node.command("python3").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut word = [0; 7];
    child.stdout.as_mut().unwrap().read_exact(&mut word).unwrap();
    Server(child)
}

/// How long the agent takes to end.
fn end(agent: &mut Daemon) -> Duration {
    agent.signal("TERM");
    until("ended", SOON, || agent.child.try_wait().unwrap().is_some())
}

#[test]
fn a_remote_that_never_answers_delays_neither_a_repair_nor_the_end() {
    let node = Node::new();
    let repository = repository(&node);
    let agent = node.agent(&config(&repository.source(), ""));
    until("in force", SOON, || node.sysctl(KEY) == "61");
    until("kept", SOON, || node.holds("test -s /var/lib/evenkeel/last-good"));
    drop(agent);
    let _silence = silence(&node);
    let mut agent = node.agent(&config("git+http://127.0.0.1:9009/spec.git#main", ""));
    until("the fetch hangs", SOON, || node.holds("ss -Htn state established dport = :9009 | grep -q ."));
    for _ in 0..5 {
        node.sh(&format!("echo 7200 > /proc/sys/{}", KEY.replace('.', "/")));
        until("repaired meanwhile", Duration::from_secs(1), || node.sysctl(KEY) == "61");
    }
    assert!(node.holds("ss -Htn state established dport = :9009 | grep -q ."), "it still hangs");
    let took = end(&mut agent);
    assert!(took < Duration::from_secs(1), "it ended after {took:?}");
}
