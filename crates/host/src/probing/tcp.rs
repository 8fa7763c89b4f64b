//! A connection, and what a memcached says on one.

use evenkeel_core::Probing;
use std::io;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The most that a memcached may say; its statistics are a tenth of it.
const LONGEST: usize = 64 << 10;

/// The first of a name's addresses that lets us in.
pub(super) async fn connect(address: &str) -> Result<TcpStream, String> {
    let found = tokio::net::lookup_host(address).await;
    let mut last = "the name has no address".to_owned();
    for one in found.map_err(|error| format!("look the name up: {}", told(&error)))? {
        match TcpStream::connect(one).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = told(&error),
        }
    }
    Err(last)
}

/// An error without the system's number for it.
pub(super) fn told(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "the connection was reset".to_owned(),
        _ => error.to_string(),
    }
}

pub(super) async fn open(address: &str) -> Probing {
    match connect(address).await {
        Ok(_) => Probing::Answers,
        Err(why) => Probing::Failed(why),
    }
}

/// Whether a memcached says its version, and its statistics to their end.
pub(super) async fn memcached(address: &str) -> Probing {
    let said = async {
        let mut stream = connect(address).await?;
        stream.write_all(b"version\r\nstats\r\n").await.map_err(|error| told(&error))?;
        let mut said = vec![];
        while !whole(&said) {
            let mut piece = [0; 4096];
            match stream.read(&mut piece).await.map_err(|error| told(&error))? {
                0 => return Err("it closed the connection".to_owned()),
                length => said.extend_from_slice(&piece[..length]),
            }
            if said.len() > LONGEST
                || !(said.starts_with(b"VERSION ") || b"VERSION ".starts_with(&said[..said.len().min(8)]))
            {
                return Err("what answers is no memcached".to_owned());
            }
        }
        Ok(())
    };
    match said.await {
        Ok(()) => Probing::Answers,
        Err(why) => Probing::Failed(why),
    }
}

fn whole(said: &[u8]) -> bool {
    said.starts_with(b"VERSION ") && said.ends_with(b"\r\nEND\r\n")
}
