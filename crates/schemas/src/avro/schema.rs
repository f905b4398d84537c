//! An Avro schema, compiled: nodes that refer to each other by index, so that a schema may contain itself.

use std::collections::HashMap;

use serde_json::Value;

/// Nodes of one schema with its references, at most.
const MAX_NODES: usize = 10_000;

pub(super) type NodeId = usize;

/// One type within a schema.
#[derive(Debug, PartialEq)]
pub(super) enum Node {
    Null,
    Boolean,
    Int,
    /// An integer that is divided by this before it is written: 1, or what makes a timestamp milliseconds.
    Long {
        divisor: i64,
    },
    Float,
    Double,
    Bytes,
    Text,
    Array(NodeId),
    Map(NodeId),
    Union(Vec<NodeId>),
    Record(Vec<(String, NodeId)>),
    Enum(Vec<String>),
    Fixed(usize),
    /// 16 bytes that are written as a UUID's text.
    Uuid,
}

/// A writer's schema.
#[derive(Debug)]
pub(crate) struct AvroSchema {
    pub(super) nodes: Vec<Node>,
    pub(super) root: NodeId,
}

impl AvroSchema {
    /// Compiles a schema; `references` are the texts of the schemas that it names, each before those that name it.
    ///
    /// # Errors
    /// What is wrong with it, in words for the log.
    pub(crate) fn compile<'a>(
        text: &str,
        references: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, String> {
        let mut compiler = Compiler::default();
        for reference in references {
            compiler.node(&parse(reference)?, "")?;
        }
        let root = compiler.node(&parse(text)?, "")?;
        Ok(Self {
            nodes: compiler.nodes,
            root,
        })
    }
}

fn parse(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(schema) => Ok(schema),
        // A registry may give a primitive type as its bare name.
        Err(_) if primitive(text.trim()).is_some() => Ok(Value::String(text.trim().to_owned())),
        Err(error) => Err(format!("no JSON: {error}")),
    }
}

#[derive(Default)]
struct Compiler {
    nodes: Vec<Node>,
    names: HashMap<String, NodeId>,
}

impl Compiler {
    fn add(&mut self, node: Node) -> Result<NodeId, String> {
        if self.nodes.len() >= MAX_NODES {
            return Err(format!("more than {MAX_NODES} types"));
        }
        self.nodes.push(node);
        Ok(self.nodes.len() - 1)
    }

    /// A type within `namespace`.
    fn node(&mut self, schema: &Value, namespace: &str) -> Result<NodeId, String> {
        match schema {
            Value::String(name) => self.named(name, namespace),
            Value::Array(branches) => {
                let branches = branches
                    .iter()
                    .map(|branch| self.node(branch, namespace))
                    .collect::<Result<_, _>>()?;
                self.add(Node::Union(branches))
            }
            Value::Object(schema) => self.object(schema, namespace),
            _ => Err("a type is a name, an array or an object".to_owned()),
        }
    }

    /// A primitive type, or one that was defined before.
    fn named(&mut self, name: &str, namespace: &str) -> Result<NodeId, String> {
        if let Some(node) = primitive(name) {
            return self.add(node);
        }
        let full = full_name(name, namespace);
        // The name alone is not in the specification, but other implementations take it.
        let known = self.names.get(&full).or_else(|| self.names.get(name));
        known.copied().ok_or_else(|| format!("unknown type {full:?}"))
    }

    fn object(&mut self, schema: &serde_json::Map<String, Value>, namespace: &str) -> Result<NodeId, String> {
        let kind = schema.get("type").ok_or("a type without \"type\"")?;
        let Value::String(kind) = kind else {
            // The type of a type, as in {"type": {"type": "string"}}.
            return self.node(kind, namespace);
        };
        let logical = schema.get("logicalType").and_then(Value::as_str);
        let inner = |key: &'static str| schema.get(key).ok_or_else(|| format!("{kind} without {key:?}"));
        match kind.as_str() {
            "array" => {
                let items = self.node(inner("items")?, namespace)?;
                self.add(Node::Array(items))
            }
            "map" => {
                let values = self.node(inner("values")?, namespace)?;
                self.add(Node::Map(values))
            }
            "record" | "error" => {
                let (id, namespace) = self.define(schema, namespace)?;
                let fields = inner("fields")?.as_array().ok_or("\"fields\" is no array")?;
                let fields = fields
                    .iter()
                    .map(|field| {
                        let name = field.get("name").and_then(Value::as_str);
                        let name = name.ok_or("a field without a name")?;
                        let schema = field
                            .get("type")
                            .ok_or_else(|| format!("field {name:?} without a type"))?;
                        Ok((name.to_owned(), self.node(schema, &namespace)?))
                    })
                    .collect::<Result<_, String>>()?;
                self.nodes[id] = Node::Record(fields);
                Ok(id)
            }
            "enum" => {
                let (id, _) = self.define(schema, namespace)?;
                let symbols = inner("symbols")?.as_array().ok_or("\"symbols\" is no array")?;
                let symbols = symbols
                    .iter()
                    .map(|symbol| symbol.as_str().map(str::to_owned))
                    .collect::<Option<_>>();
                self.nodes[id] = Node::Enum(symbols.ok_or("a symbol that is no text")?);
                Ok(id)
            }
            "fixed" => {
                let (id, _) = self.define(schema, namespace)?;
                let size = inner("size")?
                    .as_u64()
                    .and_then(|size| usize::try_from(size).ok());
                let size = size.ok_or("\"size\" is no number of bytes")?;
                self.nodes[id] = match logical {
                    Some("uuid") if size == 16 => Node::Uuid,
                    _ => Node::Fixed(size),
                };
                Ok(id)
            }
            "long" => self.add(Node::Long {
                divisor: match logical {
                    Some("timestamp-micros" | "local-timestamp-micros") => 1_000,
                    Some("timestamp-nanos" | "local-timestamp-nanos") => 1_000_000,
                    _ => 1,
                },
            }),
            name => self.named(name, namespace),
        }
    }

