//! The history's partitions: one a day, made before the day comes, and forgotten whole.

use super::link::{Asker, Link};
use super::schema::LOCK;
use crate::store::Result;
use std::collections::BTreeSet;
use time::OffsetDateTime;

/// A day (ms).
const DAY: i64 = 86_400_000;
/// How many days are made ahead.
const AHEAD: i64 = 3;

/// The day of a moment (unix ms), counted from 1970-01-01.
pub(super) fn day(ms: i64) -> i64 {
    ms.div_euclid(DAY)
}

/// The days that `now` (unix ms) needs: today and those ahead.
pub(super) fn ahead(now: i64) -> BTreeSet<i64> {
    (day(now)..=day(now) + AHEAD).collect()
}

/// `history_20261125`. A day that no calendar has is named by its number.
fn name(day: i64) -> String {
    match OffsetDateTime::from_unix_timestamp(day.saturating_mul(DAY / 1000)) {
        Ok(date) if (0..10_000).contains(&date.year()) => {
            format!("history_{:04}{:02}{:02}", date.year(), u8::from(date.month()), date.day())
        }
        _ => format!("history_day_{}{}", if day < 0 { "minus_" } else { "" }, day.unsigned_abs()),
    }
}

/// The days that have a partition.
pub(super) fn list(link: &Link) -> Result<BTreeSet<i64>> {
    // The lower bound is what a partition is about; its name is for people.
    let text = "SELECT (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \\(''?(-?[0-9]+)'))[1]::bigint \
                FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'history'::regclass";
    let rows =
        link.tell("listing the days of the history", |it| async move { it.client.query(text, &[]).await })?;
    Ok(rows.iter().filter_map(|row| row.get::<_, Option<i64>>(0)).map(day).collect())
}

/// Makes partitions for these days, where there are none.
pub(super) fn make(link: &Link, days: &BTreeSet<i64>) -> Result<()> {
    let made = link.tell("making a day of the history", |it| make_all(it, days));
    if made.is_err() {
        let _ = link.ask(|it| async move { it.client.batch_execute("ROLLBACK").await });
    }
    made
}

async fn make_all(it: Asker<'_>, days: &BTreeSet<i64>) -> std::result::Result<(), tokio_postgres::Error> {
    it.client.batch_execute(&format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK})")).await?;
    for day in days {
        let name = name(*day);
        let there = it.client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&name]).await?;
        if !there.get::<_, bool>(0) {
            let (from, to) = (day.saturating_mul(DAY), (day + 1).saturating_mul(DAY));
            // Attached, and not created in its place: that lets everybody go on writing.
            let text = format!(
                "CREATE TABLE {name} (LIKE history INCLUDING DEFAULTS); \
                 ALTER TABLE history ATTACH PARTITION {name} FOR VALUES FROM ({from}) TO ({to})"
            );
            it.client.batch_execute(&text).await?;
        }
    }
    it.client.batch_execute("COMMIT").await
}

/// Drops up to `most` of the days that were over before `before` (unix ms); how many.
pub(super) fn forget(link: &Link, before: i64, most: usize) -> Result<usize> {
    let old: Vec<i64> = list(link)?.into_iter().filter(|one| *one < day(before)).take(most).collect();
    for one in &old {
        // Somebody else may have been faster. Writers wait for the lock no longer than the session's lock_timeout.
        let text = format!("DROP TABLE IF EXISTS {}", name(*one));
        link.tell(
            "forgetting a day of the history",
            |it| async move { it.client.batch_execute(&text).await },
        )?;
    }
    Ok(old.len())
}

#[cfg(test)]
mod tests {
    use super::{DAY, day, name};

    #[test]
    fn a_day_is_named_by_its_date() {
        assert_eq!(name(day(1_795_395_723_000)), "history_20261123");
        assert_eq!(name(day(DAY - 1)), "history_19700101");
        assert_eq!(name(day(-1)), "history_19691231");
        assert_eq!(name(day(i64::MIN)), "history_day_minus_106751991168");
    }
}
