//! Conduit's real files: each has the verdict in the table next to them.

use std::fs;

use crate::support::{
    cli::{Run, Workspace},
    data,
};

struct Row {
    file: String,
    kind: String,
    inspect: Option<i32>,
    pack: i32,
    reason: String,
}

fn rows(table: &str) -> Vec<Row> {
    let parse = |line: &str| {
        let cells: Vec<&str> = line.split('\t').collect();
        Row {
            file: cells[0].into(),
            kind: cells[1].into(),
            inspect: cells[2].parse().ok(),
            pack: cells[3].parse().expect("a code"),
            reason: cells[4].into(),
        }
    };
    table
        .lines()
        .skip(1)
        .filter(|line| !line.is_empty())
        .map(parse)
        .collect()
}

#[test]
fn every_real_file_has_its_verdict() {
    let Some(folder) = data::shared("every_real_file_has_its_verdict") else {
        return;
    };
    let folder = folder.join("conduit");
    let table = fs::read_to_string(folder.join("VERDICTS.tsv")).expect("the table");
    let rows = rows(&table);
    assert!(rows.len() >= 14, "{} rows", rows.len());
    for row in rows {
        let workspace = Workspace::new();
        let path = folder.join(&row.file).to_string_lossy().into_owned();
        if row.kind == "Manifest" {
            refuse(
                &workspace.packgate(["lock", &path, "-f", "out.yaml"]),
                row.pack,
                &row.reason,
            );
            assert!(!workspace.file("out.yaml").exists(), "{path}: half-written");
            continue;
        }
        let inspected = workspace.packgate(["inspect", &path]);
        assert_eq!(Some(inspected.code), row.inspect, "{path}: {inspected:?}");
        if inspected.code != 0 {
            refuse(&inspected, 2, "InvalidLock");
        }
        refuse(
            &workspace.packgate(["pack", &path, "--to", "oci:out"]),
            row.pack,
            &row.reason,
        );
        assert!(!workspace.file("out").exists(), "{path}: half-written");
    }
}

fn refuse(run: &Run, code: i32, reason: &str) {
    run.refused(code, reason);
    assert!(
        run.stdout.is_empty() && !run.stderr.contains("panicked"),
        "{run:?}"
    );
}

#[test]
fn a_syntax_error_names_its_line_and_column() {
    let Some(folder) = data::shared("a_syntax_error_names_its_line_and_column") else {
        return;
    };
    let path = folder
        .join("conduit/test_invalid_yaml.lock.yaml")
        .to_string_lossy()
        .into_owned();
    let run = Workspace::new().packgate(["inspect", &path]);
    assert!(
        run.stderr.contains("line ") && run.stderr.contains("column "),
        "{run:?}"
    );
}
#[test]
fn a_lock_of_the_older_generation_packs_where_its_file_is() {
    let Some(folder) = data::shared("a_lock_of_the_older_generation_packs_where_its_file_is")
    else {
        return;
    };
    let workspace = Workspace::new();
    workspace.write(
        "lock.yaml",
        fs::read(folder.join("conduit/test-self-ref.conduit.lock.yaml")).expect("a lock"),
    );
    workspace.write(
        "tests/testfiles/test_source.txt",
        fs::read(folder.join("conduit/test_source.txt")).expect("a file"),
    );
    workspace.run("pack lock.yaml --to oci:out").ok();
    workspace
        .run("unpack oci:out --to files --insecure-skip-verify")
        .ok();
    assert_eq!(
        fs::read(workspace.file("files/output/my-project-v1.0.0-dev.yaml"))
            .expect("unpacked")
            .len(),
        85
    );
}
