//! Many processes that sign and attest one bundle concurrently: every referrer exists afterwards,
//! whatever the registry supports.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::pinned;
use crate::support::{
    cli::{Run, Workspace},
    tools::{self, Kind, Server},
};

/// Half of them sign, half of them attest.
const PROCESSES: usize = 50;
const KEY: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/data/keys/p256-pkcs8.pem"
);

/// The referrers in the registry's list, by digest, as any reader finds them.
fn listed(workspace: &Workspace, image: &str) -> BTreeSet<String> {
    let found = workspace
        .run(&format!("inspect --plain-http {image} -o json"))
        .json();
    let digests: Vec<String> = found["referrers"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|referrer| referrer["digest"].as_str().expect("a digest").to_owned())
        .collect();
    let once: BTreeSet<String> = digests.iter().cloned().collect();
    assert_eq!(once.len(), digests.len(), "no referrer is listed twice");
    once
}

/// The referrer that each process reports, and the duration of the slowest.
fn sign_at_once(workspace: &Workspace, image: &str) -> (BTreeSet<String>, Duration) {
    let start = Instant::now();
    let runs = workspace.at_once((0..PROCESSES).map(|n| {
        if n % 2 == 0 {
            format!("sign --plain-http {image} --key {KEY} --force -o json")
        } else {
            format!(
                "attest --plain-http {image} --predicate predicate.json --type \
                https://example.com/{n} --key {KEY} -o json"
            )
        }
    }));
    let took = start.elapsed();
    let told = |run: &Run| {
        let document: Value = run.json();
        document["referrer"]
            .as_str()
            .unwrap_or_else(|| panic!("no referrer: {document}"))
            .to_owned()
    };
    (runs.iter().map(told).collect(), took)
}

fn nothing_is_lost(test: &str, start: impl Fn(&Workspace) -> Server) {
    if !tools::wanted(test) {
        return;
    }
    let workspace = Workspace::with_lock();
    let server = start(&workspace);
    workspace.write("predicate.json", "{}");
    let image = pinned(
        workspace
            .run(&format!(
                "pack lock.yaml --plain-http --to {}/team/many:v1",
                server.host
            ))
            .ok(),
    );
    let (added, took) = sign_at_once(&workspace, &image);
    let found = listed(&workspace, &image);
    let lost: Vec<_> = added.difference(&found).collect();
    println!(
        "{test}: {} of {PROCESSES} are there after {:.1} s",
        found.len(),
        took.as_secs_f32()
    );
    assert!(
        lost.is_empty() && added.len() == PROCESSES,
        "{} of {PROCESSES} lost: {lost:?}",
        lost.len()
    );
    assert_eq!(found, added);
}

#[test]
fn fifty_at_once_lose_nothing_with_the_referrers_api() {
    nothing_is_lost(
        "fifty_at_once_lose_nothing_with_the_referrers_api",
        |workspace| Server::start(Kind::Referrers, workspace),
    );
}

#[test]
fn fifty_at_once_lose_nothing_on_distribution() {
    nothing_is_lost("fifty_at_once_lose_nothing_on_distribution", |workspace| {
        Server::start(Kind::Distribution, workspace)
    });
}

#[test]
fn fifty_at_once_lose_nothing_without_the_referrers_api() {
    nothing_is_lost(
        "fifty_at_once_lose_nothing_without_the_referrers_api",
        |workspace| Server::test_registry(workspace, &["-referrers=false"]),
    );
}
