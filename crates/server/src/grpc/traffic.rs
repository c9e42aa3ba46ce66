//! What a connection costs and how far it is: bytes there and back, and the time of a round trip.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{ready, Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that went over connections.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) sent_bytes: AtomicU64,
    pub(super) received_bytes: AtomicU64,
}

/// The time there and back, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct RoundTrip {
    /// 0: unknown.
    micros: AtomicU64,
}

impl RoundTrip {
    /// Takes a measurement. What was measured contains whatever the other side did meanwhile, so
    /// less is believed at once, and more only by and by.
    pub(super) fn note(&self, measured: Duration) {
        let new = u64::try_from(measured.as_micros())
            .unwrap_or(u64::MAX)
            .max(1);
        // Two measurements at once: one is lost.
        let old = self.micros.load(Ordering::Relaxed);
        let micros = match old {
            0 => new,
            _ if new <= old => new,
            _ => old + ((new - old) / 16).max(1),
        };
        self.micros.store(micros, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Option<Duration> {
        match self.micros.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros)),
        }
    }
}

/// A stream whose bytes are counted.
pub(super) struct Metered<S, T> {
    pub(super) stream: S,
    pub(super) traffic: T,
}

impl<S, T> AsyncRead for Metered<S, T>
where
    S: AsyncRead + Unpin,
    T: AsRef<Traffic> + Unpin,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        let read = into.filled().len() - before;
        let counter = &self.traffic.as_ref().received_bytes;
        counter.fetch_add(read as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S, T> Metered<S, T>
where
    T: AsRef<Traffic>,
{
    fn written(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            let counter = &self.traffic.as_ref().sent_bytes;
            counter.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        written
    }
}

impl<S, T> AsyncWrite for Metered<S, T>
where
    S: AsyncWrite + Unpin,
    T: AsRef<Traffic> + Unpin,
{
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.written(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_is_believed_at_once() {
        let way = RoundTrip::default();
        assert_eq!(way.get(), None);
        way.note(Duration::from_millis(3));
        way.note(Duration::from_millis(1));
        assert_eq!(way.get(), Some(Duration::from_millis(1)));
        way.note(Duration::from_millis(17));
        assert_eq!(way.get(), Some(Duration::from_millis(2)));
        for _ in 0..200 {
            way.note(Duration::from_millis(17));
        }
        assert!(way.get() > Some(Duration::from_millis(16)));
    }
}
