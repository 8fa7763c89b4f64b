//! What of a connection string is of interest: which host, and which timers. Everything else is dropped, the password
//! before all.

use evenkeel_core::PgLink;

/// The keys that say how a connection is kept.
const TIMERS: [&str; 5] =
    ["keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"];

/// Read `key = value …` or a `postgresql://…` URI; `None` where it is empty.
pub(super) fn link(text: &str) -> Option<PgLink> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let uri = text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://"));
    let said = uri.map_or_else(|| words(text), of_uri);
    let mut link = PgLink::default();
    for (key, value) in said {
        if TIMERS.contains(&key.as_str()) {
            link.timers.insert(key, value);
        } else if key == "host" || (key == "hostaddr" && link.host.is_none()) {
            link.host = Some(value);
        }
    }
    Some(link)
}

/// As libpq's `conninfo_parse`: blanks around `=`, quotes, and backslashes within and without them.
fn words(text: &str) -> Vec<(String, String)> {
    let mut said = vec![];
    let mut rest = text.chars().peekable();
    loop {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        let mut key = String::new();
        while let Some(c) = rest.next_if(|c| *c != '=' && !c.is_whitespace()) {
            key.push(c);
        }
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if rest.next_if_eq(&'=').is_none() {
            return said;
        }
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = rest.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        while let Some(c) = rest.next_if(|c| if quoted { *c != '\'' } else { !c.is_whitespace() }) {
            value.extend(if c == '\\' { rest.next() } else { Some(c) });
        }
        if quoted {
            rest.next();
        }
        said.push((key, value));
    }
}

/// The host and the parameters of a URI, after its scheme.
fn of_uri(text: &str) -> Vec<(String, String)> {
    let (front, query) = text.split_once('?').unwrap_or((text, ""));
    let authority = front.split('/').next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        Some((plain(key), plain(value)))
    };
    let host = (!host.is_empty()).then(|| ("host".to_owned(), plain(host)));
    host.into_iter().chain(query.split('&').filter_map(pair)).collect()
}

/// A text without its percent escapes.
fn plain(text: &str) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), vec![], 0);
    while at < bytes.len() {
        let code = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let code = code.and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        out.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn host_and_timers_are_kept_and_nothing_else() {
        for text in [
            "user=replicator password='geheim \\'so' host = 10.0.0.7 port=5432 keepalives_idle=7200 tcp_user_timeout = '0'",
            "postgresql://replicator:geheim@10.0.0.7:5432/x?keepalives_idle=7200&tcp%5Fuser_timeout=0&password=geheim",
        ] {
            let link = link(text).unwrap();
            assert_eq!(link.host.as_deref(), Some("10.0.0.7"), "{text}");
            let timers: Vec<_> = link.timers.iter().map(|(key, value)| format!("{key}={value}")).collect();
            assert_eq!(timers, ["keepalives_idle=7200", "tcp_user_timeout=0"], "{text}");
            assert!(!format!("{link:?}").contains("geheim"));
        }
        assert_eq!((link(""), link("  ")), (None, None));
    }

    #[test]
    fn what_is_no_connection_string_upsets_nobody() {
        for text in
            ["=", "a", "a=", "a='", "a=\\", "postgresql://", "postgresql://?%", "postgresql://%zz?%4", "'='"]
        {
            let _ = link(text);
        }
    }
}
