"""Holds an OpenAPI document, and real answers, against schemas; with a validator that is not ours.

    check.py DOCUMENT METASCHEMA ANSWERS

METASCHEMA is the OpenAPI Initiative's own (https://spec.openapis.org/oas/3.1/schema/2022-10-07); as it leaves out what is
in a schema, each of those is held against JSON Schema 2020-12 besides. ANSWERS is a list of {path, method, code, media, body}.
"""
import copy
import json
import sys

import jsonschema

document, metaschema, answers = (json.load(open(name)) for name in sys.argv[1:])
validator = jsonschema.Draft202012Validator
bad = []


def hold(what, schema, value):
    for error in validator(schema).iter_errors(value):
        bad.append(f"{what}: {'/'.join(map(str, error.absolute_path))}: {error.message[:300]}")


def schemas(node):
    """Every schema in the document, wherever it stands."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "schema":
                yield value
            elif key == "schemas":
                yield from value.values()
            else:
                yield from schemas(value)
    elif isinstance(node, list):
        for value in node:
            yield from schemas(value)


def closed(node):
    """Nothing may be in an answer that its schema does not name."""
    if isinstance(node, dict):
        if isinstance(node.get("properties"), dict) and "additionalProperties" not in node:
            node["additionalProperties"] = False
        for value in node.values():
            closed(value)
    elif isinstance(node, list):
        for value in node:
            closed(value)


def references(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def resolve(pointer):
    node = document
    for step in pointer.removeprefix("#/").split("/"):
        node = node[step.replace("~1", "/").replace("~0", "~")]
    return node


hold("the document", metaschema, document)
for schema in schemas(document):
    try:
        validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        bad.append(f"a schema is none: {error.message[:300]}")
for reference in references(document):
    try:
        resolve(reference)
    except KeyError:
        bad.append(f"{reference} leads nowhere")
names = [one["operationId"] for path in document["paths"].values() for one in path.values()]
if len(names) != len(set(names)):
    bad.append("two operations have one name")

strict = copy.deepcopy(document)
closed(strict["components"]["schemas"])
for answer in answers:
    what = f"{answer['method']} {answer['path']} {answer['code']}"
    response = document["paths"][answer["path"]][answer["method"]]["responses"].get(str(answer["code"]))
    if response is None:
        bad.append(f"{what}: this code is not described")
        continue
    response = resolve(response["$ref"]) if "$ref" in response else response
    if "content" not in response:
        if answer["body"]:
            bad.append(f"{what}: nothing is described, and something answered")
        continue
    media = (answer["media"] or "").split(";")[0]
    if media not in response["content"]:
        bad.append(f"{what}: {media} is not described")
    else:
        hold(what, {**strict, **response["content"][media]["schema"]}, answer["body"])

print("\n".join(bad) or f"{len(answers)} answers of {len(names)} operations")
sys.exit(1 if bad else 0)
