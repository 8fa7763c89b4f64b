//! One look at many established connections of one port, on loopback: what it costs when nobody's holder is known yet,
//! and when all are, against a floor: the same dump by the kernel, received and thrown away.

use crate::support::Node;
use crate::{Figure, cpu_ns};
use evenkeel_core::{Sensor, Side, SocketQuestion};
use evenkeel_host::Host;
use std::io::{BufRead, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

const PORT: u16 = 5432;

pub(crate) fn measure() -> Vec<Figure> {
    let node = Node::new();
    let me = std::env::current_exe().unwrap();
    let mut figures = vec![];
    for (many, cold, warm) in [
        (1_000, "a look at 1,000 connections, holders unknown", "at 1,000, holders known"),
        (10_000, "a look at 10,000 connections, holders unknown", "at 10,000, holders known"),
    ] {
        // In a process namespace of its own, so that no container of this machine is looked into.
        let mut command = node.command("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"]).arg(&me);
        let out = command.args(["inner-sockets", &many.to_string()]).output().unwrap();
        assert!(out.status.success(), "{}", crate::support::text(&out));
        let told = String::from_utf8(out.stdout).unwrap();
        let ms: Vec<f64> = told.split_whitespace().map(|ns| ns.parse::<f64>().unwrap() / 1e6).collect();
        let [floor, first, again] = ms[..] else { panic!("{told}") };
        let aim = if many == 1_000 { "≤ 5 ms" } else { "≤ 50 ms" };
        for (what, took) in [(cold, first), (warm, again)] {
            let value = format!("{took:.2} ms, floor {floor:.2} ms, {:.1} : 1", took / floor);
            figures.push(Figure::new(what, value, aim));
        }
    }
    figures
}

/// On the node: make the connections, and print the nanoseconds of CPU of the floor, a first look, and a later one.
pub(crate) fn on_the_node(many: &str) {
    let _ends = [hold("inner-accept", many), hold("inner-connect", many)];
    let count: usize = many.parse().unwrap();
    let question = SocketQuestion { side: Side::Server, port: PORT, peers: vec![] };
    let known = Host::new("/run/none".into());
    let look = |host: &Host| {
        let seen = host.sockets(&question).unwrap();
        assert_eq!((seen.sockets.len(), seen.blind), (count, vec![]));
        assert!(seen.sockets.iter().all(|seen| seen.owner.is_some()));
    };
    look(&known);
    let floor = median(|| floor(count));
    let cold = median(|| look(&Host::new("/run/none".into())));
    let warm = median(|| look(&known));
    println!("{floor} {cold} {warm}");
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

/// A program that holds one end of every connection, and says when it does.
struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn hold(how: &str, many: &str) -> Held {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([how, many]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    said.read_line(&mut String::new()).unwrap();
    Held(child)
}

/// Take that many connections and keep them.
pub(crate) fn accept(many: &str) -> ! {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).unwrap();
    println!("listening");
    std::io::stdout().flush().unwrap();
    let many: usize = many.parse().unwrap();
    let kept: Vec<TcpStream> = (0..many).map(|_| listener.accept().unwrap().0).collect();
    assert_eq!(kept.len(), many);
    rest(kept)
}

/// Make that many connections and keep them.
pub(crate) fn connect(many: &str) -> ! {
    let many: usize = many.parse().unwrap();
    let kept: Vec<TcpStream> =
        (0..many).map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)).unwrap()).collect();
    // The last ones are taken a moment later.
    std::thread::sleep(std::time::Duration::from_millis(500));
    println!("connected");
    std::io::stdout().flush().unwrap();
    rest(kept)
}

fn rest(kept: Vec<TcpStream>) -> ! {
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
