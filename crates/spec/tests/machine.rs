//! What programs read: JSON, SARIF, JSON Schema.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;
use common::{KINDS, one_tier, read};
use evenkeel_spec::{CODES, schemas};
use serde_json::{Value, json};

fn refused() -> evenkeel_spec::Problems {
    let fleet = "version: 1\nfleet: eden\nnodes: {db1: {tier: db}}\n";
    let tier = "version: 1\nsysctl:\n  vm.swappiness: yes\n";
    read(&[("fleet.yaml", fleet), ("tiers/db.yaml", tier), ("nodes/db1.yaml", "")]).err().unwrap()
}

#[test]
fn json_names_every_problem_with_its_place() {
    let told: Value = serde_json::from_str(&refused().json()).unwrap();
    assert_eq!((&told["errors"], &told["warnings"]), (&json!(2), &json!(0)));
    let expected = json!({
        "code": "bare-word", "severity": "error", "file": "tiers/db.yaml", "line": 3, "column": 18, "width": 3,
        "snippet": "  vm.swappiness: yes", "message": "`yes` may mean a truth value or a text",
        "help": "quote it (\"yes\") where the text is meant, or write true",
    });
    assert_eq!(told["problems"][1], expected);
    assert_eq!(told["problems"][0]["line"], 0, "a whole file has no line");
}

#[test]
fn sarif_points_at_the_same_places_and_its_rules_are_the_codes() {
    let log: Value = serde_json::from_str(&refused().sarif()).unwrap();
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    assert_eq!(run["tool"]["driver"]["rules"].as_array().unwrap().len(), CODES.len());
    let result = &run["results"][1];
    let rule =
        &run["tool"]["driver"]["rules"][usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()];
    assert_eq!((&result["ruleId"], &rule["id"]), (&json!("bare-word"), &json!("bare-word")));
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "tiers/db.yaml");
    assert_eq!(place["region"]["startLine"], 3);
    assert_eq!((&place["region"]["startColumn"], &place["region"]["endColumn"]), (&json!(18), &json!(21)));
    assert!(run["results"][0]["locations"][0]["physicalLocation"].get("region").is_none());
}

#[test]
fn codes_are_sorted_and_none_is_there_twice() {
    assert!(CODES.windows(2).all(|pair| pair[0].0 < pair[1].0));
}

#[test]
fn a_person_sees_colour_only_where_it_is_asked_for() {
    assert!(refused().text(true).contains('\u{1b}'));
    assert!(!refused().text(false).contains('\u{1b}'));
    assert!(refused().to_string().ends_with("2 errors"));
}

#[test]
fn the_schema_of_a_document_knows_every_kind_and_nothing_else() {
    let schema = &schemas(KINDS)["document"];
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["additionalProperties"], false);
    let keys: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["version", "include", "mode", "sysctl", "mount", "postgresql"]);
    let share = &schema["properties"]["mount"]["additionalProperties"];
    assert_eq!(share["properties"]["mode"]["anyOf"][0]["enum"], json!(["enforce", "audit"]));
    assert!(share["properties"]["permissions"].is_object() && share["properties"]["absent"].is_object());
    assert!(share.get("required").is_none(), "another layer may say it");
    let knob = &schema["properties"]["sysctl"]["additionalProperties"]["anyOf"];
    assert!(knob[1]["properties"]["value"].is_object(), "a bare value or a map");
    assert!(knob[1]["properties"].get("permissions").is_none());
}

#[test]
fn the_schemas_are_what_they_were() {
    let text = serde_json::to_string_pretty(&schemas(KINDS)).unwrap();
    insta::assert_snapshot!("schemas", text);
}

#[test]
fn what_a_schema_allows_at_the_top_is_what_the_language_reads() {
    for key in schemas(KINDS)["document"]["properties"].as_object().unwrap().keys() {
        let told = one_tier(&format!("{key}: 1\nnonsense: 1\n")).err().unwrap().to_string();
        assert!(!told.contains(&format!("`{key}` is neither")), "{told}");
        assert!(told.contains("`nonsense` is neither"), "{told}");
    }
}
