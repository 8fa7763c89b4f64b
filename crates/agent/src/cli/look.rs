//! Commands that only read a spec: explain, validate, render, schema, kinds. They touch neither node nor agent.

use super::load::{self, Default};
use super::{Ending, Failure, Format, ReportFormat, SpecArgs, WRONG, paint};
use crate::run::ConfigPlace;
use evenkeel_core::{Goal, GoalItem, Witness};
use evenkeel_kinds::KINDS;
use evenkeel_spec::{Bundle, NodeError, Problems, Repository};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::path::Path;

fn read(bundle: &Bundle) -> Result<Repository, Failure> {
    match Repository::read(bundle, KINDS) {
        Ok((repository, _)) => Ok(repository),
        Err(problems) => Err(Failure::Wrong(problems.text(false))),
    }
}

/// `evenkeel explain ITEM`: what the spec says, and, on the node itself, what every layer of it says just now.
pub(super) fn explain(place: &ConfigPlace, item: &str, args: &SpecArgs, format: Format) -> Ending {
    let config = load::config(place)?;
    let loaded = load::load(&config, args.spec.as_deref(), Default::LastGood)?;
    let node = args.node.as_deref().unwrap_or(&config.node);
    let repository = read(&loaded.bundle)?;
    let explained = repository.explain(node, item).map_err(|error| Failure::wrong(&error))?;
    let here =
        if node == config.node { witness(&repository, &explained.item, item, &config) } else { Ok(vec![]) };
    match format {
        Format::Text => paint::text(&format!("{explained}{}\n", here_text(&here)), 0),
        Format::Json => {
            let mut whole = serde_json::to_value(&explained).map_err(|error| Failure::wrong(&error))?;
            match here {
                Ok(rows) => whole["here"] = json!(rows),
                Err(why) => whole["here_unseen"] = json!(why),
            }
            paint::json(&whole, 0)
        }
    }
}

/// What the layers of this node say of an item, or of the value in it that was asked for.
fn witness(
    repository: &Repository,
    id: &str,
    asked: &str,
    config: &crate::config::Config,
) -> Result<Vec<Witness>, String> {
    let Some((kind, name)) = id.split_once('/') else { return Ok(vec![]) };
    let machine = evenkeel_host::identity::machine_id();
    let spec = repository.node(&config.node, machine.as_deref()).map_err(|error| error.to_string())?;
    let Some(goal) = spec.goals.iter().find(|goal| goal.kind() == kind) else { return Ok(vec![]) };
    let within = asked.strip_prefix(id).unwrap_or_default().trim_start_matches('/');
    let host = evenkeel_host::Host::new(config.run_dir.clone());
    goal.witness(name, within, &host).map_err(|fault| evenkeel_core::chain(&fault))
}

fn here_text(here: &Result<Vec<Witness>, String>) -> String {
    let rows = match here {
        Ok(rows) if rows.is_empty() => return String::new(),
        Ok(rows) => rows,
        Err(why) => return format!("\n  here, now: cannot be seen: {}\n", crate::log::plain(why)),
    };
    let width = |of: fn(&Witness) -> &str| rows.iter().map(|row| of(row).chars().count()).max().unwrap_or(0);
    let (layers, places, values) =
        (width(|row| &row.layer), width(|row| &row.place).min(80), width(|row| &row.value).min(60));
    let mut text = "\n  here, now\n".to_owned();
    for row in rows {
        let mark = if row.won { paint::good("*") } else { " ".to_owned() };
        let plain = crate::log::plain;
        let line = format!(
            "{:layers$}  {:places$}  {:values$}",
            plain(&row.layer),
            plain(&row.place),
            plain(&row.value)
        );
        let note =
            row.note.as_deref().map(|note| format!("  {}", paint::aside(&plain(note)))).unwrap_or_default();
        let _ = writeln!(text, "    {mark} {}{note}", if note.is_empty() { line.trim_end() } else { &line });
    }
    text
}

