//! The rules for settings, as kubelet has them (`validateCredentialProviderConfig`), and caps.

use std::collections::BTreeSet;

use super::{
    duration::parse_go_duration,
    settings::{
        CredentialProviderSettings, ProviderTokenAccount, ProviderTokenAttributes, ProviderVariable,
    },
};
use crate::core::{
    display_text::truncate_text,
    reason::{ClassifiedError, Reason},
};

/// The versions of the protocol. They differ in the token of a ServiceAccount, which only the first
/// has.
const PROTOCOL_VERSIONS: [&str; 3] = [
    "credentialprovider.kubelet.k8s.io/v1",
    "credentialprovider.kubelet.k8s.io/v1beta1",
    "credentialprovider.kubelet.k8s.io/v1alpha1",
];
/// The number of plug-ins.
const MAX_PROVIDERS: usize = 32;
/// Entries of one list of a plug-in.
const MAX_ENTRIES: usize = 256;
/// Characters of a name.
const MAX_NAME: usize = 128;
/// Seconds of a time limit.
const MAX_TIMEOUT_SECONDS: u16 = 600;

/// Why settings are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{cause}", field_prefix(field))]
pub struct ProviderSettingsError {
    /// The field, such as `providers[0].matchImages[1]`; empty for the document.
    pub field: String,
    /// What is wrong with it.
    pub cause: String,
}

impl ClassifiedError for ProviderSettingsError {
    fn reason(&self) -> Reason {
        Reason::InvalidSpec
    }
}

impl ProviderSettingsError {
    pub(super) fn new(field: impl Into<String>, cause: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            cause: cause.into(),
        }
    }
}

fn field_prefix(field: &str) -> String {
    if field.is_empty() {
        String::new()
    } else {
        format!("{field}: ")
    }
}

type Validated = Result<(), ProviderSettingsError>;

/// Checks the settings in the list `field`.
pub fn validate_providers(providers: &[CredentialProviderSettings], field: &str) -> Validated {
    check_count(providers.len(), MAX_PROVIDERS, field)?;
    let mut names = BTreeSet::new();
    for (at, provider) in providers.iter().enumerate() {
        let field = format!("{field}[{at}]");
        validate_provider(provider, &field)?;
        if !names.insert(&provider.name) {
            let cause = format!("{:?} is listed twice", provider.name);
            return refuse(&field, "name", cause);
        }
    }
    Ok(())
}

fn validate_provider(provider: &CredentialProviderSettings, field: &str) -> Validated {
    validate_name(&provider.name, field)?;
    if !PROTOCOL_VERSIONS.contains(&provider.api_version.as_str()) {
        let cause = format!("is none of {}", PROTOCOL_VERSIONS.join(", "));
        return refuse(field, "apiVersion", cause);
    }
    if let Some(command) = &provider.command
        && (!command.starts_with('/') || command.contains('\0'))
    {
        return refuse(field, "command", "must be an absolute path");
    }
    validate_match_images(&provider.match_images, field)?;
    validate_arguments(provider, field)?;
    if provider.default_cache_duration.is_empty() {
        return refuse(field, "defaultCacheDuration", "is missing");
    }
    if provider.default_cache_duration.starts_with('-')
        || parse_go_duration(&provider.default_cache_duration).is_none()
    {
        let cause = "must be a duration such as 12h, and not negative";
        return refuse(field, "defaultCacheDuration", cause);
    }
    if provider
        .timeout_seconds
        .is_some_and(|seconds| seconds == 0 || seconds > MAX_TIMEOUT_SECONDS)
    {
        let cause = format!("must be 1 to {MAX_TIMEOUT_SECONDS}");
        return refuse(field, "timeoutSeconds", cause);
    }
    match &provider.token_attributes {
        Some(_) if provider.api_version != PROTOCOL_VERSIONS[0] => {
            let cause = format!("needs apiVersion {}", PROTOCOL_VERSIONS[0]);
            refuse(field, "tokenAttributes", cause)
        }
        Some(token) => validate_token(token, &format!("{field}.tokenAttributes")),
        None => Ok(()),
    }
}

fn validate_name(name: &str, field: &str) -> Validated {
    let has_bad_character = name
        .chars()
        .any(|c| c == '/' || c.is_whitespace() || c.is_control());
    if name.is_empty() || name == "." || name == ".." || has_bad_character {
        let cause = "must be the name of a program, without / and spaces";
        return refuse(field, "name", cause);
    }
    if name.chars().count() > MAX_NAME {
        return refuse(
            field,
            "name",
            format!("has more than {MAX_NAME} characters"),
        );
    }
    Ok(())
}

