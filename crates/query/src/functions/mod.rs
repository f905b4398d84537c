//! The SQL functions of this field, by the rules of the event contract.
//!
//! - `cidr_contains` and `ip_prefix`, in `network`;
//! - `version_compare`, in `version`;
//! - `region_of` and `local_time`, in `locale`;
//! - those of DataFusion that can give values of any size, with a limit, in `bounded`;
//! - texts of any type, constants and columns, in `arguments`.
//!
//! NULL gives NULL. A constant that cannot be meant is an error of planning; a value of a column that is none (the pseudonym in
//! place of an address, a version `unknown`) gives NULL, so that one row does not end a query. Registering them does no work.

mod arguments;
mod bounded;
mod locale;
mod network;
mod version;

use std::sync::{Arc, OnceLock};

use datafusion::logical_expr::ScalarUDF;
use loginlake_events::regions::RegionTable;

pub(crate) use bounded::bounded;

/// All of them. `regions` says what locales mean; `None` is the built-in table, read when it is first needed.
pub(crate) fn all(regions: Option<RegionTable>) -> Vec<Arc<ScalarUDF>> {
    let regions = Arc::new(Regions::new(regions));
    vec![
        Arc::new(ScalarUDF::from(network::CidrContains::new())),
        Arc::new(ScalarUDF::from(network::IpPrefix::new())),
        Arc::new(ScalarUDF::from(version::VersionCompare::new())),
        Arc::new(ScalarUDF::from(locale::RegionOf::new(Arc::clone(&regions)))),
        Arc::new(ScalarUDF::from(locale::LocalTime::new(regions))),
    ]
}

/// The table of regions, made when it is first needed.
#[derive(Debug)]
struct Regions(OnceLock<RegionTable>);

impl Regions {
    fn new(table: Option<RegionTable>) -> Self {
        Self(table.map_or_else(OnceLock::new, OnceLock::from))
    }

    fn table(&self) -> &RegionTable {
        self.0.get_or_init(RegionTable::builtin)
    }
}
