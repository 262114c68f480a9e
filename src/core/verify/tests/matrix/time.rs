//! Timestamps, and the periods of their authorities.

use serde_json::Value;

use super::{
    super::*,
    Case, Change,
    Change::{Bundle, Make, Root},
    Expected::{Holds, Refused},
    Fault, Part, Shape, flip, material, remove, row,
};
use crate::core::verify::testing::sigstore::{
    DAY, NOON, STAMPED, Stamp, TIME_STAMPING, Tsa, purposes,
};

const CODE_SIGNING: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 3];
const ANY_PURPOSE: &[u64] = &[2, 5, 29, 37, 0];

const fn refused(
    name: &'static str,
    applies: fn(Shape) -> bool,
    reason: Reason,
    change: Change,
) -> Fault {
    row(name, Part::Evidence, applies, Refused(reason), change)
}

const fn invalid(name: &'static str, change: Change) -> Fault {
    row(
        name,
        Part::Evidence,
        Shape::stamped,
        Refused(Reason::InvalidTimestamp),
        change,
    )
}

const fn holds(name: &'static str, applies: fn(Shape) -> bool, change: Change) -> Fault {
    row(name, Part::Evidence, applies, Holds, change)
}

fn keyless(shape: Shape) -> bool {
    shape.keyless() && shape.stamped()
}

fn token(bundle: &mut Value) -> &mut Value {
    &mut bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"][0]["signedTimestamp"]
}

fn stamp(case: &mut Case) -> &mut Stamp {
    &mut case.recipe.stamps[0]
}

/// The trust root lists this authority, and it makes the timestamp.
fn trusted(case: &mut Case, tsa: Tsa) {
    case.sigstore.tsa = tsa;
}

fn purpose(is_critical: bool, all: &[&[u64]]) -> Tsa {
    Tsa::with(
        (NOON - 100 * DAY, NOON + 1_000 * DAY),
        purposes(is_critical, all),
    )
}

fn window(from: i64, to: i64) -> Tsa {
    Tsa::with((from, to), purposes(true, &[TIME_STAMPING]))
}

pub(super) const FAULTS: &[Fault] = &[
    refused(
        "no timestamp",
        Shape::v2,
        Reason::NoTrustedTime,
        Bundle(|b| {
            remove(material(b), "timestampVerificationData");
        }),
    )
    .keyed(Holds),
    holds(
        "no timestamp but a promise",
        Shape::v1_and_stamped,
        Bundle(|b| {
            remove(material(b), "timestampVerificationData");
        }),
    ),
    refused(
        "an empty list for the only timestamp",
        Shape::v2,
        Reason::NoTrustedTime,
        Bundle(|b| {
            material(b)["timestampVerificationData"]["rfc3161Timestamps"] = json!([]);
        }),
    )
    .keyed(Holds),
    invalid(
        "a timestamp of other bytes",
        Make(|case| stamp(case).over = Some(b"another signature".to_vec())),
    ),
    invalid(
        "a timestamp by somebody unknown",
        Make(|case| stamp(case).by = Some(Tsa::new())),
    ),
    invalid(
        "a timestamp by somebody unknown, with certificate",
        Make(|case| {
            *stamp(case) = Stamp {
                by: Some(Tsa::new()),
                embed: true,
                ..Stamp::at(STAMPED)
            };
        }),
    ),
    holds(
        "a timestamp with its certificate",
        Shape::stamped,
        Make(|case| stamp(case).embed = true),
    ),
    invalid("a flipped bit in a timestamp", Bundle(|b| flip(token(b)))),
    invalid(
        "garbage for a timestamp",
        Bundle(|b| *token(b) = "AAAA".into()),
    ),
    invalid(
        "half a timestamp",
        Bundle(|b| {
            let text = token(b).as_str().expect("text").to_owned();
            *token(b) = text[..400].into();
        }),
    ),
    invalid(
        "a timestamp that was not granted",
        Bundle(|b| {
            use base64::{Engine, engine::general_purpose::STANDARD};
            let mut der = STANDARD
                .decode(token(b).as_str().expect("text"))
                .expect("base64");
            let status = der
                .windows(5)
                .position(|window| window == [0x30, 0x03, 0x02, 0x01, 0x00])
                .expect("a status");
            der[status + 4] = 2;
            *token(b) = STANDARD.encode(der).into();
        }),
    ),
    refused(
        "a timestamp after the certificate",
        keyless,
        Reason::CertificateExpired,
        Make(|case| stamp(case).time = NOON + 601),
    ),
    refused(
        "a timestamp before the certificate",
        keyless,
        Reason::CertificateExpired,
        Make(|case| stamp(case).time = NOON - 1),
    ),
    holds(
        "a timestamp when the certificate ends",
        keyless,
        Make(|case| stamp(case).time = NOON + 600),
    ),
    refused(
        "one timestamp inside, one after the certificate",
        keyless,
        Reason::CertificateExpired,
        Make(|case| {
            case.recipe.stamps.push(Stamp::at(NOON + 601));
        }),
    ),
    invalid(
        "one good timestamp, one by somebody unknown",
        Make(|case| {
            case.recipe.stamps.push(Stamp {
                by: Some(Tsa::new()),
                ..Stamp::at(STAMPED)
            });
        }),
    ),
    holds(
        "two good timestamps",
        Shape::stamped,
        Make(|case| case.recipe.stamps.push(Stamp::at(STAMPED + 1))),
    ),
    invalid(
        "an authority that was no longer trusted",
        Make(|case| case.sigstore.tsa.valid_for.1 = Some(NOON - DAY)),
    ),
    invalid(
        "an authority that was not trusted yet",
        Make(|case| case.sigstore.tsa.valid_for.0 = NOON + DAY),
    ),
    invalid(
        "an authority that is trusted in the future",
        Make(|case| case.sigstore.tsa.valid_for.0 = 32_503_680_000),
    ),
    holds(
        "an authority that was trusted to the second",
        Shape::stamped,
        Make(|case| case.sigstore.tsa.valid_for = (STAMPED, Some(STAMPED))),
    ),
    holds(
        "an authority without an end",
        Shape::stamped,
        Root(|root| root["timestampAuthorities"][0]["validFor"] = Value::Null),
    ),
    invalid(
        "an authority that nobody trusts",
        Root(|root| root["timestampAuthorities"] = json!([])),
    ),
    invalid(
        "an authority whose certificate had expired",
        Make(|case| trusted(case, window(NOON - 10 * DAY, NOON - DAY))),
    ),
    invalid(
        "an authority whose certificate was not valid yet",
        Make(|case| trusted(case, window(NOON + DAY, NOON + 10 * DAY))),
    ),
    invalid(
        "an authority that may sign code",
        Make(|case| trusted(case, purpose(true, &[CODE_SIGNING]))),
    ),
    invalid(
        "an authority that may do anything",
        Make(|case| trusted(case, purpose(true, &[ANY_PURPOSE]))),
    ),
    invalid(
        "an authority that may do something else too",
        Make(|case| trusted(case, purpose(true, &[TIME_STAMPING, CODE_SIGNING]))),
    ),
    invalid(
        "an authority that may do something else too, in the other order",
        Make(|case| trusted(case, purpose(true, &[CODE_SIGNING, TIME_STAMPING]))),
    ),
    invalid(
        "an authority that says its purpose twice",
        Make(|case| trusted(case, purpose(true, &[TIME_STAMPING, TIME_STAMPING]))),
    ),
    invalid(
        "an authority whose purpose is not critical",
        Make(|case| trusted(case, purpose(false, &[TIME_STAMPING]))),
    ),
];
