//! Two controllers at once: one writes, whatever the other believes.

use std::{
    collections::BTreeSet,
    fs::File,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{
    crashes::{JobWatch, Objects, all_ready, start},
    gate::Gate,
    leader::{self, TAKEN_OVER},
};
use crate::support::{
    Test, installation::NAMESPACE, namespace::kubectl, program::Program, wait::wait_for,
};

/// Bundles, and the write before which the first leader is frozen.
const HELD: [(&str, &str); 8] = [
    ("one", "create ConfigMap lock"),
    ("two", "status -"),
    ("three", "create ConfigMap pack"),
    ("four", "create Job pack"),
    ("five", "status Packing"),
    ("six", "create Secret sign"),
    ("seven", "create Job sign"),
    ("eight", "status Succeeded"),
];
/// What the third controller is called.
const OTHER: &str = "other";

/// A controller outside of the Deployment. It ends with this value.
struct Other {
    process: Child,
    health: String,
}

impl Other {
    fn start(test: &Test) -> Self {
        let config = kubectl([
            "--namespace",
            NAMESPACE,
            "get",
            "configmap",
            "packgate-config",
            "-o",
            "jsonpath={.data.config\\.yaml}",
        ])
        .run();
        let config = test.write("config.yaml", config.ok());
        let health = "127.0.0.1:18081".to_owned();
        let process = Command::new(env!("CARGO_BIN_EXE_packgate"))
            .args([
                "controller",
                "--namespace",
                NAMESPACE,
                "--identity",
                OTHER,
                "--image",
                &test.cluster.packgate,
            ])
            .args([
                "--metrics-address",
                "127.0.0.1:0",
                "--health-address",
                &health,
                "--config",
            ])
            .arg(config)
            .stdout(Stdio::null())
            .stderr(File::create(test.file("other.log")).expect("a file"))
            .spawn()
            .expect("the binary");
        let other = Self { process, health };
        wait_for("the third controller", Duration::from_mins(1), || {
            other.is_ready().then_some(())
        });
        other
    }

    fn is_ready(&self) -> bool {
        Program::new("curl")
            .args([
                "-sf",
                "--max-time",
                "2",
                &format!("http://{}/readyz", self.health),
            ])
            .run()
            .code
            == 0
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // In good order, so that it gives the Lease back.
        let _ = Program::new("kill")
            .args(["-TERM", &self.process.id().to_string()])
            .run();
        let deadline = Instant::now() + Duration::from_secs(15);
        while Instant::now() < deadline {
            if matches!(self.process.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_frozen_leader_writes_nothing_when_it_wakes_up() {
    let Some(test) = start("a_frozen_leader_writes_nothing_when_it_wakes_up") else {
        return;
    };
    let (first, standby) = leader::settled();
    let restarts = restarts(&first);
    let gate = Gate::before(&test, HELD);
    let objects = Objects::prepare(&test);
    let jobs = JobWatch::start(&test);
    let other = Other::start(&test);
    test.namespace
        .apply(&Objects::bundles(&test, HELD.map(|(bundle, _)| bundle)));
    wait_for("eight held writes", Duration::from_mins(2), || {
        (gate.held().len() == HELD.len()).then_some(())
    });
    assert_eq!(
        leader::holder(),
        first,
        "the third controller waits while the first renews"
    );
    assert_eq!(
        writers(&gate),
        BTreeSet::from([first.clone()]),
        "only the leader writes"
    );

    let (frozen, second) = (leader::process(&first), leader::process(&standby));
    frozen.signal("STOP");
    second.signal("STOP");
    let begun = Instant::now();
    gate.open();
    wait_for("another leader", TAKEN_OVER, || {
        (leader::holder() == OTHER).then_some(())
    });
    let taken = begun.elapsed();
    println!("the third controller leads after {taken:?}");
    assert!(
        taken > Duration::from_secs(10),
        "a Lease was taken that its holder could still renew"
    );
    all_ready_before_the_kubelet_acts(&test);

    let before = gate.seen().len();
    frozen.signal("CONT");
    second.signal("CONT");
    wait_for(
        "the end of the first leader",
        Duration::from_secs(30),
        || (!frozen.is_there()).then_some(()),
    );
    wait_for("its container's next start", Duration::from_mins(2), || {
        (self::restarts(&first) > restarts).then_some(())
    });
    let after: Vec<_> = gate
        .seen()
        .split_off(before)
        .into_iter()
        .filter(|write| write.who == first)
        .collect();
    assert_eq!(after, [], "the first leader wrote when another led");
    assert_eq!(leader::holder(), OTHER);
    all_ready(&test);
    jobs.saw_each_once(&test);
    objects.digest_of_all(&test);
    drop(other);
    let (third, _) = leader::settled();
    assert_ne!(third, OTHER);
}

/// The kubelet kills a container whose process does not answer for half a minute, so the frozen
/// ones cannot wait for the end of all work.
fn all_ready_before_the_kubelet_acts(test: &Test) {
    let wait = [
        "wait",
        "packedbundle/eight",
        "--for=condition=Ready",
        "--timeout=8s",
    ];
    let run = test.namespace.kubectl(wait).run();
    println!("{}", run.stdout.trim_end());
}

fn writers(gate: &Gate) -> BTreeSet<String> {
    gate.seen()
        .into_iter()
        .filter(|write| write.bundle != "gate")
        .map(|write| write.who)
        .collect()
}

fn restarts(pod: &str) -> u64 {
    let pods = leader::pods();
    let pod = pods
        .iter()
        .find(|found| leader::name(found) == pod)
        .unwrap_or_else(|| panic!("no Pod {pod}"));
    pod["status"]["containerStatuses"][0]["restartCount"]
        .as_u64()
        .unwrap_or_default()
}
