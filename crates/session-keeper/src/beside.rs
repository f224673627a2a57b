//! What a disk, or the kernel, may take its time for is done on a thread of its own: the loop has one
//! thread, on which everybody is answered.

use tokio::sync::Semaphore;

/// So much is done at a time; the unit lets the keeper have more threads than that.
static AT_ONCE: Semaphore = Semaphore::const_new(8);

/// Does it there, and waits for it.
///
/// # Errors
/// Its own.
pub async fn beside_the_loop<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let _turn = AT_ONCE.acquire().await.map_err(|error| error.to_string())?;
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
}
