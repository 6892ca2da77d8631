//! Where the gateway's identities come from, as the settings say: files that are followed, keys, an issuer.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result};
use api::gateway::{
    authn::{
        Sources,
        account::ServiceAccounts,
        certificate::Authorities,
        followed::Followed,
        jwt::Keys,
        oidc::{Discovery, KeySource, Oidc, OidcOptions},
        signing_key::SigningKey,
        token_file::TokenFile,
    },
    registry::Registry,
};
use ingest::time::Clock;

use crate::{
    exit,
    settings::AccessSettings,
    supervise::{Phase, Supervisor},
};

/// Reads what the settings name, and follows the files.
pub(crate) struct Identities<'p> {
    pub(crate) settings: &'p AccessSettings,
    pub(crate) data: &'p Path,
    pub(crate) clock: &'p Clock,
    pub(crate) supervisor: &'p mut Supervisor,
}

impl Identities<'_> {
    /// All of them, and the service accounts of a cluster among them.
    ///
    /// # Errors
    /// The first file that cannot be read or used, and settings that go together with nothing.
    pub(crate) fn open(mut self, registry: &Registry) -> Result<(Sources, Arc<ServiceAccounts>)> {
        let settings = self.settings;
        let certificates = settings.client_ca_file.as_deref();
        let token_file = settings.token_auth_file.as_deref();
        let accounts = Arc::new(self.accounts(registry)?);
        let mut sources = Sources {
            certificates: certificates.map(|path| self.follow(path, Authorities::parse)).transpose()?,
            token_file: token_file.map(|path| self.follow(path, TokenFile::parse)).transpose()?,
            signed: vec![accounts.clone()],
        };
        if let Some(issuer) = &settings.oidc_issuer_url {
            sources.signed.push(Arc::new(self.oidc(issuer)?));
        }
        Ok((sources, accounts))
    }

    fn accounts(&mut self, registry: &Registry) -> Result<ServiceAccounts> {
        let settings = self.settings;
        let key = match &settings.service_account_signing_key_file {
            Some(path) => {
                let pem = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
                let parsed = |pem: Vec<u8>| SigningKey::parse(&pem).map_err(anyhow::Error::msg);
                exit::usage(pem.and_then(|pem| parsed(pem).with_context(|| path.display().to_string())))?
            }
            None => SigningKey::own(&self.data.join("tls/service-account.key"))?,
        };
        let further = settings.service_account_key_file.iter();
        let further = further.map(|path| self.follow(path, Keys::from_pem)).collect::<Result<_>>()?;
        Ok(ServiceAccounts::new(
            settings.service_account_issuer.clone(),
            settings.api_audiences.clone(),
            key,
            further,
            Arc::new(registry.clone()),
            self.clock.clone(),
        ))
    }

    fn oidc(&mut self, issuer: &str) -> Result<Oidc> {
        let settings = self.settings;
        let options = OidcOptions {
            issuer: issuer.to_owned(),
            client_id: settings.oidc_client_id.clone().unwrap_or_default(),
            username_claim: settings.oidc_username_claim.clone(),
            username_prefix: settings.oidc_username_prefix.clone(),
            groups_claim: settings.oidc_groups_claim.clone(),
            groups_prefix: settings.oidc_groups_prefix.clone(),
            required_claims: settings.oidc_required_claim.iter().cloned().collect(),
            algorithms: settings.oidc_signing_algs.clone(),
        };
        let keys = match &settings.oidc_jwks_file {
            Some(path) => KeySource::File(self.follow(path, Keys::from_jwks)?),
            None => {
                let read = |path: &std::path::PathBuf| {
                    std::fs::read(path).with_context(|| path.display().to_string())
                };
                let authorities = exit::usage(settings.oidc_ca_file.as_ref().map(read).transpose())?;
                let discovery = Discovery::new(issuer, authorities.as_deref(), self.clock.clone());
                KeySource::Issuer(exit::usage(discovery.context("--oidc-ca-file cannot be used"))?)
            }
        };
        let oidc = Oidc::new(options, keys, self.clock.clone());
        exit::usage(oidc.context("the --oidc-… settings cannot be used"))
    }

    fn follow<T: Send + Sync + 'static>(
        &mut self,
        path: &Path,
        parse: fn(&[u8]) -> Result<T, String>,
    ) -> Result<Followed<T>> {
        let followed = exit::usage(Followed::open(path, parse).map_err(anyhow::Error::from))?;
        let (kept, stop) = (followed.clone(), self.supervisor.stop(Phase::Movers));
        self.supervisor.spawn(Phase::Movers, "identities", async move {
            kept.run(&stop).await;
            Ok(())
        });
        Ok(followed)
    }
}
