//! How downloads are requested: with which credentials, from which mirrors, through which proxy.

use std::sync::Arc;

use url::Url;

use super::DownloadCredential;
use crate::{
    core::download::{CredentialScopeMatch, DownloadMirror},
    http::{
        HttpClient, HttpError, HttpRequest, HttpResponse, MAX_REDIRECTS, StatusCode, TlsFault,
        header, redact::redact_url, redirect_target,
    },
};

/// What users write credentials and proxies in, for errors.
#[derive(Clone, Copy, Debug)]
pub struct DownloadOptionNames {
    /// Where credentials are given, such as `spec.fetch.credentials`.
    pub credentials: &'static str,
}

impl DownloadOptionNames {
    /// On the command line.
    pub const COMMAND_LINE: Self = Self {
        credentials: "--netrc or --fetch-credentials",
    };
    /// In a cluster.
    pub const PACKED_BUNDLE: Self = Self {
        credentials: "spec.fetch.credentials",
    };
}

/// Credentials, mirrors and proxy of downloads.
#[derive(Clone, Debug)]
pub struct DownloadAccess {
    client: HttpClient,
    credentials: Vec<Arc<DownloadCredential>>,
    mirrors: Vec<DownloadMirror>,
    names: DownloadOptionNames,
    proxy: Option<String>,
}

/// A response that is no redirect.
pub(super) struct DownloadResponse {
    pub(super) answer: HttpResponse,
    /// The credential that the last request carried.
    pub(super) credential: Option<Arc<DownloadCredential>>,
}

impl DownloadAccess {
    /// Downloads through `client` without credentials and mirrors.
    pub const fn anonymous(client: HttpClient) -> Self {
        Self {
            client,
            credentials: Vec::new(),
            mirrors: Vec::new(),
            names: DownloadOptionNames::COMMAND_LINE,
            proxy: None,
        }
    }

    /// The same with these credentials. Of those that are for a URL, the one with the longest path
    /// is sent, the first of several.
    #[must_use]
    pub fn with_credentials(self, credentials: Vec<DownloadCredential>) -> Self {
        Self {
            credentials: credentials.into_iter().map(Arc::new).collect(),
            ..self
        }
    }

    /// The same with these mirrors, tried in this order.
    #[must_use]
    pub fn with_mirrors(self, mirrors: Vec<DownloadMirror>) -> Self {
        Self { mirrors, ..self }
    }

    /// The same with these names in errors. `proxy` says which proxy the client has, and where it
    /// was given.
    #[must_use]
    pub fn with_names(self, names: DownloadOptionNames, proxy: Option<String>) -> Self {
        Self {
            names,
            proxy,
            ..self
        }
    }

    /// The URL at each mirror that stands for it, in order.
    pub(super) fn mirrors_of(&self, url: &Url) -> Vec<Url> {
        self.mirrors
            .iter()
            .filter_map(|mirror| mirror.map_url(url))
            .collect()
    }

    /// Requests `url`, or with `range` the rest of it (RFC 9110, section 14.2), and follows
    /// redirects.
    ///
    /// A redirect to another origin (scheme, host or port) gets no credential at all, neither does
    /// anything after it: whoever answers would otherwise choose which of them is used, and for
    /// what.
    pub(super) async fn get(
        &self,
        url: &Url,
        range: Option<(u64, &str)>,
    ) -> Result<DownloadResponse, HttpError> {
        let (mut hop, mut at_origin) = (url.clone(), true);
        for _ in 0..=MAX_REDIRECTS {
            let credential = at_origin.then(|| self.credential_for(&hop)).flatten();
            let client = credential
                .as_ref()
                .and_then(|credential| credential.client.as_ref())
                .unwrap_or(&self.client);
            let request = download_request(&hop, range, credential.as_deref());
            let answer = client.send_request(request).await?;
            let Some(next) = redirect_target(answer.head())? else {
                return Ok(DownloadResponse { answer, credential });
            };
            at_origin = at_origin && next.origin() == url.origin();
            hop = next;
        }
        Err(HttpError::Redirect {
            url: redact_url(url),
            cause: format!("more than {MAX_REDIRECTS} redirects"),
        })
    }

    fn credential_for(&self, url: &Url) -> Option<Arc<DownloadCredential>> {
        self.most_specific(url, CredentialScopeMatch::Sent)
    }

    fn most_specific(
        &self,
        url: &Url,
        wanted: CredentialScopeMatch,
    ) -> Option<Arc<DownloadCredential>> {
        let matching = self
            .credentials
            .iter()
            .filter(|credential| credential.scope.match_url(url) == wanted);
        // The last maximum counts.
        matching
            .rev()
            .max_by_key(|credential| credential.scope.specificity())
            .cloned()
    }

    /// What may help after this status, for the end of a message.
    pub(super) fn status_hint(
        &self,
        status: StatusCode,
        url: &Url,
        used: Option<&DownloadCredential>,
    ) -> String {
        match (status, used) {
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, Some(credential)) => format!(
                " to the credentials of {}; correct them, or their rights there",
                credential.label
            ),
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, None) => self.missing_hint(url),
            (StatusCode::PROXY_AUTHENTICATION_REQUIRED, _) => self.proxy.as_ref().map_or_else(
                || "; the proxy asks for a user name and password".to_owned(),
                |proxy| format!("; {proxy} asks for a user name and password"),
            ),
            _ => String::new(),
        }
    }

    fn missing_hint(&self, url: &Url) -> String {
        if let Some(credential) = self.most_specific(url, CredentialScopeMatch::NeedsTls) {
            return format!(
                "; {} was not sent, because {url} has no TLS: use https, or set plainHTTP there",
                credential.label,
                url = url.origin().ascii_serialization(),
            );
        }
        let host = url.host_str().unwrap_or_default();
        format!(
            "; if it wants credentials, give those for {host} in {}",
            self.names.credentials
        )
    }

    /// What may help after this error, for the end of a message.
    pub(super) fn error_hint(&self, error: &HttpError) -> String {
        if let HttpError::Tls { failure, .. } = error
            && failure.fault == TlsFault::ClientCertificate
        {
            return format!(": give tls.crt and tls.key in {}", self.names.credentials);
        }
        let text = error.to_string().to_lowercase();
        match (&self.proxy, error) {
            (Some(proxy), HttpError::Unreachable { .. })
                if text.contains("proxy auth") || text.contains("407") =>
            {
                format!("; {proxy} asks for a user name and password")
            }
            (Some(proxy), HttpError::Unreachable { .. }) => {
                format!("; it is reached through {proxy}")
            }
            _ => String::new(),
        }
    }
}

/// Content is stored as it is: an encoding of the transfer would change its bytes (RFC 9110,
/// section 12.5.3).
fn download_request(
    url: &Url,
    range: Option<(u64, &str)>,
    credential: Option<&DownloadCredential>,
) -> HttpRequest {
    let mut request = HttpRequest::get(url.clone())
        .header(header::ACCEPT_ENCODING, "identity")
        .return_redirects();
    if let Some((from, validator)) = range {
        request = request
            .header(header::RANGE, &format!("bytes={from}-"))
            .header(header::IF_RANGE, validator);
    }
    match credential.and_then(|credential| credential.authorization.as_ref()) {
        Some(value) => request.with_authorization(value),
        None => request,
    }
}
