//! `version_compare(a, b)`: the order of two app versions by the rules of the contract.

use std::sync::Arc;

use datafusion::arrow::array::Int8Array;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use loginlake_events::compare_versions;

use super::arguments::{Texts, as_text, check_count, constant_text};

/// -1, 0 or 1 when the first is less than, equal to or greater than the second.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct VersionCompare {
    signature: Signature,
}

impl VersionCompare {
    const USAGE: &str = "version_compare(a, b)";

    pub(super) fn new() -> Self {
        Self {
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for VersionCompare {
    fn name(&self) -> &str {
        "version_compare"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        check_count(types, Self::USAGE, 2)?;
        Ok(vec![
            as_text(&types[0], Self::USAGE, "a")?,
            as_text(&types[1], Self::USAGE, "b")?,
        ])
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int8)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        for index in 0..2 {
            if let Some(version) = constant_text(&args, index)
                && compare_versions(version, version).is_none()
            {
                return plan_err!("{}: '{version}' is no version: write 2.4.1", Self::USAGE);
            }
        }
        Ok(Arc::new(Field::new(self.name(), DataType::Int8, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (left, right) = (Texts::of(&args.args[0])?, Texts::of(&args.args[1])?);
        let rows = (0..args.number_rows)
            .map(|row| compare_versions(left.get(row)?, right.get(row)?).map(|order| order as i8));
        Ok(ColumnarValue::Array(Arc::new(rows.collect::<Int8Array>())))
    }
}
