use std::sync::Mutex;

use super::*;
use crate::core::{digest::Digest, media_type, reason::ClassifiedError, reference::ImageTag};

/// What a place does with every request.
#[derive(Clone, Copy, PartialEq)]
enum Answer {
    Content,
    WrongBytes,
    NotFound,
    Denied,
    Silence,
    Hangs,
    NoReferrers,
}

use Answer::*;

const BYTES: &[u8] = b"{}";

struct Place {
    name: &'static str,
    answer: Answer,
    asked: Arc<Mutex<Vec<&'static str>>>,
}

impl Place {
    async fn answer<T>(&self, content: T) -> Result<T, OciError> {
        self.asked.lock().expect("no panic").push(self.name);
        let location = self.name.to_owned();
        match self.answer {
            Content | WrongBytes | NoReferrers => Ok(content),
            NotFound => Err(OciError::NotFound {
                what: "it".into(),
                location,
            }),
            Denied => Err(OciError::Denied {
                location,
                status: 403,
                cause: "no".into(),
            }),
            Silence => Err(OciError::Unavailable {
                location,
                cause: "refused".into(),
            }),
            Hangs => std::future::pending().await,
        }
    }
}

fn descriptor() -> Descriptor {
    let digest = Digest::of_bytes(BYTES);
    Descriptor::new(media_type::MANIFEST, digest, BYTES.len() as u64)
}

/// A referrer that is listed by this place only.
fn referrer(name: &str) -> Descriptor {
    Descriptor::new(media_type::MANIFEST, Digest::of_bytes(name.as_bytes()), 1)
}

#[async_trait]
impl ContentSource for Place {
    fn location(&self) -> String {
        self.name.into()
    }

    async fn resolve_manifest(
        &self,
        _: &TagOrDigest,
        _: &InputLimits,
    ) -> Result<ResolvedManifest, OciError> {
        self.answer(ResolvedManifest {
            descriptor: referrer(self.name),
            bytes: BYTES.into(),
        })
        .await
    }

    async fn open_content(&self, descriptor: &Descriptor) -> Result<ContentReader, OciError> {
        let sent: &[u8] = if self.answer == WrongBytes {
            b"[]"
        } else {
            BYTES
        };
        let reader =
            crate::oci::verify_stream::DigestVerifyingReader::new(Cursor::new(sent), descriptor);
        self.answer(Box::new(reader) as ContentReader).await
    }

    async fn list_referrers(
        &self,
        _: &Descriptor,
        _: &InputLimits,
    ) -> Result<Vec<Descriptor>, OciError> {
        let listed = match self.answer {
            NoReferrers => Vec::new(),
            _ => vec![referrer(self.name)],
        };
        self.answer(listed).await
    }
}

