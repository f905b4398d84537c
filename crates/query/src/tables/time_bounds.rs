//! What the filters of a scan say about the times of its rows, so that the rest of a topic is not built, or not even decoded,
//! where no row can match.
//!
//! Only what a filter says beyond doubt is taken: comparisons of one of the time columns with a literal of its own type, and
//! AND, OR, BETWEEN and IN of such. From everything else nothing follows, and the filter is evaluated on the rows anyway.

use arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Between, BinaryExpr, Cast, Expr, Operator};

use crate::view::{TimeBounds, TimeRange};

const US_PER_SECOND: i64 = 1_000_000;
const US_PER_DAY: i64 = 86_400 * US_PER_SECOND;

/// The bounds that rows must keep to match all filters. `schema` is the table's.
pub(super) fn time_bounds(filters: &[Expr], schema: &Schema) -> TimeBounds {
    let each = filters.iter().map(|filter| of_filter(filter, schema));
    each.fold(TimeBounds::default(), TimeBounds::and)
}

fn of_filter(filter: &Expr, schema: &Schema) -> TimeBounds {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::And => of_filter(left, schema).and(of_filter(right, schema)),
            Operator::Or => of_filter(left, schema).or(of_filter(right, schema)),
            _ => match (column_of(left, schema), column_of(right, schema)) {
                (Some(column), None) => column.compared(*op, right),
                (None, Some(column)) => op.swap().map(|op| column.compared(op, left)).unwrap_or_default(),
                _ => TimeBounds::default(),
            },
        },
        Expr::Between(Between {
            expr,
            negated: false,
            low,
            high,
        }) => column_of(expr, schema).map_or_else(TimeBounds::default, |column| {
            let from = column.compared(Operator::GtEq, low);
            from.and(column.compared(Operator::LtEq, high))
        }),
        Expr::InList(list) if !list.negated => {
            let Some(column) = column_of(&list.expr, schema) else {
                return TimeBounds::default();
            };
            let each = list.list.iter().map(|value| column.compared(Operator::Eq, value));
            each.reduce(TimeBounds::or).unwrap_or_default()
        }
        _ => TimeBounds::default(),
    }
}

/// A column that says something about a time of its row.
#[derive(Clone)]
struct TimeColumn {
    of: Time,
    /// Of what it is compared with.
    data_type: DataType,
}

#[derive(Clone, Copy, PartialEq)]
enum Time {
    Event,
    Kafka,
}

fn column_of(expr: &Expr, schema: &Schema) -> Option<TimeColumn> {
    let (column, cast_to) = match expr {
        Expr::Column(column) => (column, None),
        Expr::Cast(Cast { expr, field }) => match expr.as_ref() {
            Expr::Column(column) => (column, Some(field.data_type())),
            _ => return None,
        },
        _ => return None,
    };
    let own = schema.field_with_name(&column.name).ok()?.data_type();
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let (of, expected) = match column.name.as_str() {
        "event_time" => (Time::Event, utc),
        "kafka_timestamp" => (Time::Kafka, utc),
        "login_date" => (Time::Event, DataType::Date32),
        "timestamp" => (Time::Event, DataType::Int64),
        _ => return None,
    };
    let is_time = matches!(expected, DataType::Timestamp(..));
    let data_type = match cast_to {
        _ if *own != expected => return None,
        None => expected,
        // The date of a time in UTC.
        Some(DataType::Date32) if is_time => DataType::Date32,
        Some(_) => return None,
    };
    Some(TimeColumn { of, data_type })
}

impl TimeColumn {
    fn compared(&self, op: Operator, with: &Expr) -> TimeBounds {
        let Expr::Literal(value, _) = with else {
            return TimeBounds::default();
        };
        let Some(TimeRange { from_us, to_us }) = self.times_of(value) else {
            return TimeBounds::default();
        };
        let (least, most) = (i64::MIN, i64::MAX);
        let range = match op {
            Operator::Eq => (from_us, to_us),
            Operator::GtEq => (from_us, most),
            Operator::Gt => (to_us.saturating_add(1), most),
            Operator::LtEq => (least, to_us),
            Operator::Lt => (least, from_us.saturating_sub(1)),
            _ => return TimeBounds::default(),
        };
        let range = TimeRange {
            from_us: range.0,
            to_us: range.1,
        };
        match self.of {
            Time::Event => TimeBounds {
                event: range,
                ..TimeBounds::default()
            },
            // A row without a Kafka timestamp matches no comparison with it.
            Time::Kafka => TimeBounds {
                kafka: Some(range),
                ..TimeBounds::default()
            },
        }
    }

