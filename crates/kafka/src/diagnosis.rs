//! Why a broker's certificate is not taken. librdkafka says only that it is not; whether it is of another authority, for another name or
//! too old decides what has to be changed, so the same handshake is done once more by a library that tells.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, ClientConnection, Error, RootCertStore};

const LIMIT: Duration = Duration::from_secs(3);

/// Looks at the certificate of the first of these brokers that answers. `None`: nothing is wrong with it, or nothing is found out.
pub(crate) fn certificate_problem(brokers: &str, authorities: &Path) -> Option<String> {
    let config = Arc::new(config(authorities)?);
    brokers
        .split(',')
        .find_map(|broker| problem_of(broker.trim(), &config, authorities))
}

fn config(authorities: &Path) -> Option<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authorities).ok()? {
        // One that is not understood is not trusted.
        let _ = roots.add(certificate.ok()?);
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().ok()?;
    Some(builder.with_root_certificates(roots).with_no_client_auth())
}

fn problem_of(broker: &str, config: &Arc<ClientConfig>, authorities: &Path) -> Option<String> {
    let (host, _) = broker.rsplit_once(':')?;
    let host = host.rsplit_once("//").map_or(host, |(_, host)| host);
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).ok()?;
    let address = broker.rsplit_once("//").map_or(broker, |(_, address)| address);
    let mut stream = address
        .to_socket_addrs()
        .ok()?
        .find_map(|address| TcpStream::connect_timeout(&address, LIMIT).ok())?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    stream.set_write_timeout(Some(LIMIT)).ok()?;
    let mut connection = ClientConnection::new(Arc::clone(config), name).ok()?;
    while connection.is_handshaking() {
        if let Err(error) = connection.complete_io(&mut stream) {
            let error = error.get_ref()?.downcast_ref::<Error>()?;
            return said(broker, error, authorities);
        }
    }
    None
}

fn said(broker: &str, error: &Error, authorities: &Path) -> Option<String> {
    let Error::InvalidCertificate(problem) = error else {
        return None;
    };
    Some(match problem {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            let names = match problem {
                CertificateError::NotValidForNameContext { presented, .. } => presented.join(", "),
                _ => "others".to_owned(),
            };
            format!("the certificate of {broker} is for another name ({names})")
        }
        CertificateError::UnknownIssuer => format!(
            "the certificate of {broker} is not of an authority in ssl.ca.location {}",
            authorities.display()
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("the certificate of {broker} has expired")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("the certificate of {broker} is not valid yet; is the clock right?")
        }
        other => format!("the certificate of {broker} is not good: {other}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_problem_has_its_words() {
        let words = |problem| {
            let error = Error::InvalidCertificate(problem);
            said("broker:9093", &error, Path::new("ca.pem")).expect("a problem of the certificate")
        };
        let name = CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("broker").expect("a name"),
            presented: vec!["DnsName(\"kafka-1\")".to_owned()],
        };
        assert!(words(name).contains("kafka-1"));
        assert!(words(CertificateError::UnknownIssuer).contains("ca.pem"));
        assert!(words(CertificateError::Expired).contains("has expired"));
        assert!(said("broker:9093", &Error::DecryptError, Path::new("ca.pem")).is_none());
    }

    #[test]
    fn where_nothing_answers_nothing_is_said() {
        assert_eq!(certificate_problem("127.0.0.1:1", Path::new("absent.pem")), None);
    }
}
