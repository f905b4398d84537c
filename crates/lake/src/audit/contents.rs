//! What rows say beside their position, as numbers: equal rows have equal sums whoever made them, and a field that was changed
//! gives another one (but for one chance in 2^32).
//!
//! A row's sum is that of its columns, so sums of whole columns say which of them differ. The clock of the path that handled a
//! record (`processed_timestamp`) is left out: it is not the same on both sides.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Field, FieldRef, Int8Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use chrono::{Datelike, NaiveDate};

use crate::compact::fingerprint::{POSITION_COLUMNS, mix};
use crate::table::TableName;
use crate::table::schema::table_schema;

/// Not the same for the same record.
const CLOCK: &str = "processed_timestamp";
/// An odd number with irregular bits (2^64 divided by the golden ratio).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
/// What a null counts for.
const NULL: u64 = 0x6e75_6c6c;
/// 0001-01-01 is day 1 of the common era for chrono, 1970-01-01 this one.
const EPOCH_DAYS: i32 = 719_163;

/// The columns of a table that are compared, in the table's order.
pub(super) fn columns(table: TableName) -> Vec<FieldRef> {
    let schema = table_schema(table);
    let compared = |field: &&FieldRef| {
        let name = field.name().as_str();
        name != CLOCK && !POSITION_COLUMNS.contains(&name)
    };
    schema.fields().iter().filter(compared).cloned().collect()
}

/// The sums of some rows.
pub(super) struct Sums {
    /// Row by row.
    pub(super) rows: Vec<u32>,
    /// Column by column, over all rows.
    pub(super) columns: Vec<u64>,
}

/// The sums of rows of a table. A column that they do not have has the value of their table partition, or null.
///
/// # Errors
/// A sentence: a column has a type whose values cannot be compared.
pub(super) fn sums(
    table: TableName,
    rows: &RecordBatch,
    partition_values: &BTreeMap<String, Option<String>>,
) -> Result<Sums, String> {
    let mut sums = vec![0_u64; rows.num_rows()];
    let mut of_columns = Vec::new();
    for (index, field) in columns(table).iter().enumerate() {
        // The table's own, so that a rejected record is not taken for a login.
        let seed = mix(GOLDEN.wrapping_mul(index as u64 + 1) ^ table.as_str().len() as u64);
        let mut column = Column {
            seed,
            sums: &mut sums,
            sum: 0,
        };
        match rows.column_by_name(field.name()) {
            Some(values) => column.values(values, field)?,
            None => {
                let value = partition_values.get(field.name()).and_then(Option::as_deref);
                let number = value.and_then(|value| number_of(value, field));
                column.constant(number);
            }
        }
        of_columns.push(column.sum);
    }
    Ok(Sums {
        rows: sums.into_iter().map(|sum| (sum >> 32) as u32).collect(),
        columns: of_columns,
    })
}

/// A partition value as the number that the column holds.
pub(super) fn number_of(value: &str, field: &Field) -> Option<i64> {
    match field.data_type() {
        DataType::Date32 => {
            let date: NaiveDate = value.parse().ok()?;
            Some(i64::from(date.num_days_from_ce() - EPOCH_DAYS))
        }
        _ => value.parse().ok(),
    }
}

struct Column<'a> {
    seed: u64,
    sums: &'a mut [u64],
    sum: u64,
}

