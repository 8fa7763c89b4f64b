//! A worker that sleeps on its connection, and whoever it is connected to: what a router forgets. Neither asks for
//! keepalives.

use crate::trouble::{Doing, Result};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// The word that starts it.
pub(crate) const ROLE: &str = "sleeper";
/// Where the database would be.
pub(crate) const PORT: u16 = 5432;
/// How long it sleeps; then it is gone.
const SLEEP: Duration = Duration::from_secs(20);

/// Connect, sleep, end; sooner when `keeper`, the process of the node, is gone.
pub(crate) fn sleep(keeper: &str) -> Result<()> {
    let doing = || "sleep on a connection".to_owned();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).doing(doing)?;
    let _connection = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)).doing(doing)?;
    let _other_end = listener.accept().doing(doing)?;
    let (node, end) = (Path::new("/proc").join(keeper), Instant::now() + SLEEP);
    while node.exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
