//! What an operator does on the hub's own machine, on its store: whoever may write that may do it.

use evenkeel_hub::config::{Config, Location};
use evenkeel_hub::slots::{self, FreeError, Slots};
use evenkeel_hub::writer::chain;
use evenkeel_hub::{accounts_of, slots_of, view_of};
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
    slots(config)?;
    let book = accounts_of(&config.store).map_err(|why| chain(&why))?;
    let view = view_of(&config.store).map_err(|why| chain(&why))?;
    let by = crate::user::actor(crate::now());
    match slots::free(book.as_ref(), view.as_ref(), (group, id), although_alive, &by) {
        Ok(()) => println!("the slot of {group} that {id} had is free"),
        Err(why @ FreeError::Alive(_)) => return Err(format!("{why} (--although-alive)")),
        Err(why @ FreeError::NotHeld { .. }) => {
            return Err(format!("{why}: `evenkeel-hub slots list` tells who has which"));
        }
        Err(FreeError::Store(why)) => return Err(chain(&why)),
    }
    Ok(())
}
