//! The hub's API, described as OpenAPI 3.1: made from the table of operations, from the table of needs, and from the
//! types that answer, so that it cannot say anything else than they do.

use super::Problem;
use super::needs::{Need, need};
use super::operations::{OPERATIONS, Operation, Param};
use axum::http::{Method, StatusCode, header};
use axum::response::IntoResponse;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use std::sync::OnceLock;

/// Where the types' schemas stand.
const SCHEMAS: &str = "/components/schemas";

pub(super) async fn document() -> impl IntoResponse {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(|| describe().to_string());
    ([(header::CONTENT_TYPE, "application/json")], text.as_str())
}

/// The whole description.
fn describe() -> Value {
    let mut answers = answers();
    // What is sent is not what is answered: what has a default may be left out of it. So its schemas stand where they
    // are used, and have no names that the answers' could be taken for.
    let mut requests = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true).into_generator();
    let mut paths = Map::new();
    for one in OPERATIONS {
        let path = paths.entry(one.path).or_insert_with(|| json!({}));
        path[one.method] = operation(one, &mut answers, &mut requests);
    }
    let problem = answers.subschema_for::<Problem>();
    let mut description = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "evenkeel hub",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "How the fleet stands, for programs; and what nodes tell. Errors are problems (RFC 9457).",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "eku_…",
                          "description": "A token of `evenkeel-hub user token`."},
                "session": {"type": "apiKey", "in": "cookie", "name": "__Host-evenkeel",
                            "description": "A browser's, from /sign-in; in the clear its name is `evenkeel`."},
                "certificate": {"type": "mutualTLS", "description": "A node's, by the hub's own authority."},
            },
            "responses": errors(&problem.to_value()),
            "schemas": answers.take_definitions(true),
        },
    });
    plain(&mut description);
    description
}

fn answers() -> SchemaGenerator {
    SchemaSettings::draft2020_12()
        .for_serialize()
        .with(|s| s.definitions_path = SCHEMAS.into())
        .into_generator()
}

fn operation(one: &Operation, answers: &mut SchemaGenerator, requests: &mut SchemaGenerator) -> Value {
    let mut content = Map::new();
    if let Some(answer) = one.answer {
        content.insert("application/json".into(), json!({"schema": answer(answers)}));
    }
    for (media, about) in one.also {
        content.insert((*media).into(), json!({"schema": {"type": "string", "description": about}}));
    }
    let (security, role) = access(one);
    let mut responses = Map::new();
    let mut answer = json!({"description": one.summary});
    if !content.is_empty() {
        answer["content"] = content.into();
    }
    responses.insert(one.code.to_string(), answer);
    let open = role.is_none() && one.method == "get";
    let of_access: &[u16] = if open { &[] } else { &[401, 403] };
    for code in one.errors.iter().chain(of_access).chain(&[500, 503]) {
        responses.insert(code.to_string(), json!({"$ref": format!("#/components/responses/{code}")}));
    }
    responses.sort_keys();
    let mut described =
        json!({"operationId": one.id, "summary": one.summary, "responses": responses, "security": security});
    let needs = role.map(|role| format!("Needs the role {role}."));
    let about = [one.about, needs.as_deref().unwrap_or_default()].join(" ");
    if !about.trim().is_empty() {
        described["description"] = about.trim().into();
    }
    if !one.params.is_empty() {
        described["parameters"] = one.params.iter().copied().flatten().map(param).collect();
    }
    if !one.asks.is_empty() {
        let asks =
            one.asks.iter().map(|(media, shape)| ((*media).to_owned(), json!({"schema": shape(requests)})));
        described["requestBody"] = json!({"required": true, "content": asks.collect::<Map<_, _>>()});
    }
    described
}

/// What is to be shown, and which role whoever shows it needs.
fn access(one: &Operation) -> (Value, Option<&'static str>) {
    let method = Method::from_bytes(one.method.to_ascii_uppercase().as_bytes()).unwrap_or_default();
    match need(one.path, &method) {
        Some(Need::Role(role)) => (json!([{"token": []}, {"session": []}]), Some(role.word())),
        Some(Need::SignedIn) => (json!([{"session": []}]), None),
        _ if one.path.starts_with("/v1/") && one.path != "/v1/enroll" => (json!([{"certificate": []}]), None),
        _ => (json!([]), None),
    }
}

fn param(one: &Param) -> Value {
    json!({"name": one.name, "in": one.place, "description": one.about, "required": one.place == "path",
           "schema": (one.schema)()})
}

/// Every error that any operation names, with what is particular about it.
fn errors(problem: &Value) -> Value {
    let codes = OPERATIONS.iter().flat_map(|one| one.errors).copied().chain([401, 403, 500, 503]);
    let one = |code: u16| {
        let name =
            StatusCode::from_u16(code).ok().and_then(|code| code.canonical_reason()).unwrap_or("Error");
        let mut error = json!({"description": format!("{name}: {}", meaning(code)),
                               "content": {"application/problem+json": {"schema": problem}}});
        if matches!(code, 429 | 503) {
            error["headers"] = json!({"Retry-After": {"description": "After how many seconds to come again.",
                                                      "schema": {"type": "integer"}}});
        }
        (code.to_string(), error)
    };
    let mut all: Map<_, _> = codes.map(one).collect();
    all.sort_keys();
    all.into()
}

fn meaning(code: u16) -> &'static str {
    match code {
        400 => "something does not read, or a parameter is none that is known.",
        401 => "nobody is signed in, the token is not good, or the certificate is not known.",
        403 => "the role does not suffice; or the node is banned or speaks for another.",
        404 => "there is none of that name.",
        408 => "the body did not arrive in time.",
        409 => "another machine was let in under this node's name; or it is not the time for it.",
        410 => "the node was taken out.",
        413 => "the body is too large; send fewer events at once.",
        415 => "the body is of another media type, or compressed otherwise than as gzip.",
        422 => "the body is JSON, and not what is asked for.",
        429 => "too often.",
        503 => "the store is away or the queue is full; nothing was stored.",
        _ => "the hub failed; its log says how.",
    }
}

/// Descriptions are the types' own comments; links in those are for programmers alone.
fn plain(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(text)) = members.get_mut("description") {
                *text = text.replace("[`", "`").replace("`]", "`");
            }
            members.values_mut().for_each(plain);
        }
        Value::Array(all) => all.iter_mut().for_each(plain),
        _ => {}
    }
}
