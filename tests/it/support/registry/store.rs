//! The registry's content, and its responses without faults.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hyper::{Method, Response, StatusCode, Uri, header::HeaderValue};
use packgate::core::{digest::Digest, media_type};
use serde_json::{Value, json};

use super::{Auth, Fault, Recorded, Settings, TagRule};

/// Until when a tag named something, and its digest.
type EarlierTag = (Instant, Option<String>);

#[derive(Default)]
pub(super) struct Inner {
    pub(super) origin: String,
    pub(super) settings: Settings,
    pub(super) blobs: BTreeMap<(String, String), Bytes>,
    /// By repository and digest: media type and bytes.
    pub(super) manifests: BTreeMap<(String, String), (String, Bytes)>,
    pub(super) tags: BTreeMap<(String, String), String>,
    /// What tags named before, and until when.
    pub(super) earlier_tags: BTreeMap<(String, String), Vec<EarlierTag>>,
    pub(super) uploads: HashMap<String, Vec<u8>>,
    pub(super) tokens: HashMap<String, Vec<String>>,
    pub(super) faults: Vec<Fault>,
    pub(super) requests: Vec<Recorded>,
    pub(super) next: u64,
}

fn respond(status: u16) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response
}

pub(super) fn problem(status: u16, code: &str) -> Response<Bytes> {
    let body =
        json!({"errors": [{"code": code, "message": format!("scripted registry says {code}")}]})
            .to_string();
    with_body(status, "application/json", body.into())
}

fn with_body(status: u16, media_type: &str, body: Bytes) -> Response<Bytes> {
    let mut response = respond(status).map(|_| body);
    set(&mut response, "content-type", media_type);
    response
}

fn set(response: &mut Response<Bytes>, name: &'static str, value: &str) {
    response
        .headers_mut()
        .insert(name, HeaderValue::from_str(value).expect("a header value"));
}

fn query(uri: &Uri) -> BTreeMap<String, String> {
    let url = url::Url::parse(&format!("http://x/?{}", uri.query().unwrap_or_default()))
        .expect("a query");
    url.query_pairs()
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect()
}

impl Inner {
    pub(super) fn handle(
        &mut self,
        method: &Method,
        uri: &Uri,
        authorization: Option<&str>,
        body: Bytes,
    ) -> Response<Bytes> {
        if uri.path() == "/token" {
            return self.token(method, uri, authorization, &body);
        }
        let Some(path) = uri.path().strip_prefix("/v2/") else {
            return problem(404, "NOT_FOUND");
        };
        if let Some(refused) = self.refuse(method, path, authorization) {
            return refused;
        }
        let parts = ["/blobs/uploads/", "/blobs/", "/manifests/", "/referrers/"];
        let found = parts.iter().find_map(|part| {
            path.split_once(part)
                .map(|(name, rest)| (*part, name, rest))
        });
        match found {
            None if path.is_empty() => respond(200),
            None => problem(404, "NOT_FOUND"),
            Some(("/blobs/uploads/", name, id)) => self.upload(method, uri, name, id, &body),
            Some(("/blobs/", name, digest)) => self.serve_blob(name, digest),
            Some(("/manifests/", name, reference)) if method == Method::PUT => {
                self.store(name, reference, body)
            }
            Some(("/manifests/", name, reference)) => self.serve_manifest(name, reference),
            Some((_, name, digest)) => self.referrers(uri, name, digest),
        }
    }

    fn refuse(
        &self,
        method: &Method,
        path: &str,
        authorization: Option<&str>,
    ) -> Option<Response<Bytes>> {
        let action = if matches!(*method, Method::GET | Method::HEAD) {
            "pull"
        } else {
            "push"
        };
        let name = ["/blobs/", "/manifests/", "/referrers/"]
            .iter()
            .find_map(|part| path.split_once(part))
            .map_or("", |(name, _)| name);
        let allowed = match self.settings.auth {
            Auth::None => true,
            Auth::Basic(user, password) => authorization == Some(&basic(user, password)),
            Auth::Token(..) | Auth::AnonymousToken => {
                let scopes = authorization
                    .and_then(|a| a.strip_prefix("Bearer "))
                    .and_then(|token| self.tokens.get(token));
                scopes.is_some_and(|scopes| scopes.iter().any(|scope| grants(scope, name, action)))
            }
        };
        (!allowed).then(|| self.challenge(name, action))
    }

