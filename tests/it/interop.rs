//! Interoperability with other tools, in both directions: on a registry with the referrers API and
//! on one without.

mod keyless;
mod many;
mod oci_client;
mod sbom;
mod sigstore;

use std::fs;

use crate::support::{
    cli::{HELLO, NOTES, Workspace},
    tools::{self, KINDS, Kind, Server},
};

pub(crate) fn pinned(reference: &str) -> String {
    let (name, digest) = reference.split_once('@').expect("a digest");
    let (repository, _) = name.rsplit_once(':').expect("a tag");
    format!("{repository}@{digest}")
}

fn each(test: &str, check: impl Fn(Kind, &Workspace, &Server)) {
    if !tools::wanted(test) {
        return;
    }
    for kind in KINDS {
        let workspace = Workspace::with_lock();
        let server = Server::start(kind, &workspace);
        println!("{test} on {kind:?}");
        check(kind, &workspace, &server);
    }
}

pub(crate) fn pack(workspace: &Workspace, server: &Server, format: &str, options: &str) -> String {
    let line = format!(
        "pack lock.yaml --plain-http --to {}/team/{} --format {format} {options}",
        server.host,
        format.to_lowercase() + ":v1"
    );
    workspace.run(&line).ok().to_owned()
}

const EXPECTED: [(&str, &str, bool); 2] = [
    ("opt/hello/hello.sh", HELLO, true),
    ("opt/hello/notes.txt", NOTES, false),
];

fn expect_files(folder: &std::path::Path, with_lock: bool, with_modes: bool) {
    let files = tools::tree(folder);
    for (path, content, executable) in EXPECTED {
        let found = files
            .iter()
            .find(|(name, ..)| name == path)
            .unwrap_or_else(|| panic!("{path} is missing: {files:?}"));
        assert_eq!(found.1, content.as_bytes(), "{path}");
        assert!(!with_modes || found.2 == executable, "{path}: mode");
    }
    assert_eq!(
        files.len(),
        EXPECTED.len() + usize::from(with_lock),
        "{:?}",
        files.iter().map(|f| &f.0).collect::<Vec<_>>()
    );
}

#[test]
fn cosign_accepts_our_signatures_and_attestations() {
    each(
        "cosign_accepts_our_signatures_and_attestations",
        |_, workspace, server| {
            workspace.keys();
            for format in ["Image", "Artifact"] {
                let image = pinned(&pack(workspace, server, format, "--key packgate.key"));
                let verified = workspace.tool(
                    "cosign",
                    [
                        "verify",
                        "--key",
                        "packgate.pub",
                        "--insecure-ignore-tlog",
                        &image,
                    ],
                );
                assert!(
                    verified
                        .ok()
                        .contains("https://sigstore.dev/cosign/sign/v1"),
                    "{verified:?}"
                );
                let attested = workspace.tool(
                    "cosign",
                    [
                        "verify-attestation",
                        "--key",
                        "packgate.pub",
                        "--insecure-ignore-tlog",
                        "--type",
                        "slsaprovenance1",
                        &image,
                    ],
                );
                assert!(attested.ok().contains("payload"), "{attested:?}");
            }
        },
    );
}

#[test]
fn cosign_refuses_what_another_key_signed() {
    each(
        "cosign_refuses_what_another_key_signed",
        |_, workspace, server| {
            workspace.keys();
            workspace.run("keys generate --out-dir other").ok();
            let image = pinned(&pack(
                workspace,
                server,
                "Image",
                "--key other/packgate.key",
            ));
            let refused = workspace.tool(
                "cosign",
                [
                    "verify",
                    "--key",
                    "packgate.pub",
                    "--insecure-ignore-tlog",
                    &image,
                ],
            );
            assert_ne!(refused.code, 0, "{refused:?}");
            workspace
                .run(&format!("verify --plain-http {image} --key packgate.pub"))
                .refused(1, "NoMatchingAuthority");
        },
    );
}