impl Column<'_> {
    fn constant(&mut self, number: Option<i64>) {
        let hash = number.map_or(NULL ^ self.seed, |number| self.number(number));
        for row in 0..self.sums.len() {
            self.add(row, hash);
        }
    }

    fn values(&mut self, values: &ArrayRef, field: &Field) -> Result<(), String> {
        // Another software may have written the same values with other types.
        let cast;
        let values = if same_kind(values.data_type(), field.data_type()) {
            values
        } else {
            cast = arrow::compute::cast(values, field.data_type())
                .map_err(|error| format!("its column {} cannot be compared: {error}", field.name()))?;
            &cast
        };
        match field.data_type() {
            DataType::Utf8 => {
                let texts = values.as_string::<i32>();
                self.each(values, |seed, row| bytes(seed, texts.value(row).as_bytes()));
            }
            DataType::Binary => {
                let blobs = values.as_binary::<i32>();
                self.each(values, |seed, row| bytes(seed, blobs.value(row)));
            }
            DataType::Int8 => {
                let numbers = values.as_primitive::<Int8Type>();
                self.each(values, |seed, row| number(seed, i64::from(numbers.value(row))));
            }
            DataType::Int32 => {
                let numbers = values.as_primitive::<Int32Type>();
                self.each(values, |seed, row| number(seed, i64::from(numbers.value(row))));
            }
            DataType::Int64 => {
                let numbers = values.as_primitive::<Int64Type>();
                self.each(values, |seed, row| number(seed, numbers.value(row)));
            }
            DataType::Date32 => {
                let days = values.as_primitive::<Date32Type>();
                self.each(values, |seed, row| number(seed, i64::from(days.value(row))));
            }
            DataType::Timestamp(..) => {
                let times = values.as_primitive::<TimestampMicrosecondType>();
                self.each(values, |seed, row| number(seed, times.value(row)));
            }
            DataType::List(_) => {
                let lists = values.as_list::<i32>();
                let texts = lists
                    .values()
                    .as_string_opt::<i32>()
                    .ok_or_else(|| format!("its column {} is no list of texts", field.name()))?;
                let ends = lists.value_offsets();
                self.each(values, |seed, row| {
                    let elements = ends[row] as usize..ends[row + 1] as usize;
                    elements.fold(mix(seed), |sum, element| {
                        bytes(sum, texts.value(element).as_bytes())
                    })
                });
            }
            other => return Err(format!("its column {} is {other}", field.name())),
        }
        Ok(())
    }

    fn each(&mut self, values: &ArrayRef, hash: impl Fn(u64, usize) -> u64) {
        let seed = self.seed;
        if values.null_count() == 0 {
            for row in 0..self.sums.len() {
                self.add(row, hash(seed, row));
            }
        } else {
            for row in 0..self.sums.len() {
                let of = if values.is_null(row) {
                    NULL ^ seed
                } else {
                    hash(seed, row)
                };
                self.add(row, of);
            }
        }
    }

    fn number(&self, of: i64) -> u64 {
        number(self.seed, of)
    }

    fn add(&mut self, row: usize, hash: u64) {
        self.sums[row] = self.sums[row].wrapping_add(hash);
        self.sum = self.sum.wrapping_add(hash);
    }
}

/// Whether the values can be read as they are.
fn same_kind(found: &DataType, wanted: &DataType) -> bool {
    match (found, wanted) {
        (DataType::Timestamp(found, _), DataType::Timestamp(wanted, _)) => found == wanted,
        (DataType::List(found), DataType::List(wanted)) => found.data_type() == wanted.data_type(),
        _ => found == wanted,
    }
}

fn number(seed: u64, of: i64) -> u64 {
    mix(seed ^ of.cast_unsigned())
}

