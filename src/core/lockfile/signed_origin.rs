//! Origins that carry a credential in their query or fragment: signed URLs, and tokens.
//!
//! Whoever packs needs the whole URL, and nobody else may have it: the canonical lock lies in the
//! bundle, and provenance and SBOM repeat its origins. So such an origin is kept twice, as it is
//! published and as it is fetched. docs/adr/0016-signed-origins.md says why.
//!
//! What is *not* recognised: a credential in a path, and parameters that the table below does not
//! name. docs/guides/lockfile.md tells users.

use std::fmt;

use serde::{Deserialize, Serialize};
use url::form_urlencoded;

/// Beginnings of parameters of signed URLs, in the form of [`letters_and_digits`]: Amazon, Google,
/// Alibaba, Tencent, Huawei, Volcengine, Akamai.
const BEGINNINGS: &[&str] = &[
    "xamz", "xgoog", "xoss", "qsign", "qak", "qkey", "xobs", "xtos", "hdnea", "hdnts", "hdntl",
];
/// Ends of names that are a credential, or what a signed URL says beside it, in the same form.
const ENDS: &[&str] = &[
    "token",
    "signature",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "apikey",
    "accesskey",
    "accesskeyid",
    "accessid",
    "secretkey",
    "privatekey",
    "subscriptionkey",
    "authkey",
    "credential",
    "credentials",
    "authorization",
    "keypairid",
    "sessionid",
];
/// Last words of names, in lower case. As ends they would be found in "design" and "Kansas".
const WORDS: &[&str] = &[
    "sig", "sign", "sas", "jwt", "pwd", "pass", "otp", "auth", "hmac", "bearer", "ticket",
];

/// An `http` origin as it was written, with its credential. It does not print.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SignedOrigin(String);

impl SignedOrigin {
    /// Separates an origin with a credential into what may be published and the whole. `None`
    /// without a credential.
    ///
    /// A query that has a credential is left out entirely: what stands beside a signature belongs
    /// to it.
    pub fn separate(origin: &str) -> Option<(String, Self)> {
        let (base, query, fragment) = split_origin(origin);
        let public = |part: Option<&str>| {
            part.filter(|part| credential_parameter(part).is_none())
                .map(ToOwned::to_owned)
        };
        let (kept_query, kept_fragment) = (public(query), public(fragment));
        if kept_query.is_some() == query.is_some() && kept_fragment.is_some() == fragment.is_some()
        {
            return None;
        }
        let mut published = base.to_owned();
        for (separator, part) in [('?', kept_query), ('#', kept_fragment)] {
            if let Some(part) = part {
                published.push(separator);
                published.push_str(&part);
            }
        }
        Some((published, Self(origin.to_owned())))
    }

    /// The whole origin. For requests to it, and the lockfile that it came from.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The name of the first parameter that is a credential.
    pub fn parameter(&self) -> String {
        let (_, query, fragment) = split_origin(&self.0);
        [query, fragment]
            .into_iter()
            .flatten()
            .find_map(credential_parameter)
            .unwrap_or_default()
    }
}

impl fmt::Debug for SignedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The part before query and fragment, and both without their separators.
fn split_origin(origin: &str) -> (&str, Option<&str>, Option<&str>) {
    let (rest, fragment) = match origin.split_once('#') {
        Some((rest, fragment)) => (rest, Some(fragment)),
        None => (origin, None),
    };
    match rest.split_once('?') {
        Some((base, query)) => (base, Some(query), fragment),
        None => (rest, None, fragment),
    }
}

/// The name of the first parameter that is a credential, decoded.
fn credential_parameter(parameters: &str) -> Option<String> {
    parameters.split(['&', ';', '?']).find_map(|parameter| {
        let (name, value) = form_urlencoded::parse(parameter.as_bytes()).next()?;
        (!value.is_empty() && is_credential_name(&name)).then(|| name.into_owned())
    })
}

