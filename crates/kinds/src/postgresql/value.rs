//! Values of parameters: what PostgreSQL makes of `60s`, `256MB` or `yes`, and when two say the same.

use super::parameters::{Kind, Parameter};

/// A value, in a form that can be compared.
#[derive(Debug, Clone, PartialEq)]
enum Meaning {
    /// In microseconds, bytes, or plain.
    Number(f64),
    Word(String),
}

/// What a unit is in microseconds or bytes, and which of the two.
fn scale(unit: &str) -> Option<(f64, bool)> {
    let (count, name) = unit.split_at(unit.find(|c: char| !c.is_ascii_digit()).unwrap_or(0));
    let (size, time) = match name {
        "us" => (1.0, true),
        "ms" => (1e3, true),
        "s" => (1e6, true),
        // A spec writes minutes as people do.
        "min" | "m" => (60e6, true),
        "h" => (3600e6, true),
        "d" => (86400e6, true),
        "B" => (1.0, false),
        "kB" => (1024.0, false),
        "MB" => (1_048_576.0, false),
        "GB" => (1_073_741_824.0, false),
        "TB" => (1_099_511_627_776.0, false),
        _ => return None,
    };
    Some((size * count.parse().unwrap_or(1.0), time))
}

/// A number with an optional unit: the number in the base unit, and what was written behind it.
fn number(text: &str, base: &str) -> Result<f64, String> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || "+-.".contains(c))).unwrap_or(text.len());
    let (digits, unit) = (&text[..end], text[end..].trim());
    let n: f64 = digits.parse().map_err(|_| format!("`{text}` is no number"))?;
    if unit.is_empty() {
        return Ok(n);
    }
    let units = match scale(base) {
        None => return Err(format!("`{text}` has a unit, and there is none here")),
        Some((_, true)) => "us, ms, s, m (or min), h, d",
        Some((_, false)) => "B, kB, MB, GB, TB",
    };
    match (scale(unit).filter(|_| !unit.starts_with(|c: char| c.is_ascii_digit())), scale(base)) {
        (Some((given, time)), Some((own, same))) if time == same => Ok(n * given / own),
        _ => Err(format!("`{unit}` is no unit here: {units}")),
    }
}

/// A number in the base unit, where the text is one.
pub(super) fn amount(text: &str, base: &str) -> Option<f64> {
    number(text, base).ok()
}

fn switch(text: &str) -> Option<&'static str> {
    match text.to_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Some("on"),
        "off" | "false" | "no" | "0" => Some("off"),
        _ => None,
    }
}

/// What is wrong with a value, if anything is.
pub(super) fn fault(parameter: &Parameter, text: &str) -> Option<String> {
    let name = parameter.name;
    match parameter.kind {
        Kind::Bool => switch(text).is_none().then(|| format!("`{text}` is neither on nor off")),
        Kind::Enum(words) => {
            let known = words.contains(&text.to_lowercase().as_str());
            (!known).then(|| format!("`{text}` is no {name}: one of {}", words.join(", ")))
        }
        Kind::Text => None,
        Kind::Int(unit, least, most) => match number(text, unit) {
            Err(why) => Some(why),
            #[expect(clippy::float_cmp, reason = "whether it is whole")]
            Ok(n) if n != n.trunc() => Some(format!("`{text}` is no whole number of {}", unit_name(unit))),
            #[expect(clippy::cast_precision_loss, reason = "bounds of parameters are below 2^53")]
            Ok(n) => outside(n, least as f64, most as f64, unit),
        },
        Kind::Real(unit, least, most) => match number(text, unit) {
            Err(why) => Some(why),
            Ok(n) => outside(n, least, most, unit),
        },
    }
}

fn unit_name(unit: &str) -> &str {
    if unit.is_empty() { "ones" } else { unit }
}

fn outside(n: f64, least: f64, most: f64, unit: &str) -> Option<String> {
    let within = (least..=most).contains(&n);
    (!within).then(|| format!("{n}{unit} is out of range: it goes from {least}{unit} to {most}{unit}"))
}

