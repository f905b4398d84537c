//! The description of the API: OpenAPI 3.1, made of the catalog.

use loginlake_query::{Parameter, ParameterDefault, ParameterType};
use serde_json::{Map, Value, json};

use super::catalog::{Catalog, Entry};
use super::request::AnswerFormat;

/// The list of `GET /queries`.
pub fn list(catalog: &Catalog) -> Value {
    let queries = catalog.iter().map(|entry| {
        let parameters = entry.script.parameters().iter().map(|parameter| {
            json!({
                "name": parameter.name,
                "type": parameter.kind.map_or("text", ParameterType::as_str),
                "required": parameter.default == ParameterDefault::Required,
                "default": default_text(parameter),
                "meaning": parameter.meaning,
            })
        });
        json!({
            "name": entry.name,
            "title": entry.script.title(),
            "description": entry.script.description(),
            "parameters": parameters.collect::<Vec<_>>(),
            "path": format!("/queries/{}", entry.name),
        })
    });
    json!({
        "queries": queries.collect::<Vec<_>>(),
        "formats": AnswerFormat::ALL.map(AnswerFormat::as_str),
    })
}

/// The document of `GET /openapi.json`.
pub fn document(catalog: &Catalog, has_token: bool, max_rows: u64) -> Value {
    let mut paths = Map::new();
    paths.insert("/queries".to_owned(), list_path());
    for entry in catalog.iter() {
        paths.insert(format!("/queries/{}", entry.name), query_path(entry));
    }
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "loginlake queries",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Read-only answers from the tables of login events. An answer is whole or an error.",
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "parameters": {
                "format": {
                    "name": "format",
                    "in": "query",
                    "description": "How the answer is written; without it the Accept header decides.",
                    "schema": { "type": "string", "enum": AnswerFormat::ALL.map(AnswerFormat::as_str) },
                },
                "limit": {
                    "name": "limit",
                    "in": "query",
                    "description": "Most rows that are wanted. Without it a larger answer than the service gives is an error.",
                    "schema": { "type": "integer", "minimum": 1, "maximum": max_rows },
                },
                "fresh": {
                    "name": "fresh",
                    "in": "query",
                    "description": "Also the records of the topic that the table does not hold yet, where the service offers it.",
                    "schema": { "type": "boolean", "default": false },
                },
                "ifNoneMatch": {
                    "name": "If-None-Match",
                    "in": "header",
                    "description": "The ETag of an earlier answer: 304 while the tables it needs are the same.",
                    "schema": { "type": "string" },
                },
            },
            "headers": {
                "ETag": {
                    "description": "Stands for query, parameters and the versions of the tables.",
                    "schema": { "type": "string" },
                },
                "Loginlake-Answer": {
                    "description": "Which versions of the tables the answer is of, and which hours are still open.",
                    "schema": { "type": "string" },
                },
                "Loginlake-Rows": { "description": "Rows of the answer.", "schema": { "type": "integer" } },
                "Loginlake-Truncated": {
                    "description": "true: limit left rows out.",
                    "schema": { "type": "boolean" },
                },
                "Retry-After": { "description": "Seconds.", "schema": { "type": "integer" } },
            },
            "schemas": {
                "Error": {
                    "type": "object",
                    "required": ["error"],
                    "properties": {
                        "error": { "type": "string", "description": "What is wrong, and what to do." },
                        "parameter": { "type": "string", "description": "The parameter that is to blame." },
                    },
                },
            },
            "responses": error_responses(),
        },
    });
    if has_token {
        document["components"]["securitySchemes"] =
            json!({ "token": { "type": "http", "scheme": "bearer" } });
        document["security"] = json!([{ "token": [] }]);
    }
    document
}

/// Status, name, meaning.
const ERRORS: [(&str, &str, &str); 9] = [
    (
        "400",
        "BadRequest",
        "A parameter is missing, of another type, or not taken; its name is in the body.",
    ),
    ("401", "Unauthorized", "The token is missing or wrong."),
    (
        "406",
        "NotAcceptable",
        "No format of the Accept header is offered.",
    ),
    (
        "409",
        "Conflict",
        "Records that a fresh answer needs are gone from the topic.",
    ),
    (
        "422",
        "TooLarge",
        "The answer has more rows or bytes than the service gives, needs too much memory, or fails for these values.",
    ),
    ("429", "TooManyQueries", "As many queries run as may run at once."),
    ("500", "NotRunnable", "The query does not fit this lake."),
    (
        "503",
        "Unavailable",
        "The tables or the topic cannot be read now.",
    ),
    ("504", "Timeout", "The query did not end in time."),
];

