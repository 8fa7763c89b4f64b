//! One look at many established connections of one port, on loopback, as a pass makes it: what it costs where all are
//! protected, where none is and their holders are known, and where not even those are; against a floor: the same dump by
//! the kernel, received and thrown away.

use crate::support::Node;
use crate::{Figure, cpu_ns};
use evenkeel_core::{Holders, Sensor, Side, SocketQuestion};
use evenkeel_host::Host;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

const PORT: u16 = 5432;
/// Longer than the kernel's own keepalive timer, an eighth late.
const HOURS_MS: u64 = 7_200_000 * 9 / 8;

pub(crate) fn measure() -> Vec<Figure> {
    let node = Node::new();
    let mut figures = vec![];
    for (many, shown, most) in [("1000", "1,000", "≤ 5 ms"), ("10000", "10,000", "≤ 50 ms")] {
        let [floor, known, unknown] = looks(&node, many, "unprotected");
        let [_, protected, _] = looks(&node, many, "protected");
        for (what, took, aim) in [
            ("protected connections", protected, most),
            ("unprotected ones, holders known", known, most),
            ("unprotected ones, no holder known", unknown, ""),
        ] {
            let value = format!("{took:.2} ms, floor {floor:.2} ms, {:.1} : 1", took / floor);
            figures.push(Figure::new(format!("a look at {shown} {what}"), value, aim));
        }
    }
    figures
}

/// Milliseconds of CPU of the floor, of a look like the ones before, and of a first one.
fn looks(node: &Node, many: &str, how: &str) -> [f64; 3] {
    let me = std::env::current_exe().unwrap();
    // In a process namespace of its own: no container of this machine is looked into, and whoever holds the other ends
    // is as far out of sight as if they were on another machine.
    let mut here = node.command("unshare");
    here.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"]).arg(&me);
    here.args(["inner-sockets", many, how]);
    let mut here = Held::start(here);
    let mut there = node.command(&me);
    there.args(["inner-connect", many]);
    let _there = Held::start(there);
    drop(here.child.stdin.take());
    let mut told = String::new();
    here.said.read_to_string(&mut told).unwrap();
    let ms: Vec<f64> = told.split_whitespace().map(|ns| ns.parse::<f64>().unwrap() / 1e6).collect();
    ms.try_into().unwrap_or_else(|_| panic!("{told}"))
}

/// On the node: print the nanoseconds of CPU of the floor, a later look, and a first one, at connections that have a keepalive
/// timer (`protected`) or none.
pub(crate) fn on_the_node(many: &str, how: &str) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["inner-accept", many, how]);
    let _ours = Held::start(command);
    say("listening");
    std::io::stdin().read_to_string(&mut String::new()).unwrap();
    let count: usize = many.parse().unwrap();
    let question = SocketQuestion {
        side: Side::Server,
        port: PORT,
        peers: vec![],
        holders: Holders::OfTheUnprotected { armed_at_most_ms: HOURS_MS },
    };
    let protected = how == "protected";
    let known = Host::new("/run/none".into());
    let look = |host: &Host| {
        let seen = host.sockets(&question).unwrap();
        assert_eq!((seen.sockets.len(), seen.blind), (count, vec![]));
        assert!(seen.sockets.iter().all(|seen| seen.owner.is_none() == protected));
    };
    look(&known);
    let floor = median(|| floor(count));
    let cold = median(|| look(&Host::new("/run/none".into())));
    let warm = median(|| look(&known));
    println!("{floor} {warm} {cold}");
}

fn median(work: impl Fn()) -> u64 {
    let mut took: Vec<u64> = (0..15)
        .map(|_| {
            std::thread::sleep(crate::pass::PAUSE);
            let before = cpu_ns(std::process::id());
            work();
            cpu_ns(std::process::id()) - before
        })
        .collect();
    took.sort_unstable();
    took[took.len() / 2]
}

/// A program that holds one end of every connection; it said so.
struct Held {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Held {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.ends_with("ing\n"), "{line}");
        Self { child, said }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(line: &str) {
    println!("{line}");
    std::io::stdout().flush().unwrap();
}

/// Take that many connections and keep them.
pub(crate) fn accept(many: &str, how: &str) -> ! {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).unwrap();
    say("listening");
    let many: usize = many.parse().unwrap();
    let one = |_| {
        let stream = listener.accept().unwrap().0;
        nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::KeepAlive, &(how == "protected"))
            .unwrap();
        stream
    };
    rest(&(0..many).map(one).collect::<Vec<TcpStream>>())
}

/// Make that many connections and keep them.
pub(crate) fn connect(many: &str) -> ! {
    let many: usize = many.parse().unwrap();
    let one = |_| TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)).unwrap();
    let kept: Vec<TcpStream> = (0..many).map(one).collect();
    // The last ones are taken a moment later.
    std::thread::sleep(Duration::from_secs(1));
    say("holding");
    rest(&kept)
}

fn rest(kept: &[TcpStream]) -> ! {
    loop {
        std::thread::park();
        assert!(!kept.is_empty());
    }
}

/// Both of the kernel's dumps, v4 and v6, of the same port and with the same information, received and thrown away.
fn floor(count: usize) {
    use nix::sys::socket as sock;
    let protocol = sock::SockProtocol::NetlinkSockDiag;
    let flags = sock::SockFlag::SOCK_CLOEXEC;
    let fd = sock::socket(sock::AddressFamily::Netlink, sock::SockType::Raw, flags, protocol).unwrap();
    let at = std::os::fd::AsRawFd::as_raw_fd(&fd);
    let mut bytes = 0;
    for family in [2_u8, 10] {
        let mut ask = vec![72, 0, 0, 0, 20, 0, 1, 3, 1, 0, 0, 0, 0, 0, 0, 0, family, 6, 2, 0, 2, 0, 0, 0];
        ask.extend(PORT.to_be_bytes());
        ask.resize(72, 0);
        sock::send(at, &ask, sock::MsgFlags::empty()).unwrap();
        let mut piece = vec![0; 64 << 10];
        loop {
            let got = sock::recv(at, &mut piece, sock::MsgFlags::empty()).unwrap();
            bytes += got;
            // NLMSG_DONE comes alone, or as the last of a piece.
            if got < 24 || piece[got - 20 + 4..got - 20 + 6] == [3, 0] {
                break;
            }
        }
    }
    assert!(bytes > count * 300, "the floor received something: {bytes}");
}
