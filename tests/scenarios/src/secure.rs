//! A broker that is reached as those of production are: a listener of TLS with logins (PLAIN, SCRAM-SHA-512, OAUTHBEARER), and one
//! that asks for the client's certificate. The scenario's own clients use a third one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::authority::{Authority, Pair};
use crate::identity::{AUDIENCE, CLIENT, ISSUER, Provider};
use crate::kafka::{Kafka, Listener};
use crate::scenario::{self, Way};

/// The user of both kinds of password.
pub const USER: &str = "app";
/// A password that nothing else looks like, so that it can be searched for.
pub const PASSWORD: &str = "p4ssw0rd-of-app-3141592653";
/// Likewise.
pub const CLIENT_SECRET: &str = "s3cret-of-client-2718281828";
/// The name by which the brokers' certificate calls them.
pub const HOST: &str = "localhost";
/// Short, so that a scenario sees tokens renewed.
const TOKEN_LIFE: Duration = Duration::from_secs(20);

/// The broker, its authority and its identity provider.
pub struct SecureKafka {
    /// The broker.
    pub kafka: Arc<Kafka>,
    /// The authority of all certificates.
    pub authority: Authority,
    /// A client's good certificate.
    pub client: Pair,
    /// Where tokens come from.
    pub provider: Provider,
    login_port: u16,
    mutual_port: u16,
}

impl SecureKafka {
    /// Starts it in this folder.
    ///
    /// # Errors
    /// As [`Kafka::start`].
    pub fn start(dir: &Path) -> Result<SecureKafka> {
        let authority = Authority::new(&dir.join("certificates"), "authority")?;
        let server = authority.server(&[HOST])?;
        let client = authority.client("loginlake")?;
        let provider = Provider::start(dir, CLIENT_SECRET, TOKEN_LIFE)?;
        let (login_port, mutual_port) = (scenario::free_port()?, scenario::free_port()?);
        let listeners = [
            Listener::new("LOGIN", "SASL_SSL", HOST, login_port),
            Listener::new("MUTUAL", "SSL", HOST, mutual_port),
        ];
        let properties = properties(&authority, &server, &provider);
        let keys = provider.keys_url();
        let kafka = Kafka::start_listening(
            &dir.join("broker"),
            &listeners,
            &properties,
            &keys,
            &[(USER, PASSWORD)],
        )?;
        Ok(SecureKafka {
            kafka: Arc::new(kafka),
            authority,
            client,
            provider,
            login_port,
            mutual_port,
        })
    }

    /// The listener with logins.
    pub fn login(&self) -> String {
        format!("{HOST}:{}", self.login_port)
    }

    /// The same by an address that its certificate does not name.
    pub fn login_by_another_name(&self) -> String {
        format!("127.0.0.1:{}", self.login_port)
    }

    /// The listener that asks for a certificate.
    pub fn mutual(&self) -> String {
        format!("{HOST}:{}", self.mutual_port)
    }

    /// The way to the listener with logins by this mechanism, without who logs in.
    pub fn way_by(&self, mechanism: &str) -> Way {
        let way = self.way(self.login(), "SASL_SSL");
        way.with("SASL_MECHANISM", mechanism)
    }

    /// The same with user and password, which is in a file.
    pub fn way_by_password(&self, mechanism: &str, file: &Path) -> Way {
        let way = self.way_by(mechanism).with("SASL_USERNAME", USER);
        way.with("SASL_PASSWORD_FILE", &file.display().to_string())
    }

    /// The same with a token of the provider for a client whose secret is in a file.
    pub fn way_by_token(&self, file: &Path) -> Way {
        self.way_by("OAUTHBEARER")
            .with("SASL_OAUTHBEARER_METHOD", "oidc")
            .with("SASL_OAUTHBEARER_CLIENT_ID", CLIENT)
            .with("SASL_OAUTHBEARER_CLIENT_SECRET_FILE", &file.display().to_string())
            .with("SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL", &self.provider.endpoint())
            .with("SASL_OAUTHBEARER_SCOPE", "kafka")
    }

    /// The way to the listener that asks for a certificate, with this one.
    pub fn way_by_certificate(&self, pair: &Pair) -> Way {
        self.way(self.mutual(), "SSL")
            .with(
                "SSL_CERTIFICATE_LOCATION",
                &pair.certificate.display().to_string(),
            )
            .with("SSL_KEY_LOCATION", &pair.key.display().to_string())
    }

    fn way(&self, brokers: String, protocol: &str) -> Way {
        let way = Way {
            brokers,
            environment: Vec::new(),
        };
        way.with("SECURITY_PROTOCOL", protocol)
            .with("SSL_CA_LOCATION", &self.authority.file().display().to_string())
    }
}

/// Kafka 4.1 looks at no signature and no audience unless the validator of brokers is named: its default one is that of clients.
fn properties(authority: &Authority, server: &Pair, provider: &Provider) -> String {
    const MODULES: &str = "org.apache.kafka.common.security";
    let (keys, both, trusted) = (
        provider.keys_url(),
        server.both.display(),
        authority.file().display().to_string(),
    );
    format!(
        "ssl.keystore.type=PEM
ssl.keystore.location={both}
ssl.truststore.type=PEM
ssl.truststore.location={trusted}
listener.name.mutual.ssl.client.auth=required
listener.name.login.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512,OAUTHBEARER
listener.name.login.plain.sasl.jaas.config={MODULES}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";
listener.name.login.scram-sha-512.sasl.jaas.config={MODULES}.scram.ScramLoginModule required;
listener.name.login.oauthbearer.sasl.jaas.config={MODULES}.oauthbearer.OAuthBearerLoginModule required;
listener.name.login.oauthbearer.sasl.server.callback.handler.class={MODULES}.oauthbearer.OAuthBearerValidatorCallbackHandler
sasl.oauthbearer.jwt.validator.class={MODULES}.oauthbearer.BrokerJwtValidator
sasl.oauthbearer.jwks.endpoint.url={keys}
sasl.oauthbearer.expected.audience={AUDIENCE}
sasl.oauthbearer.expected.issuer={ISSUER}
listener.name.login.connections.max.reauth.ms=15000
"
    )
}
