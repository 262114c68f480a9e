//! The private Sigstore beside the cluster, which believes the cluster's own tokens.

#[path = "../../tools/sigstore/handle.rs"]
mod handle;

pub(crate) use handle::{REKORS, Sigstore};

use super::{Test, program::Run};

/// The issuer of the tokens of service accounts.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// What their audience must be.
pub(crate) const AUDIENCE: &str = "sigstore";

impl Test {
    /// `None`, and that is printed, beside an existing cluster.
    pub(crate) fn sigstore(&self) -> Option<Sigstore> {
        let sigstore = self.cluster.sigstore.as_ref().map(|folder| {
            Sigstore::open(folder).expect("a private Sigstore (up.sh node sigstore)")
        });
        if sigstore.is_none() {
            println!(
                "{}: not run, there is no private Sigstore beside this cluster",
                self.name()
            );
        }
        sigstore
    }

    /// Has the API server make a token for this namespace's default `ServiceAccount`, good for an
    /// audience, in a file.
    pub(crate) fn service_account_token(&self, file: &str, audience: &str) {
        let token = self
            .namespace
            .kubectl(["create", "token", "default", "--audience", audience])
            .run();
        self.write(file, token.ok());
    }

    /// The identity that Fulcio certifies for a `ServiceAccount` of this namespace.
    pub(crate) fn service_account_identity(&self, name: &str) -> String {
        format!(
            "https://kubernetes.io/namespaces/{}/serviceaccounts/{name}",
            self.namespace.name
        )
    }

    /// Runs cosign with this line of arguments, on registries without TLS too, and asks nobody.
    pub(crate) fn cosign(&self, line: &str) -> Run {
        let http = if self.cluster.plain_http {
            "--allow-http-registry"
        } else {
            ""
        };
        self.program("cosign", &format!("{line} {http}"))
            .env("COSIGN_YES", "true")
            .run()
    }
}
