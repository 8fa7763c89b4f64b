//! The connections of a made-up node: strict where the kernel is lenient, and only as much of it as the laws need.

use super::FakeNode;
use crate::{
    Class, Fault, Side, SocketId, SocketQuestion, SocketSeen, SocketTimer, SocketTimers, SocketsSeen,
};

impl FakeNode {
    pub(super) fn see_sockets(&self, question: &SocketQuestion) -> Result<SocketsSeen, Fault> {
        if let Err(why) = &self.powers.see {
            return Err(Fault::new(why.clone()).class(Class::NotApplicable));
        }
        let asked = |socket: &&SocketSeen| {
            let port = match question.side {
                Side::Client => socket.id.remote.port(),
                Side::Server => socket.id.local.port(),
            };
            let peer = socket.id.remote.ip();
            port == question.port
                && (question.peers.is_empty() || question.peers.iter().any(|net| net.contains(peer)))
        };
        let mut sockets: Vec<SocketSeen> = self.sockets.iter().filter(asked).cloned().collect();
        sockets.sort_by_key(|socket| socket.id);
        Ok(SocketsSeen { sockets, blind: vec![] })
    }

    /// An idle socket is armed anew; one that retransmits goes on doing so.
    pub(super) fn tune_socket(&mut self, id: &SocketId, timers: &SocketTimers) {
        let found = self.sockets.iter_mut().find(|socket| socket.id == *id);
        if let Some(socket) = found.filter(|socket| socket.timer != SocketTimer::Retransmit) {
            socket.timer = SocketTimer::Keepalive;
            socket.expires_ms = timers.keepalive_time * 1000;
        }
    }

    pub(super) fn free_socket(&mut self, id: &SocketId) {
        self.sockets.retain(|socket| socket.id != *id || socket.timer != SocketTimer::Retransmit);
    }
}
