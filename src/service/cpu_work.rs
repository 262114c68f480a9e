//! Long work of the processor, beside answering requests: verifying evidence, parsing large
//! documents, compiling policies.
//!
//! In a server it runs at a lower priority than the threads that answer, which have the processor
//! first: a verdict from the cache needs none of this work.

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
    spawn_blocking(move || run_work(IS_SERVER.load(Ordering::Relaxed), work))
}

fn run_work<T>(is_server: bool, work: impl FnOnce() -> T) -> T {
    if is_server {
        lower_thread_priority();
    }
    work()
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

    fn priority() -> i32 {
        getpriority_process(Some(gettid())).expect("a priority")
    }

    #[test]
    fn only_a_server_lowers_the_thread_of_the_work() {
        let before = priority();
        for (is_server, expected) in [(false, before), (true, NICE)] {
            let work = move || {
                run_work(is_server, || ());
                run_work(is_server, priority)
            };
            let found = std::thread::spawn(work).join().expect("no panic");
            assert_eq!(found, expected, "server: {is_server}");
        }
        assert_eq!(priority(), before);
    }

    #[tokio::test]
    async fn work_gives_its_result() {
        assert_eq!(spawn_cpu_work(|| 6 * 7).await.expect("done"), 42);
    }
}
