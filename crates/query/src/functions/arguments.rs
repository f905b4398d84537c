//! What the functions share: texts of any type, constants and columns, errors in the words of SQL.

use datafusion::arrow::array::{Array, AsArray, StringViewArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs};

/// Arguments as they are written, for errors.
pub(super) fn check_count(types: &[DataType], usage: &str, count: usize) -> Result<()> {
    if types.len() == count {
        Ok(())
    } else {
        plan_err!("{usage} takes {count} arguments, not {}", types.len())
    }
}

/// The type that a text argument is brought to.
pub(super) fn as_text(kind: &DataType, usage: &str, argument: &str) -> Result<DataType> {
    let is_text = |kind: &DataType| {
        matches!(
            kind,
            DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 | DataType::Null
        )
    };
    match kind {
        DataType::Dictionary(_, values) if is_text(values) => Ok(DataType::Utf8View),
        kind if is_text(kind) => Ok(DataType::Utf8View),
        other => plan_err!("{usage}: {argument} is a text, not {other}"),
    }
}

/// A text of each row.
pub(super) enum Texts<'a> {
    Constant(Option<&'a str>),
    Column(&'a StringViewArray),
}

impl<'a> Texts<'a> {
    /// An argument that [`as_text`] has typed.
    pub(super) fn of(value: &'a ColumnarValue) -> Result<Self> {
        match value {
            ColumnarValue::Scalar(value) => match value.try_as_str() {
                Some(text) => Ok(Self::Constant(text)),
                None if value.is_null() => Ok(Self::Constant(None)),
                None => unexpected(&value.data_type()),
            },
            ColumnarValue::Array(array) => match array.as_string_view_opt() {
                Some(texts) => Ok(Self::Column(texts)),
                None => unexpected(array.data_type()),
            },
        }
    }

    pub(super) fn get(&self, row: usize) -> Option<&'a str> {
        match self {
            Self::Constant(text) => *text,
            Self::Column(texts) => texts.is_valid(row).then(|| texts.value(row)),
        }
    }
}

pub(super) fn unexpected<T>(kind: &DataType) -> Result<T> {
    Err(DataFusionError::Internal(format!(
        "an argument was not brought to its type, but is {kind}"
    )))
}

/// The text of an argument, when it is a constant other than NULL.
pub(super) fn constant_text<'a>(args: &ReturnFieldArgs<'a>, index: usize) -> Option<&'a str> {
    args.scalar_arguments
        .get(index)
        .copied()
        .flatten()
        .and_then(ScalarValue::try_as_str)
        .flatten()
}
