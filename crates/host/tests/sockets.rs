//! Connections of a real kernel, in network namespaces of the test's own. Needs root, python3 and nft.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::{SOON, alone_with_its_processes as alone, comes_true, sh, until};
use evenkeel_core::{
    Actuator, Class, Holders, Sensor, Side, SocketPowers, SocketQuestion, SocketSeen, SocketTimer,
    SocketTimers, Step, chain,
};
use evenkeel_host::Host;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const PORT: u16 = 5432;
const TIMERS: SocketTimers =
    SocketTimers { keepalive_time: 60, keepalive_intvl: 10, keepalive_probes: 3, user_timeout_ms: 70_000 };

fn host() -> Host {
    sh("ip link set lo up");
    Host::new("/run/none".into())
}

fn question(side: Side, port: u16, peers: &[&str]) -> SocketQuestion {
    let peers = peers.iter().map(|net| net.parse().unwrap()).collect();
    SocketQuestion { side, port, peers, holders: Holders::All }
}

fn clients(host: &Host) -> Vec<SocketSeen> {
    let seen = host.sockets(&question(Side::Client, PORT, &[])).unwrap();
    assert_eq!(seen.blind, [""; 0]);
    seen.sockets
}

/// Both ends of a connection.
fn connected(to: &str) -> (TcpListener, TcpStream, TcpStream) {
    let listener = TcpListener::bind(to).unwrap();
    let (client, server) = joined(&listener, to);
    (listener, client, server)
}

fn joined(listener: &TcpListener, to: &str) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(to).unwrap();
    (client, listener.accept().unwrap().0)
}

fn tune(host: &mut Host, seen: &SocketSeen) -> Result<(), evenkeel_core::Fault> {
    let owner = seen.owner.as_ref().unwrap();
    host.perform(&Step::TuneSocket { socket: seen.id, holder: (owner.pid, owner.fd), timers: TIMERS })
}

fn free(host: &mut Host, seen: &SocketSeen) -> Result<(), evenkeel_core::Fault> {
    host.perform(&Step::FreeSocket { socket: seen.id })
}

/// The one client whose end is here.
fn at(host: &Host, local: SocketAddr) -> SocketSeen {
    clients(host).into_iter().find(|seen| seen.id.local == local).expect("it is still there")
}

/// A python program that says a line and then does as it is told, line by line.
struct Python {
    child: Child,
    told: Option<ChildStdin>,
    said: BufReader<ChildStdout>,
}

