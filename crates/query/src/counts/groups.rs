//! Rows counted by the combination of the values of some columns.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Int8Type, Int16Type, Int32Type};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as DataFusionResult};

/// Most columns that rows are counted by: a combination is one number, 16 bits for each.
pub(super) const MAX_COLUMNS: usize = 4;
/// Bits of a value's number.
const VALUE_BITS: u32 = 16;
/// Values of a column at which what was counted is handed on.
const MAX_VALUES: usize = 1 << VALUE_BITS;
/// Combinations at which it is.
const MAX_GROUPS: usize = 1 << 16;
/// As long as so many combinations are possible, each has a place of its own.
const MAX_DENSE_BITS: u32 = 16;
/// The number of a null.
const NULL: u32 = 0;
/// Integers below it have their number in a table.
const SMALL_INTEGERS: usize = 256;
/// No number yet.
const UNSEEN: u32 = u32::MAX;

/// The values of one column, numbered as they come; 0 is null.
#[derive(Debug)]
struct Values {
    list: Vec<ScalarValue>,
    numbers: HashMap<ScalarValue, u32>,
    /// The dictionary of the batch before, and the number of each of its values: batches of a row group share theirs.
    dictionary: Option<(ArrayRef, Vec<u32>)>,
    /// The numbers of small integers, by value.
    small: Vec<u32>,
}

impl Values {
    fn new(null: ScalarValue) -> Self {
        Self {
            numbers: HashMap::from([(null.clone(), NULL)]),
            list: vec![null],
            dictionary: None,
            small: Vec::new(),
        }
    }

    fn number(&mut self, value: ScalarValue) -> u32 {
        let next = self.list.len() as u32;
        match self.numbers.entry(value) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                self.list.push(new.key().clone());
                *new.insert(next)
            }
        }
    }

    /// Bits that the numbers need.
    fn bits(&self) -> u32 {
        usize::BITS - (self.list.len() - 1).leading_zeros()
    }

    /// The number of each row's value into `numbers`.
    fn numbers_of(&mut self, column: &ArrayRef, numbers: &mut Vec<u32>) -> DataFusionResult<()> {
        numbers.clear();
        match column.data_type() {
            DataType::Dictionary(..) => {
                let column = column.as_dictionary::<Int32Type>();
                let mut known = match self.dictionary.take() {
                    Some((values, known)) if Arc::ptr_eq(&values, column.values()) => known,
                    _ => vec![UNSEEN; column.values().len()],
                };
                let keys = column.keys();
                let nulls = keys.nulls().filter(|nulls| nulls.null_count() > 0);
                for (row, key) in keys.values().iter().enumerate() {
                    if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                        numbers.push(NULL);
                        continue;
                    }
                    let mut number = known[*key as usize];
                    if number == UNSEEN {
                        number = self.number(ScalarValue::try_from_array(column.values(), *key as usize)?);
                        known[*key as usize] = number;
                    }
                    numbers.push(number);
                }
                self.dictionary = Some((Arc::clone(column.values()), known));
            }
            DataType::Int8 => {
                let column = column.as_primitive::<Int8Type>();
                self.numbers_of_small(
                    column.iter().map(|value| value.map(i32::from)),
                    numbers,
                    |value| ScalarValue::Int8(i8::try_from(value).ok()),
                );
            }
            DataType::Int16 => {
                let column = column.as_primitive::<Int16Type>();
                self.numbers_of_small(
                    column.iter().map(|value| value.map(i32::from)),
                    numbers,
                    |value| ScalarValue::Int16(i16::try_from(value).ok()),
                );
            }
            DataType::Int32 => {
                let column = column.as_primitive::<Int32Type>();
                self.numbers_of_small(column.iter(), numbers, |value| ScalarValue::Int32(Some(value)));
            }
            other => {
                return Err(DataFusionError::Internal(format!(
                    "rows are not counted by columns of {other}"
                )));
            }
        }
        Ok(())
    }

    fn numbers_of_small(
        &mut self,
        values: impl Iterator<Item = Option<i32>>,
        numbers: &mut Vec<u32>,
        scalar: impl Fn(i32) -> ScalarValue,
    ) {
        self.small.resize(SMALL_INTEGERS, UNSEEN);
        for value in values {
            let number = match value {
                None => NULL,
                Some(value) => match usize::try_from(value)
                    .ok()
                    .and_then(|at| self.small.get(at).copied())
                {
                    Some(known) if known != UNSEEN => known,
                    place => {
                        let number = self.number(scalar(value));
                        if place.is_some() {
                            self.small[value as usize] = number;
                        }
                        number
                    }
                },
            };
            numbers.push(number);
        }
    }
}