fn validate_match_images(images: &[String], field: &str) -> Validated {
    if images.is_empty() {
        return refuse(field, "matchImages", "is empty");
    }
    check_count(images.len(), MAX_ENTRIES, &format!("{field}.matchImages"))?;
    for (at, image) in images.iter().enumerate() {
        let shown = truncate_text(image, 100);
        let name = format!("matchImages[{at}]");
        if image.contains("://") {
            return refuse(field, &name, format!("{shown:?} must have no scheme"));
        }
        let host = image.split('/').next().unwrap_or_default();
        let is_text = !image.chars().any(|c| c.is_whitespace() || c.is_control());
        if host.is_empty() || !is_text {
            return refuse(field, &name, format!("{shown:?} names no registry"));
        }
    }
    Ok(())
}

/// What the system cannot pass to a program is refused here, and not when it is run.
fn validate_arguments(provider: &CredentialProviderSettings, field: &str) -> Validated {
    check_count(provider.args.len(), MAX_ENTRIES, &format!("{field}.args"))?;
    check_count(provider.env.len(), MAX_ENTRIES, &format!("{field}.env"))?;
    for (at, argument) in provider.args.iter().enumerate() {
        if argument.contains('\0') {
            return refuse(field, &format!("args[{at}]"), "has a NUL character");
        }
    }
    for (at, ProviderVariable { name, value }) in provider.env.iter().enumerate() {
        if name.is_empty() || name.contains(['=', '\0']) {
            let cause = "must not be empty and not have = or NUL";
            return refuse(field, &format!("env[{at}].name"), cause);
        }
        if value.contains('\0') {
            return refuse(field, &format!("env[{at}].value"), "has a NUL character");
        }
    }
    Ok(())
}

fn validate_token(token: &ProviderTokenAttributes, field: &str) -> Validated {
    if token.service_account_token_audience.is_empty() {
        return refuse(field, "serviceAccountTokenAudience", "is missing");
    }
    let Some(requires_account) = token.require_service_account else {
        return refuse(field, "requireServiceAccount", "is missing");
    };
    if token.cache_type.is_none() {
        return refuse(field, "cacheType", "is missing: ServiceAccount or Token");
    }
    let required = &token.required_service_account_annotation_keys;
    let optional = &token.optional_service_account_annotation_keys;
    let (required_field, optional_field) = (
        "requiredServiceAccountAnnotationKeys",
        "optionalServiceAccountAnnotationKeys",
    );
    if !requires_account && !required.is_empty() {
        let cause = "needs requireServiceAccount: true";
        return refuse(field, required_field, cause);
    }
    let is_own = token.account == ProviderTokenAccount::Installation;
    for (name, keys) in [(required_field, required), (optional_field, optional)] {
        if is_own && !keys.is_empty() {
            let cause = "is for account: Pod; packgate's own ServiceAccount is not read";
            return refuse(field, name, cause);
        }
        validate_annotation_keys(keys, &format!("{field}.{name}"))?;
    }
    match optional.iter().find(|key| required.contains(key)) {
        Some(key) => refuse(
            field,
            optional_field,
            format!("{key:?} is required already"),
        ),
        None => Ok(()),
    }
}

/// Keys of annotations: qualified names, in which case does not matter.
fn validate_annotation_keys(keys: &[String], field: &str) -> Validated {
    check_count(keys.len(), MAX_ENTRIES, field)?;
    for (at, key) in keys.iter().enumerate() {
        if !is_qualified_name(key) {
            let cause = format!("{:?} is no key of an annotation", truncate_text(key, 100));
            return Err(ProviderSettingsError::new(format!("{field}[{at}]"), cause));
        }
        if keys[..at].contains(key) {
            let cause = format!("{key:?} is listed twice");
            return Err(ProviderSettingsError::new(format!("{field}[{at}]"), cause));
        }
    }
    Ok(())
}

fn is_qualified_name(key: &str) -> bool {
    let (prefix, name) = key
        .split_once('/')
        .map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let is_word = |text: &str, longest: usize, inner: &[u8]| {
        let bytes = text.as_bytes();
        let ends = [bytes.first(), bytes.last()];
        text.len() <= longest
            && ends
                .iter()
                .all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
            && bytes
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || inner.contains(b))
    };
    is_word(name, 63, b"-_.")
        && prefix.is_none_or(|prefix| {
            prefix.len() <= 253 && prefix.split('.').all(|label| is_word(label, 63, b"-"))
        })
}

fn check_count(count: usize, limit: usize, field: &str) -> Validated {
    if count > limit {
        let cause = format!("has {count} entries, the limit is {limit}");
        return Err(ProviderSettingsError::new(field, cause));
    }
    Ok(())
}

