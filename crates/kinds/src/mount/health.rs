//! How a mounted folder answers: what a look into it means.

use super::Place;
use super::desk::drift;
use super::live::Off;
use super::want::Want;
use evenkeel_core::{FolderSeen, Inside, Layer, Verdict, WriteTrouble};
use std::time::Duration;

/// What is wrong with a folder that was looked into; nothing where it was not, or where all is well. What is stale is
/// told with what can be done about it.
pub(super) fn judge(want: &Want, place: &Place) -> Option<(Verdict, Off)> {
    let at = place.target.display();
    match place.inside.as_ref()? {
        FolderSeen::Stale => None,
        FolderSeen::Hung => {
            let within = time(want.health().within());
            let why = format!(
                "hung: {} does not answer a look into {at} within {within}, and whoever touches it waits: see whether its \
                 server is up and can be reached; evenkeel goes on waiting and takes the answer when it comes",
                want.source
            );
            Some((Verdict::Error, off(why, "hung", format!("answers within {within}"))))
        }
        FolderSeen::Trouble(why) => Some((Verdict::Error, off(why.clone(), "trouble", "answers"))),
        FolderSeen::Answers(inside) => answers(want, place, inside),
    }
}

fn off(why: String, observed: impl Into<String>, desired: impl Into<String>) -> Off {
    Off { why, drift: drift("health", Layer::Mount, Some(observed.into()), desired) }
}

fn answers(want: &Want, place: &Place, inside: &Inside) -> Option<(Verdict, Off)> {
    let at = place.target.display();
    if let (Some(sentinel), Some(false)) = (&want.sentinel, inside.sentinel) {
        let why = format!(
            "wrong export: {sentinel} is not in {at}, so this is not what {} should hold; nothing in it is touched",
            want.source
        );
        return Some((Verdict::Error, off(why, "wrong export", format!("{sentinel} at its top"))));
    }
    match &inside.write {
        Some(Err(WriteTrouble::ReadOnly)) => {
            let why = format!(
                "read-only: {} is mounted to be written to at {at}, and its server takes no write: export it rw",
                want.source
            );
            return Some((Verdict::NonCompliant, off(why, "read-only", "takes a write")));
        }
        Some(Err(WriteTrouble::Other(why))) => {
            let why = format!("a write to {at} was refused: {why}");
            return Some((Verdict::NonCompliant, off(why, "a write is refused", "takes a write")));
        }
        _ => {}
    }
    let slow = want.health().slow();
    if want.watched() && inside.took > slow {
        let (took, slow) = (step(inside.took), time(slow));
        let why = format!(
            "slow: {} takes {took} to answer a look into {at}, and should take less than {slow}",
            want.source
        );
        return Some((
            Verdict::NonCompliant,
            off(why, format!("slow, {took}"), format!("answers within {slow}")),
        ));
    }
    None
}

/// In coarse steps, so that one cause is told the same from pass to pass.
fn step(took: Duration) -> String {
    const STEPS: [u64; 7] = [250, 500, 1000, 2000, 5000, 10_000, 30_000];
    let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let ms = |ms: u64| Duration::from_millis(ms);
    match STEPS.iter().position(|step| took < *step) {
        Some(0) => format!("less than {}", time(ms(STEPS[0]))),
        Some(at) => format!("between {} and {}", time(ms(STEPS[at - 1])), time(ms(STEPS[at]))),
        None => format!("more than {}", time(ms(STEPS[STEPS.len() - 1]))),
    }
}

fn time(time: Duration) -> String {
    if time.subsec_millis() == 0 {
        format!("{} s", time.as_secs())
    } else {
        format!("{} ms", time.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_slow_is_told_in_steps_that_hold_still() {
        let of = |ms: u64| step(Duration::from_millis(ms));
        assert_eq!(of(1001), of(1999));
        assert_eq!(of(1500), "between 1 s and 2 s");
        assert_eq!(of(600), "between 500 ms and 1 s");
        assert_eq!((of(3), of(90_000)), ("less than 250 ms".into(), "more than 30 s".into()));
    }
}
