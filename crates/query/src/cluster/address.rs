//! The address of a scheduler.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// The port of a scheduler, where none is said.
pub const DEFAULT_PORT: u16 = 50050;

/// Where a scheduler is: `df://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterAddress {
    host: String,
    port: u16,
}

impl ClusterAddress {
    /// Its host, as a name or a number.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for ClusterAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no address of a cluster: write df://host:{DEFAULT_PORT}");
        let url = Url::parse(text).map_err(|_| wrong())?;
        let is_bare = matches!(url.path(), "" | "/")
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        if url.scheme() != "df" || !is_bare || url.port() == Some(0) {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_owned(),
            port: url.port().unwrap_or(DEFAULT_PORT),
        })
    }
}

impl fmt::Display for ClusterAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "df://{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        let parsed = |text: &str| text.parse::<ClusterAddress>().map(|address| address.to_string());
        assert_eq!(parsed("df://db-1:50051").unwrap(), "df://db-1:50051");
        assert_eq!(parsed("df://127.0.0.1/").unwrap(), "df://127.0.0.1:50050");
        assert_eq!(parsed("df://[::1]:9").unwrap(), "df://[::1]:9");
        for wrong in [
            "",
            "host:50050",
            "http://host:50050",
            "df://",
            "df://host:0",
            "df://host:99999",
            "df://user@host:1",
            "df://host:1/path",
            "df://host:1?x=y",
        ] {
            assert!(parsed(wrong).unwrap_err().contains("df://host:50050"), "{wrong}");
        }
    }
}