struct Asked(Arc<Mutex<Vec<&'static str>>>);

impl Asked {
    fn take(&self) -> String {
        std::mem::take(&mut *self.0.lock().expect("no panic")).join(" ")
    }
}

/// The registry is `r`, the mirrors are `a` and `b`.
fn repository(registry: Answer, mirrors: [Answer; 2]) -> (MirroredRepository, Asked) {
    let asked = Arc::default();
    let host = |name, answer| MirroredHost {
        source: Arc::new(Place {
            name,
            answer,
            asked: Arc::clone(&asked),
        }),
        availability: HostAvailability::default(),
    };
    let [a, b] = mirrors;
    let mirrored = MirroredRepository::new(
        host("r", registry),
        vec![host("a", a), host("b", b)],
        Duration::from_millis(50),
    );
    (mirrored, Asked(asked))
}

fn tag(name: &str) -> TagOrDigest {
    TagOrDigest::Tag(name.parse::<ImageTag>().expect("a tag"))
}

#[tokio::test]
async fn a_digest_is_asked_of_each_mirror_then_of_the_registry() {
    for (registry, mirrors, order) in [
        (Content, [Content, Content], "a"),
        (Content, [NotFound, Content], "a b"),
        (Content, [Denied, Silence], "a b r"),
        (Content, [Hangs, NotFound], "a b r"),
        (NotFound, [NotFound, NotFound], "a b r"),
    ] {
        let (mirrored, asked) = repository(registry, mirrors);
        let selector = TagOrDigest::Digest(Digest::of_bytes(BYTES));
        let found = mirrored
            .resolve_manifest(&selector, &InputLimits::DEFAULT)
            .await;
        assert_eq!(asked.take(), order);
        assert_eq!(found.is_ok(), registry == Content, "{order}");
    }
}

#[tokio::test]
async fn other_bytes_of_a_mirror_are_read_elsewhere() {
    let (mirrored, asked) = repository(Content, [WrongBytes, NotFound]);
    let bytes = crate::oci::fetch_content(&mirrored, &descriptor(), 10).await;
    assert_eq!(bytes.expect("of the registry"), BYTES);
    assert_eq!(asked.take(), "a b r");
    let (mirrored, _) = repository(WrongBytes, [WrongBytes, NotFound]);
    let error = crate::oci::fetch_content(&mirrored, &descriptor(), 10)
        .await
        .expect_err("no place has it");
    assert_eq!(
        error.reason(),
        crate::core::reason::Reason::DigestMismatch,
        "{error}"
    );
}

#[tokio::test]
async fn the_registry_says_what_a_tag_names() {
    for (registry, order) in [(Content, "r"), (NotFound, "r"), (Silence, "r")] {
        let (mirrored, asked) = repository(registry, [Content, Content]);
        let found = mirrored
            .resolve_manifest(&tag("v1"), &InputLimits::DEFAULT)
            .await;
        assert_eq!(asked.take(), order);
        match (registry, found) {
            (Content, found) => assert_eq!(found.expect("found").descriptor, referrer("r")),
            (Silence, Err(error)) => assert!(error.to_string().contains("@DIGEST"), "{error}"),
            (_, found) => assert!(matches!(found, Err(OciError::NotFound { .. }))),
        }
    }
}

#[tokio::test]
async fn signatures_are_listed_by_the_registry_while_it_answers() {
    for (registry, mirrors, order, listed) in [
        (Content, [Content, Content], "r", Some(vec!["r"])),
        // The registry has none: no mirror can have one that counts more.
        (NoReferrers, [Content, Content], "r", Some(vec![])),
        (Denied, [Content, Content], "r", None),
        (Silence, [Content, Content], "r a b", Some(vec!["a", "b"])),
        (Hangs, [NoReferrers, Content], "r a b", Some(vec!["b"])),
        // A mirror without signatures is never an image without signatures.
        (Silence, [NoReferrers, NoReferrers], "r a b r", None),
        (Silence, [NotFound, Denied], "r a b r", None),
    ] {
        let (mirrored, asked) = repository(registry, mirrors);
        let found = mirrored
            .list_referrers(&descriptor(), &InputLimits::DEFAULT)
            .await;
        assert_eq!(asked.take(), order);
        let expected = listed.map(|names| names.into_iter().map(referrer).collect::<Vec<_>>());
        assert_eq!(found.ok(), expected, "{order}");
    }
}

#[tokio::test]
async fn the_tags_of_signatures_are_lists_of_signatures() {
    for (registry, mirrors, order, found) in [
        (Content, [Content, Content], "r", Some("r")),
        (NotFound, [Content, Content], "r", None),
        (Silence, [NotFound, Content], "r a b", Some("b")),
        (Silence, [NotFound, NotFound], "r a b r", None),
    ] {
        let (mirrored, asked) = repository(registry, mirrors);
        let name = tag(&format!("sha256-{}.sig", "0".repeat(64)));
        let resolved = mirrored
            .resolve_manifest(&name, &InputLimits::DEFAULT)
            .await;
        assert_eq!(asked.take(), order);
        assert_eq!(
            resolved.ok().map(|found| found.descriptor),
            found.map(referrer)
        );
    }
}

#[tokio::test]
async fn a_place_that_does_not_answer_is_asked_last() {
    let (mirrored, asked) = repository(Content, [Hangs, NotFound]);
    for order in ["a b r", "b r"] {
        let bytes = crate::oci::fetch_content(&mirrored, &descriptor(), 10).await;
        assert_eq!(bytes.expect("of the registry"), BYTES);
        assert_eq!(asked.take(), order);
    }
    let (mirrored, asked) = repository(NotFound, [Hangs, NotFound]);
    for order in ["a b r", "b r a"] {
        let read = crate::oci::fetch_content(&mirrored, &descriptor(), 10).await;
        assert!(matches!(read, Err(OciError::NotFound { .. })));
        assert_eq!(asked.take(), order);
    }
    let (mirrored, asked) = repository(Silence, [NoReferrers, Content]);
    for order in ["r a b", "a b"] {
        let subject = descriptor();
        let listed = mirrored.list_referrers(&subject, &InputLimits::DEFAULT);
        assert_eq!(listed.await.expect("of a mirror"), [referrer("b")]);
        assert_eq!(asked.take(), order);
    }
}

#[tokio::test]
async fn an_error_has_the_answers_of_all() {
    let (mirrored, _) = repository(Silence, [Denied, NotFound]);
    let error = crate::oci::fetch_content(&mirrored, &descriptor(), 10)
        .await
        .expect_err("nobody has it")
        .to_string();
    for words in ["r is unavailable", "a denied access", "not found in b"] {
        assert!(error.contains(words), "{error}");
    }
}
