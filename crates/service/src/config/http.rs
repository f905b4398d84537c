//! HTTP: where it listens, who may ask, its certificate.
//!
//! An address that other machines reach needs a token, or a word that it is meant for everybody. The token is in a file or in a
//! variable, never a flag's value, which every user of the machine could see.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;

use super::common::Service;
use super::error::ConfigError;
use super::file::ConfigFile;
use super::values::{HttpAddress, Secret};
use super::{environment, layered};
use crate::exit::ExitError;
use crate::http::access::{Access, Token};
use crate::tls::TlsFiles;

/// The environment variable that holds the token itself.
pub const HTTP_TOKEN_VARIABLE: &str = "LOGINLAKE_HTTP_TOKEN";

/// Health, metrics and dashboard.
#[derive(Args, Clone, Debug, Default)]
pub struct HttpArgs {
    /// Address of health, metrics and dashboard, or `none` [default: 127.0.0.1, port 8080 realtime, 8081 ingest, 8082
    /// maintain, 8083 index, 8084 serve, 8085 scheduler, 8086 executor]
    #[arg(long, env = "LOGINLAKE_HTTP", hide_env_values = true, value_name = "ADDR")]
    pub http: Option<HttpAddress>,
    /// File with the token that HTTP clients have to send; health needs none [env: LOGINLAKE_HTTP_TOKEN holds the token itself]
    #[arg(
        long,
        env = "LOGINLAKE_HTTP_TOKEN_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub http_token_file: Option<PathBuf>,
    /// Let anybody who can reach it ask without a token, from other machines, too
    #[arg(
        long,
        env = "LOGINLAKE_HTTP_ALLOW_REMOTE",
        hide_env_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = BoolishValueParser::new(),
        value_name = "BOOL"
    )]
    pub http_allow_remote: Option<bool>,
    /// Let anybody who can reach it have /metrics without the token
    #[arg(
        long,
        env = "LOGINLAKE_HTTP_OPEN_METRICS",
        hide_env_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = BoolishValueParser::new(),
        value_name = "BOOL"
    )]
    pub http_open_metrics: Option<bool>,
    /// Certificate chain for HTTPS, PEM; read again when it changes
    #[arg(
        long,
        env = "LOGINLAKE_HTTP_TLS_CERT",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub http_tls_cert: Option<PathBuf>,
    /// Private key of that certificate, PEM without a password
    #[arg(
        long,
        env = "LOGINLAKE_HTTP_TLS_KEY",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub http_tls_key: Option<PathBuf>,
}

/// Where HTTP is served, and to whom. An address beyond loopback exists only with a token or with permission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpBind {
    address: Option<SocketAddr>,
    access: Access,
    open_metrics: bool,
    tls: Option<TlsFiles>,
}

impl HttpBind {
    /// No HTTP.
    pub const OFF: Self = Self {
        address: None,
        access: Access::Loopback,
        open_metrics: false,
        tls: None,
    };

    /// This address without a token; port 0 is a free one.
    ///
    /// # Errors
    /// It is not a loopback address, and `allow_remote` is not set.
    pub fn new(address: SocketAddr, allow_remote: bool) -> Result<Self, ConfigError> {
        let access = if allow_remote {
            Access::Anybody
        } else if address.ip().to_canonical().is_loopback() {
            Access::Loopback
        } else {
            return Err(ConfigError::RemoteHttp { address });
        };
        Ok(Self::guarded(address, access))
    }

    /// This address, for those whom `access` lets in.
    pub fn guarded(address: SocketAddr, access: Access) -> Self {
        Self {
            address: Some(address),
            access,
            ..Self::OFF
        }
    }

    /// The address, or None where HTTP is off.
    pub const fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Who may ask.
    pub const fn access(&self) -> &Access {
        &self.access
    }

    /// Whether metrics are for everybody.
    pub const fn open_metrics(&self) -> bool {
        self.open_metrics
    }

    /// The certificate's files; None: plain HTTP.
    pub const fn tls(&self) -> Option<&TlsFiles> {
        self.tls.as_ref()
    }
}

/// Where a token comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// A file, read again when it changes.
    File(PathBuf),
    /// The token itself.
    Text(Secret),
}

impl TokenSource {
    /// Of a flag with its variable, the variable of the token itself, and the configuration file.
    ///
    /// # Errors
    /// File and token are both given by flag and variable.
    pub fn layered(
        flag: Option<&PathBuf>,
        variable: &'static str,
        file: Option<&PathBuf>,
    ) -> Result<Option<Self>, ConfigError> {
        Self::layered_with(flag, variable, file, environment())
    }