fn refuse(field: &str, name: &str, cause: impl Into<String>) -> Validated {
    Err(ProviderSettingsError::new(format!("{field}.{name}"), cause))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn provider() -> Value {
        json!({
            "name": "ecr", "matchImages": ["*.dkr.ecr.*.amazonaws.com"],
            "defaultCacheDuration": "12h", "command": "/plugins/ecr",
            "tokenAttributes": {
                "serviceAccountTokenAudience": "sts.amazonaws.com", "cacheType": "Token",
                "requireServiceAccount": true,
                "requiredServiceAccountAnnotationKeys": ["eks.amazonaws.com/role-arn"],
                "optionalServiceAccountAnnotationKeys": ["Example"],
            },
        })
    }

    fn validate(values: &[Value]) -> Validated {
        let providers: Vec<CredentialProviderSettings> = values
            .iter()
            .map(|value| serde_json::from_value(value.clone()).expect("of the form"))
            .collect();
        validate_providers(&providers, "credentialProviders")
    }

    #[test]
    fn each_rule_names_its_field() {
        assert_eq!(validate(&[provider()]), Ok(()));
        for (pointer, value, field) in [
            ("/name", json!(""), "name"),
            ("/name", json!(".."), "name"),
            ("/name", json!("a/b"), "name"),
            ("/name", json!("a b"), "name"),
            ("/name", json!("a".repeat(129)), "name"),
            ("/apiVersion", json!("v1"), "apiVersion"),
            ("/command", json!("bin/ecr"), "command"),
            ("/matchImages", json!([]), "matchImages"),
            ("/matchImages/0", json!("https://gcr.io"), "matchImages[0]"),
            ("/matchImages/0", json!("/team"), "matchImages[0]"),
            ("/matchImages/0", json!("gcr.io "), "matchImages[0]"),
            ("/matchImages", json!(vec!["gcr.io"; 257]), "matchImages"),
            ("/args", json!(["a\0"]), "args[0]"),
            ("/env", json!([{"name": "A=B", "value": ""}]), "env[0].name"),
            (
                "/env",
                json!([{"name": "A", "value": "\0"}]),
                "env[0].value",
            ),
            ("/defaultCacheDuration", json!(""), "defaultCacheDuration"),
            ("/defaultCacheDuration", json!("1d"), "defaultCacheDuration"),
            (
                "/defaultCacheDuration",
                json!("-1s"),
                "defaultCacheDuration",
            ),
            ("/timeoutSeconds", json!(0), "timeoutSeconds"),
            ("/timeoutSeconds", json!(601), "timeoutSeconds"),
            (
                "/apiVersion",
                json!("credentialprovider.kubelet.k8s.io/v1beta1"),
                "tokenAttributes",
            ),
            (
                "/tokenAttributes/serviceAccountTokenAudience",
                json!(""),
                "tokenAttributes.serviceAccountTokenAudience",
            ),
            (
                "/tokenAttributes/requireServiceAccount",
                Value::Null,
                "tokenAttributes.requireServiceAccount",
            ),
            (
                "/tokenAttributes/requireServiceAccount",
                json!(false),
                "tokenAttributes.requiredServiceAccountAnnotationKeys",
            ),
            (
                "/tokenAttributes/cacheType",
                Value::Null,
                "tokenAttributes.cacheType",
            ),
            (
                "/tokenAttributes/account",
                json!("Installation"),
                "tokenAttributes.requiredServiceAccountAnnotationKeys",
            ),
            (
                "/tokenAttributes/requiredServiceAccountAnnotationKeys/0",
                json!("-a"),
                "tokenAttributes.requiredServiceAccountAnnotationKeys[0]",
            ),
            (
                "/tokenAttributes/optionalServiceAccountAnnotationKeys",
                json!(["a", "a"]),
                "tokenAttributes.optionalServiceAccountAnnotationKeys[1]",
            ),
            (
                "/tokenAttributes/optionalServiceAccountAnnotationKeys/0",
                json!("eks.amazonaws.com/role-arn"),
                "tokenAttributes.optionalServiceAccountAnnotationKeys",
            ),
        ] {
            let mut changed = provider();
            match changed.pointer_mut(pointer) {
                Some(at) => *at = value.clone(),
                None => changed
                    .pointer_mut(pointer.rsplit_once('/').expect("a parent").0)
                    .and_then(Value::as_object_mut)
                    .map(|object| {
                        let key = pointer.rsplit_once('/').expect("a name").1;
                        object.insert(key.to_owned(), value.clone());
                    })
                    .expect("an object"),
            }
            let error = validate(&[changed]).expect_err(pointer);
            assert_eq!(
                error.field,
                format!("credentialProviders[0].{field}"),
                "{pointer} {value}: {error}"
            );
            assert_eq!(error.reason(), Reason::InvalidSpec);
        }
        let error = validate(&[provider(), provider()]).expect_err("twice");
        assert_eq!(error.field, "credentialProviders[1].name");
        let mut many = Vec::new();
        for number in 0..33 {
            let mut one = provider();
            one["name"] = json!(format!("p{number}"));
            many.push(one);
        }
        let error = validate(&many).expect_err("too many");
        assert_eq!(error.field, "credentialProviders");
    }
}
