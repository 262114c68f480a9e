//! From `ConfigMap`s and a time to the root in force.

use serde_json::{Value, json};

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn root(spec: &Value) -> TrustRoot {
    let object = json!({
        "apiVersion": "packgate.dev/v1alpha1",
        "kind": "TrustRoot",
        "metadata": {"name": "corp"},
        "spec": spec,
    });
    serde_json::from_value(object).expect("a trust root")
}

fn tuf(url: &str) -> TrustRoot {
    root(&json!({
        "tuf": {"url": url, "root": {"configMapRef": {"name": "first"}}, "maxStaleness": "48h"},
    }))
}

/// The content that the controller stores.
fn kept(origin: Digest) -> StoredTrustRootData {
    let kept = TrustRootFetchState {
        origin,
        expires: at("2026-11-21T00:00:00Z"),
        refreshed: at("2026-11-14T00:00:00Z"),
    };
    StoredTrustRootData::from([
        (TRUSTED_ROOT_KEY.into(), "{}".into()),
        (
            STATE_KEY.into(),
            serde_json::to_string(&kept).expect("JSON"),
        ),
    ])
}

#[test]
fn every_kind_has_its_config_maps() {
    let names = |root: &TrustRoot| (root.source(), root.config_map_names().collect::<Vec<_>>());
    assert_eq!(
        names(&root(
            &json!({"trustedRoot": {"configMapRef": {"name": "mine"}}})
        )),
        ("ConfigMap", vec!["mine".to_owned()])
    );
    assert_eq!(
        names(&tuf("https://t.example.com")),
        (
            "Tuf",
            vec!["packgate-trustroot-corp".to_owned(), "first".to_owned()]
        )
    );
    assert_eq!(
        names(&root(&json!({"publicGood": {}}))),
        ("PublicGood", vec!["packgate-trustroot-corp".to_owned()])
    );
}

#[test]
fn a_fetched_root_is_used_until_its_grace_is_over() {
    let root = tuf("https://t.example.com");
    let (first, held) = (
        StoredTrustRootData::from([(TUF_ROOT_KEY.into(), "first".into())]),
        kept(root.origin_digest(Some("first"))),
    );
    let maps = |name: &str| {
        if name == "first" {
            ConfigMapLookup::Present(&first)
        } else {
            ConfigMapLookup::Present(&held)
        }
    };
    for (now, good) in [
        ("2026-11-20T00:00:00Z", true),
        ("2026-11-22T23:59:59Z", true),
        ("2026-11-23T00:00:00Z", false),
    ] {
        let found = root.find_active_root(maps, at(now));
        assert_eq!(found.is_ok(), good, "{now}: {found:?}");
        match found {
            Ok(found) => assert_eq!(
                (found.expires, found.ends),
                (
                    Some(at("2026-11-21T00:00:00Z")),
                    Some(at("2026-11-23T00:00:00Z"))
                )
            ),
            Err(error) => assert_eq!(error.reason(), Reason::TrustRootExpired),
        }
    }
}

#[test]
fn what_was_fetched_from_elsewhere_is_not_used() {
    let now = at("2026-11-20T00:00:00Z");
    let root = tuf("https://t.example.com");
    let first = StoredTrustRootData::from([(TUF_ROOT_KEY.into(), "first".into())]);
    let public = self::root(&json!({"publicGood": {}}));
    for origin in [
        tuf("https://u.example.com").origin_digest(Some("first")),
        root.origin_digest(Some("second")),
        root.origin_digest(None),
        public.origin_digest(None),
    ] {
        let held = kept(origin);
        let found = root.find_active_root(
            |name| {
                if name == "first" {
                    ConfigMapLookup::Present(&first)
                } else {
                    ConfigMapLookup::Present(&held)
                }
            },
            now,
        );
        assert_eq!(
            found.expect_err("elsewhere").reason(),
            Reason::TrustRootUnavailable
        );
    }
    let held = kept(public.origin_digest(None));
    assert!(
        public
            .find_active_root(|_| ConfigMapLookup::Present(&held), now)
            .is_ok()
    );
}

#[test]
fn what_is_missing_is_told() {
    let now = at("2026-11-20T00:00:00Z");
    let root = tuf("https://t.example.com");
    let (first, empty) = (
        StoredTrustRootData::from([(TUF_ROOT_KEY.into(), "first".into())]),
        StoredTrustRootData::new(),
    );
    let reasons = [
        root.find_active_root(|_| ConfigMapLookup::Unknown, now),
        root.find_active_root(|_| ConfigMapLookup::Absent, now),
        root.find_active_root(|_| ConfigMapLookup::Present(&empty), now),
        root.find_active_root(
            |name| {
                if name == "first" {
                    ConfigMapLookup::Present(&first)
                } else {
                    ConfigMapLookup::Absent
                }
            },
            now,
        ),
        root.find_active_root(
            |name| {
                if name == "first" {
                    ConfigMapLookup::Present(&first)
                } else {
                    ConfigMapLookup::Present(&empty)
                }
            },
            now,
        ),
        self::root(&json!({"trustedRoot": {"configMapRef": {"name": "mine"}}}))
            .find_active_root(|_| ConfigMapLookup::Absent, now),
    ];
    for found in reasons {
        assert_eq!(
            found.expect_err("missing").reason(),
            Reason::TrustRootUnavailable
        );
    }
}

#[test]
fn what_cannot_mean_what_it_says_is_refused() {
    let root_of = |more: &Value| {
        let mut spec = json!({
            "tuf": {"url": "https://t.example.com", "root": {"configMapRef": {"name": "first"}}},
        });
        for (key, value) in more.as_object().expect("fields") {
            spec["tuf"][key] = value.clone();
        }
        root(&spec).validate_spec()
    };
    assert_eq!(root_of(&json!({})), Ok(()));
    assert_eq!(
        root_of(&json!({"interval": "10s", "maxStaleness": "0s"})),
        Ok(())
    );
    for wrong in [
        json!({"interval": "9s"}),
        json!({"interval": "soon"}),
        json!({"maxStaleness": "-1h"}),
        json!({"maxStaleness": ""}),
    ] {
        assert_eq!(
            root_of(&wrong).expect_err("wrong").reason(),
            Reason::InvalidSpec,
            "{wrong}"
        );
    }
    for spec in [
        json!({}),
        json!({"publicGood": {}, "trustedRoot": {"configMapRef": {"name": "x"}}}),
    ] {
        assert_eq!(
            root(&spec).validate_spec().expect_err("not one").reason(),
            Reason::InvalidSpec
        );
    }
    let mut long = root(&json!({"publicGood": {}}));
    long.metadata.name = Some("x".repeat(MAX_NAME + 1));
    assert!(long.validate_spec().is_err());
}
