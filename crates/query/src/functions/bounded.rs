//! Functions of DataFusion whose values can be as large as their arguments say: `repeat('x', 2000000000)`. What a call would give is
//! worked out before it is made, and refused over a limit: the memory of a query counts operators, not the values of functions, and
//! a process that cannot get the memory for one value ends, with all that it does for others.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, FieldRef, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature,
};

/// Bytes of the values of one call: those of a batch of rows.
const MAX_BYTES: f64 = (256_u64 << 20) as f64;
/// Bytes of a number, and of the least that an element of a list takes.
const ELEMENT_BYTES: f64 = 8.0;
/// Bytes of the longest character.
const CHAR_BYTES: f64 = 4.0;
const MICROS_OF_DAY: f64 = 86_400e6;
const DAYS_OF_MONTH: f64 = 30.0;

/// How the values of a function grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Growth {
    /// The first argument, as often as the second says.
    Repeated,
    /// As many characters as the second argument says.
    Padded,
    /// As many elements as the second argument says.
    Sized,
    /// The elements from the first to the second argument, by the third.
    Counted,
}

const BOUNDED: [(&str, Growth); 7] = [
    ("repeat", Growth::Repeated),
    ("lpad", Growth::Padded),
    ("rpad", Growth::Padded),
    ("array_repeat", Growth::Repeated),
    ("array_resize", Growth::Sized),
    ("range", Growth::Counted),
    ("generate_series", Growth::Counted),
];

/// The same functions, those that can grow with a limit.
pub(crate) fn bounded(functions: Vec<Arc<ScalarUDF>>) -> Vec<Arc<ScalarUDF>> {
    let bound = |function: Arc<ScalarUDF>| {
        let growth = BOUNDED.iter().find(|(name, _)| *name == function.name());
        match growth {
            Some((_, growth)) => Arc::new(ScalarUDF::from(Bounded {
                inner: function.as_ref().clone(),
                growth: *growth,
            })),
            None => function,
        }
    };
    functions.into_iter().map(bound).collect()
}

/// A function, and how its values grow.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: ScalarUDF,
    growth: Growth,
}

impl Bounded {
    /// About how many bytes the values of a call have.
    fn bytes(&self, args: &ScalarFunctionArgs) -> Result<f64> {
        let rows = args.number_rows;
        let argument = |index: usize| args.args.get(index).map(|value| value.to_array(rows)).transpose();
        let (first, second) = (argument(0)?, argument(1)?);
        Ok(match (self.growth, first, second) {
            (Growth::Repeated, Some(value), Some(count)) => {
                let counts = numbers(&count)?;
                counts
                    .iter()
                    .enumerate()
                    .map(|(row, count)| count * size_of(&value, row))
                    .sum()
            }
            (Growth::Padded, _, Some(count)) => numbers(&count)?.iter().sum::<f64>() * CHAR_BYTES,
            (Growth::Sized, _, Some(count)) => numbers(&count)?.iter().sum::<f64>() * ELEMENT_BYTES,
            (Growth::Counted, Some(stop), None) => numbers(&stop)?.iter().sum::<f64>() * ELEMENT_BYTES,
            (Growth::Counted, Some(start), Some(stop)) => {
                let step = argument(2)?;
                (0..rows)
                    .map(|row| steps(&start, &stop, step.as_ref(), row))
                    .sum::<Result<f64>>()?
                    * ELEMENT_BYTES
            }
            _ => 0.0,
        })
    }
}

/// Counts, none below zero.
fn numbers(array: &ArrayRef) -> Result<Vec<f64>> {
    let array = cast(array, &DataType::Int64)?;
    let values = array.as_primitive::<Int64Type>().iter();
    Ok(values.map(|value| value.unwrap_or(0).max(0) as f64).collect())
}

/// Bytes of a value, at least those of the smallest element.
fn size_of(array: &ArrayRef, row: usize) -> f64 {
    let bytes = match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value_length(row) as usize,
        DataType::LargeUtf8 => array.as_string::<i64>().value_length(row) as usize,
        DataType::Utf8View => array.as_string_view().value(row).len(),
        _ => {
            return array
                .slice(row, 1)
                .to_data()
                .get_slice_memory_size()
                .unwrap_or(0)
                .max(8) as f64;
        }
    };
    bytes as f64
}

/// How many elements lie between two values.
fn steps(start: &ArrayRef, stop: &ArrayRef, step: Option<&ArrayRef>, row: usize) -> Result<f64> {
    let kind = start.data_type();
    let at = |array: &ArrayRef| -> Result<f64> {
        let one = array.slice(row, 1);
        if one.is_null(0) {
            return Ok(0.0);
        }
        if kind.is_integer() {
            return Ok(cast(&one, &DataType::Int64)?.as_primitive::<Int64Type>().value(0) as f64);
        }
        let micros = cast(&one, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
        Ok(micros.as_primitive::<TimestampMicrosecondType>().value(0) as f64)
    };
    let width = match step {
        None if kind.is_integer() => 1.0,
        None => MICROS_OF_DAY,
        Some(step) if kind.is_integer() => at(step)?,
        Some(step) => {
            let one = cast(
                &step.slice(row, 1),
                &DataType::Interval(IntervalUnit::MonthDayNano),
            )?;
            let interval = one.as_primitive::<IntervalMonthDayNanoType>().value(0);
            let days = f64::from(interval.months) * DAYS_OF_MONTH + f64::from(interval.days);
            days * MICROS_OF_DAY + interval.nanoseconds as f64 / 1e3
        }
    };
    let count = (at(stop)? - at(start)?) / width;
    // A step of nothing is the function's to refuse, and a count below zero is an empty list.
    Ok(if count.is_finite() { count.max(0.0) } else { 0.0 })
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.inner().coerce_types(types)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner.simplify(args, info)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn is_strict(&self) -> bool {
        self.inner.inner().is_strict()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let bytes = self.bytes(&args)?;
        if bytes > MAX_BYTES {
            return exec_err!(
                "{} would give {:.0} MiB for {} rows, and may give {:.0} MiB at once: ask for less",
                self.name(),
                bytes / f64::from(1 << 20),
                args.number_rows,
                MAX_BYTES / f64::from(1 << 20)
            );
        }
        self.inner.invoke_with_args(args)
    }
}