    fn challenge(&self, name: &str, action: &str) -> Response<Bytes> {
        let mut response = problem(401, "UNAUTHORIZED");
        let own = || format!("{}/token", self.origin);
        let challenge = if let Auth::Basic(..) = self.settings.auth {
            r#"Basic realm="registry""#.to_owned()
        } else {
            let realm = self.settings.realm.clone().unwrap_or_else(own);
            format!(
                r#"Bearer realm="{realm}",service="scripted",scope="repository:{name}:{action}""#
            )
        };
        set(&mut response, "www-authenticate", &challenge);
        response
    }

    fn token(
        &mut self,
        method: &Method,
        uri: &Uri,
        authorization: Option<&str>,
        body: &[u8],
    ) -> Response<Bytes> {
        let mut asked: Vec<(String, String)> =
            url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
                .into_owned()
                .collect();
        asked.extend(url::form_urlencoded::parse(body).into_owned());
        let has = |key: &str, value: &str| asked.iter().any(|(k, v)| k == key && v == value);
        let allowed = match self.settings.auth {
            Auth::Token(user, password) => {
                let refresh = *method == Method::POST
                    && has("grant_type", "refresh_token")
                    && has("refresh_token", "identity");
                refresh || authorization == Some(&basic(user, password))
            }
            _ => true,
        };
        if !allowed {
            return problem(401, "UNAUTHORIZED");
        }
        let scopes = asked
            .iter()
            .filter(|(k, _)| k == "scope")
            .flat_map(|(_, v)| v.split(' ').map(str::to_owned).collect::<Vec<_>>())
            .collect();
        self.next += 1;
        let token = format!("token-{}", self.next);
        self.tokens.insert(token.clone(), scopes);
        with_body(
            200,
            "application/json",
            json!({"token": token, "expires_in": self.settings.token_seconds})
                .to_string()
                .into(),
        )
    }

    fn serve_blob(&self, name: &str, digest: &str) -> Response<Bytes> {
        match self.blobs.get(&(name.to_owned(), digest.to_owned())) {
            Some(bytes) => with_body(200, media_type::OCTET_STREAM, bytes.clone()),
            None => problem(404, "BLOB_UNKNOWN"),
        }
    }

    pub(super) fn manifest(&self, name: &str, reference: &str) -> Option<(String, String, Bytes)> {
        let digest = self
            .shown_tag(name, reference)
            .or_else(|| self.digest_of_tag(reference))
            .unwrap_or_else(|| reference.into());
        let (media_type, bytes) = self.manifests.get(&(name.into(), digest.clone()))?;
        Some((digest, media_type.clone(), bytes.clone()))
    }

    fn digest_of_tag(&self, reference: &str) -> Option<String> {
        let hex = reference.strip_prefix("sha256-")?;
        (self.settings.digest_tags && hex.len() == 64).then(|| format!("sha256:{hex}"))
    }

    /// What a read of the tag shows.
    fn shown_tag(&self, name: &str, reference: &str) -> Option<String> {
        let key = (name.to_owned(), reference.to_owned());
        let earlier = self.earlier_tags.get(&key).and_then(|all| {
            all.iter()
                .find(|(changed, _)| changed.elapsed() < self.settings.stale_tags)
        });
        match earlier {
            Some((_, shown)) => shown.clone(),
            None => self.tags.get(&key).cloned(),
        }
    }

    fn serve_manifest(&self, name: &str, reference: &str) -> Response<Bytes> {
        let Some((digest, media_type, bytes)) = self.manifest(name, reference) else {
            return problem(404, "MANIFEST_UNKNOWN");
        };
        let mut response = with_body(200, &media_type, bytes);
        set(&mut response, "docker-content-digest", &digest);
        response
    }

    fn store(&mut self, name: &str, reference: &str, body: Bytes) -> Response<Bytes> {
        let digest = Digest::of_bytes(&body).to_string();
        let Ok(document) = serde_json::from_slice::<Value>(&body) else {
            return problem(400, "MANIFEST_INVALID");
        };
        if reference.starts_with("sha256:") && reference != digest {
            return problem(400, "DIGEST_INVALID");
        }
        let media_type = document["mediaType"]
            .as_str()
            .unwrap_or(media_type::MANIFEST)
            .to_owned();
        let key = (name.to_owned(), reference.to_owned());
        let before = self.tags.get(&key).cloned();
        let refused = match self.settings.tags {
            TagRule::Mutable => false,
            TagRule::Immutable => before.as_ref().is_some_and(|before| *before != digest),
            TagRule::WriteOnce => before.is_some(),
        };
        if refused {
            return problem(400, "TAG_INVALID");
        }
        self.manifests
            .insert((name.into(), digest.clone()), (media_type, body));
        if !reference.starts_with("sha256:") {
            self.earlier_tags
                .entry(key.clone())
                .or_default()
                .push((Instant::now(), before));
            self.tags.insert(key, digest);
        }
        let mut response = respond(201);
        if let (true, Some(subject)) = (
            self.settings.referrers_api,
            document["subject"]["digest"].as_str(),
        ) {
            set(&mut response, "oci-subject", subject);
        }
        response
    }

