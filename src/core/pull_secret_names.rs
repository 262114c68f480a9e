//! The Secrets that the images of an object are pulled with.

/// The Secrets in an object's namespace that its images are pulled with, as the kubelet would.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullSecretNames {
    /// `imagePullSecrets`, in their order, each once.
    pub secrets: Vec<String>,
    /// The ServiceAccount whose `imagePullSecrets` count, too.
    pub service_account: Option<String>,
    /// The ServiceAccount that the object's Pods have, if it has Pods.
    pub pod_service_account: Option<String>,
}

/// The number of pull Secrets of one object that are read.
pub const MAX_PULL_SECRETS: usize = 16;
/// The ServiceAccount of a Pod that names none.
pub const DEFAULT_SERVICE_ACCOUNT: &str = "default";
