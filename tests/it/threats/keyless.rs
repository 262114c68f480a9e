//! Threats 20 to 26: certificates, logs and times. The matrix (`src/core/verify/tests/matrix`) has
//! a fault in every field of them; here each kind of fault is in a registry, and a policy evaluates
//! it.

use serde_json::{Value, json};

use super::{Outcome, Scene, expect, reasons, requests};
use crate::support::{
    forging::{
        Algorithm, DAY, ISSUER, Key, Kind, LOGGED, Leaf, Logging, Material, NOON, Recipe, STAMPED,
        San, Sigstore, Stamp, TIME_STAMPING, Tsa, WORKFLOW, base64, purposes,
    },
    threats::threat,
};

/// id-kp-codeSigning (RFC 5280, section 4.2.1.12).
const CODE_SIGNING: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 3];

/// A bundle before it is stored: signed by a certificate, in Rekor v2 and with a timestamp, or in
/// Rekor v1 with its promise.
struct Case {
    sigstore: Sigstore,
    recipe: Recipe,
}

/// The verification material.
struct Trusted {
    root: Value,
    subject: Value,
}

impl Case {
    fn new(scene: &Scene, kind: Kind) -> Self {
        let mut recipe = Recipe::new(&scene.key, scene.signature().to_string());
        recipe.material = Material::Certificate(Box::new(Leaf::workflow()));
        recipe.logging = Some(Logging::new(kind, LOGGED));
        if !kind.is_v1() {
            recipe.stamps = vec![Stamp::at(STAMPED)];
        }
        Self {
            sigstore: Sigstore::new(),
            recipe,
        }
    }
}

/// Stores a bundle that `make` prepares and `edit` changes, and evaluates it by a policy about the
/// workflow.
async fn attempt(kind: Kind, make: fn(&mut Case), edit: fn(&mut Value, &Case)) -> Outcome {
    let subject = json!({"exact": WORKFLOW});
    attempt_by(kind, make, edit, |case| Trusted {
        root: case.sigstore.trusted_root(),
        subject: subject.clone(),
    })
    .await
}

async fn attempt_by(
    kind: Kind,
    make: fn(&mut Case),
    edit: fn(&mut Value, &Case),
    by: impl FnOnce(&Case) -> Trusted,
) -> Outcome {
    let scene = Scene::start().await;
    let mut case = Case::new(&scene, kind);
    make(&mut case);
    let mut bundle = case.recipe.bundle(&case.sigstore);
    edit(&mut bundle, &case);
    scene.attach(&bundle);
    let trusted = by(&case);
    let keyless =
        json!({"trustRootRef": {"name": "corp"}, "issuer": ISSUER, "subject": trusted.subject});
    let policy = scene.policy(&json!({"authorities": [{"name": "ci", "keyless": keyless}]}));
    scene.judge_by(
        &scene.reference(),
        &[policy, trust_root(), root_map(&trusted.root)],
        "",
    )
}

fn trust_root() -> Value {
    json!({"apiVersion": "packgate.dev/v1alpha1", "kind": "TrustRoot", "metadata": {"name": "corp"},
        "spec": {"trustedRoot": {"configMapRef": {"name": "root"}}}})
}

fn root_map(root: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "root"},
        "data": {"trusted_root.json": root.to_string()},
    })
}

const V1: Kind = Kind::Dsse001;
const V2: Kind = Kind::HashedRekord002;

const fn same(_: &mut Case) {}

const fn keep(_: &mut Value, _: &Case) {}

fn entry(bundle: &mut Value) -> &mut Value {
    &mut bundle["verificationMaterial"]["tlogEntries"][0]
}

/// The checkpoint's first line names another log.
fn elsewhere(envelope: &mut Value) {
    let text = envelope.as_str().expect("text");
    *envelope = format!(
        "elsewhere.example.com\n{}",
        text.split_once('\n').expect("lines").1
    )
    .into();
}

