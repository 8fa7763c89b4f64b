//! The way from a node to the hub: a node's network namespace has nothing in it but a loopback.
//!
//! The keeper listens on the node's own 127.0.0.1 and hands each connection to a Unix socket, which network
//! namespaces do not hold up; the demo takes it there and goes on to the hub. Bytes are copied, never read.

use crate::trouble::{Doing, Result};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a node finds the hub.
pub(crate) const HUB_ON_NODE: &str = "127.0.0.1:8484";

/// On a node: from [`HUB_ON_NODE`] to the Unix socket at `hub`.
pub(crate) fn on_node(hub: PathBuf) -> Result<()> {
    let listener = TcpListener::bind(HUB_ON_NODE).doing(|| format!("listen on {HUB_ON_NODE} of the node"))?;
    std::thread::spawn(move || {
        for inner in listener.incoming().flatten() {
            if let Ok(outer) = UnixStream::connect(&hub) {
                join(Arc::new(inner), Arc::new(outer));
            }
        }
    });
    Ok(())
}

/// On the machine: from the Unix socket at `path`, which is made, to the hub.
pub(crate) fn to_hub(path: &Path, hub: SocketAddr) -> Result<()> {
    let listener = UnixListener::bind(path).doing(|| format!("listen on {}", path.display()))?;
    std::thread::spawn(move || {
        for inner in listener.incoming().flatten() {
            if let Ok(outer) = TcpStream::connect(hub) {
                join(Arc::new(inner), Arc::new(outer));
            }
        }
    });
    Ok(())
}

/// Something that can be read and written by two threads at once, and half closed.
trait Pipe: Send + Sync + 'static {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize>;
    fn write_all(&self, bytes: &[u8]) -> io::Result<()>;
    fn close_writing(&self);
}

macro_rules! pipe {
    ($stream:ty) => {
        impl Pipe for $stream {
            fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
                Read::read(&mut &*self, buffer)
            }
            fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
                Write::write_all(&mut &*self, bytes)
            }
            fn close_writing(&self) {
                let _ = self.shutdown(Shutdown::Write);
            }
        }
    };
}
pipe!(TcpStream);
pipe!(UnixStream);

/// Copy both ways until both ends have said all.
fn join<A: Pipe, B: Pipe>(a: Arc<A>, b: Arc<B>) {
    let (a2, b2) = (Arc::clone(&a), Arc::clone(&b));
    std::thread::spawn(move || copy(&*a, &*b));
    std::thread::spawn(move || copy(&*b2, &*a2));
}

fn copy(from: &impl Pipe, to: &impl Pipe) {
    let mut buffer = [0; 16 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) if to.write_all(&buffer[..n]).is_ok() => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => break,
        }
    }
    to.close_writing();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_a_node_says_reaches_the_hub_and_the_answer_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("hub.sock");
        let hub = TcpListener::bind("127.0.0.1:0").unwrap();
        super::to_hub(&socket, hub.local_addr().unwrap()).unwrap();
        let answering = std::thread::spawn(move || {
            let (mut stream, _): (TcpStream, _) = hub.accept().unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).unwrap();
            stream.write_all(said.to_uppercase().as_bytes()).unwrap();
        });
        let mut node = UnixStream::connect(&socket).unwrap();
        node.write_all(b"a report").unwrap();
        node.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        node.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "A REPORT");
        answering.join().unwrap();
    }
}
