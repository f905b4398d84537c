//! `region_of(locale)` and `local_time(event_time, locale)`, by the table of regions that ingestion uses.
//!
//! A locale is two letters, alone or after a language (`en-RI`), or `unknown`. A state whose counties keep two clocks has the
//! one zone of the table (Florida: New York; Texas: Chicago): the other part is an hour off, as in the column `local_hour`.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, StringViewBuilder, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, TimeUnit, TimestampMicrosecondType};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::Regions;
use super::arguments::{Texts, as_text, check_count, constant_text, unexpected};

const MICROS: i64 = 1_000_000;

fn check_locale(args: &ReturnFieldArgs<'_>, index: usize, usage: &str, regions: &Regions) -> Result<()> {
    match constant_text(args, index) {
        Some(locale) if regions.table().region_of(locale).is_none() => plan_err!(
            "{usage}: '{locale}' is no locale: write a US state, a US territory or a country of ISO 3166-1 in two letters"
        ),
        _ => Ok(()),
    }
}

/// `region_of(locale)`: the region, as the column `region` has it.
#[derive(Debug)]
pub(super) struct RegionOf {
    signature: Signature,
    regions: Arc<Regions>,
}

/// `local_time(event_time, locale)`: what the clocks there showed, without a zone; NULL where the locale has no time zone.
#[derive(Debug)]
pub(super) struct LocalTime {
    signature: Signature,
    regions: Arc<Regions>,
}

impl RegionOf {
    const USAGE: &str = "region_of(locale)";

    pub(super) fn new(regions: Arc<Regions>) -> Self {
        Self {
            signature: Signature::user_defined(Volatility::Immutable),
            regions,
        }
    }
}

impl LocalTime {
    const USAGE: &str = "local_time(event_time, locale)";

    pub(super) fn new(regions: Arc<Regions>) -> Self {
        Self {
            signature: Signature::user_defined(Volatility::Immutable),
            regions,
        }
    }
}

// Two of one kind are equal when they use the same table.
impl PartialEq for RegionOf {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.regions, &other.regions)
    }
}

impl Eq for RegionOf {}

impl Hash for RegionOf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.regions).hash(state);
    }
}

impl PartialEq for LocalTime {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.regions, &other.regions)
    }
}

impl Eq for LocalTime {}

impl Hash for LocalTime {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.regions).hash(state);
    }
}

impl ScalarUDFImpl for RegionOf {
    fn name(&self) -> &str {
        "region_of"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        check_count(types, Self::USAGE, 1)?;
        Ok(vec![as_text(&types[0], Self::USAGE, "locale")?])
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        check_locale(&args, 0, Self::USAGE, &self.regions)?;
        Ok(Arc::new(Field::new(self.name(), DataType::Utf8View, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let locales = Texts::of(&args.args[0])?;
        let table = self.regions.table();
        let mut regions = StringViewBuilder::with_capacity(args.number_rows).with_deduplicate_strings();
        for row in 0..args.number_rows {
            regions.append_option(locales.get(row).and_then(|locale| table.region_of(locale)));
        }
        Ok(ColumnarValue::Array(Arc::new(regions.finish())))
    }
}

impl ScalarUDFImpl for LocalTime {
    fn name(&self) -> &str {
        "local_time"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        check_count(types, Self::USAGE, 2)?;
        let time = match &types[0] {
            DataType::Timestamp(..) | DataType::Null => DataType::Timestamp(TimeUnit::Microsecond, utc()),
            other => return plan_err!("{}: event_time is a timestamp, not {other}", Self::USAGE),
        };
        Ok(vec![time, as_text(&types[1], Self::USAGE, "locale")?])
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Timestamp(TimeUnit::Microsecond, None))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        check_locale(&args, 1, Self::USAGE, &self.regions)?;
        let kind = DataType::Timestamp(TimeUnit::Microsecond, None);
        Ok(Arc::new(Field::new(self.name(), kind, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let times = args.args[0].to_array(args.number_rows)?;
        let Some(times) = times.as_primitive_opt::<TimestampMicrosecondType>() else {
            return unexpected(times.data_type());
        };
        let locales = Texts::of(&args.args[1])?;
        let table = self.regions.table();
        let rows = (0..args.number_rows).map(|row| {
            let micros = times.is_valid(row).then(|| times.value(row))?;
            let offset_secs = table.utc_offset_secs(locales.get(row)?, micros.div_euclid(MICROS))?;
            Some(micros + offset_secs * MICROS)
        });
        let local: TimestampMicrosecondArray = rows.collect();
        Ok(ColumnarValue::Array(Arc::new(local)))
    }
}

fn utc() -> Option<Arc<str>> {
    Some("UTC".into())
}
