//! The certificate that the listener shows: an operator's, or one of the data folder's own authority.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result};
use api::tls::{Clients, Identity};
use ingest::time::Clock;

use crate::{data_folder::hostname, exit, settings::Settings};

/// What the listener serves with.
///
/// # Errors
/// When the files that were named cannot be used, or none can be made.
pub(crate) fn tls(settings: &Settings, data: &Path, clock: &Clock) -> Result<Arc<rustls::ServerConfig>> {
    let identity = match (&settings.tls_cert_file, &settings.tls_private_key_file) {
        (Some(certificate), Some(key)) => {
            exit::usage(Identity::from_files(certificate, key).map_err(anyhow::Error::from))?
        }
        _ => Identity::self_signed(data, names(settings), clock)?,
    };
    let clients = match settings.access.client_ca_file {
        Some(_) => Clients::MayShowCertificate,
        None => Clients::Anonymous,
    };
    identity.server_config(clients).context("TLS cannot be served")
}

fn names(settings: &Settings) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned(), hostname()];
    let address = settings.bind_address.ip();
    if !address.is_unspecified() {
        names.push(address.to_string());
    }
    names.extend(settings.tls_san.iter().cloned());
    names.sort();
    names.dedup();
    names
}
