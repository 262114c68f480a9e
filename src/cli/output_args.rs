//! The options that shape a bundle's bytes, as written on the command line.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};

use super::error::CliError;
use crate::core::pack::{BundleFormat, LayerCompression, PackOptions};

/// Options that shape the bundle's bytes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct OutputArgs {
    /// Shape of the bundle: Image can be mounted as an image volume, Artifact is for `oras pull`
    #[arg(long, value_enum, ignore_case = true, default_value_t = BundleFormatArg::Image)]
    format: BundleFormatArg,
    /// Compression of the layers
    #[arg(long, value_enum, ignore_case = true, default_value_t = CompressionArg::None)]
    compression: CompressionArg,
    /// Further annotation of the manifest; can be given several times
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    annotations: Vec<String>,
    /// Creation time in seconds since 1970; without it the bundle carries none
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    source_date_epoch: Option<i64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BundleFormatArg {
    #[value(name = "Image")]
    Image,
    #[value(name = "Artifact")]
    Artifact,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CompressionArg {
    #[value(name = "None")]
    None,
    #[value(name = "Zstd")]
    Zstd,
}

impl OutputArgs {
    pub(super) fn bundle_output(&self) -> Result<PackOptions, CliError> {
        let mut annotations = BTreeMap::new();
        for pair in &self.annotations {
            let (key, value) = pair.split_once('=').ok_or_else(|| {
                CliError::invalid(format!("annotation {pair:?} must be KEY=VALUE"))
            })?;
            if annotations
                .insert(key.to_owned(), value.to_owned())
                .is_some()
            {
                return Err(CliError::invalid(format!(
                    "annotation {key:?} is given twice"
                )));
            }
        }
        Ok(PackOptions {
            format: match self.format {
                BundleFormatArg::Image => BundleFormat::Image,
                BundleFormatArg::Artifact => BundleFormat::Artifact,
            },
            compression: match self.compression {
                CompressionArg::None => LayerCompression::None,
                CompressionArg::Zstd => LayerCompression::Zstd,
            },
            source_date_epoch: self.source_date_epoch,
            annotations,
        })
    }
}
