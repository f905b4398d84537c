//! Avro's binary encoding, read along a schema.

use loginlake_events::Rejection;

use super::schema::{AvroSchema, Node, NodeId};
use crate::frame::zigzag_varint;
use crate::json::JsonWriter;
use crate::mismatch;

pub(super) fn decode(schema: &AvroSchema, body: &[u8], out: &mut Vec<u8>) -> Result<(), Rejection> {
    let mut reader = Reader {
        nodes: &schema.nodes,
        rest: body,
    };
    let mut root = schema.root;
    // A topic may hold several types of records under a union of them.
    if let Node::Union(branches) = &schema.nodes[root] {
        root = reader.branch(branches)?;
    }
    if !matches!(schema.nodes[root], Node::Record(_)) {
        return Err(mismatch("the schema's type is no record"));
    }
    reader.value(root, &mut JsonWriter::new(out))?;
    if reader.rest.is_empty() {
        Ok(())
    } else {
        Err(mismatch(
            "the body goes on behind the record that its schema describes",
        ))
    }
}

struct Reader<'a> {
    nodes: &'a [Node],
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn value(&mut self, id: NodeId, json: &mut JsonWriter<'_>) -> Result<(), Rejection> {
        match &self.nodes[id] {
            Node::Null => json.null(),
            Node::Boolean => match self.take(1)? {
                [0] => json.boolean(false),
                [1] => json.boolean(true),
                _ => return Err(mismatch("a boolean is neither 0 nor 1")),
            },
            Node::Int => {
                let value = i32::try_from(self.integer()?);
                json.integer(value.map_err(|_| mismatch("an int has more than 32 bits"))?);
            }
            Node::Long { divisor } => json.integer(self.integer()?.div_euclid(*divisor)),
            Node::Float => json.float(f64::from(f32::from_le_bytes(self.array()?))),
            Node::Double => json.float(f64::from_le_bytes(self.array()?)),
            Node::Bytes => json.bytes(self.sized()?),
            Node::Text => json.text(self.text()?),
            Node::Fixed(size) => json.bytes(self.take(*size)?),
            Node::Uuid => json.text(&uuid_text(self.array()?)),
            Node::Enum(symbols) => {
                let index = usize::try_from(self.integer()?).ok();
                let symbol = index.and_then(|index| symbols.get(index));
                json.text(symbol.ok_or_else(|| mismatch("an enum has no symbol of that number"))?);
            }
            Node::Union(branches) => {
                let branch = self.branch(branches)?;
                return self.value(branch, json);
            }
            Node::Record(fields) => {
                return json.nested(*b"{}", |json| {
                    for (index, (name, id)) in fields.iter().enumerate() {
                        json.member(index == 0, name)?;
                        self.value(*id, json)?;
                    }
                    Ok(())
                });
            }
            Node::Array(items) => {
                return json.nested(*b"[]", |json| {
                    self.blocks(|reader, first| {
                        json.element(first)?;
                        reader.value(*items, json)
                    })
                });
            }
            Node::Map(values) => {
                return json.nested(*b"{}", |json| {
                    self.blocks(|reader, first| {
                        json.member(first, reader.text()?)?;
                        reader.value(*values, json)
                    })
                });
            }
        }
        Ok(())
    }

    /// The items of an array or map: blocks of a count and so many items, up to a block of none.
    fn blocks(
        &mut self,
        mut item: impl FnMut(&mut Self, bool) -> Result<(), Rejection>,
    ) -> Result<(), Rejection> {
        let mut first = true;
        loop {
            let count = self.integer()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                // A negative count is followed by the block's size, for readers that skip it.
                self.integer()?;
            }
            for _ in 0..count.unsigned_abs() {
                item(self, first)?;
                first = false;
            }
        }
    }

    fn branch(&mut self, branches: &[NodeId]) -> Result<NodeId, Rejection> {
        let index = usize::try_from(self.integer()?).ok();
        let branch = index.and_then(|index| branches.get(index));
        branch
            .copied()
            .ok_or_else(|| mismatch("a union has no branch of that number"))
    }

    fn integer(&mut self) -> Result<i64, Rejection> {
        zigzag_varint(&mut self.rest)
            .ok_or_else(|| mismatch("the body ends within an integer, or it overflows"))
    }

    fn text(&mut self) -> Result<&'a str, Rejection> {
        let bytes = self.sized()?;
        std::str::from_utf8(bytes).map_err(|_| mismatch("a string is not UTF-8"))
    }

    fn sized(&mut self) -> Result<&'a [u8], Rejection> {
        let length = usize::try_from(self.integer()?).map_err(|_| mismatch("a length is negative"))?;
        self.take(length)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Rejection> {
        let (array, rest) = self.rest.split_first_chunk().ok_or_else(too_short)?;
        self.rest = rest;
        Ok(*array)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Rejection> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(too_short)?;
        self.rest = rest;
        Ok(taken)
    }
}

fn too_short() -> Rejection {
    mismatch("the body ends before the record does")
}

fn uuid_text(bytes: [u8; 16]) -> String {
    let digits = format!("{:032x}", u128::from_be_bytes(bytes));
    [
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..],
    ]
    .join("-")
}
