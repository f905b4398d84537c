//! Credentials of the object store that expire: a server on loopback that hands them out, as the agents do by which containers
//! in a cloud get theirs (AWS_CONTAINER_CREDENTIALS_FULL_URI).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// What it hands out is good for so long. Shorter than what clients keep in hand, so they ask again and again.
const VALID: Duration = Duration::from_secs(2);
const TOKEN: &str = "who-asks";
const LIMIT: Duration = Duration::from_secs(10);

/// The server; it ends with the process.
pub struct KeyServer {
    address: SocketAddr,
    token_file: PathBuf,
    user: String,
    password: Arc<Mutex<String>>,
    handed_out: Arc<AtomicU64>,
}

impl KeyServer {
    /// Listens on a free port. `dir` gets the file of the token by which clients say who they are.
    ///
    /// # Errors
    /// When there is no free port, or the file cannot be written.
    pub fn start(dir: &Path, user: &str, password: &str) -> Result<KeyServer> {
        let token_file = dir.join("who-asks");
        std::fs::write(&token_file, TOKEN)?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let server = KeyServer {
            address: listener.local_addr()?,
            token_file,
            user: user.to_owned(),
            password: Arc::new(Mutex::new(password.to_owned())),
            handed_out: Arc::default(),
        };
        let (user, password) = (server.user.clone(), Arc::clone(&server.password));
        let handed_out = Arc::clone(&server.handed_out);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let password = password.lock().unwrap_or_else(PoisonError::into_inner).clone();
                // One that goes away in the middle asks again.
                if answer(client, &user, &password).is_ok() {
                    handed_out.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Ok(server)
    }

    /// From now on it hands out this password.
    pub fn renew(&self, password: &str) {
        *self.password.lock().unwrap_or_else(PoisonError::into_inner) = password.to_owned();
    }

    /// How often it was asked.
    pub fn handed_out(&self) -> u64 {
        self.handed_out.load(Ordering::SeqCst)
    }

    /// The variables by which S3 clients find it.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        [
            (
                "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                format!("http://{}/keys", self.address),
            ),
            (
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                self.token_file.display().to_string(),
            ),
        ]
    }
}

fn answer(mut client: TcpStream, user: &str, password: &str) -> Result<()> {
    client.set_read_timeout(Some(LIMIT))?;
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let read = client.read(&mut chunk)?;
        ensure!(read > 0 && head.len() < 16 * 1024, "no request");
        head.extend_from_slice(&chunk[..read]);
    }
    let head = String::from_utf8(head)?.to_ascii_lowercase();
    ensure!(
        head.contains(&format!("authorization: {TOKEN}")),
        "somebody else asks"
    );
    let expiration = chrono::Utc::now() + chrono::TimeDelta::from_std(VALID).context("a short time")?;
    let body = serde_json::json!({
        "AccessKeyId": user, "SecretAccessKey": password, "Token": "", "Expiration": expiration.to_rfc3339(),
    })
    .to_string();
    write!(
        client,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    Ok(())
}
