//! TLS of what this software serves: a certificate and its key from PEM files, read again when they change.
//!
//! A certificate that is renewed in its file is used by the next connection, without a restart. New files that cannot be used are
//! said in the log, and the old certificate stays. TLS 1.2 and 1.3 only, by rustls.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use thiserror::Error;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{InconsistentKeys, ServerConfig};

/// The files of a server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM: the certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// PEM: its private key, without a password.
    pub key: PathBuf,
}

/// Why the files cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read, or is not PEM of what it should be.
    #[error("`{}` cannot be used as {purpose}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What it is for.
        purpose: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The key belongs to another certificate.
    #[error("the key in `{}` is not that of the certificate in `{}`", key.display(), certificate.display())]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// The cryptography refuses for another reason.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// A certificate that is served, and its files. Cheap to clone; clones are one.
#[derive(Clone)]
pub struct ServerTls {
    files: TlsFiles,
    served: Arc<Served>,
    config: Arc<ServerConfig>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("files", &self.files).finish()
    }
}

impl ServerTls {
    /// Reads the files. `protocols` are those of ALPN, such as `http/1.1` or `h2`.
    ///
    /// # Errors
    /// They cannot be read, are not PEM, or do not belong together.
    pub fn load(files: TlsFiles, protocols: &[&str]) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let stamp = Stamp::of(&files);
        let key = Arc::new(read(&files, &provider)?);
        let served = Arc::new(Served {
            now: RwLock::new(Now { key, stamp }),
            provider: Arc::clone(&provider),
        });
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&served) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Self {
            files,
            served,
            config: Arc::new(config),
        })
    }

    /// What makes a connection of TLS out of one of TCP.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config())
    }

    /// The configuration, for servers that accept by themselves. It serves a renewed certificate, too.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Reads the files again if they have changed. True: a new certificate is served from now on. After an error the old one is,
    /// until the files change once more.
    ///
    /// # Errors
    /// As [`ServerTls::load`].
    pub fn renew(&self) -> Result<bool, TlsError> {
        let stamp = Stamp::of(&self.files);
        if self.served.read(|now| now.stamp == stamp) {
            return Ok(false);
        }
        let key = read(&self.files, &self.served.provider);
        let mut now = self.served.now.write().unwrap_or_else(PoisonError::into_inner);
        now.stamp = stamp;
        now.key = Arc::new(key?);
        Ok(true)
    }
}

/// The certificate of the next connection.
struct Served {
    now: RwLock<Now>,
    provider: Arc<CryptoProvider>,
}

struct Now {
    key: Arc<CertifiedKey>,
    stamp: Stamp,
}

impl Served {
    fn read<T>(&self, look: impl FnOnce(&Now) -> T) -> T {
        look(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Served(…)")
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.read(|now| Arc::clone(&now.key)))
    }
}

/// When a file was written, and its size: enough to see that it was replaced.
pub(crate) type FileStamp = Option<(SystemTime, u64)>;

pub(crate) fn file_stamp(path: &Path) -> FileStamp {
    let found = std::fs::metadata(path).ok()?;
    Some((found.modified().ok()?, found.len()))
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    certificate: FileStamp,
    key: FileStamp,
}

impl Stamp {
    fn of(files: &TlsFiles) -> Self {
        Self {
            certificate: file_stamp(&files.certificate),
            key: file_stamp(&files.key),
        }
    }
}

fn read(files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let certificate = |problem: String| TlsError::File {
        path: files.certificate.clone(),
        purpose: "a certificate",
        problem,
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .map_err(|error| certificate(said(&error)))?;
    if chain.is_empty() {
        return Err(certificate("no certificate in PEM is in it".to_owned()));
    }
    let key_problem = |problem: String| TlsError::File {
        path: files.key.clone(),
        purpose: "a private key",
        problem,
    };
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| match error {
        PemError::NoItemsFound => key_problem(
            "no private key in PEM is in it, or it has a password, which is not supported".to_owned(),
        ),
        error => key_problem(said(&error)),
    })?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::Mismatch {
            key: files.key.clone(),
            certificate: files.certificate.clone(),
        },
        rustls::Error::InvalidCertificate(_) => certificate(error.to_string()),
        error => key_problem(error.to_string()),
    })
}

fn said(error: &PemError) -> String {
    match error {
        PemError::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate for `localhost` and its key, both PEM.
    fn made() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a name");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn written(certificate: &str, key: &str) -> (tempfile::TempDir, TlsFiles) {
        let directory = tempfile::tempdir().expect("a directory");
        let files = TlsFiles {
            certificate: directory.path().join("certificate.pem"),
            key: directory.path().join("key.pem"),
        };
        std::fs::write(&files.certificate, certificate).expect("written");
        std::fs::write(&files.key, key).expect("written");
        (directory, files)
    }

    #[test]
    fn files_that_do_not_fit_are_named() {
        let ((certificate, key), (_, other_key)) = (made(), made());
        for (certificate, key, problem) in [
            (&*certificate, &*other_key, "is not that of the certificate"),
            (&certificate, "", "no private key in PEM"),
            (&certificate, &certificate, "no private key in PEM"),
            ("", &key, "no certificate in PEM"),
            ("nonsense", &key, "no certificate in PEM"),
        ] {
            let (_directory, files) = written(certificate, key);
            let error = ServerTls::load(files, &["http/1.1"])
                .expect_err(problem)
                .to_string();
            assert!(error.contains(problem) && error.contains(".pem"), "{error}");
        }
        let (directory, mut files) = written(&certificate, &key);
        files.key = directory.path().join("absent.pem");
        let error = ServerTls::load(files, &[]).expect_err("absent").to_string();
        assert!(error.contains("absent.pem"), "{error}");
    }

    #[test]
    fn a_renewed_file_is_taken_and_a_broken_one_is_not() {
        let (certificate, key) = made();
        let (_directory, files) = written(&certificate, &key);
        let tls = ServerTls::load(files.clone(), &["http/1.1"]).expect("good files");
        assert!(!tls.renew().expect("nothing has changed"));
        let first = tls.served.read(|now| Arc::clone(&now.key));
        std::fs::write(&files.certificate, "not one").expect("written");
        assert!(tls.renew().is_err());
        assert!(Arc::ptr_eq(&first, &tls.served.read(|now| Arc::clone(&now.key))));
        assert!(!tls.renew().expect("said once"));
        // Another size: the time of the file may not have moved on.
        std::fs::write(&files.certificate, format!("{certificate}\n")).expect("written");
        assert!(tls.renew().expect("good again"));
        assert!(!Arc::ptr_eq(&first, &tls.served.read(|now| Arc::clone(&now.key))));
        assert!(!format!("{tls:?}").contains("BEGIN"));
    }
}
