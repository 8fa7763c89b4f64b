//! Whatever should answer, asked: all at once, each within its own time.
//!
//! Looks only. What an answer is worth is decided elsewhere.

pub(crate) mod age;
mod certificate;
mod sql;
mod tcp;
mod web;

use crate::guard::Guard;
use evenkeel_core::{Probe, Probed, Probing};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long it may take beyond its time until somebody who does not come back is given up.
const SLACK: Duration = Duration::from_secs(1);

/// Ask each, and come back when the last has answered, or its time is over.
pub(crate) fn ask(probes: &[Probe], guard: &Arc<Guard>) -> Vec<Probing> {
    if probes.is_empty() {
        return vec![];
    }
    // A thread of its own: the caller may be within a runtime already, in which no other can be started.
    let asked = std::thread::scope(|scope| scope.spawn(|| all(probes, guard)).join());
    asked.unwrap_or_else(|_| failed(probes, "the question broke off; this is a bug"))
}

fn failed(probes: &[Probe], why: &str) -> Vec<Probing> {
    probes.iter().map(|_| Probing::Failed(why.to_owned())).collect()
}

fn all(probes: &[Probe], guard: &Arc<Guard>) -> Vec<Probing> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return failed(probes, &error.to_string()),
    };
    let told = runtime.block_on(async {
        let asked: Vec<_> =
            probes.iter().map(|probe| tokio::spawn(in_time(probe.clone(), guard.clone()))).collect();
        let mut told = vec![];
        for one in asked {
            told.push(
                one.await.unwrap_or_else(|_| Probing::Failed("the question broke off; this is a bug".into())),
            );
        }
        told
    });
    // A name that is still being looked for, or a thread that hangs, is not waited for.
    runtime.shutdown_background();
    told
}

async fn in_time(probe: Probe, guard: Arc<Guard>) -> Probing {
    tokio::time::sleep(probe.after).await;
    let within = probe.within;
    let silence = || Probing::Failed(format!("no answer within {}", words(within)));
    // What bounds its own time has a clearer word than we have.
    let bound = if bounds_itself(&probe.what) { within + SLACK } else { within };
    tokio::time::timeout(bound, one(probe, guard)).await.unwrap_or_else(|_| silence())
}

fn bounds_itself(what: &Probed) -> bool {
    matches!(what, Probed::Postgres { .. } | Probed::FileAge(_) | Probed::CertificateFile(_))
}

async fn one(probe: Probe, guard: Arc<Guard>) -> Probing {
    let within = probe.within;
    match probe.what {
        Probed::Tcp(address) => tcp::open(&address).await,
        Probed::Memcached(address) => tcp::memcached(&address).await,
        Probed::Http { url, contains } => web::get(&url, contains.as_deref()).await,
        Probed::Postgres { server, database, role, query } => {
            apart(move || sql::ask(&server, (database.as_deref(), role.as_deref()), &query, within)).await
        }
        Probed::FileAge(path) => apart(move || time(file_age(&guard, &path, within))).await,
        Probed::CertificateFile(path) => {
            apart(move || time(certificate::of_file(&guard, &path, within))).await
        }
        Probed::CertificateOf { address, name } => match tcp::connect(&address).await {
            Ok(stream) => apart(move || time(certificate::shown(stream, &name, within))).await,
            Err(why) => Probing::Failed(why),
        },
    }
}

/// Work that blocks, on a thread that may be left behind.
async fn apart(work: impl FnOnce() -> Probing + Send + 'static) -> Probing {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Probing::Failed("the question broke off; this is a bug".into()))
}

fn time(told: Result<i64, String>) -> Probing {
    told.map_or_else(Probing::Failed, Probing::Time)
}

fn file_age(guard: &Guard, path: &Path, within: Duration) -> Result<i64, String> {
    let real = crate::mounting::resolve(guard, path).map_err(|fault| evenkeel_core::chain(&fault))?;
    age::of(guard, &real.ok_or("there is no such file")?, within)
}

/// A time as people write it.
fn words(time: Duration) -> String {
    match time.subsec_millis() {
        0 => format!("{} s", time.as_secs()),
        _ => format!("{} ms", time.as_millis()),
    }
}

#[cfg(test)]
mod tests;
