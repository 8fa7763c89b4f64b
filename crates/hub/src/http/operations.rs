//! What programs may ask, in one table: the description at `/api/v1/openapi.json` is made from it and from the types that
//! answer. Which role an operation needs is not said here but in `needs`.

use super::enroll::{AskEnrol, AskRenew, Given};
use super::{admin, api, fleet, ingest, list, past, sign_in, silences, telling};
use crate::admin::{MemberJson, TokenJson};
use crate::liveness;
use crate::roll::SYNCS;
use crate::rollout::Rollout;
use crate::tell::silence::SilenceJson;
use evenkeel_report::{Event, Heartbeat, Report, Status};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

/// Where a type's schema comes from.
pub(super) type Shape = fn(&mut SchemaGenerator) -> Schema;

/// One thing that may be asked.
pub(super) struct Operation {
    /// `get`, `post`, `delete`.
    pub(super) method: &'static str,
    /// The address, as the router has it.
    pub(super) path: &'static str,
    /// Its name in clients that are made from the description.
    pub(super) id: &'static str,
    /// In a few words.
    pub(super) summary: &'static str,
    /// What is worth knowing besides; may be empty.
    pub(super) about: &'static str,
    /// Its parameters.
    pub(super) params: &'static [&'static [Param]],
    /// What is sent: by media type.
    pub(super) asks: &'static [(&'static str, Shape)],
    /// The code of the answer.
    pub(super) code: u16,
    /// The answer as JSON; nothing where the code says it all.
    pub(super) answer: Option<Shape>,
    /// Other forms of the answer: media type, and what it is.
    pub(super) also: &'static [(&'static str, &'static str)],
    /// Errors of its own, beside those that come of who asks and of the store.
    pub(super) errors: &'static [u16],
}

/// A parameter.
pub(super) struct Param {
    pub(super) name: &'static str,
    /// `query` or `path`.
    pub(super) place: &'static str,
    pub(super) about: &'static str,
    pub(super) schema: fn() -> Value,
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn either<A: JsonSchema, B: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let (one, other) = (of::<A>(generator), of::<B>(generator));
    schemars::json_schema!({"anyOf": [one, other]})
}

fn text() -> Value {
    json!({"type": "string"})
}

fn number() -> Value {
    json!({"type": "integer", "minimum": 1, "maximum": 1000, "default": 100})
}

fn words(words: impl IntoIterator<Item = &'static str>) -> Value {
    json!({"type": "string", "enum": words.into_iter().collect::<Vec<_>>()})
}

const fn query(name: &'static str, about: &'static str, schema: fn() -> Value) -> Param {
    Param { name, place: "query", about, schema }
}

const fn part(name: &'static str, about: &'static str) -> Param {
    Param { name, place: "path", about, schema: text }
}

/// Which nodes.
const FILTER: &[Param] = &[
    query("tier", "Of this tier; `-` is for nodes in none.", text),
    query("liveness", "Heard of like this; `quiet` is silent or missing.", || {
        words(liveness::ALL.into_iter().map(liveness::word).chain(["quiet"]))
    }),
    query("status", "The worst status of any item; `open` is any that wants somebody's eye.", || {
        words(Status::ALL.map(Status::word).into_iter().chain(["open"]))
    }),
    query("sync", "How the spec stands.", || words(SYNCS.map(|(_, word)| word))),
    query("even", "Whether nothing about the node wants somebody's eye.", || words(["yes", "no"])),
    query("commit", "Has this commit in force.", text),
    query("behind", "Has seen this commit, and has another in force.", text),
    query("q", "A part of the name, in either case, or of the source.", text),
];
const LIMIT: &[Param] = &[query("limit", "How many at most.", number)];
const NODE: &[Param] =
    &[part("name", "The node's name or its source. Of two of one name: the one last heard of.")];

const AT: &[Param] = &[query(
    "at",
    "A moment in the past; the answer is what was known of it, in another shape.",
    || json!({"type": "string", "format": "date-time"}),
)];

const READ: Operation = Operation {
    method: "get",
    path: "",
    id: "",
    summary: "",
    about: "",
    params: &[],
    asks: &[],
    code: 200,
    answer: None,
    also: &[],
    errors: &[],
};
const SEND: Operation = Operation { method: "post", errors: &[400, 408, 409, 410, 413, 429], ..READ };

/// An act of the API. What is not there is not found, and what is not the time for it is told so.
const ACT: Operation = Operation { method: "post", code: 204, errors: &[400, 404, 409], ..READ };
const END: Operation = Operation { method: "delete", ..ACT };

