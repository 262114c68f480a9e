//! What policies of one namespace cost, as the real binary compiles them: lists and expressions are
//! kept once, and too much is refused.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use serde_json::{Value, json};

use crate::support::{
    cli::{Run, Workspace},
    peak_memory::run_with_peak_memory,
};

/// The number of serial numbers on the list in this attack: 555 kB in PEM.
const SERIALS: u32 = 19_500;
/// The memory limit of all of it, in KiB: the file, its objects, and one list as signed.
const MORE: u64 = 12 << 10;

/// Runs `packgate policy check`, and returns its peak memory in KiB.
fn check_measured(workspace: &Workspace, file: &str) -> (Run, u64) {
    run_with_peak_memory(workspace, &["policy", "check", file])
}

/// The certificates of a private CA, and its revocation list with this many serial numbers.
fn company(serials: u32) -> [Value; 2] {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let root =
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a root");
    let revoked = |serial: u32| RevokedCertParams {
        serial_number: SerialNumber::from(u64::from(serial) + 1),
        revocation_time: date_time_ymd(2026, 10, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2026, 10, 2),
        next_update: date_time_ymd(2036, 12, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: (0..serials).map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&root).expect("a list").pem().expect("PEM");
    let map = |name: &str, key: &str, text: String| {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "team-a"},
            "data": {key: text},
        })
    };
    [map("ca", "ca.crt", root.pem()), map("crl", "ca.crl", list)]
}

fn policy(name: &str, authorities: usize) -> Value {
    let one = |n: usize| {
        let (ca, crl) = (
            json!({"kind": "ConfigMap", "name": "ca"}),
            json!({"kind": "ConfigMap", "name": "crl"}),
        );
        json!({
            "name": format!("a{n}"),
            "certificate": {
                "caRef": ca,
                "crlRef": crl,
                "subject": {"exact": format!("spiffe://corp/{n}")},
            },
        })
    };
    let spec = json!({
        "match": {"references": ["r.example.com/**"]},
        "authorities": (0..authorities).map(one).collect::<Vec<_>>(),
    });
    json!({
        "apiVersion": "packgate.dev/v1alpha1",
        "kind": "BundlePolicy",
        "metadata": {"name": name, "namespace": "team-a"},
        "spec": spec,
    })
}

fn write(workspace: &Workspace, file: &str, objects: impl IntoIterator<Item = Value>) {
    let items: Vec<Value> = objects.into_iter().collect();
    workspace.write(
        file,
        json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string(),
    );
}

#[test]
fn one_list_costs_the_same_for_sixty_four_authorities_as_for_one() {
    let workspace = Workspace::new();
    let (small, large) = (company(1), company(SERIALS));
    let length = large[1]["data"]["ca.crl"].as_str().map_or(0, str::len);
    assert!((450_000..750_000).contains(&length), "{length} bytes");
    write(
        &workspace,
        "usual.json",
        small.into_iter().chain([policy("p", 1)]),
    );
    write(
        &workspace,
        "one.json",
        large.clone().into_iter().chain([policy("p", 1)]),
    );
    write(
        &workspace,
        "all.json",
        large
            .into_iter()
            .chain((0..4).map(|n| policy(&format!("p{n}"), 16))),
    );
    let measured = |file: &str| {
        let (run, peak) = check_measured(&workspace, file);
        run.ok();
        peak
    };
    let (usual, one, all) = (
        measured("usual.json"),
        measured("one.json"),
        measured("all.json"),
    );
    println!(
        "{usual} KiB usually, {one} KiB for one authority with a list of {length} bytes, {all} KiB \
            for 64"
    );
    assert!(all < one + 2_048, "{all} KiB, {one} KiB for one");
    assert!(all < usual + MORE, "{all} KiB, {usual} KiB usually");
}

#[test]
fn policies_of_one_namespace_that_are_too_much_are_refused() {
    let workspace = Workspace::new();
    let maps = company(1);
    write(
        &workspace,
        "many.json",
        maps.clone()
            .into_iter()
            .chain((0..65).map(|n| policy(&format!("p{n}"), 1))),
    );
    workspace
        .run("policy check many.json")
        .refused(1, "LimitExceeded");
    write(
        &workspace,
        "authorities.json",
        maps.clone()
            .into_iter()
            .chain((0..17).map(|n| policy(&format!("p{n}"), 16))),
    );
    workspace
        .run("policy check authorities.json")
        .refused(1, "LimitExceeded");
    write(
        &workspace,
        "enough.json",
        maps.into_iter()
            .chain((0..16).map(|n| policy(&format!("p{n}"), 16))),
    );
    workspace.run("policy check enough.json").ok();
}
