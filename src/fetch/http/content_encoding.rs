//! Content encodings (RFC 9110, section 8.4) that were not asked for.
//!
//! They are refused and not decoded: whether the server compressed the file for this transfer, or
//! has stored it so, cannot be told, and only one of both gives the bytes that its author means.
//! The exception is a file whose own name or type says that it is compressed in this way: servers
//! label `a.tar.gz` so, and its bytes are the file.

use url::Url;

use crate::http::{HttpResponseHead, header};

/// Names of an encoding, ends of file names and media types that say the same.
struct KnownEncoding {
    codings: &'static [&'static str],
    endings: &'static [&'static str],
    types: &'static [&'static str],
}

const KNOWN: &[KnownEncoding] = &[
    KnownEncoding {
        codings: &["gzip", "x-gzip"],
        endings: &[".gz", ".tgz", ".taz", ".svgz", ".apkg", ".vmz"],
        types: &[
            "application/gzip",
            "application/x-gzip",
            "application/tar+gzip",
        ],
    },
    KnownEncoding {
        codings: &["zstd", "x-zstd"],
        endings: &[".zst", ".zstd", ".tzst"],
        types: &["application/zstd", "application/x-zstd"],
    },
    KnownEncoding {
        codings: &["br"],
        endings: &[".br"],
        types: &[],
    },
    KnownEncoding {
        codings: &["compress", "x-compress"],
        endings: &[".z"],
        types: &["application/x-compress"],
    },
    KnownEncoding {
        codings: &["bzip2", "x-bzip2"],
        endings: &[".bz2", ".tbz", ".tbz2"],
        types: &["application/bzip2", "application/x-bzip2"],
    },
    KnownEncoding {
        codings: &["xz", "x-xz"],
        endings: &[".xz", ".txz"],
        types: &["application/xz", "application/x-xz"],
    },
];

/// Checks that the body of a response to `url` is the file itself. The error names the encoding.
pub(super) fn check_not_encoded(url: &Url, head: &HttpResponseHead) -> Result<(), String> {
    let codings: Vec<String> = head
        .headers(header::CONTENT_ENCODING)
        .flat_map(|value| value.split(','))
        .map(|coding| coding.trim().to_ascii_lowercase())
        .filter(|coding| !coding.is_empty() && coding != "identity")
        .collect();
    let media_type = head.header(header::CONTENT_TYPE).unwrap_or_default();
    match codings.as_slice() {
        [] => Ok(()),
        [coding]
            if [url, head.url()]
                .iter()
                .any(|url| is_file_of(coding, url, media_type)) =>
        {
            Ok(())
        }
        codings => Err(format!(
            "the server sent it encoded (Content-Encoding: {}), although it was asked for the file as it \
                is; have the server send it without, or under a name that ends so",
            crate::core::display_text::sanitize_line(&codings.join(", "), 100)
        )),
    }
}

/// True if the file itself is compressed in this way.
fn is_file_of(coding: &str, url: &Url, media_type: &str) -> bool {
    let path = url.path().to_ascii_lowercase();
    let media_type = media_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    KNOWN
        .iter()
        .filter(|known| known.codings.contains(&coding))
        .any(|known| {
            known.endings.iter().any(|ending| path.ends_with(ending))
                || known.types.contains(&media_type.as_str())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_or_type_says_that_the_file_is_compressed() {
        for (coding, path, media_type, is_file) in [
            ("gzip", "a.tar.gz", "application/x-tar", true),
            ("x-gzip", "A.TGZ", "", true),
            (
                "gzip",
                "download?file=a.gz",
                "application/octet-stream",
                false,
            ),
            ("gzip", "download", "application/gzip; charset=binary", true),
            ("gzip", "a.txt", "text/plain", false),
            ("gzip", "a.gz.txt", "text/plain", false),
            ("br", "a.gz", "application/gzip", false),
            ("gzip", "a.zst", "", false),
            ("zstd", "a.tar.zst", "", true),
            ("br", "a.js.br", "", true),
            ("compress", "a.Z", "", true),
            ("deflate", "a.zip", "application/zip", false),
            ("unknown", "a.unknown", "", false),
        ] {
            let url: Url = format!("https://f.example.com/{path}").parse().expect(path);
            assert_eq!(
                is_file_of(coding, &url, media_type),
                is_file,
                "{coding} {path}"
            );
        }
    }
}
