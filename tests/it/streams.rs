//! Standard streams that cannot be written: a full disk, a pipe without a reader. Nothing else
//! about a run changes.

use std::{
    fs::{File, OpenOptions},
    io::pipe,
    process::Stdio,
    time::Duration,
};

use crate::support::{
    cli::{BINARY, Run, Workspace},
    registry::{Fault, Registry},
};

/// Standard streams that accept nothing.
fn useless() -> [(&'static str, Stdio); 2] {
    let full: File = OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .expect("/dev/full");
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    [
        ("a full disk", full.into()),
        ("a closed pipe", writer.into()),
    ]
}

fn run_telling(workspace: &Workspace, line: &str, stderr: Stdio) -> Run {
    let mut command = workspace.command(BINARY);
    command
        .args(line.split_whitespace())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr);
    Run::from(
        command
            .spawn()
            .expect("the binary runs")
            .wait_with_output()
            .expect("it ends"),
    )
}

fn without_stderr(workspace: &Workspace, line: &str) -> [(&'static str, Run); 2] {
    useless().map(|(what, stream)| (what, run_telling(workspace, line, stream)))
}

#[test]
fn an_error_that_cannot_be_told_keeps_its_exit_code() {
    let workspace = Workspace::with_lock();
    workspace.keys().run("pack lock.yaml --to oci:out:v1").ok();
    for (line, code) in [
        ("verify oci:out:v1 --key packgate.pub", 1),
        ("pack none.yaml --to oci:other", 3),
        ("inspect oci:out:v2", 3),
        (
            "controller --image r.example.com/x --identity one --config none",
            3,
        ),
        ("webhook --identity one --config none", 3),
        ("job pack --inputs none --work none --report report", 3),
        ("no-such-verb", 2),
    ] {
        let told = workspace.run(line);
        assert_eq!(told.code, code, "{line}: {told:#?}");
        for (what, run) in without_stderr(&workspace, line) {
            assert_eq!(
                (run.code, &run.stdout),
                (told.code, &told.stdout),
                "{line}: stderr is {what}"
            );
        }
    }
    assert!(
        workspace.read("report").contains("SourceNotFound"),
        "the report is written all the same"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_that_cannot_be_told_does_not_stop_the_work() {
    let server = Registry::start().await;
    // Slow enough for progress to be reported.
    server.fault(
        Fault::on("GET", "/files/rules.txt")
            .status(200)
            .body("rules")
            .delay(Duration::from_millis(1_200)),
    );
    let workspace = Workspace::new();
    workspace.write(
        "manifest.yaml",
        format!(
            "apiVersion: packgate.dev/v1alpha1\nkind: LockManifest\nname: test\nartifacts:\n- \
                {{name: rules, origin: 'http://{}/files/rules.txt', target: opt/rules.txt}}\n",
            server.host()
        ),
    );
    workspace.run("lock manifest.yaml").ok();
    let told = workspace.run("pack test.lock.yaml --to oci:told:v1");
    assert!(
        told.stderr.contains("5 B"),
        "progress is told here: {told:#?}"
    );
    for (what, stderr) in useless() {
        let run = run_telling(&workspace, "pack test.lock.yaml --to oci:out:v1", stderr);
        let tagged = workspace.run("inspect oci:out:v1 -o json").json();
        assert!(
            run.ok()
                .ends_with(tagged["digest"].as_str().expect("a digest")),
            "stderr is {what}: {run:#?}"
        );
        std::fs::remove_dir_all(workspace.file("out")).expect("removed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_written_does_not_stop_the_work() {
    let registry = Registry::start().await;
    let workspace = Workspace::with_lock();
    workspace
        .run(&format!(
            "pack lock.yaml --plain-http --to {}/team/app:v1",
            registry.host()
        ))
        .ok();
    // An invalid entry is logged, and is not an error.
    registry.fault(
        Fault::on("GET", "/referrers/")
            .status(200)
            .body(r#"{"schemaVersion":2,"manifests":[7]}"#),
    );
    let line = format!("inspect {}/team/app:v1 --plain-http -vv", registry.host());
    let told = workspace.run(&line);
    assert!(
        told.stderr.contains("DEBUG"),
        "something is logged here: {told:#?}"
    );
    for (what, run) in without_stderr(&workspace, &line) {
        assert_eq!(
            (run.code, &run.stdout),
            (0, &told.stdout),
            "stderr is {what}"
        );
    }
}

#[test]
fn a_result_that_cannot_be_written_is_no_panic() {
    let workspace = Workspace::with_lock();
    for line in [
        "pack lock.yaml --to oci:out:v1",
        "completion bash",
        "version",
        "--help",
        "pack none.yaml --to oci:other -o json",
    ] {
        for (what, stream) in useless() {
            let mut command = workspace.command(BINARY);
            command
                .args(line.split_whitespace())
                .stdin(Stdio::null())
                .stdout(stream)
                .stderr(Stdio::piped());
            let run = Run::from(
                command
                    .spawn()
                    .expect("the binary runs")
                    .wait_with_output()
                    .expect("it ends"),
            );
            assert!(
                [0, 2, 3].contains(&run.code) && !run.stderr.contains("panicked"),
                "{line}: stdout is {what}: {run:#?}"
            );
        }
    }
    workspace.run("inspect oci:out:v1").ok();
}
