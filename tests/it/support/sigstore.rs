//! A private Sigstore of real servers, and cosign's use of it.

#[path = "../../tools/sigstore/handle.rs"]
mod handle;

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

pub(crate) use handle::{REKORS, Rekor, Sigstore};

use super::cli::{Run, Workspace};

/// The one of this process; the first test that needs it starts it. It ends with this process,
/// whose end of a pipe it watches.
pub(crate) fn sigstore() -> &'static Sigstore {
    static STARTED: OnceLock<(Sigstore, Child)> = OnceLock::new();
    &STARTED.get_or_init(start).0
}

/// Starts another one, which ends when the standard input of the process does, or the process
/// itself.
pub(crate) fn start() -> (Sigstore, Child) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/sigstore/serve.sh");
    let mut command = Command::new(script);
    command
        .arg("--until-eof")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{script}: {e}"));
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe"))
        .read_line(&mut line)
        .expect("a line");
    let folder = line
        .trim()
        .strip_prefix("ready ")
        .expect("a private Sigstore starts; make tools gets its servers");
    (Sigstore::open(folder).expect("it is ready"), child)
}

/// A signer: an identity, and its OIDC issuer.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) issuer: String,
    pub(crate) token: String,
}

impl Identity {
    /// An identity with an email address.
    pub(crate) fn email(address: &str) -> Self {
        Self::new("email", address, &[("email", address)])
    }

    /// This identity of the issuer, whose token has these claims.
    pub(crate) fn new(issuer: &str, name: &str, claims: &[(&str, &str)]) -> Self {
        Self {
            name: name.to_owned(),
            issuer: sigstore().issuer(issuer),
            token: sigstore().token(issuer, claims),
        }
    }

    /// Another identity of the same issuer, without a token.
    pub(crate) fn named(&self, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..self.clone()
        }
    }

    /// The same name with another issuer, and without a token of it.
    pub(crate) fn issued_by(&self, issuer: &str) -> Self {
        Self {
            issuer: issuer.to_owned(),
            ..self.clone()
        }
    }

    /// The verification flags of cosign and packgate.
    pub(crate) fn expected(&self) -> [&str; 4] {
        [
            "--certificate-identity",
            &self.name,
            "--certificate-oidc-issuer",
            &self.issuer,
        ]
    }

    /// The signing flags of cosign 3, which reads its token from a file.
    pub(crate) fn with_cosign(&self, workspace: &Workspace, rekor: Rekor) -> Vec<String> {
        workspace.write("token", &self.token);
        let flags = [
            "--identity-token",
            "token",
            "--signing-config",
            &sigstore().signing_config(rekor),
            "--trusted-root",
            &sigstore().trusted_root(),
        ];
        flags.map(ToOwned::to_owned).to_vec()
    }

    /// The signing flags of cosign 2, with Rekor v1 only.
    pub(crate) fn with_cosign_2(&self, workspace: &Workspace) -> Vec<String> {
        workspace.write("token", &self.token);
        let services = sigstore();
        let flags = [
            "--identity-token",
            "token",
            "--fulcio-url",
            services.url("fulcio"),
            "--rekor-url",
            services.url("rekor-v1"),
        ];
        flags.map(ToOwned::to_owned).to_vec()
    }
}

/// Runs cosign 3, split at spaces, with these flags after the subcommand and the image at the end.
pub(crate) fn cosign(
    workspace: &Workspace,
    line: &str,
    flags: &[impl AsRef<str>],
    image: &str,
) -> Run {
    let args = line
        .split_whitespace()
        .chain(flags.iter().map(AsRef::as_ref))
        .chain([image]);
    Run::from(
        workspace
            .command("cosign")
            .args(args)
            .env("COSIGN_YES", "true")
            .output()
            .expect("cosign runs; make tools gets it"),
    )
}

/// The same with cosign 2.5, which reads this Sigstore's settings from its environment.
pub(crate) fn cosign_2(
    workspace: &Workspace,
    line: &str,
    flags: &[impl AsRef<str>],
    image: &str,
) -> Run {
    let args = line
        .split_whitespace()
        .chain(flags.iter().map(AsRef::as_ref))
        .chain([image]);
    let mut command = workspace.command("cosign-2");
    command.args(args).env("COSIGN_YES", "true");
    for (name, file) in [
        ("ROOT_FILE", "fulcio.pem"),
        ("CT_LOG_PUBLIC_KEY_FILE", "ct.pub"),
        ("REKOR_PUBLIC_KEY", "rekor-v1.pub"),
    ] {
        command.env(format!("SIGSTORE_{name}"), sigstore().file(file));
    }
    Run::from(command.output().expect("cosign-2 runs; make tools gets it"))
}

/// packgate's verdict on an image with only this identity as signer.
pub(crate) fn verify(workspace: &Workspace, image: &str, who: &Identity, more: &[&str]) -> Run {
    verify_with(workspace, image, who, &sigstore().trusted_root(), more)
}

/// The same with another trusted root.
pub(crate) fn verify_with(
    workspace: &Workspace,
    image: &str,
    who: &Identity,
    root: &str,
    more: &[&str],
) -> Run {
    let args = ["verify", image, "--plain-http", "--trusted-root", root];
    workspace.packgate(args.iter().chain(&who.expected()).chain(more))
}
