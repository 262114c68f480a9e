//! Long work of the processor, beside answering requests: verifying evidence, parsing large
//! documents, compiling policies.
//!
//! In a server it runs at a lower priority than the threads that answer. Whoever makes it work
//! takes processor time that is left, and a verdict from the cache does not wait for it.

use std::{
    cell::Cell,
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{process::setpriority_process, thread::gettid};
use tokio::task::{JoinHandle, spawn_blocking};

/// The nice value of its threads: a tenth of the weight of a thread that answers, and not nothing,
/// so that it also goes on while the processors are busy.
const NICE: i32 = 10;

static IS_SERVER: AtomicBool = AtomicBool::new(false);

thread_local! {
    static IS_LOWERED: Cell<bool> = const { Cell::new(false) };
}

/// From now on, work of this process runs at a lower priority. For processes that answer requests.
pub fn lower_priority_of_cpu_work() {
    IS_SERVER.store(true, Ordering::Relaxed);
}

/// Runs work on a thread for blocking work.
pub fn spawn_cpu_work<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    spawn_blocking(move || {
        if IS_SERVER.load(Ordering::Relaxed) {
            lower_thread_priority();
        }
        work()
    })
}

/// Once for each thread. It stays so: a process without privileges cannot raise it again.
fn lower_thread_priority() {
    if IS_LOWERED.replace(true) {
        return;
    }
    // On Linux a thread has its own nice value, by its thread ID (setpriority(2), "C library/kernel
    // differences").
    if let Err(error) = setpriority_process(Some(gettid()), NICE) {
        tracing::debug!(%error, "the priority of a thread could not be lowered");
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn only_the_thread_of_the_work_is_lowered() {
        let before = getpriority_process(Some(gettid())).expect("a priority");
        let other = std::thread::spawn(|| {
            lower_thread_priority();
            lower_thread_priority();
            getpriority_process(Some(gettid())).expect("a priority")
        });
        assert_eq!(other.join().expect("no panic"), NICE.max(before));
        assert_eq!(
            getpriority_process(Some(gettid())).expect("a priority"),
            before
        );
    }

    #[tokio::test]
    async fn work_gives_its_result() {
        assert_eq!(spawn_cpu_work(|| 6 * 7).await.expect("done"), 42);
    }
}
