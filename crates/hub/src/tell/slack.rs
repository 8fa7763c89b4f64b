//! A message as a text, for whoever speaks Slack's incoming webhooks (Slack, Mattermost, Rocket.Chat, Zulip).

use super::route::Bundle;
use super::words;
use serde_json::{Value, json};

/// `{"text": …}`.
pub(super) fn text(bundle: &Bundle, public_url: Option<&str>) -> Value {
    let mark = match (bundle.open, bundle.severity.word()) {
        (false, _) => ":white_check_mark:",
        (true, "critical") => ":red_circle:",
        (true, "warning") => ":large_orange_circle:",
        (true, _) => ":white_circle:",
    };
    let mut lines = vec![format!("{mark} *{}*", escape(&words::summary(bundle)))];
    if let Some(first) = bundle.nodes.first().filter(|_| bundle.open) {
        lines.extend(words::detail(first).iter().map(|line| format!("> {}", escape(line))));
    }
    if let Some(link) = bundle.nodes.first().and_then(|news| words::link(public_url, news)) {
        lines.push(format!("<{link}|Look at it>"));
    }
    json!({"text": lines.join("\n")})
}

/// The three characters that are more than themselves to Slack. Without `<` there is neither a link nor a mention.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\n', " ")
}
