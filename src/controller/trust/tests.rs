//! What is kept of a fetched root, and what is told of it. How it is fetched: `crate::trust`.

use jiff::{Span, ToSpan};
use sigstore_trust_root::SIGSTORE_PRODUCTION_TRUSTED_ROOT;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn root() -> TrustRoot {
    let metadata = json!({"name": "corp", "uid": "u", "generation": 1});
    let object = json!({"apiVersion": "packgate.dev/v1alpha1", "kind": "TrustRoot", "metadata": metadata, "spec": {"publicGood": {}}});
    serde_json::from_value(object).expect("a trust root")
}

fn fetched(text: &str) -> Fetched {
    let metadata = serde_json::from_value(json!({"timestamp.json": "{}"})).expect("metadata");
    Fetched { trusted_root: text.to_owned(), metadata, expires: at("2026-11-28T00:00:00Z"), refreshed: at("2026-11-21T00:00:00Z") }
}

fn held() -> Data {
    data(&root(), None, &fetched(SIGSTORE_PRODUCTION_TRUSTED_ROOT)).expect("JSON")
}

fn failure() -> Failure {
    Failure::new(Reason::TrustRootUnavailable, "no answer")
}

fn told(checked: &Checked) -> (Option<Reason>, &str) {
    (checked.failure.as_ref().map(|failure| failure.reason), checked.failure.as_ref().map_or(&checked.message, |failure| &failure.message))
}

#[test]
fn what_is_kept_is_read_again_and_only_of_the_same_repository() {
    let held = held();
    assert_eq!(read(&root(), None, &held), Some(fetched(SIGSTORE_PRODUCTION_TRUSTED_ROOT)));
    assert_eq!(read(&root(), Some("a first root"), &held), None);
    assert_eq!(read(&root(), None, &Data::new()), None);
    let object = metadata(&root());
    assert_eq!(object.name.as_deref(), Some("packgate-trustroot-corp"));
    let owners = object.owner_references.expect("an owner");
    assert_eq!(
        owners.iter().map(|owner| (owner.kind.as_str(), owner.name.as_str(), owner.uid.as_str())).collect::<Vec<_>>(),
        [("TrustRoot", "corp", "u")]
    );
}

#[test]
fn a_root_that_can_be_used_is_told_with_its_end() {
    let now = at("2026-11-21T12:00:00Z");
    let good = conclude(&root(), None, &held(), None, now);
    assert_eq!(told(&good), (None, "it can be used"));
    assert_eq!((&good.fields["source"], &good.fields["notAfter"]), (&json!("PublicGood"), &json!("2026-11-28T00:00:00Z")));
    let digest = crate::core::digest::Digest::of(SIGSTORE_PRODUCTION_TRUSTED_ROOT.as_bytes());
    assert_eq!(good.fields["contentHash"], digest.to_string());
    let late = conclude(&root(), None, &held(), Some(failure()), at("2026-12-01T00:00:00Z"));
    assert_eq!(told(&late), (None, "the last good root is used until 2026-12-05T00:00:00Z: no answer"));
}

#[test]
fn a_root_that_cannot_be_used_says_why() {
    let now = at("2026-11-21T12:00:00Z");
    let over = conclude(&root(), None, &held(), Some(failure()), at("2026-12-05T00:00:00Z"));
    assert_eq!(told(&over).0, Some(Reason::TrustRootExpired));
    assert_eq!(over.fields["notAfter"], "2026-11-28T00:00:00Z", "the metric goes on");
    assert_eq!(told(&conclude(&root(), None, &Data::new(), Some(failure()), now)), (Some(Reason::TrustRootUnavailable), "no answer"));
    assert_eq!(told(&conclude(&root(), None, &Data::new(), None, now)).0, Some(Reason::TrustRootUnavailable));
    let broken = data(&root(), None, &fetched("{}")).expect("JSON");
    assert_eq!(told(&conclude(&root(), None, &broken, None, now)).0, Some(Reason::InvalidSpec));
}

struct Nobody;

#[async_trait::async_trait]
impl TrustSource for Nobody {
    async fn refresh(&self, repository: &Repository, _: Option<&Fetched>, _: Timestamp) -> Result<Fetched, TrustError> {
        Err(TrustError::NothingKept { url: repository.url().to_owned() })
    }

    async fn recall(&self, _: &Repository, kept: &Fetched, _: Timestamp) -> Result<Fetched, TrustError> {
        Ok(kept.clone())
    }
}

#[test]
fn who_failed_is_left_alone_for_a_while_unless_the_object_changes() {
    let trust = Trust::new(Arc::new(Nobody));
    let now = at("2026-11-21T12:00:00Z");
    let later = |by: Span| now.checked_add(by).expect("a time");
    let hour = Duration::from_hours(1);
    assert!(trust.too_soon(&root(), hour, now).is_none());
    trust.remember(&root(), Some(&failure()), now);
    assert_eq!(trust.too_soon(&root(), hour, later(4.minutes())), Some(failure()));
    assert!(trust.too_soon(&root(), hour, later(5.minutes())).is_none());
    assert!(trust.too_soon(&root(), Duration::from_secs(10), later(10.seconds())).is_none());
    let mut changed = root();
    changed.metadata.generation = Some(2);
    assert!(trust.too_soon(&changed, hour, later(1.minutes())).is_none());
    trust.remember(&root(), None, now);
    assert!(trust.too_soon(&root(), hour, now).is_none());
}