/// `evenkeel validate DIR`.
pub(super) fn validate(dir: &Path, format: ReportFormat) -> Ending {
    let bundle = load::load_folder(dir)?;
    let (problems, summary) = match Repository::read(&bundle, KINDS) {
        Ok((repository, warnings)) => {
            let (nodes, files) = (repository.selectors().count(), bundle.files.len());
            let fleet = repository.fleet().to_owned();
            (warnings, Some(format!("fleet {fleet}: {nodes} node selectors and {files} files are good")))
        }
        Err(problems) => (problems, None),
    };
    let code = if summary.is_some() { 0 } else { WRONG };
    match format {
        ReportFormat::Text => paint::text(&text(&problems, summary), code),
        ReportFormat::Json => {
            paint::raw(problems.json().as_bytes()).and_then(|_| paint::raw(b"\n")).map(|_| code)
        }
        ReportFormat::Sarif => {
            paint::raw(problems.sarif().as_bytes()).and_then(|_| paint::raw(b"\n")).map(|_| code)
        }
    }
}

fn text(problems: &Problems, summary: Option<String>) -> String {
    let mut text = if problems.is_empty() { String::new() } else { problems.text(paint::has_colours()) };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    if let Some(summary) = summary {
        text.push_str(&paint::good(&summary));
        text.push('\n');
    }
    text
}

/// `evenkeel render NODE`.
pub(super) fn render(place: &ConfigPlace, node: &str, spec: &str, format: Format) -> Ending {
    let config = load::config(place)?;
    let loaded = load::load(&config, Some(spec), Default::Source)?;
    let repository = read(&loaded.bundle)?;
    if format == Format::Json {
        return paint::json(&merged(&repository, node)?, 0);
    }
    let rendered = repository.render(node).map_err(|error| Failure::wrong(&error))?;
    paint::raw(rendered.as_bytes())
}

/// The merged spec of a node, whatever machine asks for it.
fn merged(repository: &Repository, node: &str) -> Result<Value, Failure> {
    let spec = match repository.node(node, None) {
        Err(NodeError::OtherMachine { wanted, .. }) => repository.node(node, Some(&wanted)),
        spec => spec,
    };
    let spec = spec.map_err(|error| Failure::wrong(&error))?;
    let item = |item: &GoalItem| {
        let wish = if item.fields.is_null() { json!({"absent": true}) } else { said(&item.fields) };
        json!({"mode": item.mode, "declared_at": item.origin.to_string(), "wish": wish})
    };
    let section = |goal: &dyn Goal| -> Map<String, Value> {
        goal.items().iter().map(|(name, one)| (name.clone(), item(one))).collect()
    };
    let sections = spec.goals.iter().map(|goal| (goal.kind().to_owned(), section(goal.as_ref()).into()));
    let (who, sections) = (&spec.identity, sections.collect::<Map<_, _>>());
    Ok(json!({
        "fleet": who.fleet, "node": who.name, "tier": who.tier, "labels": who.labels, "mode": spec.mode,
        "sections": sections,
    }))
}

/// Fields that nobody said are left out.
fn said(fields: &Value) -> Value {
    let Value::Object(fields) = fields else { return fields.clone() };
    fields
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// `evenkeel schema`.
pub(super) fn schema(which: Option<&str>) -> Ending {
    let schemas = evenkeel_spec::schemas(KINDS);
    match which {
        None => paint::json(&schemas, 0),
        Some(which) => match schemas.get(which) {
            Some(schema) => paint::json(schema, 0),
            None => Err(Failure::Usage(format!("there is no schema `{which}`"))),
        },
    }
}

/// `evenkeel kinds`.
pub(super) fn kinds(format: Format) -> Ending {
    if format == Format::Json {
        let one = |kind: &&dyn evenkeel_core::AnyKind| serde_json::json!({"name": kind.name(), "summary": kind.summary(), "example": kind.example()});
        return paint::json(&KINDS.iter().map(one).collect::<Vec<_>>(), 0);
    }
    let mut text = String::new();
    for kind in KINDS {
        let _ = writeln!(text, "{}  {}\n", paint::name(kind.name()), kind.summary());
        let _ = writeln!(text, "  {}:", kind.name());
        for line in kind.example().trim_end().lines() {
            let _ = writeln!(text, "    {line}");
        }
        text.push('\n');
    }
    paint::text(text.trim_end_matches('\n'), 0).and_then(|code| paint::raw(b"\n").map(|_| code))
}