    fn referrers(&self, uri: &Uri, name: &str, digest: &str) -> Response<Bytes> {
        if !self.settings.referrers_api {
            return problem(404, "NOT_FOUND");
        }
        let all: Vec<Value> = self
            .manifests
            .iter()
            .filter(|((n, _), _)| n == name)
            .filter_map(|((_, d), (t, b))| entry(digest, d, t, b))
            .collect();
        let start: usize = query(uri)
            .get("last")
            .and_then(|last| last.parse().ok())
            .unwrap_or(0);
        let end = all.len().min(start.saturating_add(self.settings.page_size));
        let index = json!({
            "schemaVersion": 2,
            "mediaType": media_type::INDEX,
            "manifests": all.get(start..end).unwrap_or_default(),
        });
        let mut response = with_body(200, media_type::INDEX, index.to_string().into());
        if end < all.len() {
            set(
                &mut response,
                "link",
                &format!("</v2/{name}/referrers/{digest}?last={end}>; rel=\"next\""),
            );
        }
        response
    }

    fn upload(
        &mut self,
        method: &Method,
        uri: &Uri,
        name: &str,
        id: &str,
        body: &[u8],
    ) -> Response<Bytes> {
        let query = query(uri);
        match method.as_str() {
            "POST" => self.begin(name, &query),
            "PATCH" => self.append(name, id, body),
            "PUT" => self.finish(name, id, &query, body),
            _ => problem(405, "UNSUPPORTED"),
        }
    }

    fn begin(&mut self, name: &str, query: &BTreeMap<String, String>) -> Response<Bytes> {
        if let (true, Some(digest), Some(from)) =
            (self.settings.mount, query.get("mount"), query.get("from"))
            && let Some(bytes) = self.blobs.get(&(from.clone(), digest.clone())).cloned()
        {
            self.blobs.insert((name.into(), digest.clone()), bytes);
            return respond(201);
        }
        self.next += 1;
        let id = format!("upload-{}", self.next);
        self.uploads.insert(id.clone(), Vec::new());
        self.go_on(name, &id)
    }

    fn go_on(&self, name: &str, id: &str) -> Response<Bytes> {
        let mut response = respond(202);
        let origin = self.settings.upload_origin.clone().unwrap_or_default();
        set(
            &mut response,
            "location",
            &format!("{origin}/v2/{name}/blobs/uploads/{id}?_state=s%2F1"),
        );
        response
    }

    fn append(&mut self, name: &str, id: &str, body: &[u8]) -> Response<Bytes> {
        self.uploads
            .entry(id.into())
            .or_default()
            .extend_from_slice(body);
        self.go_on(name, id)
    }

    /// Accepts uploads that another registry began as well.
    fn finish(
        &mut self,
        name: &str,
        id: &str,
        query: &BTreeMap<String, String>,
        body: &[u8],
    ) -> Response<Bytes> {
        if query.get("_state").map(String::as_str) != Some("s/1") {
            return problem(400, "BLOB_UPLOAD_INVALID");
        }
        let mut bytes = self.uploads.remove(id).unwrap_or_default();
        bytes.extend_from_slice(body);
        let digest = Digest::of_bytes(&bytes).to_string();
        if query.get("digest") != Some(&digest) {
            return problem(400, "DIGEST_INVALID");
        }
        self.blobs.insert((name.into(), digest), bytes.into());
        respond(201)
    }
}

fn entry(subject: &str, digest: &str, media_type: &str, bytes: &Bytes) -> Option<Value> {
    let document: Value = serde_json::from_slice(bytes).ok()?;
    (document["subject"]["digest"].as_str() == Some(subject)).then(|| {
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len(),
            "artifactType": document["artifactType"],
               "annotations": document.get("annotations").cloned().unwrap_or_else(|| json!({}))})
    })
}

/// `repository:NAME:ACTIONS`
fn grants(scope: &str, name: &str, action: &str) -> bool {
    let rest = scope
        .strip_prefix("repository:")
        .and_then(|rest| rest.strip_prefix(name))
        .and_then(|rest| rest.strip_prefix(':'));
    rest.is_some_and(|actions| actions.split(',').any(|a| a == action))
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}