/// Counts by combination. A combination's number holds the number of the first column's value in its lowest bits.
#[derive(Debug)]
enum Counts {
    /// A place for each combination that is possible; `bits` for each column's part of the place.
    Dense { bits: Vec<u32>, counts: Vec<i64> },
    /// Those that were seen, [`VALUE_BITS`] for each column.
    Sparse(HashMap<u64, i64>),
}

/// What was counted so far.
#[derive(Debug)]
pub(super) struct Groups {
    columns: Vec<Values>,
    nulls: Vec<ScalarValue>,
    counts: Counts,
    /// For each column the numbers of a batch, and the combinations; kept for the next one.
    numbers: Vec<Vec<u32>>,
    places: Vec<u64>,
}

impl Groups {
    /// Nothing counted yet, by columns of these types.
    pub(super) fn new(types: &[DataType]) -> DataFusionResult<Self> {
        debug_assert!(types.len() <= MAX_COLUMNS);
        let nulls = types
            .iter()
            .map(ScalarValue::try_from)
            .collect::<DataFusionResult<Vec<_>>>()?;
        Ok(Self {
            columns: nulls.iter().cloned().map(Values::new).collect(),
            counts: Counts::Dense {
                bits: vec![0; types.len()],
                counts: vec![0],
            },
            numbers: vec![Vec::new(); types.len()],
            places: Vec::new(),
            nulls,
        })
    }