fn later(value: &mut Value) {
    let number: i64 = value.as_str().expect("text").parse().expect("a number");
    *value = (number + 1).to_string().into();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_entry_of_something_else_vouches_for_nothing() {
    let outcomes = expect([
        (
            "an entry about another statement",
            attempt(
                V2,
                |case| case.recipe.seen.payload = Some(b"another".to_vec()),
                keep,
            )
            .await,
            "LogEntryMismatch",
        ),
        (
            "an entry about another signature",
            attempt(
                V2,
                |case| case.recipe.seen.signature = Some(case.recipe.key.sign(b"another")),
                keep,
            )
            .await,
            "LogEntryMismatch",
        ),
        (
            "an entry about another certificate",
            attempt(
                V2,
                |case| case.recipe.seen.key = Some(Key::new(Algorithm::P256)),
                keep,
            )
            .await,
            "LogEntryMismatch",
        ),
    ]);
    threat(20)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promise_or_checkpoint_that_somebody_else_made_holds_nothing() {
    let (promise, proof) = ("InvalidTimestamp", "InvalidInclusionProof");
    let outcomes = expect([
        (
            "a promise by another key",
            attempt(
                V1,
                |case| case.recipe.log().promise_key = Some(Key::new(Algorithm::P256)),
                keep,
            )
            .await,
            promise,
        ),
        (
            "a promised index",
            attempt(V1, same, |bundle, _| later(&mut entry(bundle)["logIndex"])).await,
            promise,
        ),
        (
            "a promised time",
            attempt(V1, same, |bundle, _| {
                later(&mut entry(bundle)["integratedTime"]);
            })
            .await,
            promise,
        ),
        (
            "the name of another log, promised",
            attempt(V1, same, |bundle, _| {
                entry(bundle)["logId"]["keyId"] = base64(&[7; 32]).into();
            })
            .await,
            promise,
        ),
        (
            "the name of another log",
            attempt(V2, same, |bundle, _| {
                entry(bundle)["logId"]["keyId"] = base64(&[7; 32]).into();
            })
            .await,
            proof,
        ),
        (
            "a checkpoint by another key",
            attempt(
                V2,
                |case| case.recipe.log().checkpoint_key = Some(Key::new(Algorithm::Ed25519)),
                keep,
            )
            .await,
            proof,
        ),
        (
            "another origin",
            attempt(V2, same, |bundle, _| {
                elsewhere(&mut entry(bundle)["inclusionProof"]["checkpoint"]["envelope"]);
            })
            .await,
            proof,
        ),
        (
            "another size",
            attempt(V1, same, |bundle, _| {
                later(&mut entry(bundle)["inclusionProof"]["treeSize"]);
            })
            .await,
            proof,
        ),
        (
            "a path of nothing",
            attempt(V2, same, |bundle, _| {
                entry(bundle)["inclusionProof"]["hashes"] = json!([]);
            })
            .await,
            proof,
        ),
    ]);
    threat(21)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_nobody_dates_holds_nothing() {
    let outcomes = expect([
        (
            "Rekor v2 without a timestamp",
            attempt(V2, |case| case.recipe.stamps.clear(), keep).await,
            "NoTrustedTime",
        ),
        (
            "Rekor v1 without a promise",
            attempt(V1, |case| case.recipe.log().promise = false, keep).await,
            "NoTrustedTime",
        ),
        (
            "no entry and no timestamp",
            attempt(
                V2,
                |case| {
                    case.recipe.logging = None;
                    case.recipe.stamps.clear();
                },
                keep,
            )
            .await,
            "InvalidInclusionProof",
        ),
    ]);
    threat(22)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_outside_of_a_window_is_refused() {
    let expired = |case: &mut Case| {
        let over = case
            .sigstore
            .authority
            .root
            .intermediate("intermediate", (NOON - 100 * DAY, NOON - DAY));
        case.sigstore.authority.intermediate = Some(over);
    };
    let outcomes = expect([
        (
            "after the certificate",
            attempt(
                V2,
                |case| case.recipe.stamps = vec![Stamp::at(NOON + 601)],
                keep,
            )
            .await,
            "CertificateExpired",
        ),
        (
            "before the certificate",
            attempt(
                V2,
                |case| case.recipe.stamps = vec![Stamp::at(NOON - 1)],
                keep,
            )
            .await,
            "CertificateExpired",
        ),
        (
            "a timestamp authority that had expired",
            attempt(
                V2,
                |case| {
                    case.sigstore.tsa = Tsa::with(
                        (NOON - 10 * DAY, NOON - DAY),
                        purposes(true, &[TIME_STAMPING]),
                    );
                },
                keep,
            )
            .await,
            "InvalidTimestamp",
        ),
        (
            "a timestamp authority for something else",
            attempt(
                V2,
                |case| {
                    case.sigstore.tsa =
                        Tsa::with((NOON - DAY, NOON + DAY), purposes(true, &[CODE_SIGNING]));
                },
                keep,
            )
            .await,
            "InvalidTimestamp",
        ),
        (
            "an intermediate that had expired",
            attempt(V2, expired, keep).await,
            "CertificateExpired",
        ),
        (
            "a log's key that had ended",
            attempt(
                V2,
                |case| case.sigstore.rekor_v2.valid_for.1 = Some(NOON - DAY),
                keep,
            )
            .await,
            "InvalidInclusionProof",
        ),
    ]);
    threat(23)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_certificates_never_stand_in_for_each_other() {
    let bad = "MalformedEvidence";
    let outcomes = expect([
        (
            "a key in the place of the certificate",
            attempt(V2, same, |bundle, case| {
                bundle["verificationMaterial"]["certificate"]["rawBytes"] =
                    base64(&case.recipe.key.spki()).into();
            })
            .await,
            bad,
        ),
        (
            "a key and a certificate",
            attempt(V2, same, |bundle, _| {
                bundle["verificationMaterial"]["publicKey"] = json!({"hint": ""});
            })
            .await,
            bad,
        ),
        (
            "a key's hint, where a certificate is asked for",
            attempt(V2, |case| case.recipe.material = Material::Key, keep).await,
            "NoMatchingAuthority",
        ),
    ]);
    threat(24)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pattern_for_names_is_a_pattern_for_whole_names() {
    let by = |subject: Value| {
        attempt_by(V2, same, keep, move |case| Trusted {
            root: case.sigstore.trusted_root(),
            subject,
        })
    };
    let outcomes = expect([
        (
            "the middle of the name",
            by(json!({"regexp": "acme"})).await,
            "IdentityMismatch",
        ),
        (
            "its beginning",
            by(json!({"regexp": "https://github\\.com/acme/"})).await,
            "IdentityMismatch",
        ),
        (
            "another branch",
            by(json!({"regexp": ".*@refs/heads/other|x"})).await,
            "IdentityMismatch",
        ),
        (
            "the whole name",
            by(json!({"regexp": "https://github\\.com/acme/.*"})).await,
            "Admitted",
        ),
        (
            "a prefix that ends inside of a segment",
            by(json!({"prefix": "https://github.com/ac"})).await,
            "InvalidSpec",
        ),
        (
            "an empty name",
            by(json!({"exact": ""})).await,
            "InvalidSpec",
        ),
        (
            "an empty expression",
            by(json!({"regexp": ""})).await,
            "InvalidSpec",
        ),
        (
            "an expression for anybody",
            by(json!({"regexp": ".*"})).await,
            "InvalidSpec",
        ),
    ]);
    threat(25)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_of_one_kind_is_no_name_of_another() {
    let other = "IdentityMismatch";
    let names = |names: fn(&mut Case)| attempt(V2, names, keep);
    let outcomes = expect([
        (
            "an email address that reads like the URI",
            names(|case| case.recipe.leaf().names = vec![San::Email(WORKFLOW)]).await,
            other,
        ),
        (
            "another name beside the URI",
            names(|case| case.recipe.leaf().names = vec![San::Other("alice"), San::Uri(WORKFLOW)])
                .await,
            other,
        ),
        (
            "two URIs",
            names(|case| {
                case.recipe.leaf().names =
                    vec![San::Uri(WORKFLOW), San::Uri("https://example.com/other")];
            })
            .await,
            other,
        ),
        (
            "no name",
            names(|case| case.recipe.leaf().names = Vec::new()).await,
            other,
        ),
    ]);
    threat(26)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}

/// Not a row of its own: without a change it is admitted, so each refusal above is caused by its
/// fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_changed_is_admitted() {
    for kind in [V1, V2] {
        let outcome = attempt(kind, same, keep).await;
        assert_eq!(outcome.reason, "Admitted", "{kind:?}: {:#}", outcome.report);
    }
}
