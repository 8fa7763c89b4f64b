//! A stream in the clear that never gives a password away: a server that asks for it as text, or for its MD5, is
//! broken off before the client has heard of it. What is left is SCRAM, which shows neither, and proves the other end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// `AuthenticationOk`.
const LET_IN: u32 = 0;
/// `AuthenticationCleartextPassword` and `AuthenticationMD5Password`.
const BARE: [u32; 2] = [3, 5];

/// A stream that listens in until the server has let us in.
pub(super) struct Wary<S> {
    stream: S,
    listener: Listener,
}

/// Where in the server's messages we are: a letter, a length of four bytes that counts itself, and that much more.
#[derive(Debug, Default)]
struct Listener {
    /// The letter, the length and the first four bytes after it, as far as they have come.
    head: Vec<u8>,
    /// How much of the message is still to be skipped.
    skip: usize,
    /// We are in, or it was broken off.
    done: bool,
}

impl Listener {
    /// Whether what has come asks for a bare password.
    fn hear(&mut self, mut bytes: &[u8]) -> bool {
        while !self.done && !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let Some((byte, rest)) = bytes.split_first() else { break };
            bytes = rest;
            self.head.push(*byte);
            let number = |at: usize| {
                let four = self.head.get(at..at + 4)?;
                Some(four.iter().fold(0u32, |all, one| (all << 8) | u32::from(*one)))
            };
            let Some(length) = number(1) else { continue };
            if self.head[0] != b'R' {
                self.skip = usize::try_from(length.saturating_sub(4)).unwrap_or(usize::MAX);
                self.head.clear();
            } else if let Some(code) = number(5) {
                self.done = code == LET_IN;
                if BARE.contains(&code) {
                    self.done = true;
                    return true;
                }
                self.skip = usize::try_from(length.saturating_sub(8)).unwrap_or(usize::MAX);
                self.head.clear();
            }
        }
        false
    }
}

impl<S> Wary<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, listener: Listener::default() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wary<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = read
            && self.listener.hear(&buf.filled()[before..])
        {
            buf.set_filled(before);
            let why = "it asks for the password itself on an unencrypted connection, and does not get it: only SCRAM does";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::PermissionDenied, why)));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wary<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(letter: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap_or_default();
        [&[letter][..], &length.to_be_bytes(), body].concat()
    }

    #[test]
    fn a_bare_password_is_noticed_wherever_the_bytes_are_cut() {
        let notice = message(b'N', b"SNOTICE\0R\0\0\0\x08\0\0\0\x03\0");
        let scram = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
        let md5 = message(b'R', b"\0\0\0\x05salt");
        let clear = message(b'R', b"\0\0\0\x03");
        let let_in = message(b'R', b"\0\0\0\0");
        for (messages, asks) in [
            ([&notice[..], &scram, &let_in, &clear].concat(), false),
            ([&notice[..], &scram, &clear].concat(), true),
            ([&scram[..], &md5].concat(), true),
            (clear.clone(), true),
        ] {
            for cut in 1..messages.len() {
                let mut listener = Listener::default();
                let heard = messages.chunks(cut).any(|part| listener.hear(part));
                assert_eq!(heard, asks, "{messages:?} cut every {cut}");
            }
        }
    }
}
