//! A proxy with TLS and a password before a server of HTTP, as one stands before a node that has neither: one request after another,
//! each with its login, whole bodies. What a user may do is a matter of paths.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use loginlake_scenarios::authority::Pair;

const LIMIT: Duration = Duration::from_secs(60);

/// The proxy; it ends with the process.
pub(crate) struct TlsProxy {
    port: u16,
    passed: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
    forbidden: Arc<Mutex<Vec<&'static str>>>,
}

struct Door {
    node: SocketAddr,
    login: String,
    passed: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
    forbidden: Arc<Mutex<Vec<&'static str>>>,
}

impl TlsProxy {
    /// Listens on a free loopback port with this certificate; `login` is `user:password`.
    ///
    /// # Errors
    /// When the certificate cannot be used.
    pub(crate) fn start(node: SocketAddr, pair: &Pair, login: &str) -> Result<TlsProxy> {
        let chain = CertificateDer::pem_file_iter(&pair.certificate)?.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(&pair.key)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let proxy = TlsProxy {
            port: listener.local_addr()?.port(),
            passed: Arc::default(),
            refused: Arc::default(),
            forbidden: Arc::default(),
        };
        let door = Arc::new(Door {
            node,
            login: format!("Basic {}", STANDARD.encode(login)),
            passed: Arc::clone(&proxy.passed),
            refused: Arc::clone(&proxy.refused),
            forbidden: Arc::clone(&proxy.forbidden),
        });
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (config, door) = (Arc::clone(&config), Arc::clone(&door));
                // One that does not like the certificate goes away.
                std::thread::spawn(move || door.serve(client, config));
            }
        });
        Ok(proxy)
    }

    /// Its address, by the name that certificates of the authority have.
    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// From now on the user may ask for no path with one of these in it.
    pub(crate) fn forbid(&self, paths: &[&'static str]) {
        *self.forbidden.lock().unwrap_or_else(PoisonError::into_inner) = paths.to_vec();
    }

    /// Requests that were let through, and those that were not.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (
            self.passed.load(Ordering::SeqCst),
            self.refused.load(Ordering::SeqCst),
        )
    }
}

impl Door {
    fn serve(&self, client: TcpStream, config: Arc<ServerConfig>) -> Result<()> {
        client.set_read_timeout(Some(LIMIT))?;
        let mut client = BufReader::new(StreamOwned::new(ServerConnection::new(config)?, client));
        while let Some((head, login, body)) = request(&mut client)? {
            let path = head.split(' ').nth(1).unwrap_or_default();
            let is_forbidden = {
                let forbidden = self.forbidden.lock().unwrap_or_else(PoisonError::into_inner);
                forbidden.iter().any(|part| path.contains(part))
            };
            let answer = if login == self.login && is_forbidden {
                b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n".to_vec()
            } else if login == self.login {
                self.passed.fetch_add(1, Ordering::SeqCst);
                let mut node = TcpStream::connect(self.node)?;
                node.set_read_timeout(Some(LIMIT))?;
                node.write_all(head.as_bytes())?;
                node.write_all(&body)?;
                let mut answer = Vec::new();
                node.read_to_end(&mut answer)?;
                answer
            } else {
                self.refused.fetch_add(1, Ordering::SeqCst);
                b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n".to_vec()
            };
            let client = client.get_mut();
            client.write_all(&answer)?;
            client.flush()?;
        }
        Ok(())
    }
}

/// The head as it is passed on, the login, the body. `None`: the client has gone.
fn request(client: &mut impl BufRead) -> Result<Option<(String, String, Vec<u8>)>> {
    let (mut head, mut login, mut length) = (String::new(), String::new(), 0);
    loop {
        let mut line = String::new();
        if client.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let text = line.trim_end();
        if text.is_empty() {
            break;
        }
        let (name, value) = text.split_once(": ").unwrap_or((text, ""));
        match name.to_ascii_lowercase().as_str() {
            "authorization" => login = value.to_owned(),
            // The node's answer ends with its connection.
            "connection" => {}
            "content-length" => {
                length = value.parse().context("a length")?;
                head += &format!("{text}\r\n");
            }
            _ => head += &format!("{text}\r\n"),
        }
    }
    let mut body = vec![0; length];
    client.read_exact(&mut body)?;
    Ok(Some((head + "connection: close\r\n\r\n", login, body)))
}
