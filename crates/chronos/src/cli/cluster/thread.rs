//! A thread for connections between nodes, so that no heartbeat waits for a query.

use std::future::Future;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::cli::error::CliError;

/// The thread. It ends when this is dropped, and with it what it runs.
pub(super) struct PeersThread {
    handle: Handle,
    _end: oneshot::Sender<()>,
}

impl PeersThread {
    pub(super) fn start() -> Result<PeersThread, CliError> {
        let failed = |e| CliError::Failed(format!("cannot start the thread for other nodes: {e}"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        std::thread::Builder::new()
            .name("peers".into())
            .spawn(move || {
                // An error says that the other end was dropped, which is the end as well.
                let _ = runtime.block_on(ended);
            })
            .map_err(failed)?;
        Ok(PeersThread { handle, _end: end })
    }

    /// Makes something that binds itself to the thread.
    pub(super) fn bind<T>(&self, make: impl FnOnce() -> T) -> T {
        let _entered = self.handle.enter();
        make()
    }

    /// Runs something there.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, CliError> {
        let ended = self.handle.spawn(task).await;
        ended.map_err(|e| CliError::Failed(format!("the thread for other nodes failed: {e}")))
    }
}
