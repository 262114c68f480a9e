//! The documentation is accurate: everything that it names exists.

use std::{
    fs,
    path::{Path, PathBuf},
};

use packgate::core::reason::Reason;

use crate::support::{
    cli::Workspace,
    threats::{ADMITTED, NONE, threats},
};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All Rust code of the project.
fn code(folder: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all += &code(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all += &fs::read_to_string(path).expect("code");
        }
    }
    all
}

fn all_code() -> String {
    ["src", "tests/it", "tests/cluster"]
        .map(|folder| code(&root().join(folder)))
        .concat()
}

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let code = all_code();
    let rows = read("docs/threat-model.md");
    let further = rows
        .lines()
        .filter_map(|line| line.rsplit_once(" | "))
        .flat_map(|(_, cell)| cell.split('`').skip(1).step_by(2));
    let names: Vec<&str> = further
        .chain(threats().into_iter().flat_map(|threat| threat.tests))
        .filter(|name| !name.contains(' '))
        .collect();
    assert!(names.len() > 200, "{} names", names.len());
    for name in names {
        assert!(code.contains(&format!("fn {name}()")), "{name} is no test");
    }
}

/// The fifty rows are complete: the reasons, requests and credentials in each are what its first
/// test measures.
#[test]
fn the_fifty_vectors_are_measured_by_tests() {
    let code = all_code();
    let rows = threats();
    assert_eq!(
        rows.iter().map(|row| row.number).collect::<Vec<_>>(),
        (1..=50).collect::<Vec<_>>()
    );
    for row in rows {
        let what = format!("row {}: {}", row.number, row.vector);
        assert!(!row.vector.is_empty() && !row.answer.is_empty(), "{what}");
        let reasons: Vec<&str> = row
            .reasons
            .iter()
            .copied()
            .filter(|reason| *reason != ADMITTED)
            .collect();
        let known = |reason: &&str| Reason::ALL.iter().any(|known| known.as_str() == *reason);
        assert!(
            reasons.iter().all(known) && !reasons.is_empty(),
            "{what}: {reasons:?}"
        );
        let first = row
            .tests
            .first()
            .unwrap_or_else(|| panic!("{what}: no test"));
        let test = body(&code, first);
        let measures: String = test.chars().filter(|c| !c.is_whitespace()).collect();
        assert_eq!(
            code.matches(&format!("threat({})", row.number)).count()
                + code.matches(&format!(".are({})", row.number)).count(),
            1,
            "{what}"
        );
        let holds = [
            format!("threat({}).reasons(", row.number),
            format!("attempts.are({})", row.number),
        ];
        let found = holds
            .iter()
            .find(|call| measures.contains(*call))
            .unwrap_or_else(|| panic!("{what}: its first test does not measure it"));
        let counts = found.starts_with("attempts") || measures.contains(".requests(");
        assert!(
            counts && (row.number == 49 || !row.requests.is_empty()),
            "{what}: requests"
        );
        assert_eq!(
            row.authorizations != NONE,
            measures.contains(".authorizations("),
            "{what}: {}",
            row.authorizations
        );
        assert_eq!(
            row.authorizations != NONE,
            (40..=42).contains(&row.number),
            "{what}"
        );
        for reason in reasons {
            assert!(
                names(&code, test, reason),
                "{what}: no attempt expects {reason}"
            );
        }
    }
}

/// A function's text.
fn body<'a>(code: &'a str, name: &str) -> &'a str {
    let start = code
        .find(&format!("fn {name}()"))
        .unwrap_or_else(|| panic!("{name} is no test"));
    let end = code[start..].find("\n}\n").expect("its end");
    &code[start..start + end]
}

/// Does a test expect this reason? Where it reads them from a report, another test of its file
/// does.
fn names(code: &str, test: &str, reason: &str) -> bool {
    let said = |text: &str| {
        text.contains(&format!("\"{reason}\"")) || text.contains(&format!("Reason::{reason}"))
    };
    said(test) || (test.contains(".chain([\"Admitted\"])") && said(code))
}

