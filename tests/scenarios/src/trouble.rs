//! What happens to topics and to connections: retention that takes records, topics that are deleted, replies that are lost.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{Offset, TopicPartitionList};

use crate::kafka::{Kafka, READ_LIMIT};
use crate::wait::wait_for;

const REPLY_LIMIT: Duration = Duration::from_secs(30);

impl Kafka {
    /// Removes the records of a partition below an offset, as retention does.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn delete_records(&self, topic: &str, partition: i32, below: i64) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(below))?;
        let options = AdminOptions::new().operation_timeout(Some(READ_LIMIT));
        let deleted = futures::executor::block_on(admin.delete_records(&list, &options))?;
        for element in deleted.elements() {
            element.error()?;
        }
        Ok(())
    }

    /// Deletes a topic, and waits until the broker does not know it any more.
    ///
    /// # Errors
    /// When the broker refuses, or still has it after a minute.
    pub fn delete_topic(&self, topic: &str) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        let options = AdminOptions::new().operation_timeout(Some(READ_LIMIT));
        for result in futures::executor::block_on(admin.delete_topics(&[topic], &options))? {
            result.map_err(|(topic, code)| anyhow::anyhow!("cannot delete topic {topic}: {code}"))?;
        }
        wait_for("the topic to be gone", READ_LIMIT, || {
            Ok((self.partitions(topic)? == 0).then_some(()))
        })
    }
}

/// What a [`Proxy`] did to requests.
#[derive(Debug, Default)]
pub struct Losses {
    /// Requests that were done, and whose replies were thrown away.
    pub replies_lost: AtomicU64,
    /// Requests that were done and answered with 503 all the same.
    pub answered_503: AtomicU64,
    /// Requests that were thrown away.
    pub requests_lost: AtomicU64,
    /// Requests that were not done and answered with an error.
    pub refused: AtomicU64,
    /// Requests that were passed on slowly.
    pub slowed: AtomicU64,
}

/// What a [`Proxy`] does to requests from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Nothing.
    Fair,
    /// A share of what writes a table's log is lost, or its reply, or it is answered with 503 although it was done.
    LosesCommits,
    /// Every request is answered with 503, and none is done.
    Busy,
    /// What writes a checkpoint of a table's log is answered with 403, and is not done.
    NoCheckpoints,
    /// Each request waits, and its body passes at so many bytes a second.
    Slow {
        /// Before a request is passed on.
        latency: Duration,
        /// Of bodies, in both directions.
        bytes_per_second: u32,
    },
}

/// A proxy in front of an HTTP server on loopback, which does to requests what it is told to, by a seed. It ends with the
/// process.
pub struct Proxy {
    address: SocketAddr,
    losses: Arc<Losses>,
    weather: Arc<Mutex<Weather>>,
}

/// The share of commits that something happens to.
const SHARE: f64 = 0.6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    ReplyLost,
    Says503,
    RequestLost,
}

impl Proxy {
    /// Listens on a free port, in front of `server`; the weather is fair.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn before(server: SocketAddr, seed: u64) -> Result<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let losses = Arc::new(Losses::default());
        let counted = Arc::clone(&losses);
        let weather = Arc::new(Mutex::new(Weather::Fair));
        let looked_at = Arc::clone(&weather);
        std::thread::spawn(move || {
            for (number, client) in listener.incoming().enumerate() {
                let Ok(client) = client else { continue };
                let losses = Arc::clone(&counted);
                let random = SmallRng::seed_from_u64(seed.wrapping_add(number as u64));
                let weather = Arc::clone(&looked_at);
                // A client that goes away in the middle is not this proxy's trouble.
                std::thread::spawn(move || pass_on(client, server, random, &losses, &weather));
            }
        });
        Ok(Proxy {
            address,
            losses,
            weather,
        })
    }

    /// From the next request on.
    pub fn set(&self, weather: Weather) {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }

    /// Where clients find it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it did so far.
    pub fn losses(&self) -> &Losses {
        &self.losses
    }
}

impl Weather {
    /// How long so many bytes take.
    fn time_of(self, bytes: usize) -> Duration {
        match self {
            Weather::Slow { bytes_per_second, .. } => {
                Duration::from_secs_f64(bytes as f64 / f64::from(bytes_per_second))
            }
            _ => Duration::ZERO,
        }
    }
}

