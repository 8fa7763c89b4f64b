//! `evenkeel doctor`: what this node can and cannot do, why, and what to do about it. It looks and changes nothing.

use super::{Ending, Failure, Format, OFF, paint};
use crate::config::Config;
use crate::run::ConfigPlace;
use evenkeel_core::{PgQuestion, Sensor, chain};
use evenkeel_host::Host;
use evenkeel_host::abilities::{self, Ability, Extent};
use evenkeel_kinds::postgresql;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// `evenkeel doctor`.
pub(super) fn doctor(place: &ConfigPlace, format: Format) -> Ending {
    let config = super::load::config(place)?;
    let abilities = look(&config).map_err(|fault| Failure::wrong(&fault))?;
    let code = if abilities.iter().all(|one| matches!(one.extent, Extent::Ok(_))) { 0 } else { OFF };
    match format {
        Format::Json => paint::json(
            &json!({"good": code == 0, "abilities": abilities.iter().map(value).collect::<Vec<_>>()}),
            code,
        ),
        Format::Text => paint::text(&text(&abilities), code),
    }
}

fn look(config: &Config) -> Result<Vec<Ability>, evenkeel_core::Fault> {
    let host = Host::new(config.run_dir.clone());
    let mut all = abilities::sockets(host.socket_powers());
    all.extend(abilities::sysctls());
    all.extend([abilities::writers(), abilities::mounts()]);
    all.extend(clusters(&host)?);
    all.push(abilities::git());
    all.push(abilities::folder("state folder", &config.state_dir));
    all.push(abilities::folder("run folder", &config.run_dir));
    Ok(all)
}

/// Every cluster of PostgreSQL, and whether its server lets us in.
fn clusters(host: &Host) -> Result<Vec<Ability>, evenkeel_core::Fault> {
    let found = postgresql::clusters(host)?;
    if found.is_empty() {
        let none = Extent::Ok(Some("no cluster in /etc/postgresql".to_owned()));
        return Ok(vec![Ability::new("PostgreSQL", none)]);
    }
    let ask = |(name, server): (String, Result<evenkeel_core::PgServer, String>)| {
        let question = PgQuestion::default();
        let facts =
            server.and_then(|server| host.postgres(&server, &question).map_err(|fault| chain(&fault)));
        let extent = match facts {
            Ok(facts) => Extent::Ok(Some(format!(
                "it answers, version {}.{}",
                facts.version / 10_000,
                facts.version % 10_000
            ))),
            Err(why) => Extent::Limited(format!("its server cannot be asked: {why}")),
        };
        Ability::new(format!("PostgreSQL {name}"), extent)
    };
    Ok(found.into_iter().map(ask).collect())
}

fn parts(ability: &Ability) -> (&'static str, Option<&str>) {
    match &ability.extent {
        Extent::Ok(beside) => ("ok", beside.as_deref()),
        Extent::Limited(why) => ("limited", Some(why)),
        Extent::No(why) => ("no", Some(why)),
    }
}

fn value(ability: &Ability) -> Value {
    let (state, reason) = parts(ability);
    json!({"ability": ability.name, "state": state, "reason": reason})
}

fn text(abilities: &[Ability]) -> String {
    let wide = abilities.iter().map(|one| one.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for one in abilities {
        let (state, reason) = parts(one);
        let word = format!("{state:7}");
        let word = match one.extent {
            Extent::Ok(_) => paint::good(&word),
            Extent::Limited(_) => paint::warn(&word),
            Extent::No(_) => paint::bad(&word),
        };
        let name = crate::log::plain(&one.name);
        let reason = reason.map(crate::log::plain).unwrap_or_default();
        let line = format!("{word} {name:wide$}  {reason}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}