    fn layered_with(
        flag: Option<&PathBuf>,
        variable: &'static str,
        file: Option<&PathBuf>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Option<Self>, ConfigError> {
        let text = variables
            .into_iter()
            .find(|(name, value)| name == variable && !value.trim().is_empty())
            .map(|(_, value)| Secret::new(value));
        match (flag, text) {
            (Some(_), Some(_)) => Err(ConfigError::invalid(
                variable,
                "a token file is given, too: give one of them",
            )),
            (Some(path), None) => Ok(Some(Self::File(path.clone()))),
            (None, Some(text)) => Ok(Some(Self::Text(text))),
            (None, None) => Ok(file.cloned().map(Self::File)),
        }
    }

    /// The token.
    ///
    /// # Errors
    /// A usage error: the file cannot be read, or what it holds is no token.
    pub fn token(&self) -> Result<Token, ExitError> {
        match self {
            Self::File(path) => Token::from_file(path),
            Self::Text(text) => Token::new(&String::from_utf8_lossy(text.expose())),
        }
    }
}

impl HttpArgs {
    /// Resolves against the file's section for this service, and this process's environment.
    ///
    /// # Errors
    /// An address beyond loopback without a token or `--http-allow-remote`, a token that cannot be read, a certificate without
    /// its key.
    pub fn resolve(&self, file: &ConfigFile, service: Service) -> Result<HttpBind, ExitError> {
        self.resolve_with(file, service, None)
    }

    /// The same for a service that has settings for a token of its own; `own` wins.
    ///
    /// # Errors
    /// As [`HttpArgs::resolve`].
    pub fn resolve_with(
        &self,
        file: &ConfigFile,
        service: Service,
        own: Option<TokenSource>,
    ) -> Result<HttpBind, ExitError> {
        let default = SocketAddr::from((Ipv4Addr::LOCALHOST, service.default_http_port()));
        let address = match layered(self.http, service.http_in(file), HttpAddress::On(default)) {
            HttpAddress::Off => return Ok(HttpBind::OFF),
            HttpAddress::On(address) => address,
        };
        let source = match own {
            Some(own) => Some(own),
            None => TokenSource::layered(
                self.http_token_file.as_ref(),
                HTTP_TOKEN_VARIABLE,
                file.http_token_file.as_ref(),
            )?,
        };
        let bind = match source {
            Some(source) => HttpBind::guarded(address, Access::Token(source.token()?)),
            None => HttpBind::new(
                address,
                layered(self.http_allow_remote, file.http_allow_remote, false),
            )?,
        };
        Ok(HttpBind {
            open_metrics: layered(self.http_open_metrics, file.http_open_metrics, false),
            tls: self.tls(file)?,
            ..bind
        })
    }

    fn tls(&self, file: &ConfigFile) -> Result<Option<TlsFiles>, ConfigError> {
        let certificate = self.http_tls_cert.as_ref().or(file.http_tls_cert.as_ref());
        let key = self.http_tls_key.as_ref().or(file.http_tls_key.as_ref());
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some(TlsFiles {
                certificate: certificate.clone(),
                key: key.clone(),
            })),
            (None, None) => Ok(None),
            (Some(_), None) => Err(ConfigError::invalid("--http-tls-cert", "needs --http-tls-key")),
            (None, Some(_)) => Err(ConfigError::invalid("--http-tls-key", "needs --http-tls-cert")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: HttpAddress =
        HttpAddress::On(SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 1));

    #[test]
    fn a_token_opens_an_address_beyond_loopback() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("token");
        std::fs::write(&path, "0123456789abcdef\n").expect("written");
        let mut args = HttpArgs {
            http: Some(ADDRESS),
            ..HttpArgs::default()
        };
        let none = ConfigFile::default();
        let error = args.resolve(&none, Service::Ingest).expect_err("refused");
        assert!(error.hint.expect("a hint").contains("--http-token-file"));
        let in_file = ConfigFile {
            http_token_file: Some(path.clone()),
            http_open_metrics: Some(true),
            ..ConfigFile::default()
        };
        let bind = args.resolve(&in_file, Service::Ingest).expect("a token");
        assert!(matches!(bind.access(), Access::Token(_)) && bind.open_metrics());
        args.http_token_file = Some(directory.path().join("absent"));
        let error = args.resolve(&in_file, Service::Ingest).expect_err("no file");
        assert!(error.message.contains("absent"), "{error}");
        args.http_token_file = None;
        args.http_allow_remote = Some(true);
        let bind = args.resolve(&none, Service::Ingest).expect("said");
        assert_eq!(bind.access(), &Access::Anybody);
    }

    #[test]
    fn one_token_is_given_and_not_two() {
        let variables = |value: &str| [("V".to_owned(), value.to_owned())];
        let (flag, file) = (PathBuf::from("flag"), PathBuf::from("file"));
        let layered = |flag: Option<&PathBuf>, value: &str| {
            TokenSource::layered_with(flag, "V", Some(&file), variables(value))
        };
        let given = |source: &str| Some(TokenSource::File(source.into()));
        assert_eq!(layered(None, "").expect("valid"), given("file"));
        assert_eq!(layered(Some(&flag), "").expect("valid"), given("flag"));
        let text = Some(TokenSource::Text(Secret::new("secret")));
        assert_eq!(layered(None, "secret").expect("valid"), text);
        let error = layered(Some(&flag), "secret").expect_err("two").to_string();
        assert!(error.starts_with("V: ") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn a_certificate_needs_its_key() {
        let args = HttpArgs {
            http_tls_cert: Some("c".into()),
            ..HttpArgs::default()
        };
        let error = args
            .resolve(&ConfigFile::default(), Service::Serve)
            .expect_err("no key");
        assert!(error.message.contains("--http-tls-key"), "{error}");
    }
}
