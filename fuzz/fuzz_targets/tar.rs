//! Headers and metadata of tar archives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packgate::core::unpack::{
    file_path, folder_path, link_target,
    tar::{BLOCK, Header, Pending},
};

fuzz_target!(|data: &[u8]| {
    let mut pending = Pending::default();
    let mut rest = data;
    while let Some((block, after)) = rest.split_first_chunk::<BLOCK>() {
        let Ok(Some(header)) = Header::parse(block) else { return };
        let size = usize::try_from(header.size).unwrap_or(usize::MAX).min(after.len());
        let (content, after) = after.split_at(size);
        rest = after;
        if header.kind.is_metadata() {
            if pending.take_in(header.kind, content).is_err() {
                return;
            }
            continue;
        }
        let Ok(header) = pending.apply(header) else { return };
        let _ = folder_path(None, &header.name);
        if let Ok(path) = file_path(None, &header.name) {
            let _ = link_target(None, &path, &header.link);
        }
    }
});
