//! The `oidc:` of hub.yaml: which provider, as whom, and which of its groups may do what.

use crate::accounts::is_name;
use crate::store::accounts::Role;
use crate::tell::sinks::{address, secret};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// The longest label of the button (characters).
const LABEL: usize = 40;

/// A provider of accounts, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    /// Its name in every token, and where its description is found: `https://id.example.org/realms/ops`.
    pub issuer: String,
    /// What the hub is called there.
    pub client_id: String,
    /// A file with the hub's secret there.
    pub client_secret_file: PathBuf,
    /// The authorities that the provider is believed by, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// What is asked for beside `openid`.
    #[serde(default = "scopes")]
    pub scopes: Vec<String>,
    /// What it is called on the button.
    #[serde(default = "label")]
    pub label: String,
    /// The claim with somebody's name; `preferred_username`, else `sub`, where nothing is said.
    pub name_claim: Option<String>,
    /// The claim with somebody's groups: its name, or where it is in the token (`/realm_access/roles`).
    #[serde(default = "groups")]
    pub groups_claim: String,
    /// What each group may do.
    #[serde(default)]
    pub roles: Vec<Grant>,
    /// What somebody may do who is in none of them; nothing where it is left out.
    pub otherwise: Option<Otherwise>,
}

/// What a group may do.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The group, exactly as the provider has it.
    pub group: String,
    /// The role.
    pub role: Role,
    /// The tiers to act on; none means every one.
    #[serde(default)]
    pub tiers: Vec<String>,
}

/// What somebody in no group may do: to read, and no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Otherwise {
    /// Read.
    Viewer,
}

fn scopes() -> Vec<String> {
    vec!["profile".to_owned()]
}

fn label() -> String {
    "the organisation's account".to_owned()
}

fn groups() -> String {
    "groups".to_owned()
}

/// An address that a password may be sent to: over TLS, or on this machine.
pub(super) fn safe(text: &str) -> Result<reqwest::Url, String> {
    let url = address(text)?;
    let at_home = matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"));
    if url.scheme() == "https" || at_home {
        Ok(url)
    } else {
        Err(format!("{text} would be asked in the clear: write https://…"))
    }
}

impl Oidc {
    /// Whether it holds together, for a hub whose pages are at `public_url`.
    ///
    /// # Errors
    /// What is wrong, and what to write instead.
    pub fn check(&self, public_url: Option<&str>) -> Result<(), String> {
        let home =
            public_url.ok_or("the provider has to know where to send people back: write public_url")?;
        safe(home).map_err(|why| format!("public_url: {why}"))?;
        let issuer = safe(&self.issuer).map_err(|why| format!("issuer: {why}"))?;
        if issuer.query().is_some() || issuer.fragment().is_some() {
            return Err("issuer: it has neither `?` nor `#`".to_owned());
        }
        if self.client_id.is_empty() {
            return Err("client_id is empty".to_owned());
        }
        let plain = |scope: &String| {
            !scope.is_empty() && scope.bytes().all(|c| c.is_ascii_graphic() && c != b'"' && c != b'\\')
        };
        if let Some(bad) = self.scopes.iter().find(|scope| !plain(scope)) {
            return Err(format!("scopes: {bad:?} is none"));
        }
        if self.label.is_empty() || self.label.chars().count() > LABEL {
            return Err(format!("label: 1 to {LABEL} characters"));
        }
        if self.roles.is_empty() && self.otherwise.is_none() {
            return Err("nobody could sign in: write roles, or `otherwise: viewer`".to_owned());
        }
        Ok(())
    }

    /// The hub's secret at the provider. It is read anew each time: another one needs no restart.
    ///
    /// # Errors
    /// The file cannot be read, is empty, or everybody may read it.
    pub fn secret(&self) -> Result<String, String> {
        secret(&self.client_secret_file)
    }

    /// Reads what it needs once.
    ///
    /// # Errors
    /// What is wrong, and with which file.
    pub fn try_files(&self) -> Result<(), String> {
        self.secret()?;
        crate::tell::client(self.ca_file.as_deref()).map(drop)
    }

    /// What somebody with these claims may do, and in which tiers (none means every one). Of several groups the greatest
    /// role counts, with all the tiers of the groups that give it.
    #[must_use]
    pub fn grant(&self, claims: &Map<String, Value>) -> Option<(Role, Vec<String>)> {
        let groups = texts(claim(claims, &self.groups_claim));
        let its: Vec<_> = self.roles.iter().filter(|grant| groups.contains(grant.group.as_str())).collect();
        let Some(role) = its.iter().map(|grant| grant.role).max() else {
            return self.otherwise.map(|Otherwise::Viewer| (Role::Viewer, vec![]));
        };
        let its = || its.iter().filter(|grant| grant.role == role);
        let every = role == Role::Admin || its().any(|grant| grant.tiers.is_empty());
        let tiers: BTreeSet<_> = its().flat_map(|grant| grant.tiers.iter().cloned()).collect();
        Some((role, if every { vec![] } else { tiers.into_iter().collect() }))
    }

    /// What somebody with these claims is called.
    ///
    /// # Errors
    /// There is no such claim, or it is no name.
    pub fn name<'a>(&self, claims: &'a Map<String, Value>) -> Result<&'a str, String> {
        let text = |name: &str| claim(claims, name).and_then(Value::as_str);
        let (from, name) = match &self.name_claim {
            Some(from) => (from.as_str(), text(from)),
            None => ("preferred_username", text("preferred_username").or_else(|| text("sub"))),
        };
        let name = name.ok_or_else(|| format!("the token has no claim {from} to call somebody by"))?;
        if is_name(name) {
            Ok(name)
        } else {
            Err(format!("the claim {from} is no name: up to 64 letters, digits and .-_@"))
        }
    }
}

