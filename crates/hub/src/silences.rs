//! `evenkeel-hub silence`: the command line of silences and waivers.

use clap::Subcommand;
use evenkeel_hub::admin;
use evenkeel_hub::config::Location;
use evenkeel_hub::tell::silence::{self, Asked};
use std::time::Duration;

/// What is done about silences.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Tell nobody of what matches, until it ends; it stays on the pages and in every count
    Add {
        /// Which tiers, as a glob
        #[arg(long, value_name = "GLOB")]
        tier: Option<String>,
        /// Which nodes, as a glob over their names
        #[arg(long, value_name = "GLOB")]
        node: Option<String>,
        /// Which items, as a glob
        #[arg(long, value_name = "GLOB")]
        item: Option<String>,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Who answers for it
        #[arg(long, value_name = "NAME")]
        owner: String,
        /// How long, at most 90d
        #[arg(long = "for", value_name = "DURATION", value_parser = admin::duration)]
        lasts: Duration,
        /// It is a waiver: what is off may stay so until then
        #[arg(long)]
        waiver: bool,
    },
    /// Tell which there are
    List(crate::Listing),
    /// End one before its time; what is still off then is told
    End {
        /// Its id, as the list has it
        id: String,
    },
}

/// Does it, on the store beside a hub that may be running.
pub(crate) fn run(store: &Location, command: Command) -> crate::Done {
    let book = evenkeel_hub::accounts_of(store)?;
    match command {
        Command::Add { tier, node, item, reason, owner, lasts, waiver } => {
            let asked = Asked { waiver, tier, node, item, reason, owner, lasts };
            let id = silence::add(book.as_ref(), &asked, &crate::user::actor(crate::now()))?;
            crate::say(&format!("{id}\n"))
        }
        Command::List(how) => {
            let telling = evenkeel_hub::telling(store)?;
            crate::say(&silence::list(telling.as_ref(), how.json, crate::now())?)
        }
        Command::End { id } => Ok(silence::end(book.as_ref(), &id, &crate::user::actor(crate::now()))?),
    }
}