const EVENT: Shape = |generator| {
    let (report, beat) = (of::<Event<Report>>(generator), of::<Event<Heartbeat>>(generator));
    schemars::json_schema!({"anyOf": [report, beat]})
};
const BATCH: Shape = |generator| {
    let event = EVENT(generator);
    schemars::json_schema!({"type": "array", "items": event})
};

/// Everything that may be asked.
pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        path: "/api/v1/nodes",
        id: "listNodes",
        summary: "Nodes by name",
        about: "CSV and NDJSON, by `Accept` or by `format`, go through to the end as a stream, or to `limit`.",
        params: &[
            FILTER,
            LIMIT,
            &[
                query("after", "The last node's name of the page before, as `next` has it.", text),
                query("after_source", "And its source.", text),
                query("format", "Over `Accept`.", || words(["json", "csv", "ndjson"])),
            ],
        ],
        answer: Some(of::<list::NodesPage>),
        also: &[
            (
                "text/csv",
                "A head and a line for each node. A cell that a spreadsheet would take for a formula begins with `'`.",
            ),
            ("application/x-ndjson", "A node on each line, as in `nodes` of the JSON."),
        ],
        errors: &[400],
        ..READ
    },
    Operation {
        path: "/api/v1/nodes/{name}",
        id: "getNode",
        summary: "One node with its items, worst first, now or as of a moment",
        params: &[NODE, AT],
        answer: Some(either::<api::NodeAndItems, past::PastJson>),
        errors: &[400, 404, 410],
        ..READ
    },
    Operation {
        path: "/api/v1/nodes/{name}/timeline",
        id: "getTimeline",
        summary: "What changed on a node, newest first",
        params: &[NODE, LIMIT, &[query("before", "A place in the timeline, as `next` has it.", text)]],
        answer: Some(of::<api::Timeline>),
        errors: &[400, 404],
        ..READ
    },
    Operation {
        path: "/api/v1/fleet",
        id: "getFleet",
        summary: "How the whole fleet stands, or stood at a moment",
        params: &[AT],
        answer: Some(either::<fleet::FleetJson, past::FleetThenJson>),
        errors: &[400, 410],
        ..READ
    },
    Operation {
        path: "/api/v1/drift",
        id: "getDrift",
        summary: "What is off across the fleet, and what was put right within the hour",
        params: &[FILTER, &[query("item", "A part of an item's id.", text)]],
        answer: Some(of::<fleet::DriftJson>),
        errors: &[400],
        ..READ
    },
    Operation {
        path: "/api/v1/rollout/{commit}",
        id: "getRollout",
        summary: "How far a commit has come",
        params: &[&[part("commit", "The commit, or at least seven characters that it begins with.")]],
        answer: Some(of::<Rollout>),
        errors: &[404],
        ..READ
    },
    Operation {
        path: "/api/v1/invariants",
        id: "getInvariants",
        summary: "What must hold between nodes, and where it does not",
        answer: Some(of::<api::InvariantsJson>),
        ..READ
    },
    Operation {
        path: "/api/v1/slots",
        id: "getSlots",
        summary: "Which slots of the fleet are held",
        answer: Some(of::<api::SlotsJson>),
        ..READ
    },
    Operation {
        path: "/api/v1/silences",
        id: "listSilences",
        summary: "What is told to nobody",
        answer: Some(of::<silences::SilencesJson>),
        ..READ
    },
    Operation {
        path: "/api/v1/silences",
        id: "makeSilence",
        summary: "Tells nobody of what matches, for a while",
        about: "Its owner is the account. Whoever is bound to tiers names exactly one of them.",
        asks: &[("application/json", of::<silences::Wish>)],
        code: 201,
        answer: Some(of::<SilenceJson>),
        errors: &[400, 409, 413, 415, 422],
        ..ACT
    },
    Operation {
        path: "/api/v1/silences/{id}",
        id: "endSilence",
        summary: "Ends a silence before its time",
        params: &[&[part("id", "Its id.")]],
        ..END
    },
    Operation {
        path: "/api/v1/slots/{group}/{id}",
        id: "freeSlot",
        summary: "Frees a slot that no node gives back",
        about: "Whoever is bound to tiers frees slots of groups that are called so.",
        params: &[&[
            part("group", "The group."),
            part("id", "Who has it: `NODE/HOLDER`, with the `/` as `%2F`."),
            query(
                "although_alive",
                "Although its node is heard of.",
                || json!({"type": "boolean", "default": false}),
            ),
        ]],
        ..END
    },
    Operation {
        path: "/api/v1/nodes/{name}",
        id: "removeNode",
        summary: "Takes a node out",
        params: &[&[part("name", "Its name.")]],
        ..END
    },
    Operation {
        path: "/api/v1/nodes/{name}/ban",
        id: "banNode",
        summary: "Listens to a node, or to one certificate, no more",
        params: &[&[part("name", "A node's name, or a certificate's serial number.")]],
        ..ACT
    },
    Operation {
        path: "/api/v1/nodes/{name}/unban",
        id: "unbanNode",
        summary: "Listens to it again",
        params: &[&[part("name", "A node's name, or a certificate's serial number.")]],
        ..ACT
    },
    Operation {
        path: "/api/v1/tokens",
        id: "listTokens",
        summary: "The tokens that let nodes in",
        answer: Some(of::<Vec<TokenJson>>),
        ..READ
    },
    Operation {
        path: "/api/v1/tokens",
        id: "makeToken",
        summary: "Makes a token that lets nodes in",
        asks: &[("application/json", of::<admin::Wish>)],
        code: 201,
        answer: Some(of::<admin::MadeJson>),
        errors: &[400, 409, 413, 415, 422],
        ..ACT
    },
    Operation {
        path: "/api/v1/tokens/{id}",
        id: "revokeToken",
        summary: "Takes a token back",
        params: &[&[part("id", "Its id.")]],
        ..END
    },
    Operation {
        path: "/api/v1/members",
        id: "listMembers",
        summary: "Every certificate of a node",
        answer: Some(of::<Vec<MemberJson>>),
        ..READ
    },
    Operation {
        path: "/api/v1/outbox",
        id: "getOutbox",
        summary: "What is told, was told, or was given up",
        params: &[LIMIT],
        answer: Some(of::<telling::OutboxJson>),
        errors: &[400],
        ..READ
    },
    Operation {
        path: "/api/v1/account",
        id: "getAccount",
        summary: "Who asks",
        answer: Some(of::<sign_in::AccountJson>),
        ..READ
    },
    Operation {
        path: "/api/v1/audit",
        id: "getAudit",
        summary: "Who did what, newest first",
        params: &[
            LIMIT,
            &[query(
                "before",
                "The number of the last line of the page before, as `next` has it.",
                || json!({"type": "integer"}),
            )],
        ],
        answer: Some(of::<sign_in::AuditJson>),
        errors: &[400],
        ..READ
    },
    Operation {
        path: "/api/v1/openapi.json",
        id: "getDescription",
        summary: "This description",
        answer: Some(
            |_| schemars::json_schema!({"type": "object", "required": ["openapi", "info", "paths"]}),
        ),
        ..READ
    },
    Operation {
        path: "/healthz",
        id: "getHealth",
        summary: "Whether the store can be read",
        answer: Some(of::<api::HealthJson>),
        ..READ
    },
    Operation {
        path: "/v1/events",
        id: "sendEvents",
        summary: "Reports and heartbeats of a node",
        about: "CloudEvents 1.0; a body may be gzip and has at most 1 MiB, unpacked as well. The answer comes after the commit.",
        asks: &[
            ("application/cloudevents-batch+json", BATCH),
            ("application/cloudevents+json", EVENT),
            ("application/json", |generator| {
                let (batch, event) = (BATCH(generator), EVENT(generator));
                schemars::json_schema!({"anyOf": [batch, event]})
            }),
        ],
        answer: Some(of::<ingest::Receipt>),
        errors: &[400, 408, 409, 410, 413, 415, 429],
        ..SEND
    },
    Operation {
        path: "/v1/heartbeat",
        id: "sendHeartbeat",
        summary: "One heartbeat of a node",
        asks: &[("application/cloudevents+json", of::<Event<Heartbeat>>)],
        answer: Some(of::<ingest::Receipt>),
        errors: &[400, 408, 409, 410, 413, 415, 429],
        ..SEND
    },
    Operation {
        path: "/v1/enroll",
        id: "enroll",
        summary: "Lets a node in by a token",
        asks: &[("application/json", of::<AskEnrol>)],
        answer: Some(of::<Given>),
        ..SEND
    },
    Operation {
        path: "/v1/renew",
        id: "renew",
        summary: "Renews a node's certificate",
        asks: &[("application/json", of::<AskRenew>)],
        answer: Some(of::<Given>),
        ..SEND
    },
];
