//! A certificate authority of one scenario: certificates of servers and of clients as PEM files, good ones and expired ones.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// The authority, and the folder of its files.
pub struct Authority {
    dir: PathBuf,
    name: String,
    issuer: Issuer<'static, KeyPair>,
}

/// The PEM files of one certificate.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Key and certificate in one file.
    pub both: PathBuf,
}

impl Authority {
    /// An authority with a key of its own; `dir` gets `NAME.pem`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn new(dir: &Path, name: &str) -> Result<Authority> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        fs::create_dir_all(dir)?;
        let authority = Authority {
            dir: dir.to_path_buf(),
            name: name.to_owned(),
            issuer: Issuer::new(params.clone(), KeyPair::from_pem(&key.serialize_pem())?),
        };
        fs::write(authority.file(), params.self_signed(&key)?.pem())?;
        Ok(authority)
    }

    /// Its own certificate, for those who are to trust it.
    pub fn file(&self) -> PathBuf {
        self.dir.join(format!("{}.pem", self.name))
    }

    /// A certificate of a server for these names (or addresses).
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn server(&self, names: &[&str]) -> Result<Pair> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params, "server")
    }

    /// A certificate of a client.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn client(&self, name: &str) -> Result<Pair> {
        self.issue(client(name)?, name)
    }

    /// One whose time is over.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn expired_client(&self, name: &str) -> Result<Pair> {
        let mut params = client(name)?;
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        self.issue(params, name)
    }

    fn issue(&self, params: CertificateParams, name: &str) -> Result<Pair> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        let file = |ending: &str| self.dir.join(format!("{}-{name}{ending}.pem", self.name));
        let pair = Pair {
            certificate: file(""),
            key: file("-key"),
            both: file("-both"),
        };
        fs::write(&pair.certificate, &certificate)?;
        fs::write(&pair.key, key.serialize_pem())?;
        fs::write(&pair.both, format!("{}{certificate}", key.serialize_pem()))?;
        Ok(pair)
    }
}

fn client(name: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}