fn is_credential_name(name: &str) -> bool {
    let letters = letters_and_digits(name);
    let last_word = name
        .rsplit(|c: char| !c.is_ascii_alphanumeric())
        .find(|word| !word.is_empty())
        .unwrap_or_default()
        .to_ascii_lowercase();
    BEGINNINGS.iter().any(|start| letters.starts_with(start))
        || ENDS.iter().any(|end| letters.ends_with(end))
        || WORDS.contains(&last_word.as_str())
}

fn letters_and_digits(name: &str) -> String {
    name.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "https://f.example.com/a/x.tgz";

    #[test]
    fn credentials_are_kept_apart() {
        for (rest, published, parameter) in [
            (
                "?X-Amz-Algorithm=A&X-Amz-Credential=C&X-Amz-Signature=hunter2",
                "",
                "X-Amz-Algorithm",
            ),
            (
                "?versionId=1&x-amz-signature=hunter2",
                "",
                "x-amz-signature",
            ),
            ("?X%2DAmz%2DSignature=hunter2", "", "X-Amz-Signature"),
            ("?X-Goog-Signature=hunter2", "", "X-Goog-Signature"),
            (
                "?GoogleAccessId=g&Expires=1&Signature=hunter2",
                "",
                "GoogleAccessId",
            ),
            ("?AWSAccessKeyId=a&Signature=hunter2", "", "AWSAccessKeyId"),
            ("?sv=2024&se=2026&sr=b&sp=r&sig=hunter2", "", "sig"),
            (
                "?Policy=p&Key-Pair-Id=K&Signature=hunter2",
                "",
                "Key-Pair-Id",
            ),
            ("?OSSAccessKeyId=a&Signature=hunter2", "", "OSSAccessKeyId"),
            (
                "?q-sign-algorithm=sha1&q-ak=a&q-signature=hunter2",
                "",
                "q-sign-algorithm",
            ),
            ("?token=hunter2", "", "token"),
            ("?a=b;access_token=hunter2", "", "access_token"),
            ("?private-token=hunter2", "", "private-token"),
            ("?job_token=hunter2", "", "job_token"),
            ("?apiKey=hunter2", "", "apiKey"),
            ("?api_key=hunter2", "", "api_key"),
            ("?client_secret=hunter2", "", "client_secret"),
            ("?PASSWORD=hunter2", "", "PASSWORD"),
            ("?__token__=hunter2", "", "__token__"),
            ("?hdnea=exp=1~hmac=hunter2", "", "hdnea"),
            ("?x-auth=hunter2", "", "x-auth"),
            ("?jwt=hunter2", "", "jwt"),
            ("#access_token=hunter2", "", "access_token"),
            ("?v=1#token=hunter2", "?v=1", "token"),
            ("?token=hunter2#part", "#part", "token"),
            ("?token=hunter2#token=hunter2", "", "token"),
            ("?v=1?token=hunter2", "", "token"),
        ] {
            let origin = format!("{FILE}{rest}");
            let (public, signed) = SignedOrigin::separate(&origin).expect(rest);
            assert_eq!(public, format!("{FILE}{published}"), "{rest}");
            assert_eq!(signed.expose(), origin);
            assert_eq!(signed.parameter(), parameter, "{rest}");
            assert!(!format!("{signed:?}{public}").contains("hunter2"), "{rest}");
        }
    }

    #[test]
    fn other_queries_stay_as_they_are() {
        for rest in [
            "",
            "?",
            "#",
            "?raw=true",
            "?token",
            "?token=",
            "?version=1.2&file=a.txt",
            "?design=x&kansas=y&asset=z&tokens=1",
            "?key=releases/a.tgz",
            "#sha256=00",
            "?ref=v1#L10",
        ] {
            assert!(
                SignedOrigin::separate(&format!("{FILE}{rest}")).is_none(),
                "{rest}"
            );
        }
    }
}
