//! Keyless signatures at admission with a chain that no authority of the trust root allows.

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};

use super::*;
use crate::core::{
    oci::ManifestOrIndex,
    verify::testing::{
        candidate,
        sigstore::{
            Algorithm, Ca, DAY, ISSUER, Key, Kind, LOGGED, Leaf, Logging, Material, NOON, Recipe,
            STAMPED, Sigstore, Stamp, WORKFLOW, base64,
        },
    },
};

const WINDOW: (i64, i64) = (NOON - 1_000 * DAY, NOON + 3_000 * DAY);

type Edit = fn(&mut CertificateParams);

/// A Sigstore with these authorities, and a signature of `subject` by a workflow, as cosign stores
/// it.
fn signed(sigstore: &Sigstore, subject: &Digest) -> Value {
    let statement = json!({"_type": "https://in-toto.io/Statement/v1", "subject": [
        {"name": "", "digest": {"sha256": subject.hex_digits()}},
    ],
        "predicateType": "https://sigstore.dev/cosign/sign/v1", "predicate": {}});
    let mut recipe = Recipe::new(&Key::new(Algorithm::P256), statement.to_string());
    recipe.material = Material::Certificate(Box::new(Leaf::workflow()));
    recipe.logging = Some(Logging::new(Kind::Dsse001, LOGGED));
    recipe.stamps = vec![Stamp::at(STAMPED)];
    recipe.bundle(sigstore)
}

fn sigstore(
    root: impl FnOnce(&mut CertificateParams),
    intermediate: impl FnOnce(&mut CertificateParams),
) -> Sigstore {
    let mut sigstore = Sigstore::new();
    sigstore.authority.root = Ca::root_with("authority", WINDOW, root);
    sigstore.authority.intermediate = Some(sigstore.authority.root.intermediate_with(
        "intermediate",
        WINDOW,
        intermediate,
    ));
    sigstore
}

async fn judged(sigstore: &Sigstore, bundle: &Value) -> AdmissionReport {
    let scene = Scene::new().await;
    let candidate = candidate(&scene.unsigned, bundle);
    let ManifestOrIndex::Manifest(manifest) = &candidate.manifest else {
        panic!("{:?}", candidate.manifest)
    };
    let manifest = bytes::Bytes::from(serde_json::to_vec(manifest).expect("JSON"));
    let content = &scene.registry.content;
    for (media_type, bytes) in [
        (media_type::EMPTY, &bytes::Bytes::from_static(b"{}")),
        (media_type::SIGSTORE_BUNDLE_V03, &candidate.content),
        (media_type::MANIFEST, &manifest),
    ] {
        content
            .push_content(
                &Descriptor::of_bytes(media_type, bytes),
                PushContent::Bytes(bytes),
            )
            .await
            .expect("pushed");
    }
    let keyless =
        json!({"trustRootRef": {"name": "corp"}, "issuer": ISSUER, "subject": {"exact": WORKFLOW}});
    let mut rooted = Rooted::new(&scene);
    rooted.snapshot.policies =
        vec![scene.policy(&json!({"authorities": [{"name": "ci", "keyless": keyless}]}))];
    let root = sigstore.trusted_root().to_string();
    rooted.hold(Some((
        &root,
        "2026-11-21T11:00:00Z",
        "2026-11-28T00:00:00Z",
    )));
    let snapshot = rooted
        .snapshot
        .compile_snapshot("packgate-system", scene.clock.now());
    scene
        .checker
        .check_image(
            &ask(&format!("{REPOSITORY}@{}", scene.unsigned)),
            &snapshot,
            Instant::now(),
        )
        .await
        .report
}

fn subject() -> Digest {
    Digest::of_bytes(br#"{"schemaVersion":2,"manifests":[] }"#)
}

#[tokio::test]
async fn a_chain_that_an_issuer_does_not_allow_is_refused() {
    let good = sigstore(
        |_| (),
        |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)),
    );
    let report = judged(&good, &signed(&good, &subject())).await;
    assert_eq!(report.outcome(), ReportOutcome::Admitted, "{report:?}");
    let table: &[(&str, Edit, Edit)] = &[
        (
            "the root allows no intermediate",
            |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)),
            |_| (),
        ),
        (
            "the intermediate is no authority's",
            |_| (),
            |p| p.is_ca = IsCa::NoCa,
        ),
        (
            "the intermediate is for servers",
            |_| (),
            |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
        ),
        (
            "the intermediate may not sign certificates",
            |_| (),
            |p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature],
        ),
        (
            "the root is no authority's",
            |p| p.is_ca = IsCa::NoCa,
            |_| (),
        ),
    ];
    for (what, root, intermediate) in table {
        let forged = sigstore(root, intermediate);
        assert_eq!(
            reasons(&judged(&forged, &signed(&forged, &subject())).await),
            [Reason::UntrustedChain],
            "{what}"
        );
    }
}

#[tokio::test]
async fn an_authority_that_came_with_the_signature_is_none() {
    let mut mine = sigstore(
        |_| (),
        |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)),
    );
    let trusted = mine
        .authority
        .intermediate
        .clone()
        .expect("an intermediate");
    let below = trusted.intermediate("below", WINDOW);
    mine.authority.listed = Some(vec![trusted.der.clone(), mine.authority.root.der.clone()]);
    mine.authority.intermediate = Some(below.clone());
    let mut bundle = signed(&mine, &subject());
    let material = bundle["verificationMaterial"]
        .as_object_mut()
        .expect("an object");
    let leaf = material.remove("certificate").expect("a certificate");
    material.insert(
        "x509CertificateChain".into(),
        json!({"certificates": [leaf, {"rawBytes": base64(&below.der)}]}),
    );
    bundle["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.2".into();
    assert_eq!(
        reasons(&judged(&mine, &bundle).await),
        [Reason::UntrustedChain]
    );
}
