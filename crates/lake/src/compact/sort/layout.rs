//! How the columns of a table are held while they are sorted.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

/// Texts of few different values.
const FEW_VALUES: &[&str] = &[
    "app_version",
    "day_of_week",
    "device_type",
    "division",
    "ip_class",
    "locale",
    "region",
    "time_of_day",
];

/// Which columns there are, and how each is held.
#[derive(Debug)]
pub(super) struct Layout {
    /// The columns as the files have them.
    pub schema: SchemaRef,
    /// The columns as they are held: numbered texts are `UInt16`.
    pub held: SchemaRef,
    /// For each column its place in the codebook, if it is numbered.
    pub coded: Vec<Option<usize>>,
    /// The columns to sort by: two numbered ones and one of time.
    pub keys: [usize; 3],
}

impl Layout {
    /// The layout for files of `schema`. Columns of `plain` are not numbered. `None`: the keys cannot be sorted by then.
    pub(super) fn new(schema: &SchemaRef, keys: [&str; 3], plain: &BTreeSet<String>) -> Option<Self> {
        let mut numbered = 0;
        let coded: Vec<Option<usize>> = schema
            .fields()
            .iter()
            .map(|field| {
                let name = field.name();
                let is_coded = *field.data_type() == DataType::Utf8
                    && FEW_VALUES.contains(&name.as_str())
                    && !plain.contains(name);
                is_coded.then(|| {
                    numbered += 1;
                    numbered - 1
                })
            })
            .collect();
        let keys = keys.map(|name| schema.index_of(name).ok());
        let [Some(first), Some(second), Some(time)] = keys else {
            return None;
        };
        coded[first].and(coded[second])?;
        if !matches!(schema.field(time).data_type(), DataType::Timestamp(..)) {
            return None;
        }
        let held = schema
            .fields()
            .iter()
            .zip(&coded)
            .map(|(field, coded)| match coded {
                Some(_) => Arc::new(Field::new(field.name(), DataType::UInt16, false)),
                None => Arc::clone(field),
            });
        let held = Arc::new(Schema::new(held.collect::<Vec<_>>()));
        Some(Self {
            schema: Arc::clone(schema),
            held,
            coded,
            keys: [first, second, time],
        })
    }

    /// The names of the numbered columns, by their place in the codebook.
    pub(super) fn coded_names(&self) -> impl Iterator<Item = String> + '_ {
        let fields = self.schema.fields().iter().zip(&self.coded);
        fields.filter_map(|(field, coded)| coded.map(|_| field.name().clone()))
    }
}