/// The value as it is written into a file or said in `ALTER ROLE`: PostgreSQL's own word for minutes.
pub(super) fn spelled(parameter: &Parameter, text: &str) -> String {
    let unit = match parameter.kind {
        Kind::Int(unit, ..) | Kind::Real(unit, ..) => unit,
        Kind::Bool => return switch(text).unwrap_or(text).to_owned(),
        Kind::Enum(_) => return text.to_lowercase(),
        Kind::Text => return text.to_owned(),
    };
    let minutes = text.trim().strip_suffix('m').filter(|_| matches!(scale(unit), Some((_, true))));
    match minutes.map(str::trim).filter(|digits| digits.ends_with(|c: char| c.is_ascii_digit())) {
        Some(digits) => format!("{digits}min"),
        None => text.trim().to_owned(),
    }
}

fn meaning(parameter: &Parameter, text: &str, unit: &str) -> Meaning {
    match parameter.kind {
        Kind::Int(..) | Kind::Real(..) => match number(text, unit) {
            Ok(n) => Meaning::Number(n * scale(unit).map_or(1.0, |(size, _)| size)),
            Err(_) => Meaning::Word(text.to_owned()),
        },
        Kind::Bool => Meaning::Word(switch(text).unwrap_or(text).to_owned()),
        Kind::Enum(_) => Meaning::Word(text.to_lowercase()),
        Kind::Text => Meaning::Word(text.to_owned()),
    }
}

/// Whether two values say the same. `unit` is the one that bare numbers are in; the server tells its own.
pub(super) fn same(parameter: &Parameter, a: &str, b: &str, unit: Option<&str>) -> bool {
    let own = match parameter.kind {
        Kind::Int(unit, ..) | Kind::Real(unit, ..) => unit,
        _ => "",
    };
    match (meaning(parameter, a, own), meaning(parameter, b, unit.unwrap_or(own))) {
        // A value that is turned into another unit and back may lose its last bit.
        (Meaning::Number(a), Meaning::Number(b)) => (a - b).abs() <= a.abs().max(b.abs()) * 1e-12,
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::parameters::find;
    use super::*;

    #[test]
    fn values_with_units_are_compared_by_what_they_mean() {
        for (name, a, b, unit) in [
            ("tcp_keepalives_idle", "1m", "60", "s"),
            ("tcp_user_timeout", "60s", "60000", "ms"),
            ("shared_buffers", "256MB", "32768", "8kB"),
            ("max_wal_size", "1GB", "1024", "MB"),
            ("work_mem", "4096", "4MB", "kB"),
            ("autovacuum", "yes", "on", ""),
            ("random_page_cost", "1.10", "1.1", ""),
            ("synchronous_commit", "Remote_Write", "remote_write", ""),
            ("autovacuum_work_mem", "-1", "-1", "kB"),
        ] {
            assert!(same(&find(name).unwrap(), a, b, Some(unit)), "{name} {a} {b}");
        }
        assert!(!same(&find("tcp_user_timeout").unwrap(), "60", "60", Some("s")));
        assert!(!same(&find("shared_buffers").unwrap(), "256MB", "32769", Some("8kB")));
    }

    #[test]
    fn values_of_the_wrong_type_unit_or_range_are_found() {
        for (name, text) in [
            ("tcp_keepalives_idle", "32768"),
            ("tcp_keepalives_idle", "10h"),
            ("tcp_keepalives_count", "128"),
            ("tcp_keepalives_idle", "60MB"),
            ("tcp_keepalives_idle", "abc"),
            ("tcp_keepalives_idle", "1.5s"),
            ("shared_buffers", "256mb"),
            ("shared_buffers", "100kB"),
            ("shared_buffers", "256 m"),
            ("max_connections", "40s"),
            ("max_connections", ""),
            ("autovacuum", "maybe"),
            ("wal_level", "full"),
            ("random_page_cost", "nan"),
        ] {
            assert!(fault(&find(name).unwrap(), text).is_some(), "{name} {text}");
        }
        for (name, text) in
            [("tcp_keepalives_idle", "1m"), ("shared_buffers", "0.5GB"), ("checkpoint_timeout", "1h")]
        {
            assert_eq!(fault(&find(name).unwrap(), text), None, "{name} {text}");
        }
    }

    #[test]
    fn minutes_are_written_as_postgresql_writes_them() {
        let idle = find("tcp_keepalives_idle").unwrap();
        assert_eq!(spelled(&idle, "10m"), "10min");
        assert_eq!(spelled(&idle, "10min"), "10min");
        assert_eq!(spelled(&find("autovacuum").unwrap(), "True"), "on");
        assert_eq!(spelled(&find("log_line_prefix").unwrap(), "%m "), "%m ");
    }
}