    /// Makes room for a type with a name, which may occur within itself. Returns its place and its namespace.
    fn define(
        &mut self,
        schema: &serde_json::Map<String, Value>,
        namespace: &str,
    ) -> Result<(NodeId, String), String> {
        let name = schema.get("name").and_then(Value::as_str);
        let name = name.ok_or("a record, enum or fixed without a name")?;
        let own = schema.get("namespace").and_then(Value::as_str);
        let full = full_name(name, own.unwrap_or(namespace));
        let id = self.add(Node::Null)?;
        if self.names.insert(full.clone(), id).is_some() {
            return Err(format!("{full:?} is defined twice"));
        }
        let namespace = full.rsplit_once('.').map_or("", |(namespace, _)| namespace);
        Ok((id, namespace.to_owned()))
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') {
        name.trim_start_matches('.').to_owned()
    } else if namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}.{name}")
    }
}

fn primitive(name: &str) -> Option<Node> {
    Some(match name {
        "null" => Node::Null,
        "boolean" => Node::Boolean,
        "int" => Node::Int,
        "long" => Node::Long { divisor: 1 },
        "float" => Node::Float,
        "double" => Node::Double,
        "bytes" => Node::Bytes,
        "string" => Node::Text,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        AvroSchema::compile(text, []).unwrap_err()
    }

    #[test]
    fn a_type_may_contain_itself_and_names_have_namespaces() {
        let schema = AvroSchema::compile(
            r#"{"type":"record","name":"a.b.Node","fields":[
                {"name":"kind","type":{"type":"enum","name":"Kind","symbols":["X"]}},
                {"name":"again","type":"a.b.Kind"},
                {"name":"next","type":["null","Node"]}]}"#,
            [],
        )
        .expect("a schema");
        let Node::Record(fields) = &schema.nodes[schema.root] else {
            panic!("no record: {schema:?}");
        };
        assert_eq!(fields[0].1, fields[1].1, "the same type");
        let Node::Union(branches) = &schema.nodes[fields[2].1] else {
            panic!("no union: {schema:?}");
        };
        assert_eq!(branches[1], schema.root);
    }

    #[test]
    fn references_are_known_by_their_names() {
        let place = r#"{"type":"record","name":"geo.Place","fields":[{"name":"x","type":"int"}]}"#;
        let login = r#"{"type":"record","name":"Login","fields":[{"name":"place","type":"geo.Place"}]}"#;
        AvroSchema::compile(login, [place]).expect("a schema");
        assert_eq!(error(login), "unknown type \"geo.Place\"");
    }

    #[test]
    fn a_schema_that_cannot_be_read_says_why() {
        assert!(error("{").starts_with("no JSON"));
        assert!(error(r#""strin""#).contains("strin"));
        assert!(error(r#"{"type":"array"}"#).contains("items"));
        assert!(error(r#"{"type":"record","fields":[]}"#).contains("name"));
        assert!(error(r#"{"type":"record","name":"R","fields":[{"name":"a"}]}"#).contains("\"a\""));
        assert!(error(r#"{"type":"fixed","name":"F","size":-1}"#).contains("size"));
        let twice = r#"[{"type":"fixed","name":"F","size":1},{"type":"fixed","name":"F","size":1}]"#;
        assert!(error(twice).contains("twice"));
        assert!(error("7").contains("a name, an array or an object"));
    }

    #[test]
    fn the_size_of_a_schema_is_bounded() {
        let many = vec!["\"int\""; MAX_NODES + 1].join(",");
        assert!(error(&format!("[{many}]")).contains("more than"));
    }
}
