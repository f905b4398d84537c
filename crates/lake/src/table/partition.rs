//! A partition of a table (one `login_date`, or one date and hour), or the whole of a table that has no partitions: the
//! unit of maintenance, with the application id by which maintainers fence each other.

use std::collections::BTreeMap;

use super::DataFile;

/// First part of the application ids of maintenance.
pub(crate) const MAINTENANCE: &str = "loginlake/maintenance";
/// How a table without partitions is called in application ids and reports.
const WHOLE_TABLE: &str = "all";
/// Folder of the rows whose partition value is NULL, as Hive calls it.
const NULL_FOLDER: &str = "__HIVE_DEFAULT_PARTITION__";

/// The values of the partition columns, in the table's order; empty for a table without partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TablePartition {
    values: Vec<(String, Option<String>)>,
}

impl TablePartition {
    /// The partition that a file belongs to.
    pub fn of(partition_columns: &[String], file: &DataFile) -> Self {
        let value = |column: &String| file.partition_values.get(column).cloned().flatten();
        Self {
            values: partition_columns
                .iter()
                .map(|column| (column.clone(), value(column)))
                .collect(),
        }
    }

    /// The value of one partition column; `None` when it is NULL or no partition column.
    pub fn value(&self, column: &str) -> Option<&str> {
        self.values
            .iter()
            .find(|(name, _)| name == column)
            .and_then(|(_, value)| value.as_deref())
    }

    /// Column → value, as a commit writes them.
    pub fn values(&self) -> BTreeMap<String, Option<String>> {
        self.values.iter().cloned().collect()
    }

    /// The folder of its files, with a slash at the end; empty for a table without partitions. Readers take the values
    /// from the log, so characters that folders do not like are replaced.
    pub fn folder(&self) -> String {
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '_'
            }
        };
        self.values
            .iter()
            .map(|(column, value)| match value {
                Some(value) => format!("{column}={}/", value.chars().map(plain).collect::<String>()),
                None => format!("{column}={NULL_FOLDER}/"),
            })
            .collect()
    }

    /// The application id whose `txn` every maintenance commit of this partition moves on by one, as a compare-and-set:
    /// of two maintainers that read the same version, one wins.
    pub fn maintenance_app_id(&self) -> String {
        format!("{MAINTENANCE}/{self}")
    }
}

impl std::fmt::Display for TablePartition {
    /// `login_date=2026-01-05`, or `all`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.values.is_empty() {
            return f.pad(WHOLE_TABLE);
        }
        let folder = self.folder();
        f.pad(folder.trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(pairs: &[(&str, Option<&str>)]) -> TablePartition {
        TablePartition {
            values: pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), v.map(str::to_owned)))
                .collect(),
        }
    }

    #[test]
    fn folders_and_application_ids_name_the_partition() {
        let date = partition(&[("login_date", Some("2026-01-05")), ("login_hour", Some("3"))]);
        assert_eq!(date.folder(), "login_date=2026-01-05/login_hour=3/");
        assert_eq!(
            date.maintenance_app_id(),
            "loginlake/maintenance/login_date=2026-01-05/login_hour=3"
        );
        assert_eq!(partition(&[]).maintenance_app_id(), "loginlake/maintenance/all");
        assert_eq!(partition(&[]).folder(), "");
        assert_eq!(
            partition(&[("a", Some("x/../y")), ("b", None)]).folder(),
            "a=x_.._y/b=__HIVE_DEFAULT_PARTITION__/"
        );
    }
}