/// One request of a connection; then both sides close it.
fn pass_on(
    mut client: TcpStream,
    server: SocketAddr,
    mut random: SmallRng,
    losses: &Losses,
    weather: &Mutex<Weather>,
) -> Result<()> {
    client.set_read_timeout(Some(REPLY_LIMIT))?;
    let (head, body_begun) = read_head(&mut client)?;
    let length: usize = header(&head, "content-length").map_or(Ok(0), str::parse)?;
    let mut body = body_begun;
    let missing = length.saturating_sub(body.len());
    let begun = body.len();
    body.resize(begun + missing, 0);
    client.read_exact(&mut body[begun..])?;

    let weather = *weather.lock().unwrap_or_else(PoisonError::into_inner);
    let is_write = head.starts_with("PUT ") || head.starts_with("POST ");
    let names = |part: &str| head.lines().next().is_some_and(|line| line.contains(part));
    let refusal = match weather {
        Weather::Busy => Some("503 Slow Down"),
        Weather::NoCheckpoints if is_write && (names(".checkpoint") || names("_last_checkpoint")) => {
            Some("403 Forbidden")
        }
        _ => None,
    };
    if let Some(status) = refusal {
        losses.refused.fetch_add(1, Ordering::SeqCst);
        return Ok(write!(
            client,
            "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )?);
    }
    if let Weather::Slow { latency, .. } = weather {
        losses.slowed.fetch_add(1, Ordering::SeqCst);
        // This is the latency itself: nothing is waited for.
        std::thread::sleep(latency + weather.time_of(body.len()));
    }
    let is_commit = head.starts_with("PUT ") && names("_delta_log/");
    let fate = match weather == Weather::LosesCommits && is_commit && random.random_bool(SHARE) {
        false => Fate::Answered,
        true => [Fate::ReplyLost, Fate::Says503, Fate::RequestLost][random.random_range(0..3)],
    };
    if fate == Fate::RequestLost {
        losses.requests_lost.fetch_add(1, Ordering::SeqCst);
        return Ok(());
    }
    let mut upstream = TcpStream::connect(server)?;
    upstream.set_read_timeout(Some(REPLY_LIMIT))?;
    // The server keeps its side open: one that closes while it has not read a refused body resets the connection, and its
    // answer is lost for good.
    upstream.write_all(head.as_bytes())?;
    upstream.write_all(&body)?;
    let reply = read_reply(&mut upstream, head.starts_with("HEAD "))?;
    std::thread::sleep(weather.time_of(reply.len()));
    match fate {
        Fate::ReplyLost => {
            losses.replies_lost.fetch_add(1, Ordering::SeqCst);
        }
        Fate::Says503 => {
            client.write_all(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
            losses.answered_503.fetch_add(1, Ordering::SeqCst);
        }
        _ => client.write_all(&reply)?,
    }
    Ok(())
}

/// A reply, marked as the last one of its connection.
fn read_reply(upstream: &mut TcpStream, without_body: bool) -> Result<Vec<u8>> {
    let (head, mut body) = read_head(upstream)?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    let is_empty = without_body || matches!(status, "204" | "304");
    if let Some(length) = header(&head, "content-length").filter(|_| !is_empty) {
        let begun = body.len();
        body.resize(length.parse::<usize>()?.max(begun), 0);
        upstream.read_exact(&mut body[begun..])?;
    } else if !is_empty {
        let mut chunk = [0; 4096];
        while !body.ends_with(b"0\r\n\r\n") {
            let read = upstream.read(&mut chunk)?;
            ensure!(read > 0, "the server closed in the middle of an answer");
            body.extend_from_slice(&chunk[..read]);
        }
    }
    let (status_line, rest) = head.split_once("\r\n").context("a head of lines")?;
    let mut reply = format!("{status_line}\r\nConnection: close\r\n{rest}").into_bytes();
    reply.append(&mut body);
    Ok(reply)
}

/// A head with its empty line, and what came of the body with it.
fn read_head(client: &mut TcpStream) -> Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let body = bytes.split_off(end + 4);
            return Ok((String::from_utf8(bytes)?, body));
        }
        ensure!(bytes.len() < 64 * 1024, "a head without an end");
        let read = client.read(&mut chunk)?;
        ensure!(read > 0, "the other side closed without a word");
        bytes.extend_from_slice(&chunk[..read]);
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n").find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