    /// The times at which the column has this value.
    fn times_of(&self, value: &ScalarValue) -> Option<TimeRange> {
        if value.data_type() != self.data_type {
            return None;
        }
        let span = |from: i64, length: i64| TimeRange {
            from_us: from,
            to_us: from.saturating_add(length - 1),
        };
        match value {
            ScalarValue::TimestampMicrosecond(Some(us), _) => Some(span(*us, 1)),
            ScalarValue::Int64(Some(seconds)) => {
                Some(span(seconds.checked_mul(US_PER_SECOND)?, US_PER_SECOND))
            }
            ScalarValue::Date32(Some(days)) => Some(span(i64::from(*days) * US_PER_DAY, US_PER_DAY)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::Field;
    use datafusion::logical_expr::{cast, col, lit};

    const DAY: i32 = 20_000;
    const DAY_US: i64 = DAY as i64 * US_PER_DAY;

    fn schema() -> Schema {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        Schema::new(vec![
            Field::new("event_time", utc.clone(), true),
            Field::new("kafka_timestamp", utc, true),
            Field::new("login_date", DataType::Date32, true),
            Field::new("timestamp", DataType::Int64, true),
            Field::new("region", DataType::Utf8View, true),
        ])
    }

    fn bounds(filter: Expr) -> TimeBounds {
        time_bounds(&[filter], &schema())
    }

    fn event(filter: Expr) -> (i64, i64) {
        let found = bounds(filter);
        assert_eq!(found.kafka, None);
        (found.event.from_us, found.event.to_us)
    }

    fn time(us: i64) -> Expr {
        lit(ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into())))
    }

    fn date(days: i32) -> Expr {
        lit(ScalarValue::Date32(Some(days)))
    }

    #[test]
    fn comparisons_bound_the_time() {
        let (least, most) = (i64::MIN, i64::MAX);
        assert_eq!(event(col("event_time").gt_eq(time(7))), (7, most));
        assert_eq!(event(col("event_time").gt(time(7))), (8, most));
        assert_eq!(event(time(7).gt(col("event_time"))), (least, 6));
        assert_eq!(event(col("event_time").eq(time(7))), (7, 7));
        assert_eq!(event(col("login_date").gt_eq(date(DAY))), (DAY_US, most));
        assert_eq!(
            event(col("login_date").gt(date(DAY))),
            (DAY_US + US_PER_DAY, most)
        );
        assert_eq!(
            event(col("login_date").lt_eq(date(DAY))),
            (least, DAY_US + US_PER_DAY - 1)
        );
        assert_eq!(event(col("timestamp").lt_eq(lit(9_i64))), (least, 9_999_999));
        assert_eq!(
            event(cast(col("event_time"), DataType::Date32).eq(date(DAY))),
            (DAY_US, DAY_US + US_PER_DAY - 1)
        );
        let between = col("login_date").between(date(DAY), date(DAY + 1));
        assert_eq!(event(between), (DAY_US, DAY_US + 2 * US_PER_DAY - 1));
        let list = col("login_date").in_list(vec![date(DAY + 3), date(DAY)], false);
        assert_eq!(event(list), (DAY_US, DAY_US + 4 * US_PER_DAY - 1));
        let kafka = bounds(col("kafka_timestamp").lt(time(7))).kafka.unwrap();
        assert_eq!((kafka.from_us, kafka.to_us), (least, 6));
    }

    #[test]
    fn and_takes_both_and_or_takes_what_either_may_have() {
        let (low, high) = (col("event_time").gt_eq(time(7)), col("event_time").lt(time(70)));
        assert_eq!(event(low.clone().and(high.clone())), (7, 69));
        assert_eq!(event(low.clone().or(high)), (i64::MIN, i64::MAX));
        let either = col("event_time").eq(time(7)).or(col("event_time").eq(time(3)));
        assert_eq!(event(either), (3, 7));
        assert_eq!(
            bounds(low.clone().or(col("region").eq(lit("West")))),
            TimeBounds::default()
        );
        // A row without a Kafka timestamp can match the other side.
        let kafka = col("kafka_timestamp").gt(time(5));
        assert_eq!(bounds(low.clone().or(kafka.clone())), TimeBounds::default());
        assert!(bounds(low.and(kafka)).kafka.is_some());
    }

    #[test]
    fn what_is_in_doubt_bounds_nothing() {
        let ns = lit(ScalarValue::TimestampNanosecond(Some(7), None));
        for filter in [
            col("event_time").not_eq(time(7)),
            col("event_time").gt(ns),
            col("event_time").gt(col("kafka_timestamp")),
            col("event_time").gt(lit(ScalarValue::Null)),
            col("event_time").not_between(time(1), time(2)),
            col("login_date").in_list(vec![date(DAY), col("event_time")], false),
            col("login_date").in_list(vec![date(DAY)], true),
            col("login_date").in_list(vec![], false),
            col("timestamp").gt(lit(i64::MAX)),
            cast(col("event_time"), DataType::Int64).gt(lit(7_i64)),
            col("event_time").gt(time(7)).is_null(),
            !col("event_time").gt(time(7)),
            col("region").eq(lit("West")),
        ] {
            assert_eq!(bounds(filter.clone()), TimeBounds::default(), "{filter}");
        }
    }
}