fn error_responses() -> Value {
    let responses = ERRORS.iter().map(|(status, name, meaning)| {
        let mut response = json!({
            "description": meaning,
            "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
        });
        if matches!(*status, "429" | "503") {
            response["headers"] = json!({ "Retry-After": { "$ref": "#/components/headers/Retry-After" } });
        }
        ((*name).to_owned(), response)
    });
    Value::Object(responses.collect())
}

fn list_path() -> Value {
    json!({ "get": {
        "operationId": "list",
        "summary": "The queries, with their parameters",
        "responses": {
            "200": {
                "description": "The list",
                "content": { "application/json": { "schema": { "type": "object" } } },
            },
            "401": { "$ref": "#/components/responses/Unauthorized" },
        },
    } })
}

fn query_path(entry: &Entry) -> Value {
    let own = entry.script.parameters().iter().map(parameter);
    let common = ["format", "limit", "fresh", "ifNoneMatch"]
        .into_iter()
        .map(|name| json!({ "$ref": format!("#/components/parameters/{name}") }));
    let parameters: Vec<Value> = own.chain(common).collect();
    let content = AnswerFormat::ALL.map(|format| {
        (
            format.media_type().to_owned(),
            json!({ "schema": schema_of(format) }),
        )
    });
    let headers = [
        "ETag",
        "Loginlake-Answer",
        "Loginlake-Rows",
        "Loginlake-Truncated",
    ]
    .map(|name| {
        (
            name.to_owned(),
            json!({ "$ref": format!("#/components/headers/{name}") }),
        )
    });
    let mut responses = Map::from_iter([
        (
            "200".to_owned(),
            json!({ "description": "The answer", "headers": Map::from_iter(headers), "content": Map::from_iter(content) }),
        ),
        (
            "304".to_owned(),
            json!({ "description": "The tables are those of the ETag." }),
        ),
    ]);
    for (status, name, _) in ERRORS {
        let reference = json!({ "$ref": format!("#/components/responses/{name}") });
        responses.insert(status.to_owned(), reference);
    }
    json!({ "get": {
        "operationId": entry.name.replace('/', "."),
        "summary": entry.script.title().unwrap_or(&entry.name),
        "description": entry.script.description(),
        "parameters": parameters,
        "responses": responses,
    } })
}

fn schema_of(format: AnswerFormat) -> Value {
    match format {
        AnswerFormat::Json => json!({ "type": "array", "items": { "type": "object" } }),
        AnswerFormat::Ndjson | AnswerFormat::Csv => json!({ "type": "string" }),
        AnswerFormat::Arrow => json!({ "type": "string", "format": "binary" }),
    }
}

fn parameter(parameter: &Parameter) -> Value {
    let mut schema = match parameter.kind {
        Some(ParameterType::Date) => json!({ "type": "string", "format": "date" }),
        Some(ParameterType::Timestamp) => json!({ "type": "string", "format": "date-time" }),
        Some(ParameterType::Integer) => json!({ "type": "integer", "format": "int64" }),
        Some(ParameterType::Number) => json!({ "type": "number" }),
        Some(ParameterType::Boolean) => json!({ "type": "boolean" }),
        Some(ParameterType::Text) | None => json!({ "type": "string" }),
    };
    if let ParameterDefault::Value(text) = &parameter.default {
        schema["default"] = match parameter.kind {
            Some(ParameterType::Integer | ParameterType::Number | ParameterType::Boolean) => {
                serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.as_str()))
            }
            _ => Value::from(text.as_str()),
        };
    }
    json!({
        "name": parameter.name,
        "in": "query",
        "required": parameter.default == ParameterDefault::Required,
        "description": parameter.meaning,
        "schema": schema,
    })
}

fn default_text(parameter: &Parameter) -> Option<&str> {
    match &parameter.default {
        ParameterDefault::Value(text) => Some(text),
        ParameterDefault::Required | ParameterDefault::Null => None,
    }
}