    /// Counts `rows` rows, whose values are those of `columns`.
    pub(super) fn add(&mut self, columns: &[GroupColumn], rows: usize) -> DataFusionResult<()> {
        // The combination that the columns of one value give, and the columns whose values differ.
        let mut constant = vec![NULL; columns.len()];
        let mut varying = Vec::with_capacity(columns.len());
        for (index, column) in columns.iter().enumerate() {
            match column {
                GroupColumn::Constant(value) => constant[index] = self.columns[index].number(value.clone()),
                GroupColumn::Array(array) => {
                    debug_assert_eq!(array.len(), rows);
                    self.columns[index].numbers_of(array, &mut self.numbers[index])?;
                    varying.push(index);
                }
            }
        }
        self.make_room();
        let shift_of = |index: usize| match &self.counts {
            Counts::Dense { bits, .. } => bits[..index].iter().sum::<u32>(),
            Counts::Sparse(_) => VALUE_BITS * index as u32,
        };
        let shifts: Vec<u32> = (0..columns.len()).map(shift_of).collect();
        let base = constant
            .iter()
            .zip(&shifts)
            .fold(0_u64, |place, (number, shift)| {
                place | u64::from(*number) << shift
            });
        let (numbers, places) = (&self.numbers, &mut self.places);
        match (&mut self.counts, varying.as_slice()) {
            (Counts::Dense { counts, .. }, []) => counts[base as usize] += rows as i64,
            (Counts::Dense { counts, .. }, [one]) => {
                let shift = shifts[*one];
                for number in &numbers[*one] {
                    counts[base as usize | (*number as usize) << shift] += 1;
                }
            }
            (Counts::Dense { counts, .. }, [one, two]) => {
                let (first, second) = (shifts[*one], shifts[*two]);
                for (a, b) in numbers[*one].iter().zip(&numbers[*two]) {
                    counts[base as usize | (*a as usize) << first | (*b as usize) << second] += 1;
                }
            }
            (counts, varying) => {
                places.clear();
                places.resize(rows, base);
                for index in varying {
                    for (place, number) in places.iter_mut().zip(&numbers[*index]) {
                        *place |= u64::from(*number) << shifts[*index];
                    }
                }
                match counts {
                    Counts::Dense { counts, .. } => {
                        for place in places {
                            counts[*place as usize] += 1;
                        }
                    }
                    Counts::Sparse(counts) => {
                        for place in places {
                            *counts.entry(*place).or_insert(0) += 1;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether it is time to [`take`](Self::take) what was counted. What comes next may have so many rows,
    /// at most half of what there is room for.
    pub(super) fn is_full(&self, next_rows: usize) -> bool {
        let groups = match &self.counts {
            Counts::Dense { .. } => 0,
            Counts::Sparse(counts) => counts.len(),
        };
        groups >= MAX_GROUPS
            || self
                .columns
                .iter()
                .any(|column| column.list.len() + next_rows > MAX_VALUES)
    }

    /// The values of each column and the counts, one row for each combination that was seen; then nothing is counted any more.
    pub(super) fn take(&mut self) -> DataFusionResult<(Vec<ArrayRef>, Int64Array)> {
        let empty = Counts::Dense {
            bits: vec![0; self.columns.len()],
            counts: vec![0],
        };
        let (shifts, seen) = match std::mem::replace(&mut self.counts, empty) {
            Counts::Dense { bits, counts } => {
                let places = counts.into_iter().enumerate();
                (
                    bits,
                    places
                        .map(|(place, count)| (place as u64, count))
                        .filter(|(_, count)| *count > 0)
                        .collect(),
                )
            }
            Counts::Sparse(counts) => {
                let mut seen: Vec<(u64, i64)> = counts.into_iter().collect();
                seen.sort_unstable();
                (vec![VALUE_BITS; self.columns.len()], seen)
            }
        };
        let mut below = 0;
        let mut values = Vec::with_capacity(self.columns.len());
        for (column, bits) in self.columns.iter().zip(shifts) {
            let number = |(place, _): &(u64, i64)| (place >> below & ((1 << bits) - 1)) as usize;
            let of_rows = seen.iter().map(|row| column.list[number(row)].clone());
            values.push(if seen.is_empty() {
                arrow::array::new_empty_array(&column.list[0].data_type())
            } else {
                ScalarValue::iter_to_array(of_rows)?
            });
            below += bits;
        }
        self.columns = self.nulls.iter().cloned().map(Values::new).collect();
        Ok((values, seen.into_iter().map(|(_, count)| Some(count)).collect()))
    }

    /// Places for all combinations of the values that are known now.
    fn make_room(&mut self) {
        let needed: Vec<u32> = self.columns.iter().map(Values::bits).collect();
        let Counts::Dense { bits, counts } = &mut self.counts else {
            return;
        };
        if bits.iter().zip(&needed).all(|(has, needs)| has >= needs) {
            return;
        }
        let is_dense = needed.iter().sum::<u32>() <= MAX_DENSE_BITS;
        let wider = if is_dense {
            needed.clone()
        } else {
            vec![VALUE_BITS; needed.len()]
        };
        let moved = |place: usize| {
            let (mut rest, mut shift, mut result) = (place as u64, 0, 0);
            for (old, new) in bits.iter().zip(&wider) {
                result |= (rest & ((1 << old) - 1)) << shift;
                rest >>= old;
                shift += new;
            }
            result
        };
        let counted = counts.iter().enumerate().filter(|(_, count)| **count > 0);
        let counted = counted.map(|(place, count)| (moved(place), *count));
        self.counts = if is_dense {
            let mut all = vec![0; 1 << needed.iter().sum::<u32>()];
            for (place, count) in counted {
                all[place as usize] = count;
            }
            Counts::Dense {
                bits: needed,
                counts: all,
            }
        } else {
            Counts::Sparse(counted.collect())
        };
    }
}

/// A column of the rows that are counted.
#[derive(Debug)]
pub(super) enum GroupColumn {
    /// Every row has this value.
    Constant(ScalarValue),
    /// A dictionary of texts with keys of 32 bits, or integers of at most 32 bits.
    Array(ArrayRef),
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::{DictionaryArray, Int8Array, Int32Array, StringArray};

    use super::*;

    fn text(value: Option<&str>) -> ScalarValue {
        ScalarValue::Utf8(value.map(str::to_owned))
    }

    fn dictionary(values: &[&str], keys: Vec<Option<i32>>) -> GroupColumn {
        let values = Arc::new(StringArray::from(values.to_vec()));
        GroupColumn::Array(Arc::new(DictionaryArray::new(Int32Array::from(keys), values)))
    }

    fn taken(groups: &mut Groups) -> BTreeMap<Vec<String>, i64> {
        let (columns, counts) = groups.take().unwrap();
        (0..counts.len())
            .map(|row| {
                let value = |column: &ArrayRef| ScalarValue::try_from_array(column, row).unwrap().to_string();
                (columns.iter().map(value).collect(), counts.value(row))
            })
            .collect()
    }

    fn expected(rows: &[(&[&str], i64)]) -> BTreeMap<Vec<String>, i64> {
        let owned = |values: &&[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        rows.iter()
            .map(|(values, count)| (owned(values), *count))
            .collect()
    }

    #[test]
    fn dictionaries_of_several_batches_are_one() {
        let mut groups = Groups::new(&[DataType::Utf8, DataType::Int8]).unwrap();
        let hours = |hours: Vec<Option<i8>>| GroupColumn::Array(Arc::new(Int8Array::from(hours)));
        let first = [
            dictionary(&["West", "South"], vec![Some(0), Some(1), None, Some(0)]),
            hours(vec![Some(5), Some(5), None, Some(-1)]),
        ];
        groups.add(&first, 4).unwrap();
        let second = [
            dictionary(&["South", "never", "West"], vec![Some(2), Some(0)]),
            hours(vec![Some(5), Some(6)]),
        ];
        groups.add(&second, 2).unwrap();
        assert_eq!(
            taken(&mut groups),
            expected(&[
                (&["West", "5"], 2),
                (&["South", "5"], 1),
                (&["NULL", "NULL"], 1),
                (&["West", "-1"], 1),
                (&["South", "6"], 1),
            ])
        );
        assert!(taken(&mut groups).is_empty());
        groups.add(&second, 2).unwrap();
        assert_eq!(
            taken(&mut groups),
            expected(&[(&["West", "5"], 1), (&["South", "6"], 1)])
        );
    }

    #[test]
    fn a_constant_stands_for_all_rows() {
        let mut groups = Groups::new(&[DataType::Utf8, DataType::Utf8]).unwrap();
        let rows = [
            GroupColumn::Constant(text(Some("monday"))),
            dictionary(&["West"], vec![Some(0), None]),
        ];
        groups.add(&rows, 2).unwrap();
        groups
            .add(
                &[
                    GroupColumn::Constant(text(None)),
                    GroupColumn::Constant(text(None)),
                ],
                7,
            )
            .unwrap();
        assert_eq!(
            taken(&mut groups),
            expected(&[
                (&["monday", "West"], 1),
                (&["monday", "NULL"], 1),
                (&["NULL", "NULL"], 7)
            ])
        );
    }

    /// Any number of columns and values, dense and sparse and on the way from one to the other.
    #[test]
    fn counts_are_those_of_a_plain_map() {
        let mut state = 7_u64;
        let mut random = move |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for columns in 0..=MAX_COLUMNS {
            let mut groups = Groups::new(&vec![DataType::Int32; columns]).unwrap();
            let mut plain: BTreeMap<Vec<String>, i64> = BTreeMap::new();
            for batch in 0..20_u64 {
                let rows = random(200) as usize + 1;
                let drawn: Vec<Vec<Option<i32>>> = (0..columns)
                    .map(|_| {
                        let values = (0..rows).map(|_| match random(4 + 40 * batch) {
                            0 => None,
                            value => Some(value as i32 - 3),
                        });
                        values.collect()
                    })
                    .collect();
                for row in 0..rows {
                    let key = drawn
                        .iter()
                        .map(|column| ScalarValue::Int32(column[row]).to_string());
                    *plain.entry(key.collect()).or_insert(0) += 1;
                }
                let arrays: Vec<GroupColumn> = drawn
                    .into_iter()
                    .map(|column| GroupColumn::Array(Arc::new(Int32Array::from(column))))
                    .collect();
                groups.add(&arrays, rows).unwrap();
                assert!(!groups.is_full(200));
            }
            assert_eq!(taken(&mut groups), plain, "{columns} columns");
        }
    }

    #[test]
    fn it_is_full_before_a_number_has_no_room() {
        let mut groups = Groups::new(&[DataType::Int32]).unwrap();
        let rows = 65_536 - 2;
        let values = Int32Array::from_iter_values(0..rows);
        groups
            .add(&[GroupColumn::Array(Arc::new(values))], rows as usize)
            .unwrap();
        assert!(!groups.is_full(1));
        assert!(groups.is_full(2));
        assert_eq!(groups.take().unwrap().1.len(), rows as usize);
        assert!(!groups.is_full(rows as usize));
    }
}
