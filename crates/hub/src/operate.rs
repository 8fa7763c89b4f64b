//! What an operator does on the hub's own machine, on its store: whoever may write that may do it.

use evenkeel_hub::config::{Config, Location};
use evenkeel_hub::slots::{Slots, node_of};
use evenkeel_hub::writer::chain;
use evenkeel_hub::{slots_of, view_of};
use evenkeel_report::Timestamp;

fn slots(config: &Config) -> Result<Slots, String> {
    // Opening would make an empty store where there is none.
    if let Location::Sqlite(path) = &config.store
        && !path.exists()
    {
        return Err(format!("there is no store at {}: name the hub's with --store", path.display()));
    }
    slots_of(&config.store, config.slots.clone()).map_err(|why| chain(&why))
}

/// Tell every slot that is held, one a line.
pub(crate) fn list(config: &Config) -> Result<(), String> {
    for row in slots(config)?.held().map_err(|why| chain(&why))?.into_values().flatten() {
        let since = Timestamp::from_unix_ms(row.since).map(|since| since.to_string()).unwrap_or_default();
        println!("{} {} since {since}", row.group, row.id);
    }
    Ok(())
}

/// Free one slot. Not while its node is heard of, unless that is meant: it may be in the middle of a restart.
pub(crate) fn free(config: &Config, group: &str, id: &str, although_alive: bool) -> Result<(), String> {
    let slots = slots(config)?;
    let node = node_of(id);
    if !although_alive && is_alive(config, node)? {
        return Err(format!(
            "{node} was heard of just now and may be in the middle of what it took the slot for: look at it, or free the \
             slot with --although-alive"
        ));
    }
    match slots.book.leave(group, id) {
        Ok(true) => {
            crate::user::note(&config.store, "slot_free", id, Some(format!("of {group}")))
                .map_err(|why| chain(why.as_ref()))?;
            println!("the slot of {group} that {id} had is free");
            Ok(())
        }
        Ok(false) => {
            Err(format!("{id} has no slot of {group}: `evenkeel-hub slots list` tells who has which"))
        }
        Err(why) => Err(chain(&why)),
    }
}

/// Whether a node was heard of within three of its intervals.
fn is_alive(config: &Config, node: &str) -> Result<bool, String> {
    let view = view_of(&config.store).map_err(|why| chain(&why))?;
    let Some(row) = view.node(node).map_err(|why| chain(&why))? else { return Ok(false) };
    let now = Timestamp::new(time::OffsetDateTime::now_utc()).unix_ms();
    let within = i64::try_from(row.doc.interval_s()).unwrap_or(i64::MAX).saturating_mul(3_000);
    Ok(now.saturating_sub(row.doc.last_seen) < within)
}
