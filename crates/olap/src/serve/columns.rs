//! Columns in types that every Arrow reader has had from the beginning: views of texts, bytes and lists are newer, and
//! dictionaries are only shorter.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;

/// The same columns in widely known types. Each may be null, so that the schema does not depend on what a planner found out.
pub fn widely_known(schema: &SchemaRef) -> SchemaRef {
    let fields = schema
        .fields()
        .iter()
        .map(|field| Field::new(field.name(), kind_of(field.data_type()), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// A batch in the types of a schema that [`widely_known`] has given.
///
/// # Errors
/// It has other columns.
pub fn in_types_of(schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns
        .map(|(column, field)| cast(column, field.data_type()))
        .collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns)
}

fn kind_of(kind: &DataType) -> DataType {
    match kind {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => kind_of(values),
        DataType::List(item) | DataType::ListView(item) => DataType::List(field_of(item)),
        DataType::LargeList(item) | DataType::LargeListView(item) => DataType::LargeList(field_of(item)),
        DataType::FixedSizeList(item, length) => DataType::FixedSizeList(field_of(item), *length),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field_of).collect()),
        other => other.clone(),
    }
}

fn field_of(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(
        field.name(),
        kind_of(field.data_type()),
        field.is_nullable(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        Array, ArrayRef, AsArray, DictionaryArray, ListBuilder, StringArray, StringViewArray,
        StringViewBuilder, StructArray,
    };
    use arrow::datatypes::Int32Type;

    #[test]
    fn newer_types_become_the_old_ones_at_every_depth() {
        let mut lists = ListBuilder::new(StringViewBuilder::new());
        lists.values().append_value("West");
        lists.append(true);
        lists.append_null();
        let texts: ArrayRef = Arc::new(StringViewArray::from(vec![
            Some("a text that is longer than twelve"),
            None,
        ]));
        let nested = StructArray::from(vec![(
            Arc::new(Field::new("inner", DataType::Utf8View, true)),
            Arc::clone(&texts),
        )]);
        let dictionary: DictionaryArray<Int32Type> = ["ios", "web"].into_iter().collect();
        let batch = RecordBatch::try_from_iter([
            ("texts", texts),
            ("lists", Arc::new(lists.finish()) as _),
            ("nested", Arc::new(nested) as _),
            ("dictionary", Arc::new(dictionary) as _),
        ])
        .unwrap();
        let schema = widely_known(&batch.schema());
        assert!(!format!("{schema:?}").contains("View"), "{schema:?}");
        let known = in_types_of(&schema, &batch).unwrap();
        let inner = known.column(2).as_struct().column(0).as_string::<i32>();
        assert_eq!(inner.value(0), "a text that is longer than twelve");
        assert!(inner.is_null(1));
        assert_eq!(
            known
                .column(1)
                .as_list::<i32>()
                .value(0)
                .as_string::<i32>()
                .value(0),
            "West"
        );
        assert_eq!(
            known.column(3).as_ref(),
            &StringArray::from(vec!["ios", "web"]) as &dyn Array
        );
    }
}
