//! An HTTP server on loopback that answers as it is told, one request a connection. Stops when dropped.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What is answered to a path.
#[derive(Clone)]
pub struct Answer(Option<(u16, String)>);

impl Answer {
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::text(status, &body.to_string())
    }

    pub fn text(status: u16, body: &str) -> Self {
        Self(Some((status, body.to_owned())))
    }

    /// The connection is closed without an answer.
    pub fn broken() -> Self {
        Self(None)
    }
}

#[derive(Default)]
struct State {
    answers: HashMap<String, Answer>,
    paths: Vec<String>,
    last_head: String,
}

pub struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let state: Arc<Mutex<State>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (state, stop) = (Arc::clone(&state), Arc::clone(&stop));
            move || {
                for connection in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    // A client that goes away in the middle is its own problem.
                    let _ = connection.and_then(|connection| serve(connection, &state));
                }
            }
        });
        Self {
            address,
            state,
            stop,
            thread: Some(thread),
        }
    }

    /// With a path, as registries behind a gateway have one.
    pub fn url(&self) -> String {
        format!("http://{}/apis/v7", self.address)
    }

    pub fn set(&self, path: &str, answer: Answer) {
        self.state.lock().unwrap().answers.insert(path.to_owned(), answer);
    }

    /// The paths that were asked for.
    pub fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().paths.clone()
    }

    pub fn last_head(&self) -> String {
        self.state.lock().unwrap().last_head.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes it up.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server's thread");
        }
    }
}

fn serve(mut connection: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut head = String::new();
    let mut reader = BufReader::new(connection.try_clone()?);
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let asked = head.split(' ').nth(1).unwrap_or_default();
    let path = asked.strip_prefix("/apis/v7").unwrap_or_default().to_owned();
    let answer = {
        let mut state = state.lock().unwrap();
        state.paths.push(path.clone());
        state.last_head = head;
        state.answers.get(&path).cloned()
    };
    match answer {
        Some(Answer(None)) => Ok(()),
        Some(Answer(Some((status, body)))) => answer_with(&mut connection, status, &body),
        // What a registry says about an id that it does not have.
        None => answer_with(
            &mut connection,
            404,
            r#"{"error_code":40403,"message":"Schema not found"}"#,
        ),
    }
}

fn answer_with(connection: &mut TcpStream, status: u16, body: &str) -> std::io::Result<()> {
    write!(
        connection,
        "HTTP/1.1 {status} -\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}
