//! References, locations, tags, digests and platforms: what is printed is read as the same thing.
#![no_main]

use std::{fmt::Display, str::FromStr};

use libfuzzer_sys::fuzz_target;
use packgate::core::{
    digest::Digest,
    glob::PathGlob,
    oci::Platform,
    path::BundlePath,
    reference::{Location, Reference, Repository, Tag},
};

fn same<T: FromStr + Display + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let printed = value.to_string();
        assert!(printed.parse::<T>().is_ok_and(|again| again == value), "{text:?} is printed as {printed:?}");
    }
}

fuzz_target!(|text: &str| {
    same::<Reference>(text);
    same::<Repository>(text);
    same::<Location>(text);
    same::<Tag>(text);
    same::<Digest>(text);
    same::<Platform>(text);
    same::<BundlePath>(text);
    same::<PathGlob>(text);
});
