//! Connections: so many at once, and each has to say something soon. With TLS its handshake is the first of it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::Stream;
use loginlake_service::tls::ServerTls;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Sleep, sleep};
use tokio_rustls::Accept;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use tracing::{info, warn};

const MAX_CONNECTIONS: usize = 256;
/// A client that has said nothing for so long is none.
const FIRST_BYTES_LIMIT: Duration = Duration::from_secs(10);
/// After a failed accept (mostly: no file descriptor left) the next one waits, or the loop would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The connections of a listener, until it is to stop; then the listener is closed.
pub(super) fn connections(
    listener: TcpListener,
    tls: Option<ServerTls>,
    stopping: watch::Receiver<bool>,
) -> impl Stream<Item = io::Result<Connection>> {
    let listening = Listening {
        listener,
        tls,
        permits: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
    };
    futures::stream::unfold((listening, stopping), |(listening, mut stopping)| async move {
        let accepted = tokio::select! {
            // An error: nobody can ask for it any more.
            _ = stopping.wait_for(|stop| *stop) => return None,
            accepted = listening.accept() => accepted?,
        };
        Some((Ok(accepted), (listening, stopping)))
    })
}

struct Listening {
    listener: TcpListener,
    tls: Option<ServerTls>,
    permits: Arc<Semaphore>,
}

impl Listening {
    async fn accept(&self) -> Option<Connection> {
        // None: the semaphore is closed, which never happens.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    // Answers are whole messages: waiting for more to send would only delay them.
                    let _ = stream.set_nodelay(true);
                    return Some(Connection {
                        transport: self.transport(stream),
                        silent: Some(Box::pin(sleep(FIRST_BYTES_LIMIT))),
                        _permit: permit,
                    });
                }
                Err(error) => {
                    warn!(%error, "cannot accept a Flight SQL connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn transport(&self, stream: TcpStream) -> Transport {
        let Some(tls) = &self.tls else {
            return Transport::Plain(stream);
        };
        match tls.renew() {
            Ok(true) => info!("another certificate is served from now on"),
            Ok(false) => {}
            Err(error) => warn!(%error, "the old certificate stays"),
        }
        Transport::Handshake(Box::new(tls.acceptor().accept(stream)))
    }
}

/// A connection, and the right to be one.
pub(super) struct Connection {
    transport: Transport,
    /// Runs until the first bytes have come.
    silent: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
}

enum Transport {
    Plain(TcpStream),
    Handshake(Box<Accept<TcpStream>>),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// The stream, once its handshake is over.
    fn poll_stream(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Pin<&mut (dyn Exchange + Send)>>> {
        if let Self::Handshake(handshake) = self {
            let stream = ready!(Pin::new(handshake.as_mut()).poll(context))?;
            *self = Self::Tls(Box::new(stream));
        }
        Poll::Ready(match self {
            Self::Plain(stream) => Ok(Pin::new(stream)),
            Self::Tls(stream) => Ok(Pin::new(stream.as_mut())),
            Self::Handshake(_) => Err(io::ErrorKind::NotConnected.into()),
        })
    }
}

trait Exchange: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Exchange for S {}

impl Connection {
    /// Fails once the client has been silent for too long.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let Some(silent) = &mut self.silent else {
            return Poll::Pending;
        };
        ready!(silent.as_mut().poll(context));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the client says nothing"))
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let progress = match self.transport.poll_stream(context) {
            Poll::Ready(Ok(stream)) => stream.poll_read(context, buffer),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        };
        if progress.is_ready() {
            self.silent = None;
            return progress;
        }
        self.poll_silence(context).map(Err)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.transport.poll_stream(context))?.poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.transport.poll_stream(context))?.poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
            Transport::Handshake(_) => false,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.transport.poll_stream(context))?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.transport.poll_stream(context))?.poll_shutdown(context)
    }
}
