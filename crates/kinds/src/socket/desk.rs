//! Where a plan for the connections of one path is put together.

use super::judge::{Standing, about_to_be_forgotten, standing};
use super::want::Want;
use super::{Look, memory};
use evenkeel_core::{
    Class, Drift, Finding, ItemPlan, Layer, Live, Promise, SocketPowers, SocketSeen, SocketTimers, Step,
    Task, Verdict,
};
use std::collections::BTreeMap;

/// The most connections that are told one by one; the rest is counted.
const TOLD: usize = 10;

/// One item while it is planned.
struct Bench<'a> {
    name: &'a str,
    want: &'a Want,
    promise: Promise,
    item: ItemPlan,
    tasks: Vec<Task>,
    /// What is off and to be put right, in the order of the connections.
    drift: Vec<Drift>,
    /// What is off and stays so, and why.
    left: BTreeMap<(Verdict, String), Vec<Drift>>,
}

pub(super) fn item(
    name: &str,
    want: &Want,
    enforced: bool,
    seen: Option<&Look>,
    powers: &SocketPowers,
) -> (ItemPlan, Vec<Task>) {
    let item = ItemPlan { facts: want.facts(), ..ItemPlan::default() };
    let (Some(promise), Some(seen)) = (want.promise(), seen) else { return (item, vec![]) };
    let mut bench = Bench { name, want, promise, item, tasks: vec![], drift: vec![], left: BTreeMap::new() };
    match seen {
        Ok(seen) => {
            for socket in &seen.sockets.sockets {
                bench.socket(socket, enforced, powers);
            }
            let told = memory::findings(want, &promise, &seen.sockets.sockets, seen.memory.as_ref());
            bench.item.findings.extend(told);
            for why in &seen.sockets.blind {
                bench.find(Verdict::Note, format!("some connections cannot be seen: {why}"), None);
            }
        }
        Err((class, why)) => bench.find(verdict(*class), why.clone(), None),
    }
    bench.finish()
}

fn verdict(class: Class) -> Verdict {
    match class {
        Class::NotApplicable => Verdict::NotApplicable,
        Class::Waiting => Verdict::Pending,
        Class::Trouble => Verdict::Error,
    }
}

impl Bench<'_> {
    fn find(&mut self, verdict: Verdict, reason: String, drift: Option<Drift>) {
        self.item.findings.push(Finding { verdict, reason, drift });
    }

    fn leave(&mut self, verdict: Verdict, why: &str, off: Drift) {
        self.left.entry((verdict, why.to_owned())).or_default().push(off);
    }

    fn socket(&mut self, socket: &SocketSeen, enforced: bool, powers: &SocketPowers) {
        let stands = standing(socket, self.want, &self.promise);
        if stands.unprotected() {
            self.unprotected(socket, stands, enforced, powers);
        } else if stands == Standing::Stuck {
            self.stuck(socket, enforced, powers);
        }
    }

    fn unprotected(&mut self, socket: &SocketSeen, stands: Standing, enforced: bool, powers: &SocketPowers) {
        let soon = if about_to_be_forgotten(socket, self.want) { ", and about to be forgotten" } else { "" };
        let observed = format!("{}{soon}{}", stands.words(), held(socket));
        let desired = format!("a probe within {} s of silence", self.promise.keepalive_time);
        let off = drift(socket, observed, desired);
        if self.want.live < Live::Retune {
            return self.leave(
                Verdict::NonCompliant,
                "left unprotected, as the path says `live: report`",
                off,
            );
        }
        if let Err(why) = &powers.retune {
            return self.leave(Verdict::NotApplicable, &format!("left unprotected: {why}"), off);
        }
        let Some(owner) = &socket.owner else {
            let why = "left unprotected: no process was found that holds it";
            return self.leave(Verdict::NonCompliant, why, off);
        };
        self.drift.push(off);
        if enforced {
            let promise = &self.promise;
            let timers = SocketTimers {
                keepalive_time: promise.keepalive_time,
                keepalive_intvl: promise.keepalive_intvl,
                keepalive_probes: promise.keepalive_probes,
                user_timeout_ms: promise.user_timeout_ms,
            };
            let step = Step::TuneSocket { socket: socket.id, holder: (owner.pid, owner.fd), timers };
            self.tasks.push(Task::new(self.name, step));
        }
    }

    fn stuck(&mut self, socket: &SocketSeen, enforced: bool, powers: &SocketPowers) {
        let observed = format!("{}{}", Standing::Stuck.words(), held(socket));
        let desired = format!("an error after {} at most", self.want.blackout_at_most);
        let off = drift(socket, observed, desired);
        if self.want.live < Live::Free {
            let live = self.want.live.word();
            let why = format!("left hanging, as the path says `live: {live}`; `free` would end them");
            return self.leave(Verdict::NonCompliant, &why, off);
        }
        if let Err(why) = &powers.free {
            return self.leave(Verdict::NotApplicable, &format!("left hanging: {why}"), off);
        }
        self.drift.push(off);
        if enforced {
            self.tasks.push(Task::new(self.name, Step::FreeSocket { socket: socket.id }));
        }
    }

    fn finish(mut self) -> (ItemPlan, Vec<Task>) {
        self.item.drift = shortened(std::mem::take(&mut self.drift), "connections");
        for ((verdict, reason), off) in std::mem::take(&mut self.left) {
            for drift in shortened(off, "left") {
                self.find(verdict, reason.clone(), Some(drift));
            }
        }
        (self.item, self.tasks)
    }
}

/// The first of many, and one more that counts the rest.
fn shortened(mut off: Vec<Drift>, rest: &str) -> Vec<Drift> {
    if off.len() > TOLD {
        let more = off.len() - TOLD;
        let desired = off[TOLD].desired.clone();
        off.truncate(TOLD);
        off.push(Drift {
            attr: format!("{rest} beyond the first {TOLD}"),
            layer: Layer::Socket,
            observed: Some(format!("{more} more")),
            desired,
        });
    }
    off
}

fn held(socket: &SocketSeen) -> String {
    let Some(owner) = &socket.owner else { return String::new() };
    let unit = owner.unit.as_ref().map(|unit| format!(" in {unit}")).unwrap_or_default();
    format!(", held by {}[{}]{unit}", owner.comm, owner.pid)
}

fn drift(socket: &SocketSeen, observed: String, desired: String) -> Drift {
    let attr = format!("{} - {}", socket.id.local, socket.id.remote);
    Drift { attr, layer: Layer::Socket, observed: Some(observed), desired }
}
