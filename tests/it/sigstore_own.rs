//! Bundles of a test Sigstore with one fault each, through the real binary: those of the shared
//! data, and chains that no authority allows, attached to a packed bundle.

use std::{collections::BTreeMap, fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};
use serde_json::{Value, json};

use crate::support::{
    cli::Workspace,
    data::shared,
    forging::{
        Algorithm, Ca, DAY, ISSUER, Key, Kind, LOGGED, Leaf, Logging, Material, NOON, Recipe,
        STAMPED, Sigstore, Stamp, WORKFLOW, base64,
    },
};

/// Case, and the reason for which it is refused; `-` for one that is accepted.
/// PACKGATE_WRITE_GOLDEN=1 writes it anew.
const EXPECTED: &str = "tests/data/sigstore-own.tsv";
const WINDOW: (i64, i64) = (NOON - 1_000 * DAY, NOON + 3_000 * DAY);

#[test]
fn every_case_of_our_own_ends_as_it_should_and_for_the_reason_that_is_pinned() {
    let Some(data) =
        shared("every_case_of_our_own_ends_as_it_should_and_for_the_reason_that_is_pinned")
    else {
        return;
    };
    let folder = data.join("sigstore-own");
    let wanted = fs::read_to_string(folder.join("expect.tsv")).expect("expect.tsv");
    let workspace = Workspace::new();
    let (mut found, mut wrong) = (BTreeMap::new(), Vec::new());
    for line in wanted.lines().skip(1) {
        let mut columns = line.split('\t');
        let (case, wanted) = (
            columns.next().expect("a case"),
            columns.next().expect("an answer"),
        );
        let reason = run(&workspace, &folder, case);
        if (reason == "-") != (wanted == "accept") {
            wrong.push(format!("{case}: {wanted} is wanted: {reason}"));
        }
        found.insert(case.to_owned(), reason);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let table = found
        .iter()
        .map(|(case, reason)| format!("{case}\t{reason}\n"))
        .collect::<Vec<_>>()
        .concat();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(EXPECTED);
    if std::env::var_os("PACKGATE_WRITE_GOLDEN").is_some() {
        fs::write(&path, &table).expect("written");
    }
    assert_eq!(
        fs::read_to_string(&path).unwrap_or_default(),
        table,
        "the table is now:\n{table}"
    );
    assert!(found.len() >= 78, "{} cases", found.len());
}

/// The reason for which it is refused, or `-`.
fn run(workspace: &Workspace, folder: &Path, case: &str) -> String {
    let path = |name: &str| folder.join(case).join(name);
    let text = |name: &str| {
        fs::read_to_string(path(name))
            .expect(name)
            .trim()
            .to_owned()
    };
    let mut arguments = vec![
        "sigstore".to_owned(),
        "verify-bundle".into(),
        "--bundle".into(),
        path("bundle.sigstore.json").display().to_string(),
    ];
    if path("key.pub").exists() {
        arguments.extend(["--key".into(), path("key.pub").display().to_string()]);
    } else {
        arguments.extend([
            "--certificate-identity".into(),
            text("identity"),
            "--certificate-oidc-issuer".into(),
            text("issuer"),
        ]);
    }
    arguments.extend([
        "--trusted-root".into(),
        path("trusted_root.json").display().to_string(),
        "-o".into(),
        "json".into(),
    ]);
    arguments.push(folder.join("a.txt").display().to_string());
    let run = workspace.packgate(&arguments);
    if run.code == 0 {
        return "-".into();
    }
    assert!([1, 2, 4].contains(&run.code), "{case}: {}", run.stderr);
    let told = if run.stdout.trim().is_empty() {
        &run.stderr
    } else {
        &run.stdout
    };
    let report: Value =
        serde_json::from_str(told).unwrap_or_else(|error| panic!("{case}: {error}: {run:#?}"));
    report["reason"].as_str().expect("a reason").to_owned()
}

/// A packed bundle in `oci:out:v1` with one generated referrer.
fn attach(workspace: &Workspace, make: impl FnOnce(&str) -> Value) {
    let root = workspace.file("out");
    let blob = |digest: &str| root.join("blobs").join(digest.replace(':', "/"));
    let index: Value = serde_json::from_str(&workspace.read("out/index.json")).expect("JSON");
    let mut kept = Vec::new();
    let mut bundle = Some(make);
    for entry in index["manifests"].as_array().expect("a list") {
        let mut manifest: Value = serde_json::from_slice(
            &fs::read(blob(entry["digest"].as_str().expect("a digest"))).expect("there"),
        )
        .expect("JSON");
        let Some(subject) = manifest["subject"]["digest"]
            .as_str()
            .map(ToOwned::to_owned)
        else {
            kept.push(entry.clone());
            continue;
        };
        let Some(make) = bundle.take() else { continue };
        let write = |bytes: &[u8]| {
            let digest = packgate::core::digest::Digest::of_bytes(bytes).to_string();
            fs::write(blob(&digest), bytes).expect("written");
            (digest, bytes.len())
        };
        let (digest, size) = write(
            make(subject.strip_prefix("sha256:").expect("SHA-256"))
                .to_string()
                .as_bytes(),
        );
        (
            manifest["layers"][0]["digest"],
            manifest["layers"][0]["size"],
        ) = (digest.into(), size.into());
        let (digest, size) = write(manifest.to_string().as_bytes());
        let mut entry = entry.clone();
        (entry["digest"], entry["size"]) = (digest.into(), size.into());
        kept.push(entry);
    }
    assert!(bundle.is_none(), "there is a referrer");
    workspace.write(
        "out/index.json",
        json!({"schemaVersion": 2, "manifests": kept}).to_string(),
    );
}

/// A signature as cosign makes it, by a workflow.
fn signature(sigstore: &Sigstore, subject: &str) -> Value {
    let statement = json!({"_type": "https://in-toto.io/Statement/v1", "subject": [
        {"name": "", "digest": {"sha256": subject}},
    ],
        "predicateType": "https://sigstore.dev/cosign/sign/v1", "predicate": {}});
    let mut recipe = Recipe::new(&Key::new(Algorithm::P256), statement.to_string());
    recipe.material = Material::Certificate(Box::new(Leaf::workflow()));
    recipe.logging = Some(Logging::new(Kind::HashedRekord002, LOGGED));
    recipe.stamps = vec![Stamp::at(STAMPED)];
    recipe.bundle(sigstore)
}

fn authority(
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

/// Makes the chain in the bundle `[leaf, below]`, which only older versions have.
fn with_issuer(mut bundle: Value, below: &Ca) -> Value {
    let material = bundle["verificationMaterial"]
        .as_object_mut()
        .expect("an object");
    let leaf = material.remove("certificate").expect("a certificate");
    material.insert(
        "x509CertificateChain".into(),
        json!({"certificates": [leaf, {"rawBytes": base64(&below.der)}]}),
    );
    bundle["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.2".into();
    bundle
}

#[test]
fn a_chain_that_an_issuer_does_not_allow_admits_nothing() {
    type Edit = fn(&mut CertificateParams);
    let workspace = Workspace::with_lock();
    workspace.keys().run("pack lock.yaml --to oci:out:v1").ok();
    workspace.run("sign oci:out:v1 --key packgate.key").ok();
    let verify = format!(
        "verify oci:out:v1 --certificate-identity {WORKFLOW} --certificate-oidc-issuer {ISSUER} \
            --trusted-root root.json"
    );
    let judged = |sigstore: &Sigstore, below: Option<&Ca>| {
        workspace.write("root.json", sigstore.trusted_root().to_string());
        attach(&workspace, |subject| {
            let bundle = signature(sigstore, subject);
            below.map_or_else(
                || bundle.clone(),
                |below| with_issuer(bundle.clone(), below),
            )
        });
        workspace.run(&verify)
    };
    judged(
        &authority(
            |_| (),
            |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)),
        ),
        None,
    )
    .ok();
    let table: &[(Edit, Edit)] = &[
        (
            |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)),
            |_| (),
        ),
        (|p| p.is_ca = IsCa::NoCa, |_| ()),
        (|_| (), |p| p.is_ca = IsCa::NoCa),
        (
            |_| (),
            |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
        ),
        (
            |_| (),
            |p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature],
        ),
    ];
    for (root, intermediate) in table {
        judged(&authority(root, intermediate), None).refused(1, "UntrustedChain");
    }
    // A CA below the trusted one, sent in the bundle: whether the trusted one permits it or not.
    for edit in [(|_| ()) as Edit, |p| {
        p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    }] {
        let mut sigstore = authority(|_| (), edit);
        let trusted = sigstore
            .authority
            .intermediate
            .clone()
            .expect("an intermediate");
        let below = trusted.intermediate("below", WINDOW);
        sigstore.authority.listed = Some(vec![
            trusted.der.clone(),
            sigstore.authority.root.der.clone(),
        ]);
        sigstore.authority.intermediate = Some(below.clone());
        judged(&sigstore, Some(&below)).refused(1, "UntrustedChain");
    }
}
