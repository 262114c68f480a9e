//! Long work of the processor, beside answering requests: verifying evidence, parsing large
//! documents, compiling policies.
//!
//! In a server it runs at a lower priority than the threads that answer, never on all cores at once,
//! and each namespace has a budget: a verdict from the cache needs none of this work. The priority
//! alone is not enough, because the kernel shares the processor between containers first: one that
//! has used up its share waits, also with a cheap request.

use std::{
    cell::Cell,
    num::NonZero,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::available_parallelism,
    time::{Duration, Instant},
};

use rustix::{
    process::setpriority_process,
    thread::gettid,
    time::{ClockId, clock_gettime},
};
use tokio::{
    sync::Semaphore,
    task::{JoinError, spawn_blocking},
    time::sleep,
};

use super::cpu_budget::CpuBudget;

/// The nice value of its threads: a tenth of the weight of a thread that answers, and not nothing,
/// so that it also goes on while the processors are busy.
const NICE: i32 = 10;

/// The threads of a server that work at the same time: all cores but one, and at least one.
static SERVER_THREADS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    let cores = available_parallelism().map_or(1, NonZero::get);
    Arc::new(Semaphore::new(cores.saturating_sub(1).max(1)))
});

static BUDGET: LazyLock<CpuBudget> = LazyLock::new(CpuBudget::default);

static IS_SERVER: AtomicBool = AtomicBool::new(false);

thread_local! {
    static IS_LOWERED: Cell<bool> = const { Cell::new(false) };
}

/// From now on, work of this process runs at a lower priority and on fewer threads. For processes
/// that answer requests.
pub fn lower_priority_of_cpu_work() {
    IS_SERVER.store(true, Ordering::Relaxed);
}

/// Runs work on a thread for blocking work, in a server once one is free. Work that has begun ends,
/// even if nobody waits for it any more.
pub async fn run_cpu_work<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    if IS_SERVER.load(Ordering::Relaxed) {
        run_within(&SERVER_THREADS, move || run_work(true, work)).await
    } else {
        spawn_blocking(work).await
    }
}

/// In a server, waits until a namespace has a part of its budget left. To be called before anything
/// is taken that others wait for.
pub async fn wait_for_cpu_budget(namespace: &str) {
    if IS_SERVER.load(Ordering::Relaxed) {
        wait_for_budget(&BUDGET, namespace).await;
    }
}

/// The same as [`run_cpu_work`], at the expense of a namespace.
pub async fn run_namespace_work<T: Send + 'static>(
    namespace: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    let namespace: Arc<str> = namespace.into();
    run_cpu_work(move || {
        let _charged = CpuMeter::start().charge_when_dropped(namespace);
        work()
    })
    .await
}

async fn wait_for_budget(budget: &CpuBudget, namespace: &str) {
    loop {
        match budget.wait_time(namespace, Instant::now()) {
            Duration::ZERO => return,
            wait => sleep(wait).await,
        }
    }
}

/// Measures the CPU time of the current thread.
pub struct CpuMeter(Duration);

/// Charges a namespace when it is dropped, also by a panic.
struct NamespaceCharge(CpuMeter, Arc<str>);

impl CpuMeter {
    /// Starts now.
    pub fn start() -> Self {
        Self(thread_cpu_time())
    }

    /// Charges a namespace with what this thread has used since. For work whose namespace is only
    /// known afterwards.
    pub fn charge(&self, namespace: &str) {
        if IS_SERVER.load(Ordering::Relaxed) {
            let took = thread_cpu_time().saturating_sub(self.0);
            BUDGET.charge(namespace, took, Instant::now());
        }
    }

    const fn charge_when_dropped(self, namespace: Arc<str>) -> NamespaceCharge {
        NamespaceCharge(self, namespace)
    }
}

impl Drop for NamespaceCharge {
    fn drop(&mut self) {
        self.0.charge(&self.1);
    }
}

fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

async fn run_within<T: Send + 'static>(
    threads: &Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    // Never closed; without a permit the work would only be less bounded.
    let thread = Arc::clone(threads).acquire_owned().await.ok();
    spawn_blocking(move || {
        let _thread = thread;
        work()
    })
    .await
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
        assert_eq!(run_cpu_work(|| 6 * 7).await.expect("done"), 42);
    }

    #[tokio::test]
    async fn work_waits_for_the_budget_of_its_namespace() {
        let budget = CpuBudget::default();
        wait_for_budget(&budget, "a").await;
        budget.charge("a", Duration::from_mins(1), Instant::now());
        let mut waiting = Box::pin(wait_for_budget(&budget, "a"));
        assert!(futures::poll!(&mut waiting).is_pending());
        wait_for_budget(&budget, "b").await;
    }

    #[test]
    fn the_time_of_a_thread_is_what_it_computes() {
        let meter = CpuMeter::start();
        std::thread::sleep(Duration::from_millis(20));
        let asleep = thread_cpu_time().saturating_sub(meter.0);
        let mut number = 1_u64;
        while thread_cpu_time().saturating_sub(meter.0) < Duration::from_millis(5) {
            number = std::hint::black_box(number.wrapping_mul(3));
        }
        assert!(asleep < Duration::from_millis(5), "{asleep:?}, {number}");
    }

    #[tokio::test]
    async fn work_waits_for_a_thread_and_for_nobody_who_left() {
        let threads = Arc::new(Semaphore::new(1));
        let (release, released) = std::sync::mpsc::channel::<()>();
        let first = run_within(&threads, move || released.recv());
        let mut first = Box::pin(first);
        assert!(futures::poll!(&mut first).is_pending(), "it has the thread");
        let mut abandoned = Box::pin(run_within(&threads, || panic!("nobody wants this")));
        let mut second = Box::pin(run_within(&threads, || 2));
        assert!(futures::poll!(&mut abandoned).is_pending());
        assert!(futures::poll!(&mut second).is_pending(), "it waits");
        drop(abandoned);
        release.send(()).expect("somebody waits");
        assert_eq!(first.await.expect("done"), Ok(()));
        assert_eq!(second.await.expect("done"), 2);
    }
}