#[test]
fn what_cosign_signs_and_attests_is_accepted() {
    each(
        "what_cosign_signs_and_attests_is_accepted",
        |_, workspace, server| {
            workspace.tool("cosign", ["generate-key-pair"]).ok();
            workspace
                .tool("cosign", ["signing-config", "create", "--out", "sc.json"])
                .ok();
            workspace
                .tool("cosign", ["trusted-root", "create", "--out", "tr.json"])
                .ok();
            let image = pinned(&pack(workspace, server, "Image", ""));
            workspace
                .run(&format!("verify --plain-http {image} --key cosign.pub"))
                .refused(1, "NoSignatures");

            let offline = [
                "--key",
                "cosign.key",
                "--signing-config",
                "sc.json",
                "--trusted-root",
                "tr.json",
                "-y",
            ];
            workspace
                .tool(
                    "cosign",
                    std::iter::once(&"sign")
                        .chain(&offline)
                        .chain(&[image.as_str()]),
                )
                .ok();
            workspace
                .run(&format!("verify --plain-http {image} --key cosign.pub"))
                .ok();
            workspace
                .run(&format!(
                    "verify --plain-http {image} --key cosign.pub --builder-id \
                https://ci.example.com/b"
                ))
                .refused(1, "NoProvenance");

            workspace.write("slsa.json", r#"{"buildDefinition":{"buildType":"https://ci.example.com/t","externalParameters":{},"resolvedDependencies":[]},"runDetails":{"builder":{"id":"https://ci.example.com/b"}}}"#);
            let attest = [
                "--type",
                "slsaprovenance1",
                "--predicate",
                "slsa.json",
                image.as_str(),
            ];
            workspace
                .tool(
                    "cosign",
                    std::iter::once(&"attest").chain(&offline).chain(&attest),
                )
                .ok();
            workspace
                .run(&format!(
                    "verify --plain-http {image} --key cosign.pub --builder-id \
                https://ci.example.com/b"
                ))
                .ok();
            workspace
                .run(&format!(
                    "verify --plain-http {image} --key cosign.pub --builder-id \
                https://ci.example.com/x"
                ))
                .refused(1, "BuilderNotTrusted");
        },
    );
}

#[test]
fn cosign_signs_with_our_keys_and_we_with_its() {
    each(
        "cosign_signs_with_our_keys_and_we_with_its",
        |_, workspace, server| {
            workspace.keys().tool("cosign", ["generate-key-pair"]).ok();
            workspace
                .tool("cosign", ["signing-config", "create", "--out", "sc.json"])
                .ok();
            workspace
                .tool("cosign", ["trusted-root", "create", "--out", "tr.json"])
                .ok();
            let image = pinned(&pack(workspace, server, "Image", "--key cosign.key"));
            workspace
                .tool(
                    "cosign",
                    [
                        "verify",
                        "--key",
                        "cosign.pub",
                        "--insecure-ignore-tlog",
                        &image,
                    ],
                )
                .ok();
            workspace
                .tool(
                    "cosign",
                    [
                        "sign",
                        "--key",
                        "packgate.key",
                        "--signing-config",
                        "sc.json",
                        "--trusted-root",
                        "tr.json",
                        "-y",
                        &image,
                    ],
                )
                .ok();
            workspace
                .run(&format!("verify --plain-http {image} --key packgate.pub"))
                .ok();
            assert_eq!(
                workspace.run("keys public cosign.key").ok(),
                workspace.read("cosign.pub").trim_end()
            );
        },
    );
}

/// cosign 2 supports nothing else by default; cosign 3 still makes it on request.
#[test]
fn cosigns_older_form_is_accepted_both_ways() {
    each(
        "cosigns_older_form_is_accepted_both_ways",
        |_, workspace, server| {
            workspace.keys().tool("cosign", ["generate-key-pair"]).ok();
            workspace.write("slsa.json", r#"{"buildDefinition":{"buildType":"https://ci.example.com/t","externalParameters":{},"resolvedDependencies":[]},"runDetails":{"builder":{"id":"https://ci.example.com/b"}}}"#);
            let older: [(&str, &[&str]); 2] = [
                ("cosign-2", &[]),
                (
                    "cosign",
                    &["--new-bundle-format=false", "--use-signing-config=false"],
                ),
            ];
            for (at, (cosign, options)) in older.into_iter().enumerate() {
                let reference = format!("{}/team/older{at}:v1", server.host);
                let image = pinned(
                    workspace
                        .run(&format!("pack lock.yaml --plain-http --to {reference}"))
                        .ok(),
                );
                let theirs = [
                    &["--key", "cosign.key", "--tlog-upload=false", "-y"],
                    options,
                ]
                .concat();
                workspace
                    .tool(cosign, [&["sign"], &theirs[..], &[image.as_str()]].concat())
                    .ok();
                workspace
                    .run(&format!("verify --plain-http {image} --key cosign.pub"))
                    .refused(1, "NoSignatures");
                workspace
                    .run(&format!(
                        "verify --plain-http {image} --key cosign.pub --signature-format Legacy"
                    ))
                    .ok();
                let attest = [
                    "--type",
                    "slsaprovenance1",
                    "--predicate",
                    "slsa.json",
                    image.as_str(),
                ];
                workspace
                    .tool(cosign, [&["attest"], &theirs[..], &attest].concat())
                    .ok();
                let verify = format!(
                    "verify --plain-http {image} --key cosign.pub --signature-format Legacy \
                        --builder-id https://ci.example.com"
                );
                workspace.run(&format!("{verify}/b")).ok();
                workspace
                    .run(&format!("{verify}/x"))
                    .refused(1, "BuilderNotTrusted");
            }
            let image = pinned(
                workspace
                    .run(&format!(
                        "pack lock.yaml --plain-http --to {}/team/ours:v1",
                        server.host
                    ))
                    .ok(),
            );
            workspace
                .run(&format!(
                    "sign --plain-http {image} --key packgate.key --signature-format Legacy"
                ))
                .ok();
            let attest = format!(
                "attest --plain-http {image} --key packgate.key --type slsaprovenance1 --predicate \
                    slsa.json --signature-format Legacy"
            );
            workspace.run(&attest).ok();
            workspace.run("keys generate --out-dir other").ok();
            for (cosign, options) in [
                ("cosign-2", &[][..]),
                ("cosign", &["--new-bundle-format=false"]),
            ] {
                let by = |key: &'static str| {
                    [&["--key", key, "--insecure-ignore-tlog"], options].concat()
                };
                let attestation = ["--type", "slsaprovenance1", image.as_str()];
                workspace
                    .tool(
                        cosign,
                        [&["verify"], &by("packgate.pub")[..], &[image.as_str()]].concat(),
                    )
                    .ok();
                workspace
                    .tool(
                        cosign,
                        [
                            &["verify-attestation"],
                            &by("packgate.pub")[..],
                            &attestation,
                        ]
                        .concat(),
                    )
                    .ok();
                assert_ne!(
                    workspace
                        .tool(
                            cosign,
                            [
                                &["verify"],
                                &by("other/packgate.pub")[..],
                                &[image.as_str()]
                            ]
                            .concat()
                        )
                        .code,
                    0
                );
                assert_ne!(
                    workspace
                        .tool(
                            cosign,
                            [
                                &["verify-attestation"],
                                &by("other/packgate.pub")[..],
                                &attestation
                            ]
                            .concat()
                        )
                        .code,
                    0
                );
            }
        },
    );
}

#[test]
fn oras_pulls_the_files_of_an_artifact() {
    each(
        "oras_pulls_the_files_of_an_artifact",
        |_, workspace, server| {
            pack(workspace, server, "Artifact", "");
            workspace
                .tool(
                    "oras",
                    [
                        "pull",
                        "--plain-http",
                        "-o",
                        "pulled",
                        &format!("{}/team/artifact:v1", server.host),
                    ],
                )
                .ok();
            expect_files(&workspace.file("pulled"), false, false);
        },
    );
}

#[test]
fn oras_crane_and_umoci_accept_an_image() {
    each(
        "oras_crane_and_umoci_accept_an_image",
        |_, workspace, server| {
            pack(workspace, server, "Image", "");
            let image = format!("{}/team/image:v1", server.host);
            workspace
                .tool("crane", ["validate", "--fast", "--remote", &image])
                .ok();
            workspace
                .tool("crane", ["export", &image, "exported.tar"])
                .ok();
            fs::create_dir(workspace.file("exported")).expect("a folder");
            workspace
                .tool("tar", ["-xpf", "exported.tar", "-C", "exported"])
                .ok();
            expect_files(&workspace.file("exported"), true, true);

            workspace
                .tool(
                    "oras",
                    [
                        "copy",
                        "--from-plain-http",
                        "--to-oci-layout",
                        &image,
                        "copied:v1",
                    ],
                )
                .ok();
            workspace
                .tool(
                    "umoci",
                    ["unpack", "--rootless", "--image", "copied:v1", "unpacked"],
                )
                .ok();
            expect_files(&workspace.file("unpacked/rootfs"), true, true);
            workspace
                .run("unpack oci:copied:v1 --to ours --insecure-skip-verify")
                .ok();
            expect_files(&workspace.file("ours"), false, true);
        },
    );
}

#[test]
fn oras_copies_our_layouts_with_their_signatures() {
    each(
        "oras_copies_our_layouts_with_their_signatures",
        |_, workspace, server| {
            workspace.keys();
            workspace
                .run("pack lock.yaml --to oci:out:v1 --key packgate.key")
                .ok();
            workspace
                .tool(
                    "umoci",
                    ["unpack", "--rootless", "--image", "out:v1", "unpacked"],
                )
                .ok();
            expect_files(&workspace.file("unpacked/rootfs"), true, true);
            let image = format!("{}/team/copied:v1", server.host);
            workspace
                .tool(
                    "oras",
                    [
                        "copy",
                        "-r",
                        "--from-oci-layout",
                        "out:v1",
                        "--to-plain-http",
                        &image,
                    ],
                )
                .ok();
            workspace
                .run(&format!(
                    "verify --plain-http {image} --key packgate.pub --builder-id \
                https://packgate.dev/builder/cli"
                ))
                .ok();
        },
    );
}

#[test]
fn copies_carry_every_referrer_both_ways() {
    each(
        "copies_carry_every_referrer_both_ways",
        |_, workspace, server| {
            workspace.keys();
            let image = pack(workspace, server, "Image", "--key packgate.key");
            workspace
                .run(&format!(
                    "copy --plain-http {image} oci-archive:bundle.tar:v1"
                ))
                .ok();
            let again = format!("{}/mirror/image:v1", server.host);
            workspace
                .run(&format!(
                    "copy --plain-http oci-archive:bundle.tar:v1 {again}"
                ))
                .ok();
            workspace
                .run(&format!(
                    "verify --plain-http {again} --key packgate.pub --builder-id \
                https://packgate.dev/builder/cli"
                ))
                .ok();
            let digest = image.split_once('@').expect("a digest").1;
            workspace
                .tool(
                    "cosign",
                    [
                        "verify",
                        "--key",
                        "packgate.pub",
                        "--insecure-ignore-tlog",
                        &format!("{}/mirror/image@{digest}", server.host),
                    ],
                )
                .ok();
        },
    );
}

#[test]
fn basic_and_token_authentication_work_from_docker_configuration() {
    if !tools::wanted("basic_and_token_authentication_work_from_docker_configuration") {
        return;
    }
    for mode in ["basic", "token"] {
        let workspace = Workspace::with_lock();
        let server = Server::test_registry(&workspace, &["-auth", mode]);
        workspace.keys();
        let target = format!("{}/team/secret:v1", server.host);
        workspace
            .run(&format!(
                "pack lock.yaml --plain-http --to {target} --key packgate.key"
            ))
            .refused(3, "RegistryDenied");
        // user test, password test
        workspace.write(
            "config.json",
            format!(
                r#"{{"auths":{{"{}":{{"auth":"dGVzdDp0ZXN0"}}}}}}"#,
                server.host
            ),
        );
        workspace
            .run(&format!(
                "pack lock.yaml --plain-http --registry-config config.json --to \
            {target} --key packgate.key"
            ))
            .ok();
        workspace
            .run(&format!(
                "verify --plain-http --registry-config config.json {target} --key packgate.pub"
            ))
            .ok();
        workspace
            .run(&format!("verify --plain-http {target} --key packgate.pub"))
            .refused(3, "RegistryDenied");
        workspace.write(".docker/config.json", workspace.read("config.json"));
        workspace
            .run(&format!("verify --plain-http {target} --key packgate.pub"))
            .ok();
    }
}

#[test]
fn layouts_pass_the_schemas_of_image_spec() {
    if !tools::wanted("layouts_pass_the_schemas_of_image_spec") {
        return;
    }
    let workspace = Workspace::with_lock();
    workspace.keys();
    workspace
        .run(
            "pack lock.yaml --to oci:out:image --key packgate.key --annotation a=b \
        --source-date-epoch 0",
        )
        .ok();
    workspace
        .run("pack lock.yaml --to oci:out:artifact --format Artifact")
        .ok();
    workspace
        .run("pack lock.yaml --to oci:out:zstd --compression Zstd")
        .ok();
    for version in ["1.0.2", "1.1.1"] {
        let schemas = Schemas::load(version);
        let mut checked = 0;
        schemas.check(
            "image-layout-schema.json",
            &workspace.read("out/oci-layout"),
        );
        schemas.check("image-index-schema.json", &workspace.read("out/index.json"));
        for (name, content, _) in tools::tree(&workspace.file("out/blobs")) {
            let Ok(document) = serde_json::from_slice::<serde_json::Value>(&content) else {
                continue;
            };
            let schema = match (document.get("layers"), document.get("rootfs")) {
                (Some(_), _) => "image-manifest-schema.json",
                (_, Some(_)) => "config-schema.json",
                _ => continue,
            };
            println!("{version} {schema} {name}");
            schemas.check(schema, &String::from_utf8_lossy(&content));
            checked += 1;
        }
        assert!(checked >= 7, "{checked} documents");
    }
}

/// The schemas of one version of image-spec. They are draft 4, and refer to each other by file
/// name.
struct Schemas {
    files: Vec<(String, serde_json::Value)>,
}

impl Schemas {
    fn load(version: &str) -> Self {
        let folder = tools::schemas().join(format!("image-spec-{version}"));
        let mut files = Vec::new();
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("an entry").path();
            let mut schema: serde_json::Value =
                serde_json::from_slice(&fs::read(&path).expect("a schema")).expect("JSON");
            forget_ids(&mut schema);
            files.push((
                path.file_name()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned(),
                schema,
            ));
        }
        Self { files }
    }

    fn check(&self, name: &str, document: &str) {
        const BASE: &str = "https://schemas.example.com/";
        let instance: serde_json::Value = serde_json::from_str(document).expect("JSON");
        let draft = jsonschema::Draft::Draft4;
        let resources = self.files.iter().map(|(file, schema)| {
            (
                format!("{BASE}{file}"),
                draft.create_resource(schema.clone()),
            )
        });
        let root = serde_json::json!({"$ref": format!("{BASE}{name}")});
        let registry = resources
            .fold(jsonschema::Registry::new(), |registry, (uri, resource)| {
                registry.add(uri, resource).expect("a resource")
            })
            .prepare()
            .expect("a registry");
        let validator = jsonschema::options()
            .with_draft(draft)
            .with_registry(&registry)
            .build(&root)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let errors: Vec<String> = validator
            .iter_errors(&instance)
            .map(|e| format!("{}: {e}", e.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{name}: {errors:?}\n{document}");
    }
}

/// Their nested ids would each start a new base for references.
fn forget_ids(schema: &mut serde_json::Value) {
    match schema {
        serde_json::Value::Object(object) => {
            if object.get("id").is_some_and(serde_json::Value::is_string) {
                object.remove("id");
            }
            object.values_mut().for_each(forget_ids);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(forget_ids),
        _ => {}
    }
}
