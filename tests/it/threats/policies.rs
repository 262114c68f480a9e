//! Threats 27 to 29, 47 and 48: who counts, how often, and under which of several rules.

use serde_json::{Value, json};

use super::{BUILDER, PROVENANCE, Scene, expect, provenance, reasons, requests};
use crate::support::{
    forging::{
        Algorithm, Key, Kind, LOGGED, Leaf, Logging, Material, Recipe, STAMPED, Sigstore, Stamp,
    },
    registry::Settings,
    threats::threat,
};

fn keys(keys: &[(&str, &Key)]) -> Value {
    keys.iter()
        .map(|(name, key)| json!({"name": name, "key": {"pem": key.pem()}}))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_threshold_counts_holders_of_different_keys() {
    let scene = Scene::start().await;
    let second = Key::new(Algorithm::P384);
    scene.sign();
    scene.sign();
    let twice =
        json!({"threshold": 2, "authorities": keys(&[("a", &scene.key), ("b", &scene.key)])});
    let one_key = scene.judge_by(&scene.reference(), &[scene.policy(&twice)], "");
    let two = json!({"threshold": 2, "authorities": keys(&[("a", &scene.key), ("b", &second)])});
    let one_of_two = scene.judge_by(&scene.reference(), &[scene.policy(&two)], "");
    scene.attach(&scene.signed(&second, &scene.signature()));
    let both = scene.judge_by(&scene.reference(), &[scene.policy(&two)], "");
    let outcomes = expect([
        ("one key under two names", one_key, "InvalidSpec"),
        (
            "two signatures by one of two keys",
            one_of_two,
            "ThresholdNotMet",
        ),
        (
            "one log, twice",
            twice_in_one_log().await,
            "InvalidInclusionProof",
        ),
        ("both keys", both, "Admitted"),
    ]);
    threat(27)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}

/// A bundle with the same log's entry twice, once in the name of another log.
async fn twice_in_one_log() -> super::Outcome {
    let (scene, sigstore) = (Scene::start().await, Sigstore::new());
    let mut recipe = Recipe::new(&scene.key, scene.signature().to_string());
    recipe.material = Material::Certificate(Box::new(Leaf::workflow()));
    recipe.logging = Some(Logging::new(Kind::HashedRekord002, LOGGED));
    recipe.stamps = vec![Stamp::at(STAMPED)];
    let mut bundle = recipe.bundle(&sigstore);
    let entries = bundle["verificationMaterial"]["tlogEntries"]
        .as_array_mut()
        .expect("entries");
    let mut copy = entries[0].clone();
    copy["logId"]["keyId"] = crate::support::forging::base64(&sigstore.rekor_v1.id).into();
    entries.push(copy);
    scene.attach(&bundle);
    scene
        .workspace
        .write("root.json", sigstore.trusted_root().to_string());
    let identity = format!(
        "--certificate-identity {} --certificate-oidc-issuer {}",
        crate::support::forging::WORKFLOW,
        crate::support::forging::ISSUER
    );
    scene.run(&format!(
        "verify --plain-http {} --trusted-root root.json {identity}",
        scene.reference()
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_verifies_by_its_own_algorithm_only() {
    let scene = Scene::start().await;
    // Signed by one key, in the name of another of another kind.
    let mut bundle = scene.signed(&Key::new(Algorithm::Ed25519), &scene.signature());
    bundle["verificationMaterial"]["publicKey"]["hint"] =
        crate::support::forging::base64(&scene.key.id()).into();
    scene.attach(&bundle);
    let foreign = scene.judge();
    let small = json!({"authorities": [{"name": "small", "key": {"pem": RSA_1024}}]});
    let odd = scene.key.pem().replace("MFkw", "MIFZ");
    let outcomes = expect([
        (
            "an Ed25519 signature in the name of a P-256 key",
            foreign,
            "InvalidSignature",
        ),
        (
            "an RSA key of 1024 bits",
            scene.judge_by(&scene.reference(), &[scene.policy(&small)], ""),
            "InvalidSpec",
        ),
        (
            "a key in another encoding",
            scene.judge_by(
                &scene.reference(),
                &[scene.policy(&json!({"authorities": [{"name": "odd", "key": {"pem": odd}}]}))],
                "",
            ),
            "InvalidSpec",
        ),
    ]);
    threat(28)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}

/// An RSA public key of 1024 bits.
const RSA_1024: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC6gUuzKJipI6Rrl8sae3yX2exh
rVzvKO8bHlj6lYU5oZE8b7G5vr/gh9+A1UIagB5/VP1/5Zsf5vIiIjzKTBQZ9M6n
07REIcIB0Go1IdAxlYaFqGwU3XVfPLcMQdPCO3jQ9bY1msC7HFPxsNlZqxDXP4Y7
P1GiJpD/NIRTM+22pQIDAQAB
-----END PUBLIC KEY-----
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_builder_counts_by_its_own_signer_and_source_only() {
    let scene = Scene::start().await;
    let tenant = Key::new(Algorithm::P256);
    scene.sign();
    let by = |more: Value| {
        let mut slsa = json!({
            "minimumLevel": 1,
            "builders": [{"id": BUILDER, "authority": "team", "level": 2}],
        });
        slsa.as_object_mut()
            .expect("fields")
            .extend(more.as_object().expect("fields").clone());
        let authorities = keys(&[("team", &scene.key), ("tenant", &tenant)]);
        scene.judge_by(
            &scene.reference(),
            &[scene.policy(&json!({"authorities": authorities, "slsa": slsa}))],
            "",
        )
    };
    scene.provenance(&tenant, BUILDER);
    let tenants = by(json!({}));
    let mut sourced = provenance(BUILDER);
    sourced["buildDefinition"]["buildType"] = "https://packgate.dev/pack/v1".into();
    let lock = json!({
        "name": "lock",
        "uri": "git+https://git.example.com/org/app.git@refs/heads/main",
        "digest": {"sha256": "0".repeat(64)},
    });
    sourced["buildDefinition"]["resolvedDependencies"] = json!([lock]);
    scene.attach(&scene.signed(&scene.key, &scene.statement(PROVENANCE, &sourced)));
    let outcomes = expect([
        (
            "a tenant speaks for the builder",
            tenants,
            "BuilderNotBoundToSigner",
        ),
        (
            "fields of v0.2 in v1",
            fields_of_an_older_version().await,
            "MalformedEvidence",
        ),
        (
            "another builder",
            by(json!({
                "builders": [
                    {"id": "https://ci.example.com/other", "authority": "team", "level": 2},
                ],
            })),
            "BuilderNotTrusted",
        ),
        (
            "a level that nobody vouches for",
            by(json!({"minimumLevel": 3})),
            "LevelTooLow",
        ),
        (
            "another source",
            by(json!({"sources": ["https://git.example.com/org/other"]})),
            "SourceMismatch",
        ),
        (
            "a name that the source's begins with",
            by(json!({"sources": ["https://git.example.com/org/ap"]})),
            "SourceMismatch",
        ),
        (
            "the source, written otherwise",
            by(json!({"sources": ["https://git.example.com/org/app"]})),
            "Admitted",
        ),
    ]);
    threat(29)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}

/// Provenance that names its builder where version 0.2 did.
async fn fields_of_an_older_version() -> super::Outcome {
    let scene = Scene::start().await;
    scene.sign();
    let old = json!({"builder": {"id": BUILDER}, "buildType": "x", "invocation": {}});
    scene.attach(&scene.signed(&scene.key, &scene.statement(PROVENANCE, &old)));
    let slsa = json!({
        "slsa": {"minimumLevel": 1, "builders": [{"id": BUILDER, "authority": "team", "level": 1}]},
    });
    scene.judge_by(&scene.reference(), &[scene.policy(&slsa)], "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_would_cost_too_much_is_refused_before_anybody_is_asked() {
    let scene = Scene::with(Settings::default()).await;
    scene.sign();
    let by = |more: Value| scene.judge_by(&scene.reference(), &[scene.policy(&more)], "");
    let keyless = |regexp: String| {
        let means = json!({
            "trustRootRef": {"name": "corp"},
            "issuer": "https://i.example.com",
            "subject": {"regexp": regexp},
        });
        json!({"authorities": [{"name": "ci", "keyless": means}]})
    };
    let many: Vec<Value> = (0..10_000)
        .map(|n| json!({"name": format!("a{n}"), "key": {"pem": scene.key.pem()}}))
        .collect();
    let outcomes = expect([
        (
            "10,000 authorities",
            by(json!({"authorities": many})),
            "LimitExceeded",
        ),
        (
            "an expression that grows without bound",
            by(keyless("(((a{1000}){1000}){1000}){1000}".into())),
            "InvalidSpec",
        ),
        (
            "an expression of 10,000 characters",
            by(keyless("a|".repeat(5_000))),
            "InvalidSpec",
        ),
        (
            "a reference of wildcards",
            by(json!({"match": {"references": [format!("{}**", "**/".repeat(400))]}})),
            "InvalidSpec",
        ),
        (
            "a program that is asked for a verdict",
            by(json!({
                "attestations": [{"predicateType": "x", "authority": "team", "cel": "1 +"}],
            })),
            "InvalidSpec",
        ),
    ]);
    threat(47)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_policy_that_governs_must_agree() {
    let scene = Scene::start().await;
    scene.sign();
    let mut of_the_namespace =
        scene.policy(&json!({"authorities": keys(&[("other", &Key::new(Algorithm::P256))])}));
    of_the_namespace["kind"] = "BundlePolicy".into();
    of_the_namespace["metadata"] = json!({"name": "stricter", "namespace": "team-a"});
    let documents = [scene.policy(&json!({})), of_the_namespace];
    let inside = scene.judge_by(&scene.reference(), &documents, "--namespace team-a");
    let elsewhere = scene.judge_by(&scene.reference(), &documents, "--namespace team-b");
    let none = scene.policy(&json!({"match": {"references": ["r.example.com/**"]}}));
    let outcomes = expect([
        (
            "the cluster admits, the namespace refuses",
            inside,
            "NoMatchingAuthority",
        ),
        ("another namespace", elsewhere, "Admitted"),
        (
            "no policy governs it",
            scene.judge_by(&scene.reference(), &[none], ""),
            "Ungoverned",
        ),
    ]);
    threat(48)
        .reasons(reasons(&outcomes))
        .requests(requests(&outcomes));
}
