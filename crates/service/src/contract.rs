//! The event contract as it is configured: the same settings give the same rules in every process, on both paths.

use std::path::Path;

use loginlake_events::Contract;
use loginlake_events::privacy::{PersonalField as Field, Privacy};
use loginlake_events::regions::RegionTable;

use crate::config::{PersonalField, ResolvedContract};
use crate::exit::ExitError;

/// The table of regions of a file.
///
/// # Errors
/// A usage error: the file cannot be read, or is no such table.
pub fn regions(path: &Path) -> Result<RegionTable, ExitError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ExitError::usage(format!("cannot read --regions {}: {error}", path.display())))?;
    RegionTable::from_csv(&text)
        .map_err(|error| ExitError::usage(format!("--regions {}: {error}", path.display())))
}

/// The contract, with the regions file read and the privacy set up.
///
/// # Errors
/// A usage error: the file cannot be read, or the settings do not fit together.
pub fn contract(resolved: &ResolvedContract) -> Result<Contract, ExitError> {
    let mut builder = Contract::builder()
        .earliest_ms(resolved.earliest_ms)
        .max_ahead_ms(resolved.max_ahead_ms);
    if let Some(path) = &resolved.regions_file {
        builder = builder.regions(regions(path)?);
    }
    let fields: Vec<Field> = resolved
        .pseudonymise
        .iter()
        .map(|field| match field {
            PersonalField::UserId => Field::UserId,
            PersonalField::DeviceId => Field::DeviceId,
            PersonalField::Ip => Field::Ip,
        })
        .collect();
    let mut privacy = match &resolved.key {
        Some(key) => Privacy::pseudonyms(key.expose(), &fields).map_err(ExitError::usage)?,
        None => Privacy::none(),
    };
    if resolved.mask_ip {
        privacy = privacy.with_masked_ip().map_err(ExitError::usage)?;
    }
    builder.privacy(privacy).build().map_err(ExitError::usage)
}
