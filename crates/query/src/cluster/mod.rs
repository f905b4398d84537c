//! Queries on several machines, by Apache Ballista (cargo feature `cluster`, ADR 15).
//!
//! - [`address`]: where a scheduler is; known without the feature, too, so that a command line can be judged;
//! - `session`: how a statement is planned for a cluster, with one rule of ours (`windows`);
//! - `client`: the plan to the scheduler (`codec`), its rows back, a job that nobody waits for cancelled (`running`);
//! - `store`: what an executor may read: the tables of its lake, and nothing else;
//! - `scheduler`, `executor`: Ballista's own, with our functions and limits;
//! - `engine`: tasks that stop when they are cancelled; `vcores`: which of them are free;
//! - `fail_point`: where an executor waits for a test to kill it.
//!
//! The client plans as it does alone: it pins the tables, leaves out files by the log, and sends a physical plan that names each file
//! with its partition values. So every process sees the same rows whatever is committed or compacted meanwhile, and nobody but
//! the client reads the log. What does not read files of the lake is computed by the client.
//!
//! *Failure.* An executor that dies ends the jobs that ran, and the client asks again. A scheduler that dies ends its queries with an
//! error. A cluster without an executor refuses queries.

pub mod address;
#[cfg(feature = "cluster")]
pub mod client;
#[cfg(feature = "cluster")]
mod codec;
#[cfg(feature = "cluster")]
mod engine;
#[cfg(feature = "cluster")]
pub mod executor;
#[cfg(feature = "cluster")]
mod fail_point;
#[cfg(feature = "cluster")]
mod running;
#[cfg(feature = "cluster")]
pub mod scheduler;
#[cfg(feature = "cluster")]
pub(crate) mod session;
#[cfg(feature = "cluster")]
mod store;
#[cfg(all(test, feature = "cluster"))]
mod tests;
#[cfg(feature = "cluster")]
mod vcores;
#[cfg(feature = "cluster")]
mod windows;

pub use address::ClusterAddress;

/// Parts that the large operators of a plan are cut into on a cluster, unless the options say another number.
pub const DEFAULT_PARTITIONS: usize = 16;

/// Most bytes of a message between the processes: a plan names every file that it reads, about 300 bytes each.
#[cfg(feature = "cluster")]
const MAX_MESSAGE_BYTES: u32 = 256 << 20;

/// Why a scheduler or an executor cannot run.
#[cfg(feature = "cluster")]
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Somebody else listens there, or the system refuses.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The scheduler does not answer.
    #[error("cannot reach the scheduler at {address}: {detail}")]
    Unreachable {
        /// Its address.
        address: ClusterAddress,
        /// Why.
        detail: String,
    },
    /// The folder for intermediate results cannot be used.
    #[error("cannot use the work directory {directory}: {source}")]
    WorkDirectory {
        /// The folder.
        directory: String,
        /// Why.
        source: std::io::Error,
    },
    /// It ended although nobody asked it to.
    #[error("{0}")]
    Ended(String),
    /// It could not be set up.
    #[error("cannot set it up: {0}")]
    Setup(String),
}
