//! A time of the week in which something may be disturbed.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const DAY: u32 = 24 * 60;

/// A span of the day, on some days of the week, in UTC: `02:00-04:00`, `Sat,Sun 22:30-01:00`.
///
/// One that ends before it begins goes on after midnight and belongs to the day it begins on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// From Monday.
    days: [bool; 7],
    /// Minutes of the day.
    from: u32,
    to: u32,
}

/// A text that is no window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no window: write it as \"02:00-04:00\" or \"Sat,Sun 22:30-01:00\", in UTC")]
pub struct BadWindow(String);

impl Window {
    /// Whether a moment lies in it; in seconds since 1970.
    #[must_use]
    pub fn contains(&self, at: i64) -> bool {
        let day = at.div_euclid(86_400);
        let minute = u32::try_from(at.rem_euclid(86_400) / 60).unwrap_or(0);
        // 1970 began on a Thursday.
        let on = |day: i64| usize::try_from((day + 3).rem_euclid(7)).is_ok_and(|day| self.days[day]);
        if self.from < self.to {
            on(day) && (self.from..self.to).contains(&minute)
        } else {
            (on(day) && minute >= self.from) || (on(day - 1) && minute < self.to)
        }
    }
}

impl std::str::FromStr for Window {
    type Err = BadWindow;
    fn from_str(text: &str) -> Result<Self, BadWindow> {
        parse(text).ok_or_else(|| BadWindow(text.chars().take(64).collect()))
    }
}

fn parse(text: &str) -> Option<Window> {
    let (days, span) = match text.split_once(' ') {
        Some((days, span)) => (named(days)?, span),
        None => ([true; 7], text),
    };
    let (from, to) = span.split_once('-')?;
    let (from, to) = (minute(from)?, minute(to)?);
    (from != to && from < DAY).then_some(Window { days, from, to })
}

fn named(text: &str) -> Option<[bool; 7]> {
    let mut days = [false; 7];
    for name in text.split(',') {
        let day = DAYS.iter().position(|day| *day == name)?;
        days[day] = true;
    }
    Some(days)
}

/// `HH:MM`; `24:00` is the day's end.
fn minute(text: &str) -> Option<u32> {
    let (hour, minute) = text.split_once(':')?;
    let two = |text: &str| {
        (text.len() == 2 && text.bytes().all(|c| c.is_ascii_digit())).then(|| text.parse::<u32>().ok())
    };
    let (hour, minute) = (two(hour)??, two(minute)??);
    let all = hour * 60 + minute;
    (minute < 60 && all <= DAY).then_some(all)
}

impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named: Vec<&str> =
            DAYS.iter().zip(self.days).filter(|(_, on)| *on).map(|(day, _)| *day).collect();
        if named.len() < 7 {
            write!(f, "{} ", named.join(","))?;
        }
        let clock = |minute: u32| format!("{:02}:{:02}", minute / 60, minute % 60);
        write!(f, "{}-{}", clock(self.from), clock(self.to))
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Window {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Window".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^((Mon|Tue|Wed|Thu|Fri|Sat|Sun)(,(Mon|Tue|Wed|Thu|Fri|Sat|Sun))* )?\\d\\d:\\d\\d-\\d\\d:\\d\\d$",
            "description": "A time of the week in UTC, as \"02:00-04:00\" or \"Sat,Sun 22:30-01:00\"."
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// 2026-11-25 was a Wednesday.
    const WEDNESDAY: i64 = 1_795_564_800;

    fn holds(window: &str, day: i64, clock: &str) -> bool {
        let at = WEDNESDAY + day * 86_400 + i64::from(minute(clock).unwrap()) * 60;
        window.parse::<Window>().unwrap().contains(at)
    }

    #[test]
    fn a_span_of_every_day_holds_from_its_first_minute_to_before_its_last() {
        assert!(!holds("02:00-04:00", 0, "01:59"));
        assert!(holds("02:00-04:00", 0, "02:00"));
        assert!(holds("02:00-04:00", 5, "03:59"));
        assert!(!holds("02:00-04:00", 0, "04:00"));
        assert!(holds("22:00-24:00", 0, "23:59"));
    }

    #[test]
    fn days_are_those_of_the_week_and_a_night_belongs_to_the_day_it_begins_on() {
        assert!(holds("Wed 02:00-04:00", 0, "03:00"));
        assert!(!holds("Wed 02:00-04:00", 1, "03:00"));
        assert!(holds("Wed 22:30-01:00", 0, "22:30"));
        assert!(holds("Wed 22:30-01:00", 1, "00:59"));
        assert!(!holds("Wed 22:30-01:00", 0, "00:59"), "that night began on Tuesday");
        assert!(holds("Sat,Sun 00:00-24:00", 4, "12:00"));
    }

    #[test]
    fn what_is_no_window_is_refused_and_what_is_reads_back() {
        for text in [
            "",
            "2:00-4:00",
            "02:00",
            "25:00-26:00",
            "02:60-03:00",
            "02:00-02:00",
            "Mo 02:00-03:00",
            "24:00-01:00",
        ] {
            assert!(text.parse::<Window>().is_err(), "{text}");
        }
        for text in ["02:00-04:00", "Sat,Sun 22:30-01:00", "Mon 22:00-24:00"] {
            assert_eq!(text.parse::<Window>().unwrap().to_string(), text);
        }
    }
}