impl Python {
    fn start(prefix: &[&str], program: &str) -> Self {
        let head = "import socket,os,sys\ndef say(*a): print(*a, flush=True)\ndef go(): return sys.stdin.readline()\n";
        let words: Vec<&str> = prefix.iter().copied().chain(["python3", "-c"]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(format!("{head}{program}"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (told, said) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, told, said }
    }

    fn hears(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn go(&mut self) {
        self.told.as_mut().unwrap().write_all(b"\n").unwrap();
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        drop(self.told.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_look_sees_exactly_what_is_asked_for() {
    if !alone("a_look_sees_exactly_what_is_asked_for") {
        return;
    }
    let host = host();
    let (v4, v6) = (format!("127.0.0.1:{PORT}"), format!("[::1]:{PORT}"));
    // Sockets for v6 with v4 addresses, at both ends.
    let mapped = format!("[::ffff:127.0.0.9]:{PORT}");
    let [four, six, nine] = [&v4, &v6, &mapped].map(|end| TcpListener::bind(end).unwrap());
    let other = TcpListener::bind("127.0.0.1:5433").unwrap();
    let mut kept = vec![joined(&four, &v4), joined(&four, &v4), joined(&other, "127.0.0.1:5433")];
    kept.push(joined(&six, &v6));
    kept.push(joined(&nine, &mapped));
    let waiting = TcpListener::bind(format!("127.0.0.7:{PORT}")).unwrap();
    let unaccepted = TcpStream::connect(waiting.local_addr().unwrap()).unwrap();

    let ends = |side, peers: &[&str]| -> BTreeSet<(SocketAddr, SocketAddr)> {
        let seen = host.sockets(&question(side, PORT, peers)).unwrap();
        assert_eq!(seen.blind, [""; 0]);
        let ends: Vec<_> = seen.sockets.iter().map(|seen| (seen.id.local, seen.id.remote)).collect();
        assert!(ends.is_sorted(), "{ends:?}");
        ends.into_iter().collect()
    };
    let of = |streams: &[&TcpStream]| -> BTreeSet<(SocketAddr, SocketAddr)> {
        let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        let ends = |stream: &&TcpStream| {
            (canonical(stream.local_addr().unwrap()), canonical(stream.peer_addr().unwrap()))
        };
        streams.iter().map(ends).collect()
    };
    let (a, b, six, nine) = (&kept[0], &kept[1], &kept[3], &kept[4]);
    assert!(nine.0.local_addr().unwrap().is_ipv6() && nine.1.peer_addr().unwrap().is_ipv6());
    assert_eq!(ends(Side::Client, &[]), of(&[&a.0, &b.0, &six.0, &nine.0, &unaccepted]));
    assert_eq!(ends(Side::Client, &["127.0.0.1"]), of(&[&a.0, &b.0]));
    assert_eq!(ends(Side::Client, &["127.0.0.8/31"]), of(&[&nine.0]));
    assert_eq!(ends(Side::Client, &["10.0.0.0/8", "127.0.0.9", "::1"]), of(&[&six.0, &nine.0]));
    assert_eq!(ends(Side::Client, &["fd00::/8", "10.0.0.0/8"]), of(&[]));
    assert_eq!(ends(Side::Client, &["::/0"]), of(&[&six.0]));
    // What was not accepted yet is established too, and is nobody's.
    let servers = ends(Side::Server, &[]);
    assert!(servers.is_superset(&of(&[&a.1, &b.1, &six.1, &nine.1])) && servers.len() == 5, "{servers:?}");
    assert_eq!(ends(Side::Server, &["::1/128"]), of(&[&six.1]));
    let many: Vec<String> = (0..1100).map(|n| format!("10.{}.{}.0/24", n / 256, n % 256)).collect();
    let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(ends(Side::Client, &many), of(&[]), "more networks than the kernel is told");
    many.push("127.0.0.1");
    assert_eq!(ends(Side::Client, &many), of(&[&a.0, &b.0]));

    let seen = host.sockets(&question(Side::Client, 5433, &[])).unwrap().sockets;
    assert_eq!(seen.len(), 1);
    let one = &seen[0];
    assert_eq!((one.id.netns, one.timer, one.expires_ms, one.retransmits), (0, SocketTimer::Off, 0, 0));
    assert!(one.rto_ms >= 200 && one.unacked == 0, "{one:?}");
    assert_eq!(one.id.cookie, rustix::net::sockopt::socket_cookie(&kept[2].0).unwrap());
    std::thread::sleep(Duration::from_millis(300));
    let later = &host.sockets(&question(Side::Client, 5433, &[])).unwrap().sockets[0];
    assert!(later.last_data_recv_ms >= one.last_data_recv_ms + 250, "{one:?} {later:?}");
    drop(kept);
    assert_eq!(ends(Side::Client, &["127.0.0.1"]), of(&[]), "closed ones are not established");
}

#[test]
fn whoever_holds_it_is_named_after_a_fork_and_a_move_too() {
    if !alone("whoever_holds_it_is_named_after_a_fork_and_a_move_too") {
        return;
    }
    let host = host();
    let listener = TcpListener::bind(("127.0.0.1", PORT)).unwrap();
    let (client, _server) = joined(&listener, &format!("127.0.0.1:{PORT}"));
    let (local, ours) = (client.local_addr().unwrap(), std::process::id());
    let holder = |local| at(&host, local).owner.map(|owner| (owner.pid, owner.fd));
    let fd = |stream: &TcpStream| stream.as_raw_fd().unsigned_abs();
    assert_eq!(holder(local), Some((ours, fd(&client))));
    let owner = at(&host, local).owner.unwrap();
    let comm = std::fs::read_to_string("/proc/self/comm").unwrap();
    assert_eq!(owner.comm, comm.trim());
    // Known by now, and moved.
    let moved = client.try_clone().unwrap();
    assert_ne!(fd(&moved), fd(&client));
    drop(client);
    assert_eq!(holder(local), Some((ours, fd(&moved))));
    // In its place stands another one.
    let before = fd(&moved);
    let (other, _end) = joined(&listener, &format!("127.0.0.1:{PORT}"));
    let again = rustix::io::fcntl_dupfd_cloexec(&moved, 900).unwrap();
    drop(moved);
    let taken: OwnedFd = rustix::io::fcntl_dupfd_cloexec(&other, before.cast_signed()).unwrap();
    assert_eq!(taken.as_raw_fd().unsigned_abs(), before);
    drop(other);
    assert_eq!(holder(local), Some((ours, again.as_raw_fd().unsigned_abs())));

    let mut forks = Python::start(
        &[],
        &format!(
            "s=socket.create_connection(('127.0.0.1',{PORT}))\nsay(s.getsockname()[1])\ngo()\np=os.fork()\nif p==0:\n  say(os.getpid())\n  go()\n  os._exit(0)\nos.wait()\nsay('alone')\ngo()\n"
        ),
    );
    let _held = listener.accept().unwrap();
    let local = SocketAddr::from(([127, 0, 0, 1], forks.hears().parse::<u16>().unwrap()));
    assert_eq!(holder(local).unwrap().0, forks.child.id());
    forks.go();
    let child: u32 = forks.hears().parse().unwrap();
    // A look that knows nothing yet names the child; one that knew the parent may go on naming it, who does hold it.
    let fresh = Host::new("/run/none".into());
    assert_eq!(at(&fresh, local).owner.unwrap().pid, child);
    assert_eq!(holder(local).unwrap().0, forks.child.id());
    forks.go();
    assert_eq!(forks.hears(), "alone");
    assert_eq!(at(&fresh, local).owner.unwrap().pid, forks.child.id());
    drop(forks);
    assert!(comes_true(SOON, || clients(&host).iter().all(|seen| seen.id.local != local)));
}

#[test]
fn of_many_some_are_checked_each_time_and_all_in_turn() {
    if !alone("of_many_some_are_checked_each_time_and_all_in_turn") {
        return;
    }
    let host = host();
    let listener = TcpListener::bind(("127.0.0.1", PORT)).unwrap();
    let mut ends: Vec<_> = (0..450).map(|_| joined(&listener, &format!("127.0.0.1:{PORT}"))).collect();
    let fds = || -> Vec<u32> { clients(&host).iter().map(|seen| seen.owner.as_ref().unwrap().fd).collect() };
    fds();
    for round in 0..20 {
        let (client, _) = &mut ends[round * 22];
        let moved = TcpStream::from(rustix::io::fcntl_dupfd_cloexec(&*client, 950).unwrap());
        let (local, fd) = (moved.local_addr().unwrap(), moved.as_raw_fd().unsigned_abs());
        *client = moved;
        fds();
        assert_eq!(at(&host, local).owner.unwrap().fd, fd, "450 are checked in two looks");
    }
}

#[test]
fn one_that_is_nobodys_is_told_and_is_looked_for_again_when_somebody_takes_it() {
    if !alone("one_that_is_nobodys_is_told_and_is_looked_for_again_when_somebody_takes_it") {
        return;
    }
    let host = host();
    let listener = TcpListener::bind(("127.0.0.1", PORT)).unwrap();
    let _client = TcpStream::connect(("127.0.0.1", PORT)).unwrap();
    let owner = || host.sockets(&question(Side::Server, PORT, &[])).unwrap().sockets[0].owner.clone();
    assert_eq!(owner(), None, "not accepted yet");
    let (server, _) = listener.accept().unwrap();
    assert_eq!(owner().unwrap().fd, server.as_raw_fd().unsigned_abs());
}

#[test]
fn a_live_connection_takes_other_timers_and_no_other_connection_does() {
    if !alone("a_live_connection_takes_other_timers_and_no_other_connection_does") {
        return;
    }
    let mut host = host();
    let listener = TcpListener::bind(("127.0.0.1", PORT)).unwrap();
    let to = format!("127.0.0.1:{PORT}");
    let ends: Vec<_> = (0..3).map(|_| joined(&listener, &to)).collect();
    let [plain, armed, other] = [0, 1, 2].map(|n| ends[n].0.local_addr().unwrap());
    rustix::net::sockopt::set_socket_keepalive(&ends[1].0, true).unwrap();
    assert_eq!(at(&host, plain).timer, SocketTimer::Off);
    let seen = at(&host, armed);
    assert!(seen.timer == SocketTimer::Keepalive && seen.expires_ms > 7_000_000, "{seen:?}");
    for local in [plain, armed] {
        let before = at(&host, local);
        tune(&mut host, &before).unwrap();
        let after = at(&host, local);
        assert_eq!(after.timer, SocketTimer::Keepalive);
        assert!(after.expires_ms <= 60_000 && after.expires_ms > 50_000, "{after:?}");
        // Doing it twice leaves what doing it once leaves.
        tune(&mut host, &before).unwrap();
        assert!(at(&host, local).expires_ms <= 60_000);
    }
    for (stream, _) in &ends[..2] {
        use rustix::net::sockopt as get;
        assert_eq!(get::tcp_keepidle(stream).unwrap().as_secs(), 60);
        assert_eq!(get::tcp_keepintvl(stream).unwrap().as_secs(), 10);
        assert_eq!(get::tcp_keepcnt(stream).unwrap(), 3);
        assert_eq!(get::tcp_user_timeout(stream).unwrap(), 70_000);
    }
    assert_eq!(at(&host, other).timer, SocketTimer::Off, "the one beside it is as it was");
    for seen in host.sockets(&question(Side::Server, PORT, &[])).unwrap().sockets {
        assert_eq!(seen.timer, SocketTimer::Off, "nor is the other end touched");
    }

    // A descriptor that by now is something else, while the connection has another.
    let seen = at(&host, other);
    let (ours, theirs) = (std::process::id(), seen.owner.as_ref().unwrap().fd);
    let step = |holder| Step::TuneSocket { socket: seen.id, holder, timers: TIMERS };
    let wrong = ends[0].1.as_raw_fd().unsigned_abs();
    host.perform(&step((ours, wrong))).unwrap();
    assert!(at(&host, other).expires_ms <= 60_000, "found by its inode");
    host.perform(&step((ours, 9_999))).unwrap();
    host.perform(&step((ours, 0))).unwrap();

    // A process that does not hold it.
    let sleeper = Python::start(&[], "go()");
    let fault = host.perform(&step((sleeper.child.id(), theirs))).unwrap_err();
    let told = chain(&fault);
    assert!(
        told.contains("does not hold that connection") && told.contains(&format!("(pid {ours}) does")),
        "{told}"
    );
    assert_eq!(fault.class, Class::Trouble);
    // A process that is gone, and a connection that is.
    let gone = sleeper.child.id();
    drop(sleeper);
    host.perform(&step((gone, 3))).unwrap();
    let mut other_cookie = seen.id;
    other_cookie.cookie += 1_000_000;
    host.perform(&Step::TuneSocket { socket: other_cookie, holder: (ours, theirs), timers: TIMERS }).unwrap();
    drop(ends);
    host.perform(&step((ours, theirs))).unwrap();

    // The duplicate is not kept: the end of one is the end of it.
    let (client, mut server) = joined(&listener, &to);
    let seen = at(&host, client.local_addr().unwrap());
    tune(&mut host, &seen).unwrap();
    drop(client);
    server.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(server.read(&mut [0]).unwrap(), 0, "the other end hears of it");
}

#[test]
fn a_stuck_connection_is_ended_and_one_that_progresses_is_left_alone() {
    if !alone("a_stuck_connection_is_ended_and_one_that_progresses_is_left_alone") {
        return;
    }
    let mut host = host();
    for to in ["127.0.0.1", "::1", "127.0.0.9"] {
        let bound = if to == "::1" { "::1" } else { "::" };
        let listener = TcpListener::bind((bound, PORT)).unwrap();
        let mut client = TcpStream::connect((to, PORT)).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let (mut fine, mut fine_end) =
            (TcpStream::connect((to, PORT)).unwrap(), listener.accept().unwrap().0);
        client.write_all(b"a question").unwrap();
        server.read_exact(&mut [0; 10]).unwrap();
        server.write_all(b"an answer").unwrap();
        client.read_exact(&mut [0; 9]).unwrap();
        let local = client.local_addr().unwrap();
        let idle = at(&host, local);
        free(&mut host, &idle).unwrap();
        assert_eq!(at(&host, local).id, idle.id, "an idle one is not stuck");

        let port = local.port();
        sh(&format!(
            "nft 'add table inet t; add chain inet t in {{ type filter hook input priority 0; }}; add rule inet t in tcp sport {port} drop'"
        ));
        client.write_all(b"into nothing").unwrap();
        let hangs = std::thread::spawn(move || {
            let end = client.read(&mut [0; 8]);
            (end.map_err(|error| error.raw_os_error()), Instant::now())
        });
        until("it retransmits", || at(&host, local).retransmits == 1);
        let early = at(&host, local);
        assert_eq!((early.timer, early.unacked), (SocketTimer::Retransmit, 1));
        free(&mut host, &early).unwrap();
        assert_eq!(at(&host, local).id, early.id, "one retransmission is not stuck");
        until("it retransmits into nothing", || at(&host, local).retransmits >= 3);
        let stuck = at(&host, local);
        let beside = at(&host, fine.local_addr().unwrap());
        free(&mut host, &beside).unwrap();
        let mut other = stuck.id;
        other.cookie += 1;
        host.perform(&Step::FreeSocket { socket: other }).unwrap();
        assert!(!hangs.is_finished(), "a connection of another number is another connection");
        let ended = Instant::now();
        free(&mut host, &stuck).unwrap();
        let (end, heard) = hangs.join().unwrap();
        assert_eq!(end, Err(Some(rustix::io::Errno::CONNABORTED.raw_os_error())));
        println!("to its program's error: {:?}", heard.duration_since(ended));
        assert!(heard.duration_since(ended) < Duration::from_millis(500));
        free(&mut host, &stuck).unwrap();
        fine.write_all(b"x").unwrap();
        fine_end.read_exact(&mut [0]).unwrap();

        // One that was stuck and goes on.
        let mut slow = TcpStream::connect((to, PORT)).unwrap();
        let mut end = listener.accept().unwrap().0;
        let local = slow.local_addr().unwrap();
        sh(&format!("nft flush chain inet t in; nft add rule inet t in tcp sport {} drop", local.port()));
        slow.write_all(b"slowly").unwrap();
        until("it retransmits into nothing", || at(&host, local).retransmits >= 3);
        let was_stuck = at(&host, local);
        sh("nft delete table inet t");
        end.read_exact(&mut [0; 6]).unwrap();
        until("it is acknowledged", || at(&host, local).unacked == 0);
        free(&mut host, &was_stuck).unwrap();
        slow.write_all(b"again").unwrap();
        end.read_exact(&mut [0; 5]).unwrap();
    }
}

#[test]
fn a_connection_that_is_bound_to_an_interface_is_found_and_ended_too() {
    if !alone("a_connection_that_is_bound_to_an_interface_is_found_and_ended_too") {
        return;
    }
    let mut host = host();
    let listener = TcpListener::bind(("127.0.0.1", PORT)).unwrap();
    let mut bound = Python::start(
        &[],
        &format!(
            "s=socket.socket()\ns.setsockopt(socket.SOL_SOCKET,25,b'lo')\ns.connect(('127.0.0.1',{PORT}))\nsay(s.getsockname()[1])\ngo()\ns.send(b'x')\ntry:\n  s.recv(1)\nexcept OSError as e:\n  say(e.errno)\n"
        ),
    );
    let _server = listener.accept().unwrap();
    let port: u16 = bound.hears().parse().unwrap();
    let local = SocketAddr::from(([127, 0, 0, 1], port));
    sh(&format!(
        "nft 'add table inet t; add chain inet t in {{ type filter hook input priority 0; }}; add rule inet t in tcp sport {port} drop'"
    ));
    bound.go();
    until("it retransmits into nothing", || at(&host, local).retransmits >= 3);
    let stuck = at(&host, local);
    free(&mut host, &stuck).unwrap();
    assert_eq!(bound.hears(), "103");
}

#[test]
fn a_containers_connections_are_seen_by_our_numbers_and_retuned_and_freed() {
    if !alone("a_containers_connections_are_seen_by_our_numbers_and_retuned_and_freed") {
        return;
    }
    let mut host = host();
    let program = format!(
        "os.system('ip link set lo up')\nl=socket.create_server(('127.0.0.1',{PORT}))\nc=socket.create_connection(('127.0.0.1',{PORT}))\na=l.accept()\nsay(os.getpid())\ngo()\nos.system('nft \"add table inet t; add chain inet t in {{ type filter hook input priority 0; }}; add rule inet t in tcp dport {PORT} drop\"')\nc.send(b'x')\nsay('sent')\ntry:\n  c.recv(1)\nexcept OSError as e:\n  say(e.errno)\n"
    );
    let unshare = ["unshare", "--pid", "--net", "--fork", "--kill-child", "--mount-proc"];
    let mut container = Python::start(&unshare, &program);
    assert_eq!(container.hears(), "1", "its own numbering");
    // A program that is apart in its network alone is no container.
    let mut apart = Python::start(
        &["unshare", "--net"],
        "os.system('ip link set lo up')\nl=socket.create_server(('127.0.0.1',5432))\nc=socket.create_connection(('127.0.0.1',5432))\nsay('up')\ngo()\n",
    );
    assert_eq!(apart.hears(), "up");
    let seen = clients(&host);
    assert_eq!(seen.len(), 1, "{seen:?}");
    let one = &seen[0];
    let owner = one.owner.clone().unwrap();
    let inside: u64 = sh(&format!("readlink /proc/{}/ns/net", owner.pid)).trim()["net:[".len()..]
        .trim_end_matches(']')
        .parse()
        .unwrap();
    assert_eq!(one.id.netns, inside);
    assert_eq!(owner.comm, "python3");
    let parent = sh(&format!("grep PPid: /proc/{}/status | cut -f2", owner.pid));
    assert_eq!(parent.trim(), container.child.id().to_string(), "its number is ours");

    tune(&mut host, one).unwrap();
    let after = &clients(&host)[0];
    assert!(after.timer == SocketTimer::Keepalive && after.expires_ms <= 60_000, "{after:?}");
    // By a look into its namespace.
    host.perform(&Step::TuneSocket { socket: one.id, holder: (owner.pid, 0), timers: TIMERS }).unwrap();
    container.go();
    assert_eq!(container.hears(), "sent");
    until("it retransmits into nothing", || clients(&host)[0].retransmits >= 3);
    free(&mut host, one).unwrap();
    assert_eq!(container.hears(), "103");
    drop(container);
    free(&mut host, one).unwrap();
    host.perform(&Step::TuneSocket { socket: one.id, holder: (owner.pid, owner.fd), timers: TIMERS })
        .unwrap();
    until("it is gone", || clients(&host).is_empty());
}

#[test]
fn without_rights_it_is_not_applicable_and_says_why() {
    if !alone("without_rights_it_is_not_applicable_and_says_why") {
        return;
    }
    let host = host();
    assert_eq!(host.socket_powers(), SocketPowers::default(), "root may do all of it");
    let (_listener, client, _server) = connected(&format!("127.0.0.1:{PORT}"));
    let local = client.local_addr().unwrap();
    let known = at(&host, local);
    sh(&format!(
        "nft 'add table inet t; add chain inet t in {{ type filter hook input priority 0; }}; add rule inet t in tcp dport {PORT} drop'"
    ));
    (&client).write_all(b"x").unwrap();
    until("it retransmits into nothing", || at(&host, local).retransmits >= 3);
    let holder = Python::start(&[], "go()");
    let theirs = holder.child.id();

    nix::unistd::setresuid(65534.into(), 65534.into(), 65534.into()).unwrap();
    let mut host = Host::new("/run/none".into());
    let powers = host.socket_powers();
    assert_eq!(powers.see, Ok(()));
    assert!(powers.retune.as_ref().is_err_and(|why| why.contains("CAP_SYS_PTRACE")), "{powers:?}");
    assert!(powers.free.as_ref().is_err_and(|why| why.contains("CAP_NET_ADMIN")), "{powers:?}");
    assert!(powers.enter.as_ref().is_err_and(|why| why.contains("CAP_SYS_ADMIN")), "{powers:?}");
    let seen = host.sockets(&question(Side::Client, PORT, &[])).unwrap();
    assert_eq!(seen.sockets[0].id, known.id);
    assert!(seen.blind.iter().any(|why| why.contains("CAP_SYS_PTRACE")), "{:?}", seen.blind);
    let fault = free(&mut host, &known).unwrap_err();
    assert_eq!(fault.class, Class::NotApplicable);
    assert!(chain(&fault).contains("CAP_NET_ADMIN"), "{}", chain(&fault));
    let step = Step::TuneSocket { socket: known.id, holder: (theirs, 3), timers: TIMERS };
    let fault = host.perform(&step).unwrap_err();
    assert_eq!(fault.class, Class::NotApplicable);
    assert!(chain(&fault).contains("CAP_SYS_PTRACE"), "{}", chain(&fault));
}

/// Run a test again under a seccomp filter by which these system calls end with an error number.
fn filtered(test: &str, refused: &[(u32, u32)]) -> bool {
    if std::env::var_os("EVENKEEL_TEST_FILTERED").is_some() {
        return true;
    }
    let refused: Vec<String> = refused.iter().map(|(call, error)| format!("({call},{error})")).collect();
    let script = format!(
        "import ctypes,os,struct,sys\nlibc=ctypes.CDLL(None,use_errno=True)\nrules=[{}]\n\
         code=struct.pack('HBBI',0x20,0,0,0)\nfor nr,err in rules:\n  code+=struct.pack('HBBI',0x15,0,1,nr)+struct.pack('HBBI',6,0,0,0x50000|err)\n\
         code+=struct.pack('HBBI',6,0,0,0x7fff0000)\nbuf=ctypes.create_string_buffer(code,len(code))\n\
         class P(ctypes.Structure): _fields_=[('n',ctypes.c_ushort),('f',ctypes.c_void_p)]\n\
         p=P(len(code)//8,ctypes.cast(buf,ctypes.c_void_p).value)\n\
         libc.prctl(38,1,0,0,0)\nassert libc.prctl(22,2,ctypes.byref(p),0,0)==0,ctypes.get_errno()\n\
         os.environ['EVENKEEL_TEST_FILTERED']='1'\nos.execv(sys.argv[1],sys.argv[1:])\n",
        refused.join(",") + ","
    );
    let mut command = Command::new("python3");
    command.args(["-c", &script]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    let out = command.output().unwrap();
    let (said, cried) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && said.contains("1 passed"), "{said}\n{cried}");
    false
}

#[cfg(target_arch = "x86_64")]
mod calls {
    pub(crate) const SOCKET: u32 = 41;
    pub(crate) const SETNS: u32 = 308;
    pub(crate) const PIDFD_GETFD: u32 = 438;
}
#[cfg(target_arch = "aarch64")]
mod calls {
    pub(crate) const SOCKET: u32 = 198;
    pub(crate) const SETNS: u32 = 268;
    pub(crate) const PIDFD_GETFD: u32 = 438;
}

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
const EAFNOSUPPORT: u32 = 97;

fn tune_ours(host: &mut Host) -> evenkeel_core::Fault {
    let (_listener, client, _server) = connected(&format!("127.0.0.1:{PORT}"));
    let seen = at(host, client.local_addr().unwrap());
    tune(host, &seen).unwrap_err()
}

#[test]
fn under_a_filter_the_unit_is_told_what_to_allow() {
    let name = "under_a_filter_the_unit_is_told_what_to_allow";
    if !alone(name) || !filtered(name, &[(calls::PIDFD_GETFD, EPERM), (calls::SETNS, EPERM)]) {
        return;
    }
    let mut host = host();
    let powers = host.socket_powers();
    assert!(powers.retune.as_ref().is_err_and(|why| why.contains("SystemCallFilter=")), "{powers:?}");
    assert!(powers.enter.as_ref().is_err_and(|why| why.contains("RestrictNamespaces=net")), "{powers:?}");
    assert_eq!((&powers.see, &powers.free), (&Ok(()), &Ok(())));
    let fault = tune_ours(&mut host);
    assert_eq!(fault.class, Class::NotApplicable);
    assert!(chain(&fault).contains("SystemCallFilter="), "{}", chain(&fault));
    let unshare = ["unshare", "--pid", "--net", "--fork", "--kill-child"];
    let mut container = Python::start(&unshare, "say('up')\ngo()\n");
    assert_eq!(container.hears(), "up");
    let seen = Host::new("/run/none".into()).sockets(&question(Side::Client, 1, &[])).unwrap();
    assert!(
        seen.blind.iter().any(|why| why.contains("`python3`") && why.contains("RestrictNamespaces=net")),
        "{seen:?}"
    );
}

#[test]
fn on_an_old_kernel_the_kernel_is_blamed() {
    let name = "on_an_old_kernel_the_kernel_is_blamed";
    if !alone(name) || !filtered(name, &[(calls::PIDFD_GETFD, ENOSYS)]) {
        return;
    }
    let mut host = host();
    assert!(host.socket_powers().retune.is_err_and(|why| why.contains("5.6")));
    let fault = tune_ours(&mut host);
    assert_eq!(fault.class, Class::NotApplicable);
    assert!(chain(&fault).contains("5.6"), "{}", chain(&fault));
}

#[test]
fn where_no_netlink_is_to_be_had_that_is_said() {
    let name = "where_no_netlink_is_to_be_had_that_is_said";
    if !alone(name) || !filtered(name, &[(calls::SOCKET, EAFNOSUPPORT)]) {
        return;
    }
    let host = Host::new("/run/none".into());
    let powers = host.socket_powers();
    assert!(powers.see.as_ref().is_err_and(|why| why.contains("RestrictAddressFamilies=")), "{powers:?}");
    assert!(powers.free.is_err());
    let fault = host.sockets(&question(Side::Client, PORT, &[])).unwrap_err();
    assert_eq!(fault.class, Class::NotApplicable);
    assert!(chain(&fault).contains("AF_NETLINK"), "{}", chain(&fault));
}

#[test]
fn in_a_user_namespace_what_can_be_reached_is_ours() {
    let name = "in_a_user_namespace_what_can_be_reached_is_ours";
    if std::env::var_os("EVENKEEL_TEST_ALONE").is_none() {
        // As an ordinary user; the test's own binary must be readable to them.
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "unshare", "-Urn", "--"]);
        command.arg(format!("/proc/{}/exe", std::process::id()));
        command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env("EVENKEEL_TEST_ALONE", "1");
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("sockets");
        std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
        sh(&format!("chmod 755 {} {}", folder.path().display(), copy.display()));
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "unshare", "-Urn", "--"])
            .arg(&copy);
        command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env("EVENKEEL_TEST_ALONE", "1");
        let out = command.current_dir("/").output().unwrap();
        let (said, cried) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success() && said.contains("1 passed"), "{said}\n{cried}");
        return;
    }
    let mut host = host();
    let powers = host.socket_powers();
    assert_eq!((&powers.see, &powers.free), (&Ok(()), &Ok(())), "this network namespace is ours");
    for why in [&powers.retune, &powers.enter] {
        assert!(why.as_ref().is_err_and(|why| why.contains("user namespace")), "{powers:?}");
    }
    let (_listener, client, _server) = connected(&format!("127.0.0.1:{PORT}"));
    let seen = host.sockets(&question(Side::Client, PORT, &[])).unwrap();
    assert_eq!(seen.sockets.len(), 1);
    assert_eq!(seen.sockets[0].owner.as_ref().unwrap().fd, client.as_raw_fd().unsigned_abs());
    tune(&mut host, &seen.sockets[0]).unwrap();
    let seen = host.sockets(&question(Side::Client, PORT, &[])).unwrap();
    assert!(seen.sockets[0].timer == SocketTimer::Keepalive && seen.sockets[0].expires_ms <= 60_000);
}

#[test]
fn who_holds_a_protected_connection_is_not_looked_for_where_nobody_asks() {
    if !alone("who_holds_a_protected_connection_is_not_looked_for_where_nobody_asks") {
        return;
    }
    let host = host();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (bare, kept) =
        (TcpStream::connect(("127.0.0.1", port)).unwrap(), TcpStream::connect(("127.0.0.1", port)).unwrap());
    let _other_ends = [listener.accept().unwrap(), listener.accept().unwrap()];
    rustix::net::sockopt::set_socket_keepalive(&kept, true).unwrap();
    let holders = Holders::OfTheUnprotected { armed_at_most_ms: 7_200_000 * 9 / 8 };
    let asked = SocketQuestion { holders, ..question(Side::Client, port, &[]) };
    let seen = host.sockets(&asked).unwrap().sockets;
    let owned = |stream: &TcpStream| {
        let local = stream.local_addr().unwrap();
        seen.iter().find(|socket| socket.id.local == local).unwrap().owner.as_ref().map(|owner| owner.pid)
    };
    assert_eq!((owned(&bare), owned(&kept)), (Some(std::process::id()), None));
}