/// Eight bytes at a time: both halves of a product of 128 bits.
fn bytes(seed: u64, of: &[u8]) -> u64 {
    let fold = |bits: u64| {
        let wide = u128::from(bits ^ GOLDEN) * u128::from(GOLDEN);
        (wide as u64) ^ ((wide >> 64) as u64)
    };
    let mut state = seed.wrapping_add((of.len() as u64).wrapping_mul(GOLDEN));
    let mut eights = of.chunks_exact(8);
    for eight in &mut eights {
        let mut word = [0; 8];
        word.copy_from_slice(eight);
        state = fold(state ^ u64::from_le_bytes(word)).wrapping_add(seed);
    }
    let rest = eights.remainder();
    let mut word = [0; 8];
    word[..rest.len()].copy_from_slice(rest);
    mix(fold(state ^ u64::from_le_bytes(word)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Date32Array, LargeStringArray};
    use loginlake_events::Contract;
    use loginlake_events::columns::{LoginsBuilder, SourcePosition};
    use proptest::prelude::*;

    use super::*;

    fn logins(rows: usize, processed_ms: i64) -> RecordBatch {
        let contract = Contract::default();
        let mut builder = LoginsBuilder::with_capacity(rows);
        for row in 0..rows as i64 {
            let payload = format!(
                r#"{{"user_id":"a6397988-1649-4859-ae5f-a1407b63{row:04}","device_id":"d-{row}","ip":"10.0.0.{}","locale":"RI","timestamp":{},"device_type":"iOS","app_version":"2.3.0"}}"#,
                row % 250,
                1_767_571_200 + row
            );
            let event = contract.decode(Some(payload.as_bytes()), None).unwrap();
            let source = SourcePosition {
                kafka_partition: 0,
                kafka_offset: row,
                kafka_timestamp_ms: (row % 2 == 0).then_some(row),
            };
            builder.append(&event, source, processed_ms);
        }
        builder.finish()
    }

    fn of(rows: &RecordBatch) -> Sums {
        sums(TableName::Logins, rows, &BTreeMap::new()).unwrap()
    }

    fn with(rows: &RecordBatch, name: &str, column: ArrayRef) -> RecordBatch {
        let schema = rows.schema();
        let columns = schema.fields().iter().zip(rows.columns()).map(|(field, old)| {
            let new = if field.name() == name { &column } else { old };
            (field.name().clone(), Arc::clone(new), true)
        });
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    #[test]
    fn the_clock_and_the_types_of_another_writer_do_not_matter() {
        let rows = logins(10, 1);
        assert_eq!(of(&rows).rows, of(&logins(10, 2)).rows);
        let region = rows["region"].as_string::<i32>().iter();
        let large: ArrayRef = Arc::new(region.collect::<LargeStringArray>());
        assert_eq!(of(&rows).rows, of(&with(&rows, "region", large)).rows);
    }

    #[test]
    fn the_value_of_the_table_partition_counts_as_the_column() {
        let rows = logins(10, 1);
        let index = rows.schema().index_of("login_date").unwrap();
        let mut without = rows.clone();
        without.remove_column(index);
        let at = |date: &str| {
            let values = BTreeMap::from([("login_date".to_owned(), Some(date.to_owned()))]);
            sums(TableName::Logins, &without, &values).unwrap().rows
        };
        assert_eq!(of(&rows).rows, at("2026-01-05"));
        assert_ne!(of(&rows).rows[0], at("2026-01-06")[0]);
    }

    #[test]
    fn one_changed_value_changes_its_row_and_its_column_only() {
        let rows = logins(10, 1);
        let before = of(&rows);
        for (index, field) in columns(TableName::Logins).iter().enumerate() {
            let old = &rows[field.name().as_str()];
            // A value of the next row, or no value.
            let nothing = arrow::array::new_null_array(old.data_type(), 1);
            let changed = arrow::compute::concat(&[&old.slice(0, 4), &nothing, &old.slice(5, 5)]).unwrap();
            let after = of(&with(&rows, field.name(), changed));
            let differing: Vec<usize> = (0..10)
                .filter(|row| before.rows[*row] != after.rows[*row])
                .collect();
            let expected = if old.is_null(4) { vec![] } else { vec![4] };
            assert_eq!(differing, expected, "{}", field.name());
            let named: Vec<usize> = (0..before.columns.len())
                .filter(|column| before.columns[*column] != after.columns[*column])
                .collect();
            assert_eq!(named, expected.iter().map(|_| index).collect::<Vec<_>>());
        }
        let dates: ArrayRef = Arc::new(Date32Array::from(vec![1; 10]));
        assert_ne!(of(&with(&rows, "login_date", dates)).rows, before.rows);
    }

    proptest! {
        #[test]
        fn different_bytes_have_different_sums(a in proptest::collection::vec(any::<u8>(), 0..40), b in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(a == b, bytes(7, &a) == bytes(7, &b));
            let mut longer = a.clone();
            longer.push(0);
            prop_assert_ne!(bytes(7, &a), bytes(7, &longer));
        }
    }
}