/// Every limit stands in docs/spec/limits.md, with its default and an attack.
#[test]
fn every_limit_is_documented_with_its_default() {
    let page = read("docs/spec/limits.md");
    let known = format!("{:?}", packgate::core::limits::InputLimits::DEFAULT);
    let fields: Vec<_> = known
        .split(['{', ',', '}'])
        .filter_map(|field| field.trim().split_once(": "))
        .collect();
    assert!(fields.len() > 15, "{known}");
    for (name, value) in &fields {
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| `{name}` |")))
            .unwrap_or_else(|| panic!("{name} is not there"));
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        assert!(
            cells[2] == *value || cells[2].ends_with(&format!("({value})")),
            "{name} is {value}: {row}"
        );
        assert!(!cells[4].is_empty(), "{name}: which attack? {row}");
    }
    let (table, _) = page.split_once("\n## ").unwrap_or((&page, ""));
    assert_eq!(
        table.lines().filter(|line| line.starts_with("| `")).count(),
        fields.len()
    );
}

#[test]
fn the_readmes_three_commands_do_what_it_says() {
    let readme = read("README.md");
    let commands: Vec<&str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("    packgate "))
        .collect();
    let workspace = Workspace::new();
    fs::create_dir_all(workspace.file("examples/hello")).expect("folders");
    for name in ["lock.yaml", "hello.sh", "notes.txt"] {
        fs::copy(
            root().join("examples/hello").join(name),
            workspace.file("examples/hello").join(name),
        )
        .expect("a copy");
    }
    assert_eq!(
        commands
            .iter()
            .map(|line| line.split(' ').next().expect("a verb"))
            .collect::<Vec<_>>(),
        ["keys", "pack", "verify", "unpack"]
    );
    for command in commands {
        workspace.run(command).ok();
    }
    assert!(workspace.file("files/opt/hello/hello.sh").exists());
}

#[test]
fn the_help_lists_verbs_that_work_and_no_others() {
    let workspace = Workspace::new();
    let help = workspace.run("--help").ok().to_owned();
    let verbs: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(
        verbs,
        [
            "pack",
            "plan",
            "lock",
            "inspect",
            "unpack",
            "sign",
            "attest",
            "verify",
            "copy",
            "sigstore",
            "keys",
            "policy",
            "controller",
            "webhook",
            "job",
            "crds",
            "rbac",
            "completion",
            "version",
            "help"
        ]
    );
    for verb in verbs
        .iter()
        .filter(|verb| !["version", "help"].contains(verb))
    {
        assert!(
            workspace
                .run(&format!("{verb} --help"))
                .ok()
                .contains("Examples:"),
            "{verb}: no examples"
        );
    }
}

#[test]
fn results_and_errors_are_one_json_document() {
    let workspace = Workspace::with_lock();
    for (line, kind) in [
        ("plan lock.yaml --format Artifact", "Plan"),
        ("version", "Version"),
        ("crds", "List"),
        ("rbac", "List"),
        ("keys generate", "KeyPair"),
        ("inspect lock.yaml", "LockInspection"),
    ] {
        assert_eq!(
            workspace.run(&format!("{line} -o json")).json()["kind"],
            kind,
            "{line}"
        );
    }
    let failed = workspace.run("plan lock.yaml -o json");
    let document: serde_json::Value =
        serde_json::from_str(&failed.refused(2, "NotPredictable").stdout).expect("JSON");
    assert_eq!(
        (document["reason"].as_str(), document["class"].as_str()),
        (Some("NotPredictable"), Some("Invalid"))
    );
}

#[test]
fn completion_scripts_are_written_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(
            Workspace::new()
                .run(&format!("completion {shell}"))
                .ok()
                .contains("packgate"),
            "{shell}"
        );
    }
}
