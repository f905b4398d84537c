//! An identity provider of one scenario: an endpoint that gives signed tokens (JWT, ES256) for client credentials, and the file
//! of keys by which a broker verifies them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// Who issues the tokens.
pub const ISSUER: &str = "https://login.example";
/// Whom they are for.
pub const AUDIENCE: &str = "kafka";
/// The client that gets tokens.
pub const CLIENT: &str = "loginlake-client";
const KEY_ID: &str = "scenario";
const LIMIT: Duration = Duration::from_secs(10);

/// The provider; it ends with the process.
pub struct Provider {
    address: SocketAddr,
    keys: PathBuf,
    signer: Arc<Signer>,
    given: Arc<AtomicU64>,
}

struct Signer {
    key: EcdsaKeyPair,
    login: String,
    valid: Duration,
}

impl Provider {
    /// Listens on a free loopback port. [`CLIENT`] with this secret gets tokens that are good for `valid`; `dir` gets the keys.
    ///
    /// # Errors
    /// When there is no free port, or the file cannot be written.
    pub fn start(dir: &Path, secret: &str, valid: Duration) -> Result<Provider> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).context("no key")?;
        // An uncompressed point: 4, x, y.
        let point: &[u8] = key.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let public = json!({"keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": KEY_ID, "x": text(x), "y": text(y),
        }]});
        let keys = dir.join("jwks.json");
        std::fs::write(&keys, public.to_string())?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let provider = Provider {
            address: listener.local_addr()?,
            keys,
            signer: Arc::new(Signer {
                key,
                login: format!("Basic {}", STANDARD.encode(format!("{CLIENT}:{secret}"))),
                valid,
            }),
            given: Arc::default(),
        };
        let (signer, given) = (Arc::clone(&provider.signer), Arc::clone(&provider.given));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // One that goes away in the middle asks again.
                if answer(client, &signer).unwrap_or(false) {
                    given.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Ok(provider)
    }

    /// What `sasl.oauthbearer.token.endpoint.url` is given.
    pub fn endpoint(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// Where a broker finds the keys.
    pub fn keys_url(&self) -> String {
        format!("file://{}", self.keys.display())
    }

    /// How many tokens were asked for and given.
    pub fn given(&self) -> u64 {
        self.given.load(Ordering::SeqCst)
    }

    /// A token, past the endpoint, for this audience.
    ///
    /// # Errors
    /// When the clock is before 1970.
    pub fn token_for(&self, audience: &str) -> Result<String> {
        self.signer.token(audience)
    }
}

impl Signer {
    fn token(&self, audience: &str) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": KEY_ID});
        let claims = json!({
            "iss": ISSUER, "aud": audience, "sub": CLIENT, "scope": "kafka",
            "iat": now.as_secs(), "exp": (now + self.valid).as_secs(),
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .context("no signature")?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// True when a token was given.
fn answer(mut client: TcpStream, signer: &Signer) -> Result<bool> {
    client.set_read_timeout(Some(LIMIT))?;
    let mut reader = BufReader::new(client.try_clone()?);
    let (mut login, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            if line.trim_end().is_empty() {
                break;
            }
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => login = value.to_owned(),
            "content-length" => length = value.parse()?,
            _ => {}
        }
    }
    let mut form = vec![0; length];
    reader.read_exact(&mut form)?;
    let form = String::from_utf8_lossy(&form);
    let is_good = login == signer.login && form.contains("grant_type=client_credentials");
    let (status, body) = if is_good {
        let token = signer.token(AUDIENCE)?;
        (
            "200 OK",
            json!({"access_token": token, "token_type": "Bearer", "expires_in": signer.valid.as_secs()}),
        )
    } else {
        // A provider that repeats what it was sent: no client may pass that on.
        let description = format!("the client is not known by {login}");
        (
            "401 Unauthorized",
            json!({"error": "invalid_client", "error_description": description}),
        )
    };
    let body = body.to_string();
    write!(
        client,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    Ok(is_good)
}