/// A claim by its name, or by where it is.
fn claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| {
        let mut steps = name.strip_prefix('/')?.split('/');
        let first = claims.get(steps.next()?)?;
        steps.try_fold(first, |at, step| at.get(step))
    })
}

/// One text, or a list of them; anything else is none.
fn texts(value: Option<&Value>) -> BTreeSet<&str> {
    match value {
        Some(Value::String(one)) => [one.as_str()].into(),
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        _ => BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "tests")]
    use super::Oidc;
    use crate::store::accounts::Role;
    use serde_json::{Map, Value, json};

    fn oidc(more: Value) -> Oidc {
        let mut all =
            json!({"issuer": "https://id.example.org", "client_id": "hub", "client_secret_file": "/s"});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    fn claims(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn the_greatest_role_counts_and_the_tiers_of_whoever_gives_it() {
        let oidc = oidc(json!({"roles": [
            {"group": "all", "role": "viewer"},
            {"group": "dba", "role": "operator", "tiers": ["database"]},
            {"group": "web", "role": "operator", "tiers": ["web", "edge"]},
            {"group": "ops", "role": "operator"},
            {"group": "root", "role": "admin", "tiers": ["database"]},
        ]}));
        let of = |groups: Value| oidc.grant(&claims(json!({ "groups": groups })));
        let some = |role, tiers: &[&str]| Some((role, tiers.iter().map(|tier| (*tier).to_owned()).collect()));
        assert_eq!(of(json!(["all", "dba"])), some(Role::Operator, &["database"]));
        assert_eq!(of(json!(["web", "dba"])), some(Role::Operator, &["database", "edge", "web"]));
        assert_eq!(of(json!(["ops", "dba"])), some(Role::Operator, &[]));
        assert_eq!(of(json!(["root", "dba"])), some(Role::Admin, &[]));
        assert_eq!(of(json!("all")), some(Role::Viewer, &[]));
        for nothing in [json!([]), json!(["DBA", "db", 7, ["dba"]]), json!({"dba": true}), json!(null)] {
            assert_eq!(of(nothing.clone()), None, "{nothing}");
        }
        assert_eq!(oidc.grant(&Map::new()), None);
    }

    #[test]
    fn somebody_in_no_group_reads_only_where_that_is_said() {
        let all = oidc(json!({"otherwise": "viewer"}));
        assert_eq!(all.grant(&Map::new()), Some((Role::Viewer, vec![])));
        let more = json!({"issuer": "https://x", "client_id": "hub", "client_secret_file": "/s", "otherwise": "admin"});
        assert!(serde_json::from_value::<Oidc>(more).is_err(), "nobody is an admin by being nobody");
    }

    #[test]
    fn a_claim_is_found_by_its_name_or_its_place() {
        let grant = json!([{"group": "root", "role": "admin"}]);
        for (at, value) in [
            ("/realm_access/roles", json!({"realm_access": {"roles": ["root"]}})),
            ("https://example.org/groups", json!({"https://example.org/groups": ["root"]})),
        ] {
            let oidc = oidc(json!({"groups_claim": at, "roles": grant}));
            assert_eq!(oidc.grant(&claims(value)), Some((Role::Admin, vec![])), "{at}");
        }
    }

    #[test]
    fn a_name_is_one_word_or_none() {
        let plain = oidc(json!({}));
        let both = claims(
            json!({"sub": "42", "preferred_username": "ada", "email": "ada@example.org", "name": "Ada L"}),
        );
        assert_eq!(plain.name(&both).unwrap(), "ada");
        assert_eq!(plain.name(&claims(json!({"sub": "42"}))).unwrap(), "42");
        assert_eq!(oidc(json!({"name_claim": "email"})).name(&both).unwrap(), "ada@example.org");
        assert!(oidc(json!({"name_claim": "name"})).name(&both).unwrap_err().contains("claim name"));
        assert!(
            oidc(json!({"name_claim": "email"})).name(&Map::new()).unwrap_err().contains("no claim email")
        );
        assert!(plain.name(&claims(json!({"preferred_username": "oidc:root"}))).is_err());
    }

    #[test]
    fn what_cannot_work_is_told_with_what_to_write() {
        let home = Some("https://hub.example.org");
        let good = oidc(json!({"otherwise": "viewer"}));
        good.check(home).unwrap();
        assert!(good.check(None).unwrap_err().contains("public_url"));
        assert!(good.check(Some("http://hub.example.org")).unwrap_err().contains("https"));
        good.check(Some("http://127.0.0.1:8484")).unwrap();
        for (wrong, says) in [
            (json!({}), "nobody could sign in"),
            (json!({"otherwise": "viewer", "issuer": "http://id.example.org"}), "in the clear"),
            (json!({"otherwise": "viewer", "issuer": "https://id.example.org?a=b"}), "neither"),
            (json!({"otherwise": "viewer", "client_id": ""}), "client_id"),
            (json!({"otherwise": "viewer", "scopes": ["a b"]}), "scopes"),
        ] {
            let why = oidc(wrong).check(home).unwrap_err();
            assert!(why.contains(says), "{why}");
        }
    }
}
