//! The tables: layers of modules, and the only places for each effect.

/// Modules with the same rule.
pub(super) struct Layer {
    pub modules: &'static [&'static str],
    /// The modules of this crate that they may name.
    pub may_name: &'static [&'static str],
    /// What ARCHITECTURE.md adds.
    pub note: &'static str,
}

/// Names that only some places may say.
pub(super) struct EffectHome {
    /// Paths in code; one that ends in `::` is a crate, one that ends in `!` a macro.
    pub names: &'static [&'static str],
    /// Files and folders below `src/`.
    pub places: &'static [&'static str],
    /// What ARCHITECTURE.md adds.
    pub note: &'static str,
}

impl EffectHome {
    pub(super) fn is_at(&self, place: &str) -> bool {
        self.places.iter().any(|home| {
            place == *home
                || place
                    .strip_prefix(home)
                    .is_some_and(|rest| rest.starts_with('/'))
        })
    }
}

const fn layer(
    modules: &'static [&'static str],
    may_name: &'static [&'static str],
    note: &'static str,
) -> Layer {
    Layer {
        modules,
        may_name,
        note,
    }
}

const fn home(
    names: &'static [&'static str],
    places: &'static [&'static str],
    note: &'static str,
) -> EffectHome {
    EffectHome {
        names,
        places,
        note,
    }
}

/// From the top down.
pub(super) const LAYERS: &[Layer] = &[
    layer(&["main"], &["cli"], ""),
    layer(&["lib"], &[], ""),
    layer(
        &["cli"],
        &[
            "api",
            "clock",
            "cluster_reader",
            "controller",
            "core",
            "credential_providers",
            "fetch",
            "http",
            "oci",
            "outdir",
            "service",
            "signing",
            "telemetry",
            "trust",
            "webhook",
        ],
        "",
    ),
    layer(
        &["controller"],
        &[
            "api",
            "clock",
            "cluster_reader",
            "core",
            "service",
            "telemetry",
        ],
        "",
    ),
    layer(
        &["webhook"],
        &[
            "api",
            "clock",
            "cluster_reader",
            "core",
            "listener",
            "service",
            "telemetry",
        ],
        "",
    ),
    layer(
        &["cluster_reader"],
        &["api", "core", "credential_providers", "http", "service"],
        "",
    ),
    layer(
        &["credential_providers"],
        &["core", "http", "oci", "process", "service"],
        "",
    ),
    layer(
        &["service"],
        &[
            "clock", "core", "fetch", "oci", "outdir", "signing", "trust",
        ],
        "traits only, no implementation",
    ),
    layer(&["fetch"], &["core", "http", "oci"], ""),
    layer(&["oci", "signing"], &["core", "http", "process"], ""),
    layer(&["trust"], &["core", "http"], ""),
    layer(
        &["http", "process", "outdir", "clock", "api"],
        &["core"],
        "",
    ),
    layer(&["telemetry"], &["core", "listener"], ""),
    layer(&["listener"], &[], ""),
    layer(&["core"], &[], "and only crates that neither wait nor read"),
];

/// The services depend on traits; only the command line chooses these implementations.
pub(super) const IMPLEMENTATIONS: &[&str] = &[
    "OciLayoutTarget",
    "OciArchiveTarget",
    "RegistryTarget",
    "FileOrigin",
    "HttpOrigin",
    "RegistryOrigin",
    "ContextArtifactOrigin",
    "KeySigner",
    "KmsSigner",
    "TufSource",
    "FileTrustCache",
    "SystemClock",
];

pub(super) const HOMES: &[EffectHome] = &[
    home(
        &["kube::", "k8s_openapi::"],
        &[
            "api",
            "cluster_reader",
            "controller",
            "webhook",
            "telemetry/events",
            "cli/controller",
            "cli/webhook",
            "cli/cluster",
            "cli/in_cluster",
            "cli/installation_credentials",
        ],
        "",
    ),
    home(&["axum::"], &["listener", "telemetry", "webhook"], ""),
    home(&["reqwest::"], &["http"], "the HTTP client"),
    home(&["sigstore_tuf::"], &["trust"], ""),
    home(&["clap::", "indicatif::", "rpassword::"], &["cli"], ""),
    home(
        &["std::fs"],
        &[
            "oci/layout",
            "oci/archive",
            "fetch/file",
            "trust/file_cache",
            "signing/key",
            "webhook/serving_certificate",
            "cli",
            "outdir",
        ],
        "",
    ),
    home(
        &["tokio::fs"],
        &["oci/layout", "oci/archive", "fetch/file", "cli"],
        "",
    ),
    home(
        &["tempfile::"],
        &[
            "oci/layout",
            "oci/archive",
            "trust/file_cache",
            "cli",
            "outdir",
        ],
        "",
    ),
    home(&["cap_std::"], &["outdir"], ""),
    home(
        &["rustix::"],
        &["process", "service/cpu_work"],
        "process groups, priority of threads",
    ),
    home(&["std::process::Command"], &[], ""),
    home(
        &["tokio::process"],
        &["process"],
        "credential helpers and providers, KMS plug-ins",
    ),
    home(&["io::stderr"], &["telemetry", "cli/progress"], ""),
    home(&["io::stdout"], &["cli/exit"], ""),
    home(
        &["SystemTime", "Timestamp::now"],
        &["clock"],
        "the wall clock",
    ),
    home(
        &["std::env"],
        &["cli/environment_variable"],
        "variables that a file names; all others come by clap's `env =`",
    ),
    home(
        &["print!", "println!", "eprint!", "eprintln!"],
        &[],
        "output goes through `cli/exit` and `telemetry`",
    ),
];

/// The crates that `core` may use: nothing that can wait or read.
pub(super) const CORE_CRATES: &[&str] = &[
    "aws_lc_rs",
    "base64",
    "bytes",
    "hex",
    "jiff",
    "pki_types",
    "regex_automata",
    "serde",
    "serde_json",
    "serde_json_canonicalizer",
    "serde_saphyr",
    "sigstore_crypto",
    "sigstore_rekor",
    "sigstore_trust_root",
    "sigstore_types",
    "sigstore_verify",
    "std",
    "thiserror",
    "url",
    "webpki",
    "x509_cert",
    "zeroize",
];

/// Parts of the standard library that wait, read or know the time.
pub(super) const CORE_STD_BANNED: &[&str] = &[
    "std::fs",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::env",
    "std::io::stdin",
];
