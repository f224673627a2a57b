//! What a disk, or the kernel, may take its time for is done on a thread of its own: the loop has one
//! thread, on which everybody is answered.

use tokio::sync::Semaphore;

/// What may hang. Of each kind so much is done at a time, so that one that hangs leaves the others
/// their threads; the unit lets the keeper have more than all of them.
#[derive(Debug)]
pub struct Side(Semaphore);

/// The user's own files: transcripts, wherever they are.
pub static TRANSCRIPTS: Side = Side(Semaphore::const_new(8));
/// The keeper's own folder.
pub static STATE: Side = Side(Semaphore::const_new(8));
/// Agents' cgroups.
pub static CGROUPS: Side = Side(Semaphore::const_new(8));

impl Side {
    /// Does it there, and waits for it.
    ///
    /// # Errors
    /// Its own.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let _turn = self.0.acquire().await.map_err(|error| error.to_string())?;
        tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
    }
}
