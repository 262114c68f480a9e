//! Two objects, a lock and a `PackedBundle` of three lines, give a bundle that is signed, attested,
//! verified and, last of all, tagged.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{
    Test,
    bundle::packed_bundle,
    installation,
    namespace::list_everywhere,
    requests::{Request, RequestLog},
};

const FILES: [(&str, &str); 2] = [
    ("opt/hello/hello.txt", "hello from a bundle\n"),
    ("opt/hello/second.txt", "one more\n"),
];

#[test]
fn three_lines_give_a_signed_bundle() {
    let Some(test) = Test::start("three_lines_give_a_signed_bundle") else {
        return;
    };
    let log = test.requests();
    pack_and_check(&test, &test.cluster.registry, log.as_ref());
}

#[test]
fn three_lines_give_a_signed_bundle_without_the_referrers_api() {
    let Some(test) = Test::start("three_lines_give_a_signed_bundle_without_the_referrers_api")
    else {
        return;
    };
    let Some(registry) = &test.cluster.plain else {
        return println!("not run: the cluster has no registry without the referrers API");
    };
    let log = test.plain_requests();
    pack_and_check(&test, registry, log.as_ref());
}

fn pack_and_check(test: &Test, registry: &str, log: Option<&RequestLog>) {
    let installation = test.installation();
    let lock = test.lock(registry, "hello", &FILES);
    let plan = test
        .packgate(&format!("plan {} -o json", lock.path.display()))
        .json();
    let (digest, lock_digest) = (text(&plan["digest"]), text(&plan["lockDigest"]));
    let repository = test.repository(registry, "hello");

    test.namespace.apply(&lock.config_map("hello-lock"));
    test.namespace
        .apply(&packed_bundle("hello", "hello-lock", &repository).to_string());
    let bundle = test.ready("hello");

    let status = &bundle["status"];
    assert_eq!(
        status["bundle"]["digest"], digest,
        "not what plan predicted: {status:#}"
    );
    assert_eq!(status["lock"]["digest"], lock_digest, "{status:#}");
    assert_eq!(status["lock"]["artifacts"], FILES.len(), "{status:#}");
    assert_eq!(
        status["observedGeneration"], bundle["metadata"]["generation"],
        "{status:#}"
    );
    let tag = format!("lock-{}", &lock_digest["sha256:".len()..][..12]);
    assert_eq!(
        status["bundle"]["reference"],
        format!("{repository}:{tag}@{digest}"),
        "{status:#}"
    );
    for (condition, expected) in [
        ("Ready", "True"),
        ("Verified", "True"),
        ("Stalled", "False"),
        ("Reconciling", "False"),
    ] {
        assert_eq!(
            condition_status(status, condition),
            expected,
            "{condition}: {status:#}"
        );
    }

    installation.vouches_for(test, &format!("{repository}@{digest}"));
    assert_eq!(
        test.tool("crane", &format!("digest --insecure {repository}:{tag}"))
            .ok(),
        digest,
        "the tag"
    );
    let puts = log
        .map(|log| log.done(&repository, "PUT"))
        .unwrap_or_default();
    assert!(
        puts.iter().all(|request| !request.authorization),
        "credentials that nobody was given"
    );
    for referrer in tag_is_last(&puts, &tag, digest) {
        let manifest = test
            .tool(
                "crane",
                &format!("manifest --insecure {repository}@{referrer}"),
            )
            .json();
        assert_eq!(manifest["subject"]["digest"], digest, "{manifest:#}");
    }
    the_pack_pod_holds_no_token(test);
    sign_pods_are_the_platforms(text(&bundle["metadata"]["uid"]));
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// A condition that is absent is `False`: kstatus leaves out what does not hold.
fn condition_status<'a>(status: &'a Value, condition: &str) -> &'a str {
    let conditions = status["conditions"].as_array().expect("conditions");
    conditions
        .iter()
        .find(|found| found["type"] == condition)
        .map_or("False", |found| text(&found["status"]))
}

/// The manifests that were put, in order: the bundle by its digest, its referrers by theirs, the
/// tag after all of them. The digests of the referrers are returned; none, if there is no log.
fn tag_is_last<'a>(puts: &'a [Request], tag: &str, digest: &str) -> BTreeSet<&'a str> {
    let put: Vec<&str> = puts
        .iter()
        .filter_map(|request| request.path.split_once("/manifests/"))
        .map(|(_, reference)| reference)
        .collect();
    if put.is_empty() {
        return BTreeSet::new();
    }
    assert_eq!(
        put.first(),
        Some(&digest),
        "the bundle itself comes first: {put:?}"
    );
    assert_eq!(
        put.iter().position(|reference| *reference == tag),
        Some(put.len() - 1),
        "the tag comes last, once: {put:?}"
    );
    let referrers: BTreeSet<&str> = put
        .into_iter()
        .filter(|reference| reference.starts_with("sha256:") && *reference != digest)
        .collect();
    assert_eq!(
        referrers.len(),
        2,
        "a signature and a provenance: {referrers:?}"
    );
    referrers
}

/// The tenant's step can neither speak to the API server nor sign.
fn the_pack_pod_holds_no_token(test: &Test) {
    let pods = test
        .namespace
        .list("pods", "app.kubernetes.io/component=pack");
    assert!(!pods.is_empty(), "there is no pack Pod");
    for pod in &pods {
        let spec = &pod["spec"];
        assert_eq!(spec["automountServiceAccountToken"], false, "{spec:#}");
        for volume in spec["volumes"].as_array().into_iter().flatten() {
            assert!(
                volume.get("secret").is_none() && volume.get("projected").is_none(),
                "the spec names no Secret, so none is mounted: {volume}"
            );
        }
        let rendered = spec.to_string();
        assert!(!rendered.contains("serviceaccount"), "{spec:#}");
        assert!(!rendered.contains(installation::PLATFORM_KEY), "{spec:#}");
    }
    assert!(
        test.namespace
            .list("pods", "app.kubernetes.io/component=sign")
            .is_empty(),
        "a sign Pod in the tenant's namespace"
    );
}

fn sign_pods_are_the_platforms(uid: &str) {
    let pods = list_everywhere(
        "pods",
        &format!("app.kubernetes.io/component=sign,packgate.dev/bundle-uid={uid}"),
    );
    assert!(!pods.is_empty(), "there is no sign Pod");
    for pod in pods {
        assert_eq!(pod["metadata"]["namespace"], installation::NAMESPACE);
        assert_eq!(pod["spec"]["serviceAccountName"], "packgate-signer");
        assert_eq!(pod["spec"]["automountServiceAccountToken"], false);
    }
}
